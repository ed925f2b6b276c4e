package frame

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

func TestRules(t *testing.T) {
	hello := []said{{Text, "hello"}}
	cases := []struct {
		name  string
		in    stream
		limit int
		want  []said
		code  int
	}{
		{"nothing", nil, 0, nil, 0},
		{"text", stream{}.with(Text, "hello"), 0, hello, 0},
		{"binary need not be UTF-8", stream{}.with(Binary, "\xff\x00"), 0, []said{{Binary, "\xff\x00"}}, 0},
		{"empty text", stream{}.with(Text, ""), 0, []said{{Text, ""}}, 0},
		{"pipelined", stream{}.with(Text, "hello").with(Ping, "p").with(Binary, ""), 0,
			[]said{{Text, "hello"}, {Ping, "p"}, {Binary, ""}}, 0},
		{"incomplete", stream{}.with(Text, "hello").with(Text, "again")[:18], 0, hello, 0},
		{"pong", stream{}.with(Pong, "late"), 0, []said{{Pong, "late"}}, 0},
		{"longest ping", stream{}.with(Ping, strings.Repeat("p", 125)), 0, []said{{Ping, strings.Repeat("p", 125)}}, 0},

		{"rsv1", stream{}.raw(0xC1, 0x80, 1, 2, 3, 4), 0, nil, ProtocolError},
		{"rsv2", stream{}.raw(0xA1, 0x80, 1, 2, 3, 4), 0, nil, ProtocolError},
		{"rsv3", stream{}.raw(0x91, 0x80, 1, 2, 3, 4), 0, nil, ProtocolError},
		{"rsv on ping", stream{}.with(Text, "hello").raw(0xC9, 0x80, 1, 2, 3, 4), 0, hello, ProtocolError},
		{"rsv on continuation", stream{}.part(Text, "a").raw(0xC0, 0x80, 1, 2, 3, 4), 0, nil, ProtocolError},
		{"rsv without the rest", stream{}.raw(0xC1), 0, nil, ProtocolError},
		{"opcode 3", stream{}.raw(0x83, 0x80, 1, 2, 3, 4), 0, nil, ProtocolError},
		{"opcode 7", stream{}.raw(0x87, 0x80, 1, 2, 3, 4), 0, nil, ProtocolError},
		{"opcode 11", stream{}.raw(0x8B, 0x80, 1, 2, 3, 4), 0, nil, ProtocolError},
		{"opcode 15", stream{}.raw(0x8F, 0x80, 1, 2, 3, 4), 0, nil, ProtocolError},
		{"unmasked", Append(nil, Text, []byte("hello")), 0, nil, ProtocolError},
		{"unmasked ping", Append(stream{}.with(Text, "hello"), Ping, nil), 0, hello, ProtocolError},

		{"ping of 126", stream{}.with(Ping, strings.Repeat("p", 126)), 0, nil, ProtocolError},
		{"close of 126", stream{}.raw(0x88, 0xFE), 0, nil, ProtocolError},
		{"pong with 64-bit length", stream{}.raw(0x8A, 0xFF), 0, nil, ProtocolError},
		{"fragmented ping", stream{}.part(Ping, ""), 0, nil, ProtocolError},
		{"fragmented close", stream{}.part(Close, ""), 0, nil, ProtocolError},

		{"fragments", stream{}.part(Text, "he").part(Continuation, "l").with(Continuation, "lo"), 0, hello, 0},
		{"empty fragments", stream{}.part(Text, "").part(Continuation, "hello").with(Continuation, ""), 0, hello, 0},
		{"all fragments empty", stream{}.part(Binary, "").part(Continuation, "").with(Continuation, ""), 0, []said{{Binary, ""}}, 0},
		{"control among fragments", stream{}.part(Text, "he").with(Ping, "1").part(Continuation, "l").with(Pong, "").with(Continuation, "lo"), 0,
			[]said{{Ping, "1"}, {Pong, ""}, {Text, "hello"}}, 0},
		{"close among fragments", stream{}.part(Text, "he").with(Close, "\x03\xe8").with(Continuation, "llo"), 0,
			[]said{{Close, "\x03\xe8"}}, 0},
		{"stray continuation", stream{}.with(Continuation, "x"), 0, nil, ProtocolError},
		{"stray open continuation", stream{}.part(Continuation, ""), 0, nil, ProtocolError},
		{"continuation after the last", stream{}.part(Text, "hel").with(Continuation, "lo").with(Continuation, ""), 0, hello, ProtocolError},
		{"missing continuation", stream{}.part(Text, "hel").with(Text, "lo"), 0, nil, ProtocolError},
		{"missing continuation, binary", stream{}.part(Text, "hel").part(Binary, "lo"), 0, nil, ProtocolError},

		{"16-bit length of 125", stream{}.raw(0x82, 0xFE, 0, 125, 1, 2, 3, 4), 0, nil, ProtocolError},
		{"64-bit length of 125", stream{}.raw(0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0, 125, 1, 2, 3, 4), 0, nil, ProtocolError},
		{"64-bit length of 65535", stream{}.raw(0x82, 0xFF, 0, 0, 0, 0, 0, 0, 255, 255, 1, 2, 3, 4), 0, nil, ProtocolError},
		{"top bit of length", stream{}.raw(0x82, 0xFF, 128, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4), 0, nil, ProtocolError},
		{"top bit of length under a limit", stream{}.raw(0x82, 0xFF, 255, 255, 255, 255, 255, 255, 255, 255, 1, 2, 3, 4), 9, nil, ProtocolError},

		{"at the limit", stream{}.with(Text, "hello"), 5, hello, 0},
		{"over the limit", stream{}.with(Text, "hello").with(Text, "hello!"), 5, hello, TooLarge},
		{"announced over the limit", stream{}.raw(0x82, 0xFF, 0x7F, 255, 255, 255, 255, 255, 255, 255, 1, 2, 3, 4), 5, nil, TooLarge},
		{"huge without limit", stream{}.raw(0x82, 0xFF, 0x7F, 255, 255, 255, 255, 255, 255, 255, 1, 2, 3, 4), 0, nil, 0},
		{"sum that overflows", stream{}.part(Text, "hello").raw(0x80, 0xFF, 0x7F, 255, 255, 255, 255, 255, 255, 255, 1, 2, 3, 4), 0, nil, TooLarge},
		{"fragments at the limit", stream{}.part(Text, "hel").with(Continuation, "lo"), 5, hello, 0},
		{"fragments over the limit", stream{}.part(Text, "hel").with(Continuation, "lo!"), 5, nil, TooLarge},
		{"control is not under the limit", stream{}.with(Ping, "a long ping"), 5, []said{{Ping, "a long ping"}}, 0},
		{"control within a full message", stream{}.part(Text, "hello").with(Ping, "ping").with(Continuation, ""), 5,
			[]said{{Ping, "ping"}, {Text, "hello"}}, 0},

		{"bad UTF-8", stream{}.with(Text, "hello").with(Text, "a\xffb"), 0, hello, InvalidUTF8},
		{"cut rune at the end", stream{}.with(Text, "a\xe2\x82"), 0, nil, InvalidUTF8},
		{"rune across fragments", stream{}.part(Text, "\xf0").part(Continuation, "\x9d\x84").with(Continuation, "\x9e"), 0, []said{{Text, "𝄞"}}, 0},
		{"rune across empty fragments", stream{}.part(Text, "\xe2").part(Continuation, "").with(Ping, "").with(Continuation, "\x82\xac"), 0,
			[]said{{Ping, ""}, {Text, "€"}}, 0},
		{"rune never finished", stream{}.part(Text, "\xe2\x82").with(Continuation, ""), 0, nil, InvalidUTF8},
		{"bad fragment fails at once", stream{}.part(Text, "a\xff"), 0, nil, InvalidUTF8},
		{"bad half frame fails at once", stream{}.with(Text, "\xed\xa0 and more")[:8], 0, nil, InvalidUTF8},
		{"bad continuation of a rune", stream{}.part(Text, "\xf4").part(Continuation, "\x90"), 0, nil, InvalidUTF8},

		{"after close all is ignored", stream{}.with(Close, "").with(Text, "x").raw(0xFF, 0xFF), 0, []said{{Close, ""}}, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { expect(t, c.in, c.limit, c.want, c.code) })
	}
}

