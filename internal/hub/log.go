package hub

import (
	"slices"

	"cryptointel/protocol"
)

// A lag is the log subscriptions of one connection that are behind.
type lag struct {
	readers []logReader
	queued  bool // stands in Shard.behind
}

// A logReader is where one log subscription stands: everything up to pos was
// sent, and prev is the last that matched.
type logReader struct {
	cohort    uint32
	pos, prev int64
	caught    bool // caught_up was sent
}

// publishEntry takes the log's next entry: live subscriptions get it at once,
// all frames of one connection in one write.
func (s *Shard) publishEntry(p *protocol.Publication) {
	if p.Offset <= s.env.Head {
		return // the log was read again after an overflow
	}
	s.recent.add(p)
	s.env.Head, s.env.Oldest = p.Offset, s.recent.dropped+1
	at := entered(p, s.now)
	for _, id := range s.logs {
		co := s.cohorts[id]
		if !co.spec.Lets(p) {
			continue
		}
		prev := co.prev
		co.prev = p.Offset
		if len(co.members) > 0 {
			i := s.entry(id, p, prev)
			s.queue.packets.items[i].at = at
			s.fanOut(co, i)
		}
	}
	s.wakeHeld()
}

// entry is the packet of a log entry for a cohort.
func (s *Shard) entry(id uint32, p *protocol.Publication, prev int64) uint32 {
	b := s.delivery(protocol.Delivery{Channel: s.cohorts[id].spec.Name, Pub: p, Prev: prev})
	return s.packet(packet{bytes: b, kind: entry, cohort: id, born: s.cohorts[id].born, offset: p.Offset, prev: prev})
}

// wakeHeld lets commands run that waited for the head.
func (s *Shard) wakeHeld() {
	for slot, q := range s.waiting {
		if q.Hold != 0 && s.env.Head >= q.Hold {
			s.stepTick(slot)
		}
	}
}

func (s *Shard) addReader(slot Slot, r logReader) *lag {
	l := s.lagged[slot]
	if l == nil {
		l = &lag{}
		s.lagged[slot] = l
		s.conn(slot).flags |= lagging
	}
	l.readers = append(l.readers, r)
	return l
}

// fallBehind makes a subscription read on from pos, because what was queued
// for it after pos is not sent.
func (s *Shard) fallBehind(slot Slot, c *conn, r logReader) {
	if l := s.lagged[slot]; l != nil {
		for i := range l.readers {
			if old := &l.readers[i]; old.cohort == r.cohort {
				old.rewind(r)
				return
			}
		}
	}
	for j, x := range s.subsOf(c) {
		if x.cohort == r.cohort {
			s.exit(r.cohort, x.at)
			s.subsOf(c)[j].at = notLive
			s.addReader(slot, r)
		}
	}
}

func (r *logReader) rewind(to logReader) {
	if to.pos < r.pos {
		r.pos, r.prev = to.pos, to.prev
	}
	r.caught = r.caught && to.caught
}

// stopReading ends a subscription that was behind.
func (s *Shard) stopReading(slot Slot, id uint32) {
	l := s.lagged[slot]
	if l == nil {
		return
	}
	l.readers = slices.DeleteFunc(l.readers, func(r logReader) bool { return r.cohort == id })
	s.caughtUp(slot, l)
}

// caughtUp forgets the lag of a connection that has none.
func (s *Shard) caughtUp(slot Slot, l *lag) {
	if len(l.readers) == 0 {
		delete(s.lagged, slot)
		s.conn(slot).flags &^= lagging
	}
}

// readLater puts a connection among those that can read on.
func (s *Shard) readLater(slot Slot) {
	if l := s.lagged[slot]; l != nil && !l.queued {
		l.queued = true
		s.behind = append(s.behind, slot)
	}
}

// readOn lets one connection that is behind read its next slice.
func (s *Shard) readOn() {
	for len(s.behind) > 0 {
		slot := s.behind[0]
		s.behind = s.behind[1:]
		l := s.lagged[slot]
		if l == nil {
			continue
		}
		l.queued = false
		if c := s.conn(slot); c.flags&(blocked|closing) == 0 && c.head == 0 {
			s.readSlice(slot)
			return
		}
	}
	if s.behind != nil || len(s.past) > 0 {
		s.behind = nil
		s.dropPast()
	}
}

