package frame

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// The tests of this file follow the families of the Autobahn suite's 247
// framing cases, whose numbers they carry, on the Reader alone. The suite's
// echo is the caller's work.

// TestSizes is family 1: text and binary messages at every length form.
func TestSizes(t *testing.T) {
	for _, op := range []Opcode{Text, Binary} {
		for _, n := range []int{0, 125, 126, 127, 128, 65535, 65536} {
			t.Run(fmt.Sprintf("1 op %d of %d", op, n), func(t *testing.T) {
				p := strings.Repeat("*", n)
				in := stream{}.with(op, p)
				for _, size := range []int{len(in), 997, 1} {
					got, fail := read(new(Reader), 1<<16, slices.Collect(slices.Chunk([]byte(in), size))...)
					if !slices.Equal(got, []said{{op, p}}) || fail != nil {
						t.Errorf("chunks of %d: got %d messages, %v", size, len(got), fail)
					}
				}
			})
		}
	}
}

// TestPings is family 2.
func TestPings(t *testing.T) {
	full := strings.Repeat("\xfe", 125)
	var ten stream
	var tenSaid []said
	for i := range 10 {
		p := fmt.Sprintf("payload-%d", i)
		ten, tenSaid = ten.with(Ping, p), append(tenSaid, said{Ping, p})
	}
	cases := []struct {
		name string
		in   stream
		want []said
		code int
	}{
		{"2.1 empty", stream{}.with(Ping, ""), []said{{Ping, ""}}, 0},
		{"2.2 text", stream{}.with(Ping, "Hello, world!"), []said{{Ping, "Hello, world!"}}, 0},
		{"2.3 not UTF-8", stream{}.with(Ping, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), []said{{Ping, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"}}, 0},
		{"2.4 125 bytes, 2.6 byte by byte", stream{}.with(Ping, full), []said{{Ping, full}}, 0},
		{"2.5 126 bytes", stream{}.with(Ping, full+"\xfe"), nil, ProtocolError},
		{"2.7 unsolicited pong", stream{}.with(Pong, ""), []said{{Pong, ""}}, 0},
		{"2.8 with payload", stream{}.with(Pong, "unsolicited"), []said{{Pong, "unsolicited"}}, 0},
		{"2.9 and a ping", stream{}.with(Pong, "u").with(Ping, "p"), []said{{Pong, "u"}, {Ping, "p"}}, 0},
		{"2.10 ten, 2.11 byte by byte", ten, tenSaid, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { expect(t, c.in, 0, c.want, c.code) })
	}
}

// TestReserved is families 3 and 4: every first byte that has a reserved bit or
// opcode, alone, after a message, and within one.
func TestReserved(t *testing.T) {
	before := []struct {
		name string
		in   stream
		want []said
	}{
		{"alone", nil, nil},
		{"after a message", stream{}.with(Text, "Hello").with(Ping, ""), []said{{Text, "Hello"}, {Ping, ""}}},
		{"within a message", stream{}.part(Text, "Hello").with(Ping, ""), []said{{Ping, ""}}},
	}
	legal := []Opcode{Continuation, Text, Binary, Close, Ping, Pong}
	for _, b := range before {
		t.Run(b.name, func(t *testing.T) {
			for first := range 256 {
				if first&rsvBits == 0 && slices.Contains(legal, Opcode(first&15)) {
					continue
				}
				in := slices.Clone(b.in).raw(byte(first), 0x85, 0, 0, 0, 0).raw([]byte("Hello")...)
				got, fail := read(new(Reader), 0, in)
				if !slices.Equal(got, b.want) || code(fail) != ProtocolError {
					t.Errorf("first byte %#x: got %q, %v", first, got, fail)
				}
			}
		})
	}
}

// TestFragments is family 5.
func TestFragments(t *testing.T) {
	two := []said{{Text, "fragment1fragment2"}}
	cases := []struct {
		name string
		in   stream
		want []said
		code int
	}{
		{"5.1 ping in two", stream{}.part(Ping, "a").with(Continuation, "b"), nil, ProtocolError},
		{"5.2 pong in two", stream{}.part(Pong, "a").with(Continuation, "b"), nil, ProtocolError},
		{"5.3-5 text in two", stream{}.part(Text, "fragment1").with(Continuation, "fragment2"), two, 0},
		{"5.6-8 ping between", stream{}.part(Text, "fragment1").with(Ping, "ping").with(Continuation, "fragment2"),
			[]said{{Ping, "ping"}, two[0]}, 0},
		{"5.9-11 continuation first, final", stream{}.with(Continuation, "no").with(Text, "Hello"), nil, ProtocolError},
		{"5.12-14 continuation first", stream{}.part(Continuation, "no").with(Text, "Hello"), nil, ProtocolError},
		{"5.15 continuation after", stream{}.part(Text, "fragment1").with(Continuation, "fragment2").part(Continuation, "f3").with(Text, "f4"), two, ProtocolError},
		{"5.16 open continuation, then text", stream{}.part(Continuation, "f1").part(Text, "f2").with(Continuation, "f3"), nil, ProtocolError},
		{"5.17 final continuation, then text", stream{}.with(Continuation, "f1").part(Text, "f2").with(Continuation, "f3"), nil, ProtocolError},
		{"5.18 text in text", stream{}.part(Text, "f1").with(Text, "f2"), nil, ProtocolError},
		{"5.19-20 pings among five", stream{}.part(Text, "1").part(Continuation, "2").with(Ping, "a").part(Continuation, "3").part(Continuation, "4").with(Ping, "b").with(Continuation, "5"),
			[]said{{Ping, "a"}, {Ping, "b"}, {Text, "12345"}}, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { expect(t, c.in, 0, c.want, c.code) })
	}
}

// TestUTF8 is family 6 with the sequences of its stress test: each in one
// frame, in a frame a byte, and cut at every byte.
func TestUTF8(t *testing.T) {
	good := strings.Fields(`Hello κόσμε Hello-µ@ßöäüàá-UTF-8!! 𝄞 ` +
		"\x00 \u0080 \u0800 \U00010000 \x7f \u07ff \uffff \U0010ffff " +
		"\ud7ff \ue000 \ufffd \ufffe \U0001fffe \U0001ffff \U0002fffe \U000fffff \ufff9 \ufffc")
	bad := map[string]string{
		"6.3 surrogate inside": "κόσμε\xed\xa0\x80edited",
		"6.4 above the last":   "κόσμε\xf4\x90\x80\x80edited",
		"6.8 five and six":     "\xf8\x88\x80\x80\x80 \xfc\x84\x80\x80\x80\x80",
		"6.10 too long":        "\xf7\xbf\xbf\xbf \xfb\xbf\xbf\xbf\xbf \xfd\xbf\xbf\xbf\xbf\xbf",
		"6.11 first too high":  "\xf4\x90\x80\x80",
		"6.12 continuations":   "\x80 \xbf \x80\xbf \x80\xbf\x80 \x80\xbf\x80\xbf \x80\xbf\x80\xbf\x80",
		"6.13 lonely starts":   "\xc0 \xdf \xe0 \xef \xf0 \xf7 \xf8 \xfb \xfc \xfd",
		"6.14 last missing":    "\xc0 \xe0\x80 \xf0\x80\x80 \xf8\x80\x80\x80 \xfc\x80\x80\x80\x80 \xdf \xef\xbf \xf7\xbf\xbf \xfb\xbf\xbf\xbf",
		"6.15 joined":          "\xc0\xe0\x80\xf0\x80\x80\xdf\xef\xbf\xf7\xbf\xbf",
		"6.16 impossible":      "\xfe \xff \xfe\xfe\xff\xff",
		"6.17 overlong slash":  "\xc0\xaf \xe0\x80\xaf \xf0\x80\x80\xaf \xf8\x80\x80\x80\xaf \xfc\x80\x80\x80\x80\xaf",
		"6.18 overlong limits": "\xc1\xbf \xe0\x9f\xbf \xf0\x8f\xbf\xbf \xf8\x87\xbf\xbf\xbf \xfc\x83\xbf\xbf\xbf\xbf",
		"6.19 overlong zero":   "\xc0\x80 \xe0\x80\x80 \xf0\x80\x80\x80 \xf8\x80\x80\x80\x80 \xfc\x80\x80\x80\x80\x80",
		"6.20 surrogates":      "\xed\xa0\x80 \xed\xad\xbf \xed\xae\x80 \xed\xaf\xbf \xed\xb0\x80 \xed\xbe\x80 \xed\xbf\xbf",
		"6.21 surrogate pairs": "\xed\xa0\x80\xed\xb0\x80 \xed\xa0\x80\xed\xbf\xbf \xed\xad\xbf\xed\xb0\x80 \xed\xaf\xbf\xed\xbf\xbf",
	}
	for _, s := range good {
		t.Run(fmt.Sprintf("good %q", s), func(t *testing.T) {
			expect(t, stream{}.with(Text, s), 0, []said{{Text, s}}, 0)
			expect(t, byteFrames(s), 0, []said{{Text, s}}, 0)
		})
	}
	for name, list := range bad {
		for s := range strings.SplitSeq(list, " ") {
			t.Run(fmt.Sprintf("%s %q", name, s), func(t *testing.T) {
				expect(t, stream{}.with(Text, s), 0, nil, InvalidUTF8)
				expect(t, stream{}.with(Text, "ab"+s+"c"), 0, nil, InvalidUTF8)
				expect(t, byteFrames(s), 0, nil, InvalidUTF8)
				expect(t, stream{}.with(Binary, s), 0, []said{{Binary, s}}, 0)
			})
		}
	}
}

// byteFrames is s as a text message of a frame a byte and an empty last one.
func byteFrames(s string) stream {
	in := stream{}.part(Text, "")
	for i := range len(s) {
		in = in.part(Continuation, s[i:i+1])
	}
	return in.with(Continuation, "")
}

// TestFailFast is 6.4 and 6.6: how many bytes of a text are read before it is
// called wrong, and which cuts of a good one are good.
func TestFailFast(t *testing.T) {
	const kosme = "κ\u1f79σμε" // 2, 3, 2, 2, 2 bytes
	cases := []struct {
		text string
		at   int // bytes after which the error comes, 0 for never
	}{
		{kosme + "\xf4\x90\x80\x80edited", 13},
		{kosme + "\xf4\x80\xffedited", 14},
		{"\xed\xa0\x80", 2},
		{"\xc0\xaf", 1},
		{"\xf0\x8f\xbf\xbf", 2},
		{"a\x80", 2},
		{kosme, 0},
	}
	for _, c := range cases {
		in := stream{}.with(Text, c.text+strings.Repeat("x", 9))
		var r Reader
		at := 0
		for i := range len(in) - 9 {
			if _, fail := read(&r, 0, in[i:i+1]); fail != nil && at == 0 {
				at = i - 5
			}
		}
		if at != c.at {
			t.Errorf("%q: error after %d bytes, want %d", c.text, at, c.at)
		}
	}
	for n := range len(kosme) + 1 {
		want, wantCode := []said{{Text, kosme[:n]}}, 0
		if !slices.Contains([]int{0, 2, 5, 7, 9, 11}, n) {
			want, wantCode = nil, InvalidUTF8
		}
		expect(t, stream{}.with(Text, kosme[:n]), 0, want, wantCode)
	}
}

// TestCloses is family 7: what the Reader and ParseClose make of it together.
func TestCloses(t *testing.T) {
	long := strings.Repeat("*", 123)
	cases := []struct {
		name    string
		payload string
		want    int
	}{
		{"7.3.1 empty", "", NoStatus},
		{"7.3.2 one byte", "\x03", ProtocolError},
		{"7.3.3 code", "\x03\xe8", 1000},
		{"7.3.4 reason", "\x03\xe8Hello World!", 1000},
		{"7.3.5 longest", "\x03\xe8" + long, 1000},
		{"7.3.6 too long", "\x03\xe8" + long + "*", ProtocolError},
		{"7.5.1 bad UTF-8", "\x03\xe8\xce\xba\xed\xa0\x80edited", InvalidUTF8},
	}
	for _, n := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		cases = append(cases, struct {
			name    string
			payload string
			want    int
		}{fmt.Sprint("7.7 ", n), string([]byte{byte(n >> 8), byte(n)}), n})
	}
	for _, n := range []int{0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		cases = append(cases, struct {
			name    string
			payload string
			want    int
		}{fmt.Sprint("7.9 ", n), string([]byte{byte(n >> 8), byte(n)}), ProtocolError})
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			// 7.1: nothing after the close is read, also not within a message.
			in := stream{}.part(Text, "open").with(Close, c.payload).with(Ping, "late").with(Continuation, "")
			got, fail := read(new(Reader), 0, in)
			answer := code(fail)
			if len(got) > 0 {
				answer = closeAnswer(t, got)
			}
			if answer != c.want {
				t.Errorf("got %q, %v: %d, want %d", got, fail, answer, c.want)
			}
		})
	}
}

