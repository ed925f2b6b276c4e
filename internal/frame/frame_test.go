package frame

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
)

// said is a Message as a value that can be compared. A compressed one has
// packed beside its opcode.
type said struct {
	Op      Opcode
	Payload string
}

const packed Opcode = 0x40

// A stream is frames in the order a client sends them.
type stream []byte

var testKey = [4]byte{0x37, 0xFA, 0x21, 0x3D}

// with appends a final frame.
func (s stream) with(op Opcode, payload string) stream {
	return AppendMasked(s, op, true, testKey, []byte(payload))
}

// part appends a frame that is not final.
func (s stream) part(op Opcode, payload string) stream {
	return AppendMasked(s, op, false, testKey, []byte(payload))
}

// zipped appends a final frame that is marked as compressed.
func (s stream) zipped(op Opcode, payload string) stream {
	return s.marked(s.with(op, payload))
}

// zippedPart appends one that is not final.
func (s stream) zippedPart(op Opcode, payload string) stream {
	return s.marked(s.part(op, payload))
}

// marked sets RSV1 in the frame that longer has beyond s.
func (s stream) marked(longer stream) stream {
	longer[len(s)] |= rsv1
	return longer
}

// raw appends bytes as they are.
func (s stream) raw(b ...byte) stream { return append(s, b...) }

// read feeds copies of the chunks and collects what comes out.
func read(r *Reader, limit int, chunks ...[]byte) (got []said, fail *Error) {
	for _, c := range chunks {
		r.Feed(slices.Clone(c))
		for {
			m, ok, err := r.Next(limit)
			if err != nil {
				return got, err.(*Error)
			}
			if !ok {
				break
			}
			if m.Compressed {
				m.Op |= packed
			}
			got = append(got, said{m.Op, string(m.Payload)})
		}
	}
	return got, nil
}

// code is the close code of an error, 0 for none.
func code(e *Error) int {
	if e == nil {
		return 0
	}
	return e.Code
}

// expect reads b whole, byte by byte, and cut in two at every place (or, when
// it is long, at some), and wants the same each time.
func expect(t *testing.T, b []byte, limit int, want []said, wantCode int) {
	t.Helper()
	expectFrom(t, Reader{}, b, limit, want, wantCode)
}

// expectFrom does that with copies of a Reader.
func expectFrom(t *testing.T, from Reader, b []byte, limit int, want []said, wantCode int) {
	t.Helper()
	check := func(how string, chunks ...[]byte) {
		t.Helper()
		r := from
		got, fail := read(&r, limit, chunks...)
		if !slices.Equal(got, want) || code(fail) != wantCode {
			t.Errorf("%s: got %.300q, %v; want %.300q, %d", how, got, fail, want, wantCode)
		}
	}
	check("whole", b)
	check("bytes", slices.Collect(slices.Chunk(b, 1))...)
	for at := 1; at < len(b); at += 1 + len(b)/2048 {
		check(fmt.Sprintf("cut at %d", at), b[:at], b[at:])
	}
}

func TestAppend(t *testing.T) {
	cases := []struct {
		name string
		got  []byte
		want []byte
	}{
		{"RFC 5.7 text", Append(nil, Text, []byte("Hello")), []byte{0x81, 5, 'H', 'e', 'l', 'l', 'o'}},
		{"RFC 5.7 masked text", AppendMasked(nil, Text, true, testKey, []byte("Hello")),
			[]byte{0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58}},
		{"RFC 5.7 fragment", AppendMasked(nil, Text, false, [4]byte{}, []byte("Hel")),
			[]byte{0x01, 0x83, 0, 0, 0, 0, 'H', 'e', 'l'}},
		{"RFC 5.7 256 bytes", AppendHeader(nil, Binary, 256), []byte{0x82, 126, 1, 0}},
		{"RFC 5.7 64 KiB", AppendHeader(nil, Binary, 65536), []byte{0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0}},
		{"empty", AppendHeader(nil, Ping, 0), []byte{0x89, 0}},
		{"125", AppendHeader(nil, Pong, 125), []byte{0x8A, 125}},
		{"126", AppendHeader(nil, Text, 126), []byte{0x81, 126, 0, 126}},
		{"65535", AppendHeader(nil, Text, 65535), []byte{0x81, 126, 255, 255}},
		{"compressed", AppendCompressed(nil, Text, []byte{0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00}),
			[]byte{0xc1, 7, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00}}, // RFC 7692, 7.2.3.1
		{"appends", Append([]byte("x"), Text, nil), []byte{'x', 0x81, 0}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if !bytes.Equal(c.got, c.want) {
				t.Errorf("got % x, want % x", c.got, c.want)
			}
		})
	}
}

func TestHeaderLen(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536, 16 << 20} {
		if got, want := HeaderLen(n), len(AppendHeader(nil, Text, n)); got != want {
			t.Errorf("HeaderLen(%d): got %d, want %d", n, got, want)
		}
		if got := len(Payload(Append(nil, Text, make([]byte, n)))); got != n {
			t.Errorf("Payload of %d bytes: got %d", n, got)
		}
		if got, want := len(AppendCompressed(nil, Binary, make([]byte, n))), HeaderLen(n)+n; got != want {
			t.Errorf("AppendCompressed of %d bytes: got %d, want %d", n, got, want)
		}
	}
}

// TestMask compares with the loop over bytes at every length, alignment and
// position that takes another way through.
func TestMask(t *testing.T) {
	for n := range 80 {
		for pos := range 9 {
			for off := range 3 {
				b := make([]byte, off+n+3)
				for i := range b {
					b[i] = byte(i * 7)
				}
				want := bytes.Clone(b)
				for i := range n {
					want[off+i] ^= testKey[(pos+i)%4]
				}
				Mask(b[off:off+n], testKey, pos)
				if !bytes.Equal(b, want) {
					t.Fatalf("n=%d pos=%d off=%d: got % x, want % x", n, pos, off, b, want)
				}
			}
		}
	}
}
