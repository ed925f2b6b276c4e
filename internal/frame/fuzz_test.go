package frame

import (
	"bytes"
	"encoding/hex"
	"io"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// slowRead is the Reader again, slow and plain: gobwas/ws reads and checks the
// headers. It adds what gobwas leaves to its caller (lengths in their shortest
// form, the limit, UTF-8, which bit is reserved for whom) and the Reader's rule
// on empty fragments.
type slowRead struct {
	in      *bytes.Reader
	limit   int
	deflate bool
	state   ws.State
	kind    ws.OpCode
	packed  bool
	msg     []byte
	empty   int
	got     []said
}

func slow(in []byte, limit int, deflate bool) (got []said, code int) {
	s := &slowRead{in: bytes.NewReader(in), limit: limit, deflate: deflate, state: ws.StateServerSide}
	for s.in.Len() > 0 && code == 0 {
		if n := len(s.got); n > 0 && s.got[n-1].Op == Close {
			break
		}
		code = s.frame()
	}
	return s.got, code
}

func (s *slowRead) frame() int {
	at := s.in.Size() - int64(s.in.Len())
	h, err := ws.ReadHeader(s.in)
	used := s.in.Size() - int64(s.in.Len()) - at
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return s.begun(at)
	}
	if err != nil || s.check(h) != nil || used != int64(ws.HeaderSize(h)) {
		return ProtocolError
	}
	payload := make([]byte, min(h.Length, int64(s.in.Len())))
	if !h.OpCode.IsControl() && s.limit > 0 && h.Length > int64(s.limit-len(s.msg)) {
		return TooLarge
	}
	s.in.Read(payload)
	ws.Cipher(payload, h.Mask, 0)
	whole := int64(len(payload)) == h.Length
	if h.OpCode.IsControl() {
		if whole {
			s.got = append(s.got, said{Opcode(h.OpCode), string(payload)})
		}
		return 0
	}
	return s.data(h, payload, whole)
}

// begun judges a header that is cut short by what is there of it.
func (s *slowRead) begun(at int64) int {
	var b [2]byte
	n, _ := s.in.ReadAt(b[:], at)
	h := ws.Header{Fin: b[0]&0x80 != 0, Rsv: b[0] >> 4 & 7, OpCode: ws.OpCode(b[0] & 15), Masked: true}
	if n == 2 {
		h.Masked, h.Length = b[1]&0x80 != 0, int64(b[1]&0x7F)
	}
	s.in.Seek(0, io.SeekEnd)
	if s.check(h) != nil {
		return ProtocolError
	}
	return 0
}

// check lets RSV1 pass where RFC 7692 does: on the first frame of a message.
func (s *slowRead) check(h ws.Header) error {
	if r1, r2, r3 := ws.RsvBits(h.Rsv); s.deflate && r1 && !r2 && !r3 && h.OpCode.IsData() && h.OpCode != ws.OpContinuation {
		h.Rsv = 0
	}
	return ws.CheckHeader(h, s.state)
}

func (s *slowRead) data(h ws.Header, payload []byte, whole bool) int {
	if h.Length == 0 && !h.Fin {
		if s.empty++; s.empty > maxEmpty {
			return TooLarge
		}
	}
	if h.OpCode != ws.OpContinuation {
		s.kind, s.packed = h.OpCode, h.Rsv != 0
	}
	s.msg = append(s.msg, payload...)
	last := h.Fin && whole
	if s.kind == ws.OpText && !s.packed && (last && !utf8.Valid(s.msg) || !validStart(s.msg)) {
		return InvalidUTF8
	}
	if last {
		op := Opcode(s.kind)
		if s.packed {
			op |= packed
		}
		s.got = append(s.got, said{op, string(s.msg)})
		s.msg, s.empty = nil, 0
	}
	if whole {
		s.state = s.state.Clear(ws.StateFragmented)
		if !h.Fin {
			s.state = s.state.Set(ws.StateFragmented)
		}
	}
	return 0
}

// validStart reports whether some more bytes make b UTF-8, by trying: every
// beginning of a rune can be finished with lowest or with highest bytes.
func validStart(b []byte) bool {
	for _, end := range []string{"", "\x80", "\x80\x80", "\x80\x80\x80", "\xbf", "\xbf\xbf", "\xbf\xbf\xbf"} {
		if utf8.Valid(append(slices.Clone(b), end...)) {
			return true
		}
	}
	return false
}

// captured is what the WebSocket client of Node 20 sent, a read a line: the
// commands of a session, a pong, a binary message, a close.
var captured = []string{
	"818fb7e6d6bcccc4a2c5c783f4869596bfd2d0c4ab",
	"8a82431587202b77",
	"81c64292f80039b08c7932f7da3a60e18d6231f18a6920f7da2c60fb9c2278a3d42221fa996e2cf7947360a8a32232e0916327a89a6936f197692cb0d42231fb9f6e23fe8b3a23fe94221fef",
	"818a328dae9efc376112fd0e6022fc38",
	"81fe00ea2f18c052543ab42b5f7de2680d6bb5305c7bb23b4d7de27e0d71a470152aec704c70a13c417dac210d229b705f6aa9314a22a1215c7db47f1f3aec705f6aa9314a22a1215c7db47f1e3aec705f6aa9314a22a1215c7db47f1d3aec705f6aa9314a22a1215c7db47f1c3aec705f6aa9314a22a1215c7db47f1b3aec705f6aa9314a22a1215c7db47f1a3aec705f6aa9314a22a1215c7db47f193aec705f6aa9314a22a1215c7db47f183aec705f6aa9314a22a1215c7db47f173aec705f6aa9314a22a1215c7db47f163aec705f6aa9314a22a1215c7db47f1e28e27e0d68b23b4c7dfa335c6ba5260229f1707265",
	"828444fab14844fbb3b7",
	"88869673459e959b21f1f816",
}

func fromHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestCaptured reads a real client's session, in one piece and as it came.
func TestCaptured(t *testing.T) {
	var all []byte
	for _, line := range captured {
		all = append(all, fromHex(t, line)...)
	}
	want, code := slow(all, 1<<16, false)
	if len(want) != 7 || code != 0 || want[0].Payload != `{"type":"ping"}` {
		t.Fatalf("got %q, %d", want, code)
	}
	expect(t, all, 1<<16, want, 0)
}

// FuzzReader: the same messages and the same class of error as the slow reader,
// however the bytes are cut; memory within the limit; dead is dead.
func FuzzReader(f *testing.F) {
	var all []byte
	for _, line := range captured {
		f.Add(fromHex(f, line), uint16(0), uint8(3), false)
		all = append(all, fromHex(f, line)...)
	}
	f.Add(all, uint16(200), uint8(16), true)
	for _, s := range []stream{
		stream{}.part(Text, "κό").with(Ping, "hb").part(Continuation, "").with(Continuation, "σμε").with(Close, "\x03\xe8"),
		stream{}.part(Binary, "\xff").with(Text, ""),
		stream{}.with(Continuation, ""),
		stream{}.with(Text, "\xed\xa0\x80"),
		stream{}.with(Binary, string(make([]byte, 300))),
		stream{}.raw(0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4),
		stream{}.raw(0x82, 0xFE, 0, 1, 1, 2, 3, 4, 5),
		stream{}.raw(0xC1, 0x80, 0, 0, 0, 0),
		stream{}.zippedPart(Text, "\xf2\x48\xcd").with(Ping, "").with(Continuation, "\xc9\xc9\x07\x00").with(Text, "\xff"),
		stream{}.zipped(Binary, "\x00").zipped(Ping, ""),
		stream{}.part(Text, "a").zipped(Continuation, ""),
		stream{}.raw(0xF1, 0x80, 0, 0, 0, 0),
	} {
		f.Add([]byte(s), uint16(100), uint8(1), false)
		f.Add([]byte(s), uint16(100), uint8(2), true)
	}
	f.Fuzz(func(t *testing.T, in []byte, limit uint16, cut uint8, deflate bool) {
		want, wantCode := slow(in, int(limit), deflate)
		whole := [][]byte{in}
		for _, chunks := range [][][]byte{whole, slices.Collect(slices.Chunk(in, 1+int(cut)))} {
			r := Reader{Deflate: deflate}
			got, fail := read(&r, int(limit), chunks...)
			if !slices.Equal(got, want) || code(fail) != wantCode {
				t.Fatalf("%d chunks: got %q, %v; want %q, %d", len(chunks), got, fail, want, wantCode)
			}
			if most := 2*len(in) + 64; r.Held() > most || limit > 0 && r.Held() > int(limit)+128 {
				t.Fatalf("held %d for %d bytes and a limit of %d", r.Held(), len(in), limit)
			}
			if _, again := read(&r, int(limit), stream{}.with(Ping, "")); code(again) != wantCode && wantCode != 0 {
				t.Fatalf("after %v: %v", fail, again)
			}
		}
	})
}

// FuzzAppend: what is appended gobwas/ws reads, and the Reader too.
func FuzzAppend(f *testing.F) {
	f.Add(uint8(1), true, uint32(0x37FA213D), []byte(`{"type":"pong"}`))
	f.Add(uint8(9), true, uint32(0), []byte("hb"))
	f.Add(uint8(8), true, uint32(1), []byte("\x03\xe8IDLE_TIMEOUT"))
	f.Add(uint8(2), false, uint32(1<<31), make([]byte, 126))
	f.Add(uint8(2), true, uint32(7), make([]byte, 65536))
	f.Fuzz(func(t *testing.T, opByte uint8, fin bool, keyBits uint32, payload []byte) {
		op := []Opcode{Text, Binary, Close, Ping, Pong}[opByte%5]
		if op.Control() {
			fin, payload = true, payload[:min(len(payload), MaxControl)]
		}
		key := [4]byte{byte(keyBits >> 24), byte(keyBits >> 16), byte(keyBits >> 8), byte(keyBits)}
		server := Append([]byte("before"), op, payload)
		readBack(t, server[6:], ws.Header{Fin: true, OpCode: ws.OpCode(op), Length: int64(len(payload))}, payload)
		client := AppendMasked([]byte("before"), op, fin, key, payload)
		readBack(t, bytes.Clone(client[6:]), ws.Header{Fin: fin, OpCode: ws.OpCode(op), Length: int64(len(payload)), Masked: true, Mask: key}, payload)
		if op == Text && !utf8.Valid(payload) || !fin {
			return
		}
		if got, fail := read(new(Reader), 0, client[6:]); fail != nil || !slices.Equal(got, []said{{op, string(payload)}}) {
			t.Fatalf("the Reader: got %q, %v", got, fail)
		}
	})
}

// readBack wants b to be one frame with header h and payload p.
func readBack(t *testing.T, b []byte, h ws.Header, p []byte) {
	t.Helper()
	in := bytes.NewReader(b)
	got, err := ws.ReadHeader(in)
	if err != nil || got != h {
		t.Fatalf("got %+v, %v; want %+v", got, err, h)
	}
	rest, _ := io.ReadAll(in)
	if h.Masked {
		ws.Cipher(rest, h.Mask, 0)
	}
	if !bytes.Equal(rest, p) || len(b)-len(p) != HeaderLen(len(p))+(ws.HeaderSize(h)-ws.HeaderSize(ws.Header{Length: h.Length})) {
		t.Fatalf("got payload %q, want %q", rest, p)
	}
}
