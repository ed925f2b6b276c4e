package frame

import "encoding/binary"

// header is what a frame says of itself before its payload.
type header struct {
	op     Opcode
	fin    bool
	rsv1   bool
	length uint64
	key    [4]byte
}

// parseHeader reads a client's frame header from the start of b and returns its
// length, 0 when b holds only a part of it. The first two bytes are judged as
// soon as they are there: a peer that breaks the protocol is told without
// waiting for the rest. inMessage says that fragments of a message have come
// before and its last one has not; deflate that RSV1 was negotiated.
func parseHeader(b []byte, inMessage, deflate bool) (h header, n int, fail *Error) {
	if len(b) == 0 {
		return h, 0, nil
	}
	h.op, h.fin = Opcode(b[0]&0x0F), b[0]&finBit != 0
	h.rsv1 = b[0]&rsvBits == rsv1 && deflate && (h.op == Text || h.op == Binary)
	if b[0]&rsvBits != 0 && !h.rsv1 {
		return h, 0, &Error{ProtocolError, "reserved bit set"}
	}
	if fail := checkFirst(h.op, h.fin, inMessage); fail != nil {
		return h, 0, fail
	}
	if len(b) == 1 {
		return h, 0, nil
	}
	short := b[1] &^ maskBit
	switch {
	case b[1]&maskBit == 0:
		return h, 0, &Error{ProtocolError, "frame is not masked"}
	case h.op.Control() && short > MaxControl:
		return h, 0, &Error{ProtocolError, "control frame over 125 bytes"}
	}
	n = 6
	switch short {
	case length16:
		n = 8
	case length64:
		n = 14
	}
	if len(b) < n {
		return h, 0, nil
	}
	h.key = [4]byte(b[n-4 : n])
	h.length, fail = parseLength(b, short)
	return h, n, fail
}

func checkFirst(op Opcode, fin, inMessage bool) *Error {
	switch {
	case op > Pong || op > Binary && op < Close:
		return &Error{ProtocolError, "reserved opcode"}
	case op.Control() && !fin:
		return &Error{ProtocolError, "fragmented control frame"}
	case op.Control():
		return nil
	case op == Continuation && !inMessage:
		return &Error{ProtocolError, "continuation of nothing"}
	case op != Continuation && inMessage:
		return &Error{ProtocolError, "new message inside a fragmented one"}
	}
	return nil
}

// parseLength reads the length field of a header that is complete.
func parseLength(b []byte, short byte) (length uint64, fail *Error) {
	switch short {
	case length16:
		length = uint64(binary.BigEndian.Uint16(b[2:]))
		if length < length16 {
			return 0, &Error{ProtocolError, "length not in its shortest form"}
		}
	case length64:
		length = binary.BigEndian.Uint64(b[2:])
		switch {
		case length>>63 != 0:
			return 0, &Error{ProtocolError, "length with the top bit set"}
		case length <= 0xFFFF:
			return 0, &Error{ProtocolError, "length not in its shortest form"}
		}
	default:
		length = uint64(short)
	}
	return length, nil
}
