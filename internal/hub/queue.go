package hub

import (
	"cryptointel/protocol"
)

// A packet is the bytes of one frame, shared by everyone it goes to.
type packet struct {
	bytes    []byte        // immutable
	deflated []byte        // the same frame for those who inflate; immutable
	at       protocol.Time // latency counts from here; 0: it does not count

	refs   int32
	kind   packetKind
	tried  bool   // whether deflated is worth it has been seen
	cohort uint32 // all below
	born   uint32 // of the cohort
	offset int64  // entry, caught
	prev   int64  // entry, caught
	value  *value // state
	first  bool   // state: it is the snapshot
}

type packetKind uint8

const (
	private packetKind = iota // for one connection
	fence                     // the same, and what came before must go out before
	state                     // a slow reader may skip it
	entry                     // of the event log: can be read again
	caught                    // caught_up: said again when what is before it is
	mark                      // a slow reader needs none
)

// A node is one packet waiting for one connection.
type node struct{ packet, next uint32 }

// queue is everything that waits to be written: per connection a list of
// packets, and the connections that have one in the order in which they got
// it. Lists are of indices, so one publication to ten thousand connections
// costs ten thousand small nodes and no pointer.
type queue struct {
	packets pool[packet]
	nodes   pool[node]
	dirty   ring

	// The last blocks assembled: for connections in plain, and for those that
	// inflate. last is the one that Next gave, which Wrote takes off.
	plain, packed block
	last          *block
}

// A block is what one connection, and mostly its neighbours, is given to write.
type block struct {
	out   []byte
	list  []uint32 // the packets in it
	whole bool     // out is all its connection had waiting
}

func newQueue() queue { return queue{packets: newPool[packet](), nodes: newPool[node]()} }

// A pool is a growing array whose places are used again. Index 0 is no place.
type pool[T any] struct {
	items []T
	free  []uint32
}

func newPool[T any]() pool[T] { return pool[T]{items: make([]T, 1)} }

func (p *pool[T]) get() uint32 {
	if n := len(p.free); n > 0 {
		i := p.free[n-1]
		p.free = p.free[:n-1]
		return i
	}
	var zero T
	p.items = append(p.items, zero)
	return uint32(len(p.items) - 1)
}

func (p *pool[T]) put(i uint32) { p.free = append(p.free, i) }

func (p *pool[T]) used() int { return len(p.items) - 1 - len(p.free) }

// shrink gives memory back after a peak, when nothing is in use.
func (p *pool[T]) shrink(above int) {
	if p.used() == 0 && len(p.items) > above {
		*p = newPool[T]()
	}
}

// A ring is a first-in first-out queue of slots.
type ring struct {
	buf  []Slot // length is a power of two
	from int
	n    int
}

func (r *ring) push(slot Slot) {
	if r.n == len(r.buf) {
		r.grow()
	}
	r.buf[(r.from+r.n)&(len(r.buf)-1)] = slot
	r.n++
}

func (r *ring) pop() Slot {
	slot := r.buf[r.from]
	r.from = (r.from + 1) & (len(r.buf) - 1)
	r.n--
	return slot
}

func (r *ring) grow() {
	buf := make([]Slot, max(64, 2*len(r.buf)))
	for i := range r.n {
		buf[i] = r.buf[(r.from+i)&(len(r.buf)-1)]
	}
	r.buf, r.from = buf, 0
}

// packet enters bytes to be sent. It has no reference yet: whoever makes one
// either pushes it or calls settle.
func (s *Shard) packet(p packet) uint32 {
	i := s.queue.packets.get()
	s.queue.packets.items[i] = p
	return i
}

// settle frees a packet that nobody took.
func (s *Shard) settle(i uint32) {
	if p := &s.queue.packets.items[i]; p.refs == 0 {
		// The last blocks may name a place that is used again.
		s.queue.plain.whole, s.queue.packed.whole = false, false
		*p = packet{}
		s.queue.packets.put(i)
	}
}

func (s *Shard) unref(i uint32) {
	s.queue.packets.items[i].refs--
	s.settle(i)
}

// push queues a packet for a connection.
//
// Hot: once per delivery. It touches the connection's record and the end of
// the node pool, and allocates nothing in steady state. All of the shard's
// work on a delivery, this and the block that neighbours share, is 36 ns, in a
// batch of 16 publications 20 ns (BenchmarkFanout/10k, BenchmarkFanoutBatch16);
// a write is some microseconds.
func (s *Shard) push(slot Slot, i uint32) {
	q, c := &s.queue, s.conn(slot)
	n := q.nodes.get()
	q.nodes.items[n].packet = i
	q.packets.items[i].refs++
	s.append(c, n)
	if c.flags&(dirty|blocked) == 0 {
		c.flags |= dirty
		q.dirty.push(slot)
	}
}

// append puts a node at the end of a connection's list.
func (s *Shard) append(c *conn, n uint32) {
	nodes := s.queue.nodes.items
	nodes[n].next = 0
	if c.tail == 0 {
		c.head = n
	} else {
		nodes[c.tail].next = n
	}
	c.tail = n
}

