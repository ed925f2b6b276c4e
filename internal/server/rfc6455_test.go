package server

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"cryptointel/internal/eventloop"
	"cryptointel/internal/frame"
)

// The tests of this file follow the families of the Autobahn suite, whose
// numbers they carry, through the real connection layer: an echo server, both
// kinds of loops, raw bytes from the client, a clock that stands still. So
// whatever the server does it does because of what it was sent.

// rfcKinds are the connection layers that must all pass.
var rfcKinds = []string{eventloop.KindEpoll, eventloop.KindPortable}

// An rfcCase is what a client sends on one connection and what must come back.
type rfcCase struct {
	name string
	in   rfcBytes
	want []rfcFrame // before the close frame
	// code is what the server closes with. 0: nothing is wrong, the client
	// closes with 1000 and gets that back.
	code int
}

// run sends a case by way of send and compares everything up to the end of the
// connection.
func (c rfcCase) run(t *testing.T, s *rfcServer, send func(*testing.T, *rfcServer, *rfcConn, []byte)) {
	t.Helper()
	conn := rfcDial(t, s.Addr())
	defer conn.Close()
	in, code := c.in, c.code
	if code == 0 {
		in, code = slices.Clip(in).say(frame.Close, "\x03\xe8"), 1000
		conn.closed = true
	}
	sent := make(chan struct{})
	go func() { defer close(sent); send(t, s, conn, in) }()
	got, err := conn.rest()
	<-sent
	if want := append(slices.Clip(c.want), rfcClose(code)); err != nil || !slices.Equal(got, want) {
		t.Errorf("got  %v, %v\nwant %v", got, err, want)
	}
}

// rfcWhole sends everything in one write.
func rfcWhole(t *testing.T, _ *rfcServer, c *rfcConn, in []byte) {
	if _, err := c.Write(in); err != nil {
		t.Errorf("write %d bytes: %v", len(in), err)
	}
}

// rfcChops sends n bytes a write.
func rfcChops(n int) func(*testing.T, *rfcServer, *rfcConn, []byte) {
	return func(t *testing.T, s *rfcServer, c *rfcConn, in []byte) {
		for part := range slices.Chunk(in, n) {
			rfcWhole(t, s, c, part)
		}
	}
}

// rfcRun runs every case with both kinds of loops.
func rfcRun(t *testing.T, cases []rfcCase) {
	for _, kind := range rfcKinds {
		t.Run(kind, func(t *testing.T) {
			s := rfcStart(t, kind, rfcEcho)
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) { c.run(t, s, rfcWhole) })
			}
		})
	}
}

// TestRFC1Sizes is family 1: text and binary at every form of the length.
func TestRFC1Sizes(t *testing.T) {
	for _, kind := range rfcKinds {
		t.Run(kind, func(t *testing.T) {
			s := rfcStart(t, kind, rfcEcho)
			for _, op := range []frame.Opcode{frame.Text, frame.Binary} {
				for _, n := range []int{0, 1, 125, 126, 127, 128, 65535, 65536, 65537} {
					p := rfcRepeat("*", n)
					c := rfcCase{fmt.Sprintf("1 op %d of %d", op, n), rfcBytes{}.say(op, p), []rfcFrame{{op, p}}, 0}
					t.Run(c.name, func(t *testing.T) {
						c.run(t, s, rfcWhole)
						c.run(t, s, rfcChops(997))
					})
				}
			}
		})
	}
}

// TestRFC2Pings is family 2.
func TestRFC2Pings(t *testing.T) { rfcRun(t, rfcPings()) }

