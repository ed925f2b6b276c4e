// Package frame is RFC 6455 framing without I/O: a Reader turns a client's
// bytes into messages and says how the connection must be failed, and the
// Append functions turn messages into bytes. It does not do the handshake, does
// not answer pings or closes, keeps no clock, and knows nothing of what the
// messages mean. Of permessage-deflate (RFC 7692) it knows the bit that marks
// a compressed message, RSV1; deflating and inflating is the caller's work.
package frame

import "encoding/binary"

// An Opcode says what a frame carries.
type Opcode byte

// The opcodes of RFC 6455, section 5.2. A Message never has Continuation.
const (
	Continuation Opcode = 0x0
	Text         Opcode = 0x1
	Binary       Opcode = 0x2
	Close        Opcode = 0x8
	Ping         Opcode = 0x9
	Pong         Opcode = 0xA
)

// Control reports whether op is Close, Ping or Pong: never fragmented, at most
// MaxControl bytes, and allowed between the fragments of a message.
func (op Opcode) Control() bool { return op&0x8 != 0 }

// MaxControl is the longest payload of a control frame.
const MaxControl = 125

// The bits of the first two bytes, and the lengths that stand for a longer
// length field.
const (
	finBit   = 0x80
	rsvBits  = 0x70
	rsv1     = 0x40
	maskBit  = 0x80
	length16 = 126
	length64 = 127

	maxHeader = 14
)

// HeaderLen is the length of the header AppendHeader appends for n bytes of
// payload.
func HeaderLen(n int) int {
	switch {
	case n < length16:
		return 2
	case n <= 0xFFFF:
		return 4
	}
	return 10
}

// AppendHeader appends the header of an unmasked, final frame whose payload of
// n bytes follows it: what a server sends.
func AppendHeader(dst []byte, op Opcode, n int) []byte {
	return appendHeader(dst, finBit|byte(op), 0, n)
}

// Append appends a whole unmasked, final frame: what a server sends. A control
// frame's payload must not be longer than MaxControl.
func Append(dst []byte, op Opcode, payload []byte) []byte {
	return append(AppendHeader(dst, op, len(payload)), payload...)
}

// Payload is the payload of a whole frame that Append made.
func Payload(b []byte) []byte {
	switch b[1] {
	case length16:
		return b[4:]
	case length64:
		return b[10:]
	}
	return b[2:]
}

// AppendCompressed appends a whole unmasked, final frame whose payload is a
// message compressed as RFC 7692, section 7.2.1, wants. op is Text or Binary:
// control frames are never compressed.
func AppendCompressed(dst []byte, op Opcode, deflated []byte) []byte {
	return append(appendHeader(dst, finBit|rsv1|byte(op), 0, len(deflated)), deflated...)
}

// AppendMasked appends a whole frame as a client sends it, for tests and the
// load generator. The payload is masked in dst and itself stays as it is.
func AppendMasked(dst []byte, op Opcode, fin bool, key [4]byte, payload []byte) []byte {
	first := byte(op)
	if fin {
		first |= finBit
	}
	dst = appendHeader(dst, first, maskBit, len(payload))
	dst = append(dst, key[:]...)
	at := len(dst)
	dst = append(dst, payload...)
	Mask(dst[at:], key, 0)
	return dst
}

func appendHeader(dst []byte, first, mask byte, n int) []byte {
	switch {
	case n < length16:
		return append(dst, first, mask|byte(n))
	case n <= 0xFFFF:
		return append(dst, first, mask|length16, byte(n>>8), byte(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, first, mask|length64), uint64(n))
}