// TestErrorStays: a dead Reader says the same error and keeps nothing.
func TestErrorStays(t *testing.T) {
	var r Reader
	_, first := read(&r, 0, stream{}.part(Text, "hello").raw(0xFF))
	r.Feed(stream{}.with(Text, "hello"))
	_, ok, again := r.Next(0)
	if first == nil || again != error(first) || ok || r.Idle() || r.Held() != 0 {
		t.Errorf("got %v, then %v ok=%v idle=%v held=%d", first, again, ok, r.Idle(), r.Held())
	}
	if got, want := first.Error(), "websocket 1002: reserved bit set"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestIdle(t *testing.T) {
	whole := stream{}.part(Text, "he").with(Ping, "ping").with(Continuation, "llo")
	var r Reader
	if !r.Idle() || r.Held() != 0 {
		t.Fatalf("zero value: idle=%v held=%d", r.Idle(), r.Held())
	}
	for _, in := range []stream{whole, stream{}.with(Ping, "ping"), stream{}.with(Text, "hello")} {
		for i := range in {
			read(&r, 0, in[i:i+1])
			if want := i == len(in)-1; r.Idle() != want {
				t.Errorf("%q after %d of %d bytes: idle=%v, want %v", in, i+1, len(in), r.Idle(), want)
			}
		}
	}
	if r.Held() != 0 {
		t.Errorf("held %d after the message", r.Held())
	}
	r.Feed(whole.with(Text, "hello"))
	if r.Idle() {
		t.Error("idle with unread bytes")
	}
	read(&r, 0, stream{}.with(Close, ""))
	if r.Idle() || r.Held() != 0 {
		t.Errorf("ended: idle=%v held=%d", r.Idle(), r.Held())
	}
}

// TestMoved: a copy goes on where the Reader was, at every byte.
func TestMoved(t *testing.T) {
	in := stream{}.part(Text, "hello κό").with(Ping, "ping").with(Continuation, "σμε")
	var got []said
	var r Reader
	for i := range in {
		moved := r
		r = Reader{}
		some, fail := read(&moved, 0, in[i:i+1])
		if fail != nil {
			t.Fatal(fail)
		}
		got = append(got, some...)
		r = moved
	}
	want := []said{{Ping, "ping"}, {Text, "hello κόσμε"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestFeedTwice: nothing is lost or overwritten when Next was not asked to the
// end before the next Feed.
func TestFeedTwice(t *testing.T) {
	in := stream{}.with(Text, "one").with(Text, "two").with(Text, "three")
	backing := slices.Concat(in[:12], []byte("not to be touched"))
	var r Reader
	r.Feed(backing[:12:len(backing)])
	r.Feed(slices.Clone(in[12:20]))
	first, ok, err := r.Next(0)
	if err != nil || !ok || string(first.Payload) != "one" {
		t.Fatalf("got %q, %v, %v", first.Payload, ok, err)
	}
	got, fail := read(&r, 0, in[20:])
	want := []said{{Text, "two"}, {Text, "three"}}
	if !slices.Equal(got, want) || fail != nil {
		t.Errorf("got %q, %v, want %q", got, fail, want)
	}
	if !bytes.HasSuffix(backing, []byte("not to be touched")) {
		t.Errorf("bytes after the fed ones changed: %q", backing)
	}
}

// TestInPlace: a whole message lies in the fed bytes, and appending to its
// payload does not reach what follows it.
func TestInPlace(t *testing.T) {
	b := stream{}.with(Text, "hello").with(Text, "again")
	var r Reader
	r.Feed(b)
	m, _, _ := r.Next(0)
	if &m.Payload[0] != &b[6] || cap(m.Payload) != 5 {
		t.Errorf("payload was copied or has room: cap %d", cap(m.Payload))
	}
	if m, ok, err := r.Next(0); !ok || err != nil || string(m.Payload) != "again" {
		t.Errorf("got %q, %v, %v", m.Payload, ok, err)
	}
}

// TestRandomSplits cuts one long stream at random places.
func TestRandomSplits(t *testing.T) {
	var in stream
	var want []said
	for n := range 40 {
		p := strings.Repeat("κόσμε", n*n)
		in = in.with(Text, p).part(Text, p[:n]).with(Ping, p[:min(n, 125)]).with(Continuation, p[n:])
		want = append(want, said{Text, p}, said{Ping, p[:min(n, 125)]}, said{Text, p})
	}
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var chunks [][]byte
		for rest := []byte(in); len(rest) > 0; {
			n := min(1+rnd.IntN(1<<rnd.IntN(17)), len(rest))
			chunks, rest = append(chunks, rest[:n]), rest[n:]
		}
		got, fail := read(new(Reader), 1<<16, chunks...)
		if !slices.Equal(got, want) || fail != nil {
			t.Fatalf("seed %d: %d messages, %v; want %d", seed, len(got), fail, len(want))
		}
	}
}

// TestHeld: memory follows what has arrived, not what is announced, and is
// never over the limit.
func TestHeld(t *testing.T) {
	const limit = 16 << 20
	announced := stream{}.raw(0x82, 0xFF, 0, 0, 0, 0, 1, 0, 0, 0, 1, 2, 3, 4)
	cases := []struct {
		name  string
		start stream
		chunk stream
		times int
		most  int
	}{
		{"announced only", announced, nil, 0, 0},
		{"ten bytes of 16 MiB", announced, make(stream, 10), 1, 64},
		{"drip of 16 MiB", announced, make(stream, 1), 1000, 2000},
		{"all but a byte of 16 MiB", announced, make(stream, 16<<10-1), 1024, limit},
		{"all but a byte of 100", stream{}.raw(0x82, 0xE4, 1, 2, 3, 4), make(stream, 99), 1, 112},
		{"one-byte fragments", stream{}.part(Binary, "a"), stream{}.part(Continuation, "b"), 1000, 2002},
		{"fragments of 1 MiB", stream{}.part(Binary, ""), stream{}.part(Continuation, strings.Repeat("x", 1<<20)), 16, limit},
		{"empty fragments", stream{}.part(Binary, ""), stream{}.part(Continuation, ""), 1000, 0},
		{"announced close", stream{}.raw(0x88, 0xDE, 1, 2, 3, 4), nil, 0, 0},
		{"half a ping", stream{}.part(Binary, "").raw(0x89, 0xFD, 1, 2, 3, 4), make(stream, 1), 100, 128},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var r Reader
			chunks := append([][]byte{c.start}, slices.Repeat([][]byte{c.chunk}, c.times)...)
			for _, b := range chunks {
				if got, fail := read(&r, limit, b); got != nil || fail != nil {
					t.Fatalf("got %.100q, %v", got, fail)
				}
				if r.Held() > c.most {
					t.Fatalf("held %d, want at most %d", r.Held(), c.most)
				}
			}
		})
	}
}

func TestEmptyFragments(t *testing.T) {
	in := stream{}.part(Text, "")
	for range maxEmpty - 1 {
		in = in.part(Continuation, "")
	}
	got, fail := read(new(Reader), 0, in.with(Continuation, "").part(Text, "").with(Continuation, "x"))
	if want := []said{{Text, ""}, {Text, "x"}}; !slices.Equal(got, want) || fail != nil {
		t.Errorf("as many as may be: got %q, %v, want %q", got, fail, want)
	}
	if got, fail := read(new(Reader), 0, in.part(Continuation, "")); got != nil || code(fail) != TooLarge {
		t.Errorf("one more: got %q, %v", got, fail)
	}
}

// TestReaderSize: the hub keeps one for each connection that is in the middle
// of a message.
func TestReaderSize(t *testing.T) {
	if got := unsafe.Sizeof(Reader{}); got > 128 {
		t.Errorf("a Reader is %d bytes", got)
	}
}

func TestAllocs(t *testing.T) {
	in := stream{}.with(Text, `{"type":"ping"}`).with(Ping, "hb").with(Binary, strings.Repeat("x", 1000)).with(Text, "")
	b := make([]byte, len(in))
	var r Reader
	allocs := testing.AllocsPerRun(100, func() {
		copy(b, in)
		r.Feed(b)
		n := 0
		for {
			if _, ok, err := r.Next(1 << 16); err != nil {
				t.Fatal(err)
			} else if !ok {
				break
			}
			n++
		}
		if n != 4 || !r.Idle() {
			t.Fatalf("%d messages, idle=%v", n, r.Idle())
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations for messages that came whole", allocs)
	}
	dst := make([]byte, 0, 2048)
	payload := b[:1000]
	allocs = testing.AllocsPerRun(100, func() {
		dst = Append(dst[:0], Text, payload)
		dst = AppendMasked(dst[:0], Text, true, testKey, payload)
		dst = AppendClose(dst[:0], 1000, "IDLE_TIMEOUT")
	})
	if allocs != 0 {
		t.Errorf("%v allocations for appending with room", allocs)
	}
}

// TestOpen asks after each of a message's frames.
func TestOpen(t *testing.T) {
	var r Reader
	for i, c := range []struct {
		in   stream
		want bool
	}{
		{stream{}.with(Text, "whole"), false},
		{stream{}.part(Text, "fr"), true},
		{stream{}.with(Ping, ""), true},
		{stream{}.part(Continuation, ""), true},
		{stream{}.with(Continuation, "ag"), false},
		{stream{}.with(Ping, ""), false},
		{stream{}.with(Ping, "cut")[:4], false},
	} {
		if _, fail := read(&r, 0, c.in); fail != nil || r.Open() != c.want {
			t.Errorf("step %d: got %v, %v, want %v", i, r.Open(), fail, c.want)
		}
	}
}
