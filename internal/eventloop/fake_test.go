package eventloop

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"

	"cryptointel/internal/hub"
	"cryptointel/protocol"
)

// The real shard is one of ours.
var _ Shard = (*hub.Shard)(nil)

var _ fuller = (*hub.Shard)(nil)

// fakeConn is a connection of a fakeShard.
type fakeConn struct {
	hub.Hello
	open, blocked, queued, done bool
	gen                         uint32
	out, in                     []byte
	blockedAt                   protocol.Time
	shown                       int // bytes of the last Next
}

// A fakeShard echoes, or shows every publication to everyone, a line each. It
// takes the lines "quit", "ask T" and reports every call that breaks the
// rules.
type fakeShard struct {
	t         *testing.T
	limit     int           // bytes queued for one connection
	patience  protocol.Time // for a blocked connection; 0: for ever
	conns     []*fakeConn
	free      []hub.Slot
	ready     []hub.Slot
	requests  []hub.Request
	served    []hub.Request
	stats     hub.Stats
	published []protocol.Publication
	ticks     []protocol.Time
	every     protocol.Time
}

func (s *fakeShard) conn(call string, slot hub.Slot) *fakeConn {
	if int(slot) >= len(s.conns) || !s.conns[slot].open {
		s.t.Errorf("%s for slot %d, which is not open", call, slot)
		return &fakeConn{}
	}
	return s.conns[slot]
}

func (s *fakeShard) Open(h hub.Hello, _ protocol.Time) hub.Ref {
	if len(s.free) == 0 {
		s.free = append(s.free, hub.Slot(len(s.conns)))
		s.conns = append(s.conns, &fakeConn{})
	}
	slot := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	gen := s.conns[slot].gen + 1
	s.conns[slot] = &fakeConn{Hello: h, open: true, gen: gen}
	s.stats.Connections++
	s.stats.Opened++
	if h.Refuse != nil {
		s.send(slot, []byte(h.Refuse.Code+"\n"))
		s.conns[slot].done = true
	}
	return hub.Ref{Slot: slot, Gen: gen}
}

func (s *fakeShard) send(slot hub.Slot, b []byte) {
	c := s.conns[slot]
	if len(c.out)+len(b) > s.limit {
		s.stats.Conflated++
		return
	}
	c.out = append(c.out, b...)
	if !c.queued && !c.blocked {
		c.queued = true
		s.ready = append(s.ready, slot)
	}
}

func (s *fakeShard) Receive(slot hub.Slot, b []byte, _ protocol.Time) {
	c := s.conn("Receive", slot)
	s.stats.BytesIn += uint64(len(b))
	if c.Echo {
		s.send(slot, b)
		return
	}
	c.in = append(c.in, b...)
	for {
		line, rest, ok := bytes.Cut(c.in, []byte("\n"))
		if !ok || c.done {
			return
		}
		s.line(slot, c, string(line))
		c.in = rest
	}
}

func (s *fakeShard) line(slot hub.Slot, c *fakeConn, line string) {
	s.stats.MessagesIn++
	if line == "quit" {
		s.send(slot, []byte("bye\n"))
		c.done = true
		return
	}
	if token, ok := bytes.CutPrefix([]byte(line), []byte("ask ")); ok {
		s.ask(hub.Request{Kind: hub.Verify, Ref: hub.Ref{Slot: slot, Gen: c.gen}, Token: string(token)})
		return
	}
	s.send(slot, []byte("heard "+line+"\n"))
}

func (s *fakeShard) ask(r hub.Request) { s.requests = append(s.requests, r) }

func (s *fakeShard) Requests() []hub.Request {
	s.requests, s.served = s.served[:0], s.requests
	return s.served
}

func (s *fakeShard) Next(max int) (hub.Slot, []byte, bool) {
	for len(s.ready) > 0 {
		slot := s.ready[0]
		c := s.conns[slot]
		if c.open && len(c.out) > 0 && !c.blocked {
			c.shown = min(max, len(c.out))
			return slot, c.out[:c.shown], true
		}
		c.queued = false
		s.ready = s.ready[1:]
	}
	return 0, nil, false
}