func rfcPings() []rfcCase {
	full := strings.Repeat("\xfe", 125)
	binary := "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
	pong := func(p string) []rfcFrame { return []rfcFrame{{frame.Pong, p}} }
	var ten rfcBytes
	var tenPongs []rfcFrame
	for i := range 10 {
		p := fmt.Sprintf("payload-%d", i)
		ten, tenPongs = ten.say(frame.Ping, p), append(tenPongs, rfcFrame{frame.Pong, p})
	}
	return []rfcCase{
		{"2.1 empty", rfcBytes{}.say(frame.Ping, ""), pong(""), 0},
		{"2.2 text", rfcBytes{}.say(frame.Ping, "Hello, world!"), pong("Hello, world!"), 0},
		{"2.3 not UTF-8", rfcBytes{}.say(frame.Ping, binary), pong(binary), 0},
		{"2.4 125 bytes", rfcBytes{}.say(frame.Ping, full), pong(full), 0},
		{"2.5 126 bytes", rfcBytes{}.say(frame.Ping, full+"\xfe"), nil, 1002},
		{"2.5 64 KiB", rfcBytes{}.say(frame.Ping, rfcRepeat("x", 65536)), nil, 1002},
		{"2.7 unsolicited pong", rfcBytes{}.say(frame.Pong, ""), nil, 0},
		{"2.8 with payload", rfcBytes{}.say(frame.Pong, "unsolicited"), nil, 0},
		{"2.8 of 126 bytes", rfcBytes{}.say(frame.Pong, full+"\xfe"), nil, 1002},
		{"2.9 and a ping", rfcBytes{}.say(frame.Pong, "u").say(frame.Ping, "p"), pong("p"), 0},
		{"2.10 ten", ten, tenPongs, 0},
		{"2 ping in two", rfcBytes{}.part(frame.Ping, "a").say(frame.Continuation, "b"), nil, 1002},
		{"2 pong in two", rfcBytes{}.part(frame.Pong, "a").say(frame.Continuation, "b"), nil, 1002},
		{"2 close in two", rfcBytes{}.part(frame.Close, "\x03").say(frame.Continuation, "\xe8"), nil, 1002},
	}
}

// TestRFC34Reserved is families 3 and 4: every first byte that has a reserved
// bit or opcode, alone, after a message, and within one; and frames that are
// not masked or whose length is not in its shortest form.
func TestRFC34Reserved(t *testing.T) { rfcRun(t, rfcReserved()) }

func rfcReserved() (cases []rfcCase) {
	before := []rfcCase{
		{"alone", nil, nil, 0},
		{"after a message", rfcBytes{}.text("Hello").say(frame.Ping, ""), append(rfcTexts("Hello"), rfcFrame{frame.Pong, ""}), 0},
		{"within a message", rfcBytes{}.part(frame.Text, "Hello").say(frame.Ping, ""), []rfcFrame{{frame.Pong, ""}}, 0},
	}
	legal := []byte{0, 1, 2, 8, 9, 10}
	for _, b := range before {
		for first := range 256 {
			if first&0x70 == 0 && slices.Contains(legal, byte(first&15)) {
				continue
			}
			in := slices.Clip(b.in).first(byte(first), "Hello").text("more")
			cases = append(cases, rfcCase{fmt.Sprintf("%s %#x", b.name, first), in, b.want, 1002})
		}
	}
	return append(cases,
		rfcCase{"text not masked", rfcBytes{}.raw("\x81\x05Hello"), nil, 1002},
		rfcCase{"ping not masked", rfcBytes{}.raw("\x89\x00"), nil, 1002},
		rfcCase{"close not masked", rfcBytes{}.raw("\x88\x02\x03\xe8"), nil, 1002},
		rfcCase{"5 in 16 bits", rfcBytes{}.raw("\x81\xfe\x00\x05\x00\x00\x00\x00Hello"), nil, 1002},
		rfcCase{"125 in 16 bits", rfcBytes{}.raw("\x81\xfe\x00\x7d\x00\x00\x00\x00" + rfcRepeat("x", 125)), nil, 1002},
		rfcCase{"5 in 64 bits", rfcBytes{}.raw("\x81\xff\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00Hello"), nil, 1002},
		rfcCase{"65535 in 64 bits", rfcBytes{}.raw("\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff\x00\x00\x00\x00"), nil, 1002},
		rfcCase{"top bit of 64", rfcBytes{}.raw("\x82\xff\x80\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00"), nil, 1002},
		rfcCase{"over the limit", rfcBytes{}.raw("\x82\xff\x00\x00\x00\x00\x01\x00\x00\x01\x00\x00\x00\x00"), nil, 1009},
	)
}

// TestRFC5Fragments is family 5.
func TestRFC5Fragments(t *testing.T) { rfcRun(t, rfcFragments()) }

