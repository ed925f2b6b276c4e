package frame

import (
	"math"
	"unicode/utf8"
)

// A Message is what a client said: a whole Text or Binary message, or one
// control frame.
type Message struct {
	Op Opcode
	// Compressed says that Payload is deflated, and that nothing is known yet
	// of what it inflates to: neither how long that is nor, of Text, whether it
	// is UTF-8.
	Compressed bool
	// Payload is valid until the bytes given to Feed are used again: a message
	// that came whole in one frame and one Feed lies in them.
	Payload []byte
}

// maxEmpty is how many of a message's fragments, but the last, may be empty.
// They cost no memory and are free for the sender, who could otherwise keep a
// message open for ever under any limit on messages or their size. Other
// fragments hold a byte at least, so the limit on a message counts them.
const maxEmpty = 1024

// A Reader turns the bytes a server gets from one client into messages. Its
// zero value is ready, and it may be copied once Next has answered false, if
// only one copy goes on. After an error it is dead, and after a close frame it
// has ended: it then ignores what is fed, as RFC 6455 wants.
//
// What it keeps is what has arrived of an unfinished message: at most twice
// that (64 bytes at first) and never more than the limit given to Next, and
// beside it at most 128 bytes of an unfinished control frame.
type Reader struct {
	// Deflate says that permessage-deflate was negotiated: RSV1 may then mark
	// the first frame of a message as compressed.
	Deflate bool

	in   []byte // fed and not yet read: the caller's
	msg  []byte // what has arrived of a message that did not come in one piece
	ctrl []byte // the same for a control frame

	err  *Error // why it is dead
	left int    // bytes of the frame that are still to come
	key  [4]byte
	turn uint8 // position in the key of the frame's next byte

	kind   Opcode // of the message under way, Continuation when there is none
	packed bool   // it is compressed
	op     Opcode // of the frame under way
	fin    bool   // of the frame under way
	within bool   // a frame is under way: its header has been read
	ended  bool   // a close frame was read

	cutRune uint8 // bytes at the end of msg that begin a rune
	headLen uint8
	head    [maxHeader]byte // what has arrived of a header
	empty   uint16          // empty fragments of the message under way
}

// Feed hands over the bytes that came next. They are unmasked in place and must
// stay untouched until Next has answered false; what is incomplete is then kept
// in the Reader, and b is not. Bytes of an earlier Feed that Next was not asked
// for are copied and come first.
func (r *Reader) Feed(b []byte) {
	switch {
	case r.err != nil || r.ended:
	case len(r.in) > 0:
		r.in = append(r.in[:len(r.in):len(r.in)], b...)
	default:
		r.in = b
	}
}

// Idle reports whether nothing unfinished is kept, so that the Reader may be
// forgotten and a new one take what comes next. One that is dead or has ended
// is never idle: a new one would read what must be ignored.
func (r *Reader) Idle() bool {
	return len(r.in) == 0 && r.headLen == 0 && !r.within &&
		!r.Open() && r.err == nil && !r.ended
}

// Open reports whether a message has begun and not ended.
func (r *Reader) Open() bool { return r.kind != Continuation }

// Held is how many bytes of memory the Reader keeps beside itself.
func (r *Reader) Held() int { return cap(r.msg) + cap(r.ctrl) }

// Next returns the next message of what was fed; ok is false when all is read.
// A message longer than limit bytes on the wire is an error as soon as a frame's header
// announces it; 0 is no limit, and control frames do not count. The error is an
// *Error, and every later call returns the same one.
//
// Hot: a message that is whole in what was fed is neither copied nor is
// anything allocated for it: 75 ns for a text of 64 bytes, with its Feed and
// the Next that answers false (BenchmarkReader).
func (r *Reader) Next(limit int) (m Message, ok bool, err error) {
	if r.err != nil {
		return Message{}, false, r.err
	}
	if limit <= 0 {
		limit = math.MaxInt
	}
	for len(r.in) > 0 {
		m, ok, fail := r.step(limit)
		if fail != nil {
			*r = Reader{err: fail}
			return Message{}, false, fail
		}
		if ok {
			return m, true, nil
		}
	}
	r.in = nil
	return Message{}, false, nil
}