func (s *fakeShard) Wrote(slot hub.Slot, n int, blocked bool, now protocol.Time) {
	c := s.conn("Wrote", slot)
	if n > c.shown {
		s.t.Errorf("wrote %d of %d bytes", n, c.shown)
	}
	c.out = c.out[:copy(c.out, c.out[n:])]
	c.queued, s.ready = false, s.ready[1:]
	s.stats.BytesOut += uint64(n)
	s.stats.Writes++
	if blocked {
		c.blocked, c.blockedAt = true, now
	}
	s.settle(slot, c)
}

// settle queues what is left, or asks for the end.
func (s *fakeShard) settle(slot hub.Slot, c *fakeConn) {
	switch {
	case len(c.out) == 0 && c.done:
		s.ask(hub.Request{Kind: hub.Finished, Ref: hub.Ref{Slot: slot, Gen: c.gen}})
	case len(c.out) > 0 && !c.blocked && !c.queued:
		c.queued = true
		s.ready = append(s.ready, slot)
	}
}

func (s *fakeShard) Writable(slot hub.Slot, _ protocol.Time) {
	c := s.conn("Writable", slot)
	if !c.blocked {
		s.t.Errorf("Writable for slot %d, which is not blocked", slot)
	}
	c.blocked = false
	if len(c.out) > 0 {
		s.settle(slot, c)
	}
}

func (s *fakeShard) Gone(slot hub.Slot, _ protocol.Time) {
	c := s.conn("Gone", slot)
	c.open, c.out = false, nil
	s.free = append(s.free, slot)
	s.ready = deleted(s.ready, slot)
	s.stats.Connections--
	s.stats.Closed++
	s.ask(hub.Request{Kind: hub.Released, Owner: c.Owner})
}

func deleted(all []hub.Slot, slot hub.Slot) (kept []hub.Slot) {
	for _, s := range all {
		if s != slot {
			kept = append(kept, s)
		}
	}
	return kept
}

func (s *fakeShard) Publish(p *protocol.Publication, _ protocol.Time) {
	s.stats.Publications++
	s.published = append(s.published, *p)
	line := append(p.Data[:len(p.Data):len(p.Data)], '\n')
	for slot, c := range s.conns {
		if c.open && !c.Echo && !c.done {
			s.send(hub.Slot(slot), line)
		}
	}
}

func (s *fakeShard) Tick(now protocol.Time) protocol.Time {
	if n := len(s.ticks); n == 0 || s.ticks[n-1] != now {
		s.ticks = append(s.ticks, now)
	}
	for slot, c := range s.conns {
		if c.open && c.blocked && !c.done && s.patience > 0 && now-c.blockedAt >= s.patience {
			c.done, c.out = true, nil
			s.settle(hub.Slot(slot), c)
		}
	}
	return now + s.every
}

func (s *fakeShard) Pending() bool {
	for _, slot := range s.ready {
		if c := s.conns[slot]; c.open && len(c.out) > 0 && !c.blocked {
			return true
		}
	}
	return false
}

func (s *fakeShard) Verdict(r hub.Ref, v hub.Verdict, _ protocol.Time) {
	if c := s.conns[r.Slot]; !c.open || c.gen != r.Gen {
		return
	}
	if v.Err != nil {
		s.send(r.Slot, []byte("no "+v.Err.Message+"\n"))
		return
	}
	s.send(r.Slot, []byte("yes "+v.Grant.Subject+"\n"))
}

func (s *fakeShard) Displace(r hub.Ref, v hub.Displace, _ protocol.Time) {
	s.send(r.Slot, fmt.Appendf(nil, "displaced %v\n", v.Force))
	s.conns[r.Slot].done = true
}

func (s *fakeShard) Drain(window, _ protocol.Time) {
	for slot, c := range s.conns {
		if c.open {
			s.send(hub.Slot(slot), fmt.Appendf(nil, "drain %d\n", window))
			c.done = true
		}
	}
}

func (s *fakeShard) Stats() hub.Stats { return s.stats }

// fakeClock is moved by hand.
type fakeClock struct{ now atomic.Int64 }

func (c *fakeClock) Now() protocol.Time { return protocol.Time(c.now.Load()) }

// fakeHandler answers every token with itself as the subject and keeps the
// owners that were released.
type fakeHandler struct {
	group    *Group
	released chan uint64
}

func (h *fakeHandler) Handle(loop int, req hub.Request) {
	switch req.Kind {
	case hub.Verify:
		h.group.Verdict(loop, req.Ref, hub.Verdict{Grant: &protocol.Grant{Subject: req.Token}})
	case hub.Released:
		h.released <- req.Owner
	}
}
