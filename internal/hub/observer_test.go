package hub

import (
	"encoding/json"
	"fmt"

	"cryptointel/protocol"
)

// stateMessage checks a frame of a state channel.
func (f *follower) stateMessage(v *view, m *frameMsg) error {
	value := m.Channel
	if isPrice(value) {
		var d struct{ Asset string }
		if err := json.Unmarshal(m.Data, &d); err != nil {
			return err
		}
		value = "price:" + d.Asset
	}
	list := f.sock.node.states[value]
	i := indexOf(list, m.Offset)
	if i < 0 || string(list[i].Data) != string(m.Data) {
		return fmt.Errorf("%s: no publication of %s has offset %d and data %.60s", m.Channel, value, m.Offset, m.Data)
	}
	seen := v.last[value]
	if seen == nil {
		v.last[value] = &seenState{offset: m.Offset, at: -1 << 62}
		if !m.Snapshot && i > 0 && !f.sock.slow {
			return fmt.Errorf("%s: the first frame of %s is no snapshot", m.Channel, value)
		}
		return nil
	}
	prev := seen.offset
	seen.offset = m.Offset
	switch {
	case m.Snapshot:
		return fmt.Errorf("%s: a second snapshot of %s", m.Channel, value)
	case m.Offset <= prev:
		return fmt.Errorf("%s: offset %d after %d", m.Channel, m.Offset, prev)
	case f.sock.slow:
		return nil
	}
	merged := list[indexOf(list, prev)+1 : i+1]
	if v.rate == 0 && (len(merged) != 1 || m.Conflated != nil) {
		return fmt.Errorf("%s: %d publications of %s not delivered", m.Channel, len(merged)-1, value)
	}
	if v.rate > 0 && f.w.eager {
		if d := f.w.now - seen.at; d < protocol.Time(float64(protocol.Second)/v.rate) {
			return fmt.Errorf("%s: two frames within %d ms at %g a second", m.Channel, d.Millis(), v.rate)
		}
		seen.at = f.w.now
	}
	return conflatedRight(m, merged)
}

// conflatedRight compares what a frame says it merged with what it did.
func conflatedRight(m *frameMsg, merged []*protocol.Publication) error {
	if len(merged) == 1 {
		if m.Conflated != nil {
			return fmt.Errorf("conflated %+v, nothing was merged", *m.Conflated)
		}
		return nil
	}
	var o, h, l float64
	for _, p := range merged {
		if p.Price == 0 {
			continue
		}
		if o == 0 {
			o, h, l = p.Price, p.Price, p.Price
		}
		h, l = max(h, p.Price), min(l, p.Price)
	}
	c := m.Conflated
	if c == nil || c.N != len(merged) || c.O != o || c.H != h || c.L != l {
		return fmt.Errorf("%s: conflated %+v, want n %d o %g h %g l %g", m.Channel, c, len(merged), o, h, l)
	}
	return nil
}

// An observer knows the log and checks what one log subscription is told.
type observer struct {
	w     *world
	begun bool
	pos   int64 // everything that concerns it up to here was delivered
	pred  pred
	got   int
}

func (o *observer) ack(p pred, at position) (err error) {
	switch {
	case !o.begun:
		o.pos = at.From
	case at.Reason == "":
		err = o.raise(at.From)
	default:
		o.pos = max(o.pos, at.From)
	}
	o.begun, o.pred = true, p
	return err
}

func (o *observer) raise(to int64) error {
	if next := o.w.firstMatch(o.pred, o.pos, to); o.begun && next != 0 {
		return fmt.Errorf("the cursor is raised to %d over entry %d, which was not delivered", to, next)
	}
	o.pos = max(o.pos, to)
	return nil
}

func (o *observer) deliver(offset int64) error {
	o.got++
	next := o.w.firstMatch(o.pred, o.pos, offset)
	o.pos = max(o.pos, offset)
	if next != offset {
		return fmt.Errorf("entry %d delivered, the next that matches is %d", offset, next)
	}
	return nil
}