func rfcFragments() []rfcCase {
	const text, more = frame.Text, frame.Continuation
	two := rfcTexts("fragment1fragment2")
	ping := func(p string) rfcFrame { return rfcFrame{frame.Pong, p} }
	return []rfcCase{
		{"5.3 text in two", rfcBytes{}.part(text, "fragment1").say(more, "fragment2"), two, 0},
		{"5.3 binary in three", rfcBytes{}.part(frame.Binary, "\xff").part(more, "").say(more, "\xfe"), []rfcFrame{{frame.Binary, "\xff\xfe"}}, 0},
		{"5.6 ping between", rfcBytes{}.part(text, "fragment1").say(frame.Ping, "ping").say(more, "fragment2"), append([]rfcFrame{ping("ping")}, two...), 0},
		{"5.9 continuation first, then text", rfcBytes{}.say(more, "no").text("Hello"), nil, 1002},
		{"5.12 open continuation first", rfcBytes{}.part(more, "no").text("Hello"), nil, 1002},
		{"5.15 continuation after the last", rfcBytes{}.part(text, "fragment1").say(more, "fragment2").part(more, "f3").text("f4"), two, 1002},
		{"5.16 open continuation, then text in two", rfcBytes{}.part(more, "f1").part(text, "f2").say(more, "f3"), nil, 1002},
		{"5.17 continuation, then text in two", rfcBytes{}.say(more, "f1").part(text, "f2").say(more, "f3"), nil, 1002},
		{"5.18 text in text", rfcBytes{}.part(text, "f1").text("f2"), nil, 1002},
		{"5.18 binary in text", rfcBytes{}.part(text, "f1").say(frame.Binary, "f2"), nil, 1002},
		{"5.19 pings among five", rfcBytes{}.part(text, "1").part(more, "2").say(frame.Ping, "a").part(more, "3").part(more, "4").say(frame.Ping, "b").say(more, "5"),
			append([]rfcFrame{ping("a"), ping("b")}, rfcTexts("12345")...), 0},
		{"5 pongs among three", rfcBytes{}.part(text, "1").say(frame.Pong, "x").part(more, "2").say(frame.Pong, "").say(more, "3"), rfcTexts("123"), 0},
		{"5 close within a message", rfcBytes{}.part(text, "1").say(frame.Close, "\x03\xe9").say(more, "2"), nil, 1001},
		{"5 all empty", rfcBytes{}.part(text, "").part(more, "").say(more, ""), rfcTexts(""), 0},
		{"5 1024 empty ones", rfcBytes{}.part(text, "").raw(strings.Repeat(string(rfcBytes{}.part(more, "")), 1023)).say(more, "end"), rfcTexts("end"), 0},
		{"5 one empty one more", rfcBytes{}.part(text, "").raw(strings.Repeat(string(rfcBytes{}.part(more, "")), 1024)), nil, 1009},
	}
}

// rfcGoodUTF8 and rfcBadUTF8 are the sequences of family 6.
var rfcGoodUTF8 = []string{
	"κόσμε", "Hello-µ@ßöäüàá-UTF-8!!", "𝄞", "\x00", "\u0080", "\u0800", "\U00010000", "\x7f", "\u07ff", "\uffff",
	"\U0010ffff", "\ud7ff", "\ue000", "\ufffd", "\ufffe", "\U0001fffe", "\U0001ffff", "\U0002fffe", "\U000fffff",
}

var rfcBadUTF8 = []string{
	"κόσμε\xed\xa0\x80edited", "κόσμε\xf4\x90\x80\x80edited", "\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80",
	"\xf7\xbf\xbf\xbf", "\xfb\xbf\xbf\xbf\xbf", "\xf4\x90\x80\x80", "\x80", "\xbf", "\x80\xbf\x80", "\xc0", "\xfd",
	"\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xc0\x80",
	"\xe0\x80\x80", "\xf0\x80\x80\x80", "\xed\xa0\x80", "\xed\xaf\xbf", "\xed\xb0\x80", "\xed\xbf\xbf",
	"\xed\xa0\x80\xed\xb0\x80", "\xfe", "\xff", "\xfe\xfe\xff\xff",
	// Cut short: wrong only because the message ends.
	"\xdf", "\xef\xbf", "\xf0\x90\x80", "κόσμ\xce", "\xe2\x82",
}