// pop takes the first packet from a connection's list.
func (s *Shard) pop(c *conn) uint32 {
	q := &s.queue
	n := c.head
	i := q.nodes.items[n].packet
	if c.head = q.nodes.items[n].next; c.head == 0 {
		c.tail = 0
	}
	q.nodes.put(n)
	return i
}

func (s *Shard) dropPending(slot Slot) {
	for c := s.conn(slot); c.head != 0; {
		s.unref(s.pop(c))
	}
}

// Pending reports whether Next would give something.
func (s *Shard) Pending() bool { return s.queue.dirty.n > 0 || len(s.behind) > 0 }

// Full reports whether so much waits to be written that the owner should let
// new publications wait outside, where state channels keep only their newest.
func (s *Shard) Full() bool { return s.queue.nodes.used() > 1<<21 }

// Next is the next connection with bytes to write, at most about max of them.
// b is valid until Wrote, which must follow.
func (s *Shard) Next(max int) (slot Slot, b []byte, ok bool) {
	s.readOn()
	for s.queue.dirty.n > 0 {
		slot := s.queue.dirty.pop()
		c := s.conn(slot)
		c.flags &^= dirty
		if c.flags.has(open) && !c.flags.has(blocked) {
			if b := s.assemble(slot, c, max); len(b) > 0 {
				return slot, b, true
			}
		}
	}
	s.queue.packets.shrink(1 << 16)
	s.queue.nodes.shrink(1 << 16)
	return 0, nil, false
}

// assemble puts what waits for a connection into one block. Several messages a
// write are what fan-out speed is made of; and since neighbours in the queue
// mostly wait for the same packets, the block is kept and used again.
func (s *Shard) assemble(slot Slot, c *conn, max int) []byte {
	q := &s.queue
	b := &q.plain
	if c.flags.has(deflating) {
		b = &q.packed
	}
	q.last = b
	if c.flags.has(refused) {
		b.list = b.list[:0]
		return s.stuck[slot].rest
	}
	if c.head == 0 {
		return nil
	}
	if first := &q.nodes.items[c.head]; first.next == 0 {
		b.list = append(b.list[:0], first.packet)
		b.out = b.out[:0]
		return s.wire(c, &q.packets.items[first.packet])
	}
	if !s.sameAsLast(c, b) {
		s.concatenate(c, b, max)
	}
	return b.out
}

// sameAsLast reports whether the connection waits for exactly the packets of
// the last block.
func (s *Shard) sameAsLast(c *conn, b *block) bool {
	q := &s.queue
	if !b.whole || len(b.out) == 0 {
		return false
	}
	n := c.head
	for _, p := range b.list {
		if n == 0 || q.nodes.items[n].packet != p {
			return false
		}
		n = q.nodes.items[n].next
	}
	return n == 0
}

// concatenate makes the block of what waits for a connection: about max bytes,
// but all frames of one entry of the log.
func (s *Shard) concatenate(c *conn, b *block, max int) {
	q := &s.queue
	b.list, b.out = b.list[:0], b.out[:0]
	n, offset := c.head, int64(0)
	for n != 0 {
		p := &q.packets.items[q.nodes.items[n].packet]
		bytes := s.wire(c, p)
		if len(b.out) > 0 && len(b.out)+len(bytes) > max && (p.kind != entry || p.offset != offset) {
			break
		}
		b.out = append(b.out, bytes...)
		b.list = append(b.list, q.nodes.items[n].packet)
		n, offset = q.nodes.items[n].next, p.offset
	}
	b.whole = n == 0
}

// Wrote says that the socket took n bytes of what Next gave. blocked means
// that it takes no more now; Writable must follow when it does.
func (s *Shard) Wrote(slot Slot, n int, blocked bool, now protocol.Time) {
	s.now = now
	c := s.conn(slot)
	s.stats.Writes++
	s.stats.BytesOut += uint64(n)
	s.consume(slot, c, n)
	switch {
	case blocked:
		s.block(slot, c)
	case c.head != 0 || c.flags.has(refused):
		s.requeue(slot, c)
	case c.flags&(lagging|closing) != 0 || len(s.stuck) > 0:
		s.emptied(slot, c)
	}
}

// consume takes n written bytes off what waits for the connection. What is
// left of a packet that went out in part is kept: it must follow.
func (s *Shard) consume(slot Slot, c *conn, n int) {
	q := &s.queue
	list := q.last.list
	if len(list) == 0 { // the block was what the socket had refused before
		s.consumeRest(slot, c, n)
		return
	}
	for k := 0; k < len(list) && n > 0; k++ {
		i := s.pop(c)
		p := &q.packets.items[i]
		b := s.wire(c, p)
		if n < len(b) {
			x := s.stuckOn(slot, c)
			x.rest = append(x.rest[:0], b[n:]...)
			c.flags |= refused
		}
		n -= len(b)
		s.stats.Deliveries += uint64(b2i(p.kind >= state))
		if p.at != 0 {
			s.latency.observe(s.now - p.at)
		}
		s.unref(i)
	}
}

func (s *Shard) requeue(slot Slot, c *conn) {
	if !c.flags.has(dirty) {
		c.flags |= dirty
		s.queue.dirty.push(slot)
	}
}