// step reads a frame, or as much of it as there is.
func (r *Reader) step(limit int) (m Message, ok bool, fail *Error) {
	if !r.within {
		if fail := r.begin(limit); fail != nil || !r.within {
			return m, false, fail
		}
	}
	n := min(r.left, len(r.in))
	part := r.in[:n:n]
	r.in = r.in[n:]
	r.left -= n
	r.within = r.left > 0
	Mask(part, r.key, int(r.turn))
	r.turn = uint8((int(r.turn) + n) & 3)
	if r.op.Control() {
		return r.control(part)
	}
	return r.data(part, limit)
}

// begin reads a header. The frame is within when it was all there.
func (r *Reader) begin(limit int) *Error {
	b := r.in
	if r.headLen > 0 {
		n := copy(r.head[r.headLen:], r.in)
		b = r.head[:int(r.headLen)+n]
	}
	h, n, fail := parseHeader(b, r.Open(), r.Deflate)
	if fail != nil {
		return fail
	}
	if n == 0 {
		r.headLen = uint8(copy(r.head[:], b))
		r.in = nil
		return nil
	}
	r.in = r.in[n-int(r.headLen):]
	r.headLen = 0
	if !h.op.Control() {
		if fail := r.admit(h, limit); fail != nil {
			return fail
		}
	}
	r.op, r.fin, r.key, r.turn = h.op, h.fin, h.key, 0
	r.left = int(h.length)
	r.within = true
	return nil
}

// admit checks a data frame's announced length before anything is kept of it.
func (r *Reader) admit(h header, limit int) *Error {
	if h.length > uint64(max(limit-len(r.msg), 0)) {
		return &Error{TooLarge, "message over the limit"}
	}
	if h.length == 0 && !h.fin {
		r.empty++
		if r.empty > maxEmpty {
			return &Error{TooLarge, "too many empty fragments"}
		}
	}
	if h.op != Continuation {
		r.kind, r.packed = h.op, h.rsv1
	}
	return nil
}

// data takes a part of a data frame. The common case is first: the whole frame
// is there and is the whole message.
func (r *Reader) data(part []byte, limit int) (m Message, ok bool, fail *Error) {
	last := r.fin && !r.within
	if last && len(r.msg) == 0 {
		if r.kind == Text && !r.packed && !utf8.Valid(part) {
			return m, false, &Error{InvalidUTF8, "text is not UTF-8"}
		}
		return r.finish(part), true, nil
	}
	r.keep(part, limit)
	if r.kind == Text && !r.packed && !r.checkText(len(part), last) {
		return m, false, &Error{InvalidUTF8, "text is not UTF-8"}
	}
	if !last {
		return m, false, nil
	}
	return r.finish(r.msg), true, nil
}

// finish ends the message under way. A kept payload is the caller's from here.
func (r *Reader) finish(payload []byte) Message {
	m := Message{Op: r.kind, Compressed: r.packed, Payload: payload}
	r.kind, r.msg, r.empty = Continuation, nil, 0
	return m
}

// keep copies a part of a message. Memory grows with what has arrived, never
// with what is announced: it doubles, up to the most the message can become.
func (r *Reader) keep(part []byte, limit int) {
	need := len(r.msg) + len(part)
	if need > cap(r.msg) {
		most := limit
		if r.fin {
			most = need + r.left
		}
		size := max(need, min(max(64, 2*need), most))
		r.msg = append(make([]byte, 0, size), r.msg...)
	}
	r.msg = append(r.msg, part...)
}

// checkText checks the n bytes that were added to msg, with the rune they may
// go on with. A rune that is cut short is right unless last says that nothing
// follows.
func (r *Reader) checkText(n int, last bool) bool {
	b := r.msg[len(r.msg)-n-int(r.cutRune):]
	r.cutRune = 0
	if !last {
		r.cutRune = uint8(unfinished(b))
	}
	return utf8.Valid(b[:len(b)-int(r.cutRune)])
}

// unfinished is how many bytes at the end of b begin a rune that more bytes can
// complete.
func unfinished(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		tail := b[len(b)-n:]
		if !utf8.RuneStart(tail[0]) {
			continue
		}
		// FullRune calls a wrong beginning full, so that Valid then fails it.
		if utf8.FullRune(tail) {
			return 0
		}
		return n
	}
	return 0
}

// control takes a part of a control frame.
func (r *Reader) control(part []byte) (m Message, ok bool, fail *Error) {
	if r.within || len(r.ctrl) > 0 {
		r.ctrl = append(r.ctrl, part...)
		part = r.ctrl
	}
	if r.within {
		return m, false, nil
	}
	m = Message{Op: r.op, Payload: part}
	r.ctrl = nil
	if m.Op == Close {
		*r = Reader{ended: true}
	}
	return m, true, nil
}