// TestRFC6UTF8 is family 6: each sequence in one frame, within one, and a byte
// a frame; and a wrong byte is answered before the message has ended.
func TestRFC6UTF8(t *testing.T) { rfcRun(t, rfcUTF8()) }

func rfcUTF8() (cases []rfcCase) {
	for _, s := range rfcGoodUTF8 {
		cases = append(cases, rfcCase{fmt.Sprintf("6 good %q", s),
			append(rfcByteFrames(s), rfcBytes{}.text(s, "ab"+s+"c")...), rfcTexts(s, s, "ab"+s+"c"), 0})
	}
	for _, s := range rfcBadUTF8 {
		cases = append(cases,
			rfcCase{fmt.Sprintf("6 bad %q", s), rfcBytes{}.text(s, "late"), nil, 1007},
			rfcCase{fmt.Sprintf("6 bad within %q", s), rfcBytes{}.text("good", "ab"+s+"c"), rfcTexts("good"), 1007},
			rfcCase{fmt.Sprintf("6 bad in frames of a byte %q", s), rfcByteFrames(s), nil, 1007},
			rfcCase{fmt.Sprintf("6 binary %q", s), rfcBytes{}.say(frame.Binary, s), []rfcFrame{{frame.Binary, s}}, 0})
	}
	const good = "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"
	unfinished := rfcBytes{}.text(good + "\xf4\x90\x80\x80" + rfcRepeat("x", 1000))
	return append(cases,
		rfcCase{"6.4.1 fail at the fragment", rfcBytes{}.part(frame.Text, good).part(frame.Continuation, "\xf4\x90\x80\x80"), nil, 1007},
		rfcCase{"6.4.2 fail within a rune", rfcBytes{}.part(frame.Text, good+"\xf4").part(frame.Continuation, "\x90"), nil, 1007},
		rfcCase{"6.4.3 fail within a frame", unfinished[:len(unfinished)-1000], nil, 1007})
}

// rfcByteFrames is s as a text message of a frame a byte and an empty last one.
func rfcByteFrames(s string) rfcBytes {
	in := rfcBytes{}.part(frame.Text, "")
	for i := range len(s) {
		in = in.part(frame.Continuation, s[i:i+1])
	}
	return in.say(frame.Continuation, "")
}

// TestRFC7Closes is family 7.
func TestRFC7Closes(t *testing.T) { rfcRun(t, rfcCloses()) }

func rfcCloses() []rfcCase {
	closing := func(payload string) rfcBytes { return rfcBytes{}.say(frame.Close, payload) }
	code := func(n int) string { return string([]byte{byte(n >> 8), byte(n)}) }
	long := rfcRepeat("*", 123)
	cases := []rfcCase{
		{"7.1.1 a message before", rfcBytes{}.text("Hello").say(frame.Close, code(1000)), rfcTexts("Hello"), 1000},
		{"7.1.2 twice", closing(code(1000)).say(frame.Close, code(1001)), nil, 1000},
		{"7.1.3 ping after", closing(code(1000)).say(frame.Ping, "late"), nil, 1000},
		{"7.1.4 text after", closing(code(1000)).text("late"), nil, 1000},
		{"7.1.5 rest of a message after", rfcBytes{}.part(frame.Text, "f1").say(frame.Close, code(1000)).say(frame.Continuation, "f2"), nil, 1000},
		{"7.1.6 256 KiB before, garbage after", rfcBytes{}.text(rfcRepeat("BAsd7&jh23", 256<<10)).say(frame.Close, code(1000)).raw(rfcRepeat("\xff\x00", 70_000)),
			rfcTexts(rfcRepeat("BAsd7&jh23", 256<<10)), 1000},
		{"7.3.2 one byte", closing("\x03"), nil, 1002},
		{"7.3.4 reason", closing(code(1000) + "Hello World!"), nil, 1000},
		{"7.3.5 longest", closing(code(1000) + long), nil, 1000},
		{"7.3.6 too long", closing(code(1000) + long + "*"), nil, 1002},
		{"7.5.1 bad UTF-8", closing(code(1000) + "κ\xed\xa0\x80edited"), nil, 1007},
		{"7.5.1 cut UTF-8", closing(code(1000) + "\xce"), nil, 1007},
	}
	for _, n := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		cases = append(cases, rfcCase{fmt.Sprint("7.7 ", n), closing(code(n)), nil, n})
	}
	for _, n := range []int{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		cases = append(cases, rfcCase{fmt.Sprint("7.9 ", n), closing(code(n)), nil, 1002})
	}
	return cases
}

