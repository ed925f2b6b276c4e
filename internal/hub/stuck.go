package hub

import (
	"slices"

	"cryptointel/protocol"
)

// stuck is what is kept for a connection whose socket takes no more: the rest
// of the frame it was in the middle of, and which state channels have moved
// on. Never a backlog.
type stuck struct {
	since protocol.Time // when the socket last took something
	rest  []byte
	stale []staleState
}

// A staleState is one state channel (under price:* one asset) of which the
// connection has missed at least one publication.
type staleState struct {
	cohort uint32
	value  *value
	first  bool // it has not had its snapshot yet
}

// miss records that the connection was not sent a publication, and reports
// whether that takes the place of an older one, which it will never be sent.
func (x *stuck) miss(p *packet) (skipped bool) {
	for i := range x.stale {
		if st := &x.stale[i]; st.cohort == p.cohort && st.value == p.value {
			st.first = st.first || p.first
			return true
		}
	}
	x.stale = append(x.stale, staleState{p.cohort, p.value, p.first})
	return false
}

// forgetStale drops what a connection has missed of a cohort that it leaves:
// another cohort may get the number.
func (s *Shard) forgetStale(slot Slot, id uint32) {
	if x := s.stuck[slot]; x != nil {
		x.stale = slices.DeleteFunc(x.stale, func(st staleState) bool { return st.cohort == id })
	}
}

func (s *Shard) stuckOn(slot Slot, c *conn) *stuck {
	x := s.stuck[slot]
	if x == nil {
		x = &stuck{since: s.now}
		s.stuck[slot] = x
	}
	return x
}

// block notes that the socket takes no more. Prices that wait become "the
// newest, later" and log entries a position.
func (s *Shard) block(slot Slot, c *conn) {
	x := s.stuckOn(slot, c)
	x.since = s.now
	c.flags |= blocked
	s.shed(slot, c, x)
	s.checkHeld(slot, c, x)
}

// shed takes off a connection's list what need not be kept for it. Replies
// stay, and before a fence everything does. What belongs to a subscription
// that has ended meanwhile is just dropped.
func (s *Shard) shed(slot Slot, c *conn, x *stuck) {
	kept, i := s.fenced(c), 0
	s.filter(c, func(p *packet) bool {
		i++
		keep := i <= kept || p.kind <= fence
		if !keep && s.follows(c, p) {
			s.skip(slot, c, x, p)
		}
		return keep
	})
}

// fenced is how many packets wait up to the last fence.
func (s *Shard) fenced(c *conn) (kept int) {
	q, i := &s.queue, 0
	for n := c.head; n != 0; n = q.nodes.items[n].next {
		i++
		if q.packets.items[q.nodes.items[n].packet].kind == fence {
			kept = i
		}
	}
	return kept
}

// filter leaves on a connection's list only what keep says.
func (s *Shard) filter(c *conn, keep func(*packet) bool) {
	q := &s.queue
	n := c.head
	c.head, c.tail = 0, 0
	for n != 0 {
		i, next := q.nodes.items[n].packet, q.nodes.items[n].next
		if keep(&q.packets.items[i]) {
			s.append(c, n)
		} else {
			q.nodes.put(n)
			s.unref(i)
		}
		n = next
	}
}

// follows reports whether a connection is in the cohort of a packet, and not
// in one that got its number later.
func (s *Shard) follows(c *conn, p *packet) bool {
	for _, x := range s.subsOf(c) {
		if x.cohort == p.cohort {
			return s.cohorts[x.cohort].born == p.born
		}
	}
	return false
}

// skip records that a packet is not sent to a connection that is blocked.
func (s *Shard) skip(slot Slot, c *conn, x *stuck, p *packet) {
	switch p.kind {
	case state:
		if x.miss(p) {
			c.conflated++
			s.stats.Conflated++
		}
	case entry:
		s.fallBehind(slot, c, logReader{p.cohort, p.offset - 1, p.prev, true})
	case caught:
		s.fallBehind(slot, c, logReader{p.cohort, p.offset, p.prev, false})
	}
}

// offer queues a packet, or what stands for it when the connection is blocked.
// While one log subscription is behind, all are, so that the connection gets
// the log in order and the frames of an entry in one write.
func (s *Shard) offer(slot Slot, i uint32) {
	c, p := s.conn(slot), &s.queue.packets.items[i]
	switch {
	case c.flags.has(closing): // has said its last
	case c.flags.has(blocked) && p.kind <= fence:
		s.push(slot, i)
		s.checkHeld(slot, c, s.stuck[slot])
	case c.flags.has(blocked) || c.flags.has(lagging) && p.kind == entry:
		s.skip(slot, c, s.stuck[slot], p)
	default:
		s.push(slot, i)
	}
}

// checkHeld closes a connection for which too much must be kept.
func (s *Shard) checkHeld(slot Slot, c *conn, x *stuck) {
	if s.cfg.HeldBytes > 0 && len(x.rest)+s.waits(c) > s.cfg.HeldBytes && !c.flags.has(echoing) {
		s.abandon(slot, c)
	}
}

// waits is how many bytes wait for a connection.
func (s *Shard) waits(c *conn) (bytes int) {
	q := &s.queue
	for n := c.head; n != 0; n = q.nodes.items[n].next {
		bytes += len(q.packets.items[q.nodes.items[n].packet].bytes)
	}
	return bytes
}

// abandon ends a connection that cannot even be told why.
func (s *Shard) abandon(slot Slot, c *conn) {
	s.stats.Closes[protocol.SlowConsumer.Close()]++
	s.finish(slot, c)
}

// Writable says that the socket takes bytes again.
func (s *Shard) Writable(slot Slot, now protocol.Time) {
	s.now = now
	c := s.conn(slot)
	if !c.flags.has(open) || !c.flags.has(blocked) {
		return
	}
	c.flags &^= blocked
	x := s.stuck[slot]
	if !c.flags.has(closing) {
		for _, st := range x.stale {
			s.pushNewest(slot, st)
		}
	}
	x.stale = x.stale[:0]
	if c.head != 0 || c.flags.has(refused) {
		s.requeue(slot, c)
	} else {
		s.emptied(slot, c)
	}
}

func (s *Shard) consumeRest(slot Slot, c *conn, n int) {
	x := s.stuck[slot]
	x.rest = x.rest[n:]
	if len(x.rest) == 0 {
		c.flags &^= refused
		x.rest = nil
	}
}

// emptied is called when nothing more waits for a connection that was slow,
// is behind in the log, or is about to close.
func (s *Shard) emptied(slot Slot, c *conn) {
	if !c.flags.has(refused) && !c.flags.has(blocked) {
		delete(s.stuck, slot)
	}
	switch {
	case c.flags.has(closing):
		s.closed(slot, c)
	case c.flags.has(lagging):
		s.readLater(slot)
	}
}
