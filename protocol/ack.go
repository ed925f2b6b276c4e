package protocol

// Reasons of an ack with "recovered":false.
const (
	ReasonEpochChanged  = "epoch_changed"
	ReasonTooOld        = "too_old"
	ReasonUnknownCursor = "unknown_cursor"
)

// An Ack answers a command that was carried out.
type Ack struct {
	ID  []byte
	For string

	User    string // auth
	Expires Time   // auth

	Epoch    string     // subscribe with log channels
	Channels []Position // what is subscribed now, in the order asked
	Errors   []Refusal
}

// A Position is where one subscription begins.
type Position struct {
	Channel string
	Log     bool
	From    int64
	Head    int64
	// Resumed is true when a cursor was given; Reason is why it could not be
	// served, empty when it was.
	Resumed bool
	Reason  string
	// Changed is true for a change in place: Prev is the last match under the
	// old options.
	Changed bool
	Prev    int64
}

// A Refusal is one channel of a command that was not carried out.
type Refusal struct {
	Channel string
	Err     *Error
}

// AppendAck appends the ack. What all log channels have in common stands at
// the top; where they differ, each that differs from the first is listed
// under "at".
func AppendAck(dst []byte, a *Ack) []byte {
	dst = appendID(append(dst, `{"type":"ack"`...), a.ID)
	dst = AppendString(append(dst, `,"for":`...), a.For)
	if a.For == CmdAuth {
		dst = AppendString(append(dst, `,"user":`...), a.User)
		return append(appendInt(dst, `,"expires_at":`, a.Expires.Millis()), '}')
	}
	if first := firstLog(a.Channels); first != nil {
		dst = AppendString(append(dst, `,"epoch":`...), a.Epoch)
		dst = appendPosition(dst, first, true)
	}
	dst = append(dst, `,"channels":[`...)
	for i := range a.Channels {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendString(dst, a.Channels[i].Channel)
	}
	dst = appendDiffering(append(dst, ']'), a.Channels)
	return append(appendRefusals(dst, a.Errors), '}')
}

func firstLog(ps []Position) *Position {
	for i := range ps {
		if ps[i].Log {
			return &ps[i]
		}
	}
	return nil
}

func appendPosition(dst []byte, p *Position, head bool) []byte {
	dst = appendInt(dst, `,"from":`, p.From)
	if head {
		dst = appendInt(dst, `,"head":`, p.Head)
	}
	if p.Changed {
		return appendInt(dst, `,"prev":`, p.Prev)
	}
	if p.Resumed {
		dst = appendBool(append(dst, `,"recovered":`...), p.Reason == "")
	}
	if p.Reason != "" {
		dst = AppendString(append(dst, `,"reason":`...), p.Reason)
	}
	return dst
}

func appendDiffering(dst []byte, ps []Position) []byte {
	first := firstLog(ps)
	open := false
	for i := range ps {
		p := &ps[i]
		if !p.Log || p.same(first) {
			continue
		}
		if !open {
			dst, open = append(dst, `,"at":{`...), true
		} else {
			dst = append(dst, ',')
		}
		dst = append(AppendString(dst, p.Channel), ':', '{')
		mark := len(dst)
		dst = appendPosition(dst, p, false)
		dst = append(dst[:mark], dst[mark+1:]...) // the comma before "from"
		dst = append(dst, '}')
	}
	if open {
		dst = append(dst, '}')
	}
	return dst
}

func (p *Position) same(q *Position) bool {
	return p.From == q.From && p.Resumed == q.Resumed && p.Reason == q.Reason &&
		p.Changed == q.Changed && p.Prev == q.Prev
}

func appendRefusals(dst []byte, rs []Refusal) []byte {
	if len(rs) == 0 {
		return dst
	}
	dst = append(dst, `,"errors":[`...)
	for i, r := range rs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendRefusal(dst, r)
	}
	return append(dst, ']')
}

func appendRefusal(dst []byte, r Refusal) []byte {
	dst = AppendString(append(dst, `{"channel":`...), ClipName(r.Channel))
	dst = AppendString(append(dst, `,"code":`...), string(r.Err.Code))
	dst = AppendString(append(dst, `,"message":`...), r.Err.Message)
	return append(appendBool(append(dst, `,"retryable":`...), r.Err.Code.Retryable()), '}')
}
