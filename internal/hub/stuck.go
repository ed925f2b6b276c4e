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
	topic  *topic
}

func (s *Shard) stuckOn(slot Slot, c *conn) *stuck {
	x := s.stuck[slot]
	if x == nil {
		x = &stuck{since: s.now}
		s.stuck[slot] = x
	}
	return x
}

// block notes that the socket takes no more. What was queued up to the last
// reply stays queued, so that a reply never overtakes what came before it;
// behind that, prices become "the newest, later" and log entries a position.
func (s *Shard) block(slot Slot, c *conn) {
	x := s.stuckOn(slot, c)
	x.since = s.now
	c.flags |= blocked
	s.shed(slot, c, x)
	s.checkHeld(slot, c, x)
}

func (s *Shard) shed(slot Slot, c *conn, x *stuck) {
	q := &s.queue
	last, cut := uint32(0), c.head
	for n := c.head; n != 0; n = q.nodes.items[n].next {
		if q.packets.items[q.nodes.items[n].packet].kind == private {
			last, cut = n, q.nodes.items[n].next
		}
	}
	if c.tail = last; last == 0 {
		c.head = 0
	} else {
		q.nodes.items[last].next = 0
	}
	for n := cut; n != 0; {
		i, next := q.nodes.items[n].packet, q.nodes.items[n].next
		q.nodes.put(n)
		s.skip(slot, c, x, &q.packets.items[i])
		s.unref(i)
		n = next
	}
}

// skip records that a packet is not sent to a connection that is blocked.
func (s *Shard) skip(slot Slot, c *conn, x *stuck, p *packet) {
	switch p.kind {
	case state:
		c.conflated++
		s.stats.Conflated++
		st := staleState{p.cohort, p.topic}
		if !slices.Contains(x.stale, st) {
			x.stale = append(x.stale, st)
		}
	case entry:
		s.fallBehind(slot, c, logReader{p.cohort, p.offset - 1, p.prev, true})
	case caught:
		s.fallBehind(slot, c, logReader{p.cohort, p.offset, p.prev, false})
	}
}

// offer queues a packet, or what stands for it when the connection is blocked.
func (s *Shard) offer(slot Slot, i uint32) {
	c := s.conn(slot)
	switch {
	case c.flags.has(closing): // has said its last
	case !c.flags.has(blocked):
		s.push(slot, i)
	case s.queue.packets.items[i].kind == private:
		s.push(slot, i)
		s.checkHeld(slot, c, s.stuck[slot])
	default:
		s.skip(slot, c, s.stuck[slot], &s.queue.packets.items[i])
	}
}

// checkHeld closes a connection for which too much must be kept.
func (s *Shard) checkHeld(slot Slot, c *conn, x *stuck) {
	held := len(x.rest)
	for n := c.head; n != 0; n = s.queue.nodes.items[n].next {
		held += len(s.queue.packets.items[s.queue.nodes.items[n].packet].bytes)
	}
	if held > s.cfg.HeldBytes && !c.flags.has(echoing) {
		s.abandon(slot, c)
	}
}

// abandon ends a connection that cannot even be told why.
func (s *Shard) abandon(slot Slot, c *conn) {
	s.stats.Closes[protocol.SlowConsumer.Close()]++
	s.dropPending(slot)
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
	for _, st := range x.stale {
		s.pushNewest(slot, st)
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