// Bounds of one slice: what a connection is sent of the past before others
// have their turn.
const (
	sliceEntries = 512
	sliceBytes   = 48 << 10
)

// readSlice sends a connection that is behind its next entries, of all its
// subscriptions in order of offset, and makes those live that reach the head.
func (s *Shard) readSlice(slot Slot) {
	l := s.lagged[slot]
	low := slices.MinFunc(l.readers, func(a, b logReader) int { return int(a.pos - b.pos) }).pos
	if low < s.recent.dropped {
		s.closeWith(slot, protocol.SlowConsumer, "the log keeps no entries as old as the next one for this connection")
		return
	}
	sent := 0
	entries := s.recent.after(low)
	for n, p := range entries {
		if n == sliceEntries || sent >= sliceBytes {
			s.readLater(slot)
			return
		}
		sent += s.readEntry(slot, l, p)
	}
	s.goLive(slot, l)
}

// readEntry shows one entry to every reader that has not passed it.
func (s *Shard) readEntry(slot Slot, l *lag, p *protocol.Publication) (sent int) {
	for i := range l.readers {
		r := &l.readers[i]
		if r.pos >= p.Offset {
			continue
		}
		if s.cohorts[r.cohort].spec.Lets(p) {
			i := s.pastEntry(r.cohort, p, r.prev)
			sent += len(s.queue.packets.items[i].bytes)
			s.push(slot, i)
			r.prev = p.Offset
		}
		r.pos = p.Offset
	}
	return sent
}

// A pastKey names the frame of an entry that is sent to readers behind. Those
// of one cohort who resume together share it.
type pastKey struct {
	cohort       uint32
	offset, prev int64
}

const maxPast = 4096

func (s *Shard) pastEntry(id uint32, p *protocol.Publication, prev int64) uint32 {
	key := pastKey{id, p.Offset, prev}
	if i, ok := s.past[key]; ok {
		return i
	}
	if len(s.past) >= maxPast {
		s.dropPast()
	}
	i := s.entry(id, p, prev)
	s.queue.packets.items[i].refs++
	s.past[key] = i
	return i
}

func (s *Shard) dropPast() {
	for key, i := range s.past {
		delete(s.past, key)
		s.unref(i)
	}
}

// goLive makes all of a connection's readers live: they are at the head.
func (s *Shard) goLive(slot Slot, l *lag) {
	c := s.conn(slot)
	readers := l.readers
	l.readers = nil
	s.caughtUp(slot, l)
	for _, r := range readers {
		co := s.cohorts[r.cohort]
		co.prev = max(co.prev, r.prev)
		subs := s.subsOf(c)
		for j := range subs {
			if subs[j].cohort == r.cohort {
				subs[j].at = s.enter(co, slot)
			}
		}
		if !r.caught {
			s.text = protocol.AppendPosition(s.text[:0], "caught_up", co.spec.Name, s.env.Head, co.prev)
			s.push(slot, s.packet(packet{bytes: s.encode(s.text), kind: caught, cohort: r.cohort, born: co.born, offset: s.env.Head, prev: co.prev}))
		}
	}
}

// sendMarks tells quiet log subscriptions where the head is.
func (s *Shard) sendMarks() {
	for _, id := range s.logs {
		co := s.cohorts[id]
		if co.marked == s.env.Head || len(co.members) == 0 {
			continue
		}
		co.marked = s.env.Head
		s.text = protocol.AppendPosition(s.text[:0], "mark", co.spec.Name, s.env.Head, co.prev)
		s.fanOut(co, s.packet(packet{bytes: s.encode(s.text), kind: mark}))
	}
}

// Reading is where a log subscription stands; for the session.
func (s *Shard) Reading(i int) (from, prev int64) {
	x := s.subsOf(s.conn(s.current))[i]
	if l := s.lagged[s.current]; l != nil && x.at == notLive {
		for _, r := range l.readers {
			if r.cohort == x.cohort {
				return r.pos, r.prev
			}
		}
	}
	return s.env.Head, s.cohorts[x.cohort].prev
}
