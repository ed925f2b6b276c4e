package frame

import (
	"encoding/binary"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Close codes this package itself speaks of.
const (
	ProtocolError = 1002 // the bytes are not RFC 6455
	NoStatus      = 1005 // stands for a close frame without a code; never on the wire
	InvalidUTF8   = 1007 // a text message or a close reason is not UTF-8
	TooLarge      = 1009 // a message is over the limit, or has too many empty fragments
)

// An Error says why a connection must be failed.
type Error struct {
	Code   int    // the close code to send: ProtocolError, InvalidUTF8 or TooLarge
	Reason string // names the rule that was broken, for logs
}

func (e *Error) Error() string {
	return "websocket " + strconv.Itoa(e.Code) + ": " + e.Reason
}

// AppendClose appends a whole unmasked close frame. The reason is cut to the
// 123 bytes there is room for, at a rune's boundary, and what is not UTF-8 in
// it is replaced. Code 0 or NoStatus makes a frame without code and reason,
// which is the answer to a close that had none.
func AppendClose(dst []byte, code int, reason string) []byte {
	if code == 0 || code == NoStatus {
		return AppendHeader(dst, Close, 0)
	}
	reason = cut(strings.ToValidUTF8(reason, "\uFFFD"), MaxControl-2)
	dst = AppendHeader(dst, Close, 2+len(reason))
	dst = binary.BigEndian.AppendUint16(dst, uint16(code))
	return append(dst, reason...)
}

// cut is the longest prefix of s of at most n bytes that splits no rune.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// ParseClose reads the payload of a close frame: NoStatus when it is empty,
// else a code that is legal on the wire and its reason. The error is an *Error
// with ProtocolError for an illegal code or a single byte, InvalidUTF8 for a
// reason that is not UTF-8.
func ParseClose(payload []byte) (code int, reason string, err error) {
	switch len(payload) {
	case 0:
		return NoStatus, "", nil
	case 1:
		return 0, "", &Error{ProtocolError, "close frame with half a code"}
	}
	code = int(binary.BigEndian.Uint16(payload))
	if !legalClose(code) {
		return 0, "", &Error{ProtocolError, "illegal close code " + strconv.Itoa(code)}
	}
	if !utf8.Valid(payload[2:]) {
		return 0, "", &Error{InvalidUTF8, "close reason is not UTF-8"}
	}
	return code, string(payload[2:]), nil
}

// legalClose reports whether a peer may send code (RFC 6455, section 7.4, and
// 1012 to 1014 of the IANA registry). 1004, 1005, 1006 and 1015 are reserved
// and never on the wire.
func legalClose(code int) bool {
	switch {
	case code >= 3000 && code <= 4999:
		return true
	case code >= 1007 && code <= 1014:
		return true
	}
	return code >= 1000 && code <= 1003
}
