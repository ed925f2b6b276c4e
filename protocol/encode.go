package protocol

import (
	"strconv"
	"time"
)

// Encoders append one whole JSON message to dst and return it.

// A Merge is what a frame of a max_rate cohort stands for: n publications, of
// which the price opened at Open and went from Low to High.
type Merge struct {
	N               int
	Open, High, Low float64
	Priced          bool // the publications had a price
}

// Add takes one more publication into the merge.
func (m *Merge) Add(price float64) {
	m.N++
	if price == 0 {
		return
	}
	if !m.Priced {
		m.Open, m.High, m.Low, m.Priced = price, price, price, true
	}
	m.High, m.Low = max(m.High, price), min(m.Low, price)
}

// A Delivery is a publication as one cohort receives it.
type Delivery struct {
	Channel  string // as the cohort spells it
	Pub      *Publication
	Prev     int64 // log: offset of the cohort's match before this one
	Snapshot bool
	Merge    *Merge // nil unless several publications are merged
}

// AppendDelivery appends the frame that carries a publication.
func AppendDelivery(dst []byte, d Delivery) []byte {
	p := d.Pub
	dst = appendHead(dst, p.Type, d.Channel)
	if d.Snapshot {
		dst = append(dst, `,"snapshot":true`...)
	}
	dst = appendInt(dst, `,"offset":`, p.Offset)
	if p.IsLog() {
		dst = appendInt(dst, `,"prev":`, d.Prev)
	}
	dst = appendInt(dst, `,"ts":`, p.TS)
	if d.Merge != nil {
		dst = appendMerge(append(dst, `,"conflated":`...), d.Merge)
	}
	dst = append(dst, `,"data":`...)
	return append(append(dst, p.Data...), '}')
}

func appendHead(dst []byte, kind, channel string) []byte {
	dst = AppendString(append(dst, `{"type":`...), kind)
	return AppendString(append(dst, `,"channel":`...), channel)
}

func appendInt(dst []byte, key string, n int64) []byte {
	return strconv.AppendInt(append(dst, key...), n, 10)
}

func appendMerge(dst []byte, m *Merge) []byte {
	dst = appendInt(dst, `{"n":`, int64(m.N))
	if m.Priced {
		dst = AppendFloat(append(dst, `,"o":`...), m.Open)
		dst = AppendFloat(append(dst, `,"h":`...), m.High)
		dst = AppendFloat(append(dst, `,"l":`...), m.Low)
	}
	return append(dst, '}')
}

// AppendPosition appends a caught_up or mark frame of a log subscription.
func AppendPosition(dst []byte, kind, channel string, offset, prev int64) []byte {
	dst = appendHead(dst, kind, channel)
	dst = appendInt(dst, `,"offset":`, offset)
	return append(appendInt(dst, `,"prev":`, prev), '}')
}

// AppendPong appends the answer to a ping: the literal of the tickets when the
// ping was the literal, else with what the ping had.
func AppendPong(dst []byte, c Command, now Time) []byte {
	dst = append(dst, `{"type":"pong"`...)
	if c.ID == nil && c.T == nil {
		return append(dst, '}')
	}
	dst = appendID(dst, c.ID)
	if c.T != nil {
		dst = append(append(dst, `,"t":`...), c.T...)
	}
	return append(appendInt(dst, `,"ts":`, now.Millis()), '}')
}

func appendID(dst, id []byte) []byte {
	if id == nil {
		return dst
	}
	return append(append(dst, `,"id":`...), id...)
}

// AppendError appends an error message. id and channel may be empty.
func AppendError(dst, id []byte, channel string, e *Error, now Time) []byte {
	dst = appendID(append(dst, `{"type":"error"`...), id)
	if channel != "" {
		dst = AppendString(append(dst, `,"channel":`...), channel)
	}
	dst = append(dst, `,"error":`...)
	return append(AppendErrorObject(dst, e, now), '}')
}

// AppendErrorObject appends the error object itself, which HTTP answers carry
// too.
func AppendErrorObject(dst []byte, e *Error, now Time) []byte {
	dst = AppendString(append(dst, `{"code":`...), string(e.Code))
	dst = AppendString(append(dst, `,"message":`...), e.Message)
	dst = AppendTime(append(dst, `,"timestamp":"`...), now)
	dst = appendBool(append(dst, `","retryable":`...), e.Code.Retryable())
	if e.RetryAfter > 0 {
		dst = appendInt(dst, `,"retry_after_ms":`, max(1, e.RetryAfter.Millis()))
	}
	return append(dst, '}')
}

func appendBool(dst []byte, b bool) []byte { return strconv.AppendBool(dst, b) }

// AppendTime appends t in RFC 3339 with milliseconds, without quotes: how every
// timestamp of the protocol is written.
func AppendTime(dst []byte, t Time) []byte {
	return time.Unix(0, int64(t)).UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
}

// AppendUnsubscribed tells that the server ended a subscription.
func AppendUnsubscribed(dst []byte, channel string, reason Code) []byte {
	dst = appendHead(dst, "unsubscribed", channel)
	return append(AppendString(append(dst, `,"reason":`...), string(reason)), '}')
}
