package broker

import (
	"encoding/binary"
	"errors"
	"math"

	"cryptointel/protocol"
)

// What an answer to a question begins with, after the version.
const (
	answerOK       = 0 // the body follows
	answerProtocol = 1 // code, message and time to wait of a *protocol.Error
	answerOther    = 2 // the error's text
)

var (
	errBusy        = &protocol.Error{Code: protocol.Internal, RetryAfter: protocol.Second, Message: "the node that could answer is busy; try again"}
	errAnswerSize  = refuse(protocol.MessageTooLarge, "the answer is larger than nodes can pass on; ask for less")
	errRequestSize = refuse(protocol.MessageTooLarge, "the question is larger than nodes can pass on")
	errAnswer      = errors.New("broker: not an answer of a node of this version")
)

func appendAnswer(dst, body []byte, err error) []byte {
	dst = append(dst, wireVersion)
	if err == nil {
		return append(append(dst, answerOK), body...)
	}
	var refused *protocol.Error
	if !errors.As(err, &refused) {
		return append(append(dst, answerOther), err.Error()...)
	}
	dst = appendText(append(dst, answerProtocol), string(refused.Code))
	dst = appendText(dst, refused.Message)
	return binary.AppendUvarint(dst, uint64(max(0, refused.RetryAfter)))
}

// parseAnswer is appendAnswer's inverse. The body stays a part of b.
func parseAnswer(b []byte) (body []byte, err error) {
	if len(b) < 2 || b[0] != wireVersion {
		return nil, errAnswer
	}
	r := reader{rest: b[2:]}
	switch b[1] {
	case answerOK:
		return r.rest, nil
	case answerOther:
		return nil, errors.New(string(r.rest))
	case answerProtocol:
		e := &protocol.Error{Code: protocol.Code(r.text()), Message: r.text(), RetryAfter: protocol.Time(r.number(math.MaxInt64))}
		if !r.failed && len(r.rest) == 0 {
			return nil, e
		}
	}
	return nil, errAnswer
}