// TestRFC7NoStatus is 7.3.1: a close without a code is answered by one.
func TestRFC7NoStatus(t *testing.T) {
	for _, kind := range rfcKinds {
		t.Run(kind, func(t *testing.T) {
			c := rfcDial(t, rfcStart(t, kind, rfcEcho).Addr())
			c.closed = true
			c.send(t, rfcBytes{}.say(frame.Close, ""))
			got, err := c.rest()
			if want := []rfcFrame{{frame.Close, ""}}; err != nil || !slices.Equal(got, want) {
				t.Errorf("got %v, %v, want %v", got, err, want)
			}
		})
	}
}

// TestRFC9Large is families 9 and 10: messages up to 16 MiB, whole, in
// fragments, in small writes, and many of them.
func TestRFC9Large(t *testing.T) {
	const mib = 1 << 20
	type large struct {
		name                   string
		op                     frame.Opcode
		size, fragment, writes int
	}
	cases := []large{
		{"9.1.1 text 64 KiB", frame.Text, 64 << 10, 64 << 10, mib},
		{"9.1.3 text 1 MiB", frame.Text, mib, mib, mib},
		{"9.1.6 text 16 MiB", frame.Text, 16 * mib, 16 * mib, 32 * mib},
		{"9.2.6 binary 16 MiB", frame.Binary, 16 * mib, 16 * mib, 32 * mib},
		{"9.3.1 text 4 MiB by 64", frame.Text, 4 * mib, 64, mib},
		{"9.3.9 text 4 MiB by 4 MiB", frame.Text, 4 * mib, 4 * mib, mib},
		{"9.4.3 binary 4 MiB by 1 KiB", frame.Binary, 4 * mib, 1 << 10, mib},
		{"9.5.1 text 1 MiB in writes of 64", frame.Text, mib, mib, 64},
		{"9.6.6 binary 1 MiB in writes of 2 KiB", frame.Binary, mib, mib, 2 << 10},
		{"10.1.1 text 64 KiB by 1300", frame.Text, 64 << 10, 1300, mib},
	}
	for _, kind := range rfcKinds {
		t.Run(kind, func(t *testing.T) {
			s := rfcStart(t, kind, rfcEcho)
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) {
					p := bytes.Repeat([]byte("κόσμε, ₿1"), c.size/16)
					var in rfcBytes
					op := c.op
					for part := range slices.Chunk(p, c.fragment) {
						in = frame.AppendMasked(in, op, false, rfcKey, part)
						op = frame.Continuation
					}
					in = in.say(op, "")
					rfcCase{c.name, in, []rfcFrame{{c.op, string(p)}}, 0}.run(t, s, rfcChops(c.writes))
				})
			}
		})
	}
}

// TestRFC9ManyMessages is 9.7 and 9.8: a thousand messages, each sent when the
// one before is back, and a thousand at once.
func TestRFC9ManyMessages(t *testing.T) {
	for _, kind := range rfcKinds {
		s := rfcStart(t, kind, rfcEcho)
		for _, n := range []int{0, 16, 1024, 16384} {
			t.Run(fmt.Sprintf("%s of %d", kind, n), func(t *testing.T) {
				one := rfcTexts(rfcRepeat("*", n))
				in := rfcBytes{}.text(one[0].Payload)
				c := rfcDial(t, s.Addr())
				for i := range 1000 {
					c.send(t, in)
					if got, err := c.next(); err != nil || got != one[0] {
						t.Fatalf("message %d: got %v, %v", i, got, err)
					}
				}
				rfcCase{"", bytes.Repeat(in, 1000), slices.Repeat(one, 1000), 0}.run(t, s, rfcWhole)
			})
		}
	}
}