// closeAnswer is the code to answer a single close message with.
func closeAnswer(t *testing.T, got []said) int {
	t.Helper()
	if len(got) != 1 || got[0].Op != Close {
		t.Fatalf("got %q, want one close", got)
	}
	n, _, err := ParseClose([]byte(got[0].Payload))
	if err != nil {
		return err.(*Error).Code
	}
	return n
}

// TestLarge is family 9: messages up to 16 MiB with a limit of 16 MiB, whole,
// in fragments, and in small reads.
func TestLarge(t *testing.T) {
	const mib = 1 << 20
	cases := []struct {
		name                   string
		op                     Opcode
		size, fragment, chunks int
	}{
		{"9.1.1 text 64 KiB", Text, 64 << 10, 64 << 10, 64 << 10},
		{"9.1.6 text 16 MiB", Text, 16 * mib, 16 * mib, 64 << 10},
		{"9.2.6 binary 16 MiB", Binary, 16 * mib, 16 * mib, 64 << 10},
		{"9.2.6 in one read", Binary, 16 * mib, 16 * mib, 17 * mib},
		{"9.3.1 text 4 MiB by 64", Text, 4 * mib, 64, 64 << 10},
		{"9.3.9 text 4 MiB by 4 MiB", Text, 4 * mib, 4 * mib, 64 << 10},
		{"9.4.3 binary 4 MiB by 1 KiB", Binary, 4 * mib, 1 << 10, 64 << 10},
		{"9.5.1 text 1 MiB in reads of 64", Text, mib, mib, 64},
		{"9.6.1 binary 1 MiB in reads of 64", Binary, mib, mib, 64},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := bytes.Repeat([]byte("κόσμε, ₿1"), c.size/16)
			var in stream
			op := c.op
			for part := range slices.Chunk(p, c.fragment) {
				in = AppendMasked(in, op, false, testKey, part)
				op = Continuation
			}
			in = in.with(Continuation, "")
			var r Reader
			got, fail := read(&r, 16*mib, slices.Collect(slices.Chunk([]byte(in), c.chunks))...)
			if fail != nil || len(got) != 1 || got[0].Op != c.op || got[0].Payload != string(p) {
				t.Errorf("got %d messages, %v", len(got), fail)
			}
		})
	}
	over := AppendMasked(nil, Binary, true, testKey, nil)
	over = append(over[:1], 0xFF, 0, 0, 0, 0, 1, 0, 0, 1, 1, 2, 3, 4)
	expect(t, over, 16*mib, nil, TooLarge)
}
