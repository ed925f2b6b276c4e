package hub

import (
	"cryptointel/internal/frame"
	"cryptointel/internal/session"
	"cryptointel/protocol"
)

// A cohort is everyone with the same channel as spelled, filter and rate. Its
// members share every frame.
type cohort struct {
	spec    *session.Spec
	born    uint32 // tells it from others that have had its number
	refs    int    // subscriptions, live or behind
	members []Slot // the live ones
	turn    int    // where the next fan-out starts

	// Log channels: the last entry that matched, and the head at the last mark.
	prev, marked int64
}

// A value is the newest publication of a state channel, and who follows it.
type value struct {
	name    string // canonical
	last    *protocol.Publication
	cohorts []uint32
	// snapshots are packets of last, by cohort, for those who subscribe now.
	snapshots map[uint32]uint32
}

func (s *Shard) value(name string) *value {
	t := s.values[name]
	if t == nil {
		t = &value{name: name}
		s.values[name] = t
	}
	return t
}

// join makes the connection's subscription i one of spec's cohort; a state
// subscription is live at once.
func (s *Shard) join(slot Slot, i int, spec *session.Spec) uint32 {
	id := s.cohort(spec)
	c, co := s.conn(slot), s.cohorts[id]
	co.refs++
	at := notLive
	if spec.Kind == protocol.State {
		at = s.enter(co, slot)
	}
	s.subsOf(c)[i] = sub{id, at}
	s.stats.Subscriptions++
	return id
}

func (s *Shard) enter(co *cohort, slot Slot) (at uint32) {
	co.members = append(co.members, slot)
	return uint32(len(co.members) - 1)
}

func (s *Shard) cohort(spec *session.Spec) uint32 {
	if id, ok := s.byKey[spec.Key]; ok {
		return id
	}
	id := uint32(len(s.cohorts))
	if n := len(s.spare); n > 0 {
		id, s.spare = s.spare[n-1], s.spare[:n-1]
	} else {
		s.cohorts = append(s.cohorts, nil)
	}
	s.born++
	s.cohorts[id] = &cohort{spec: spec, born: s.born, marked: s.env.Head}
	s.byKey[spec.Key] = id
	if spec.Kind == protocol.Log {
		s.logs = append(s.logs, id)
	} else {
		t := s.value(spec.Canonical)
		t.cohorts = append(t.cohorts, id)
	}
	return id
}

// part takes subscription i out of its cohort; the cohort ends with its last.
func (s *Shard) part(slot Slot, i int) {
	x := &s.subsOf(s.conn(slot))[i]
	co := s.cohorts[x.cohort]
	s.forgetStale(slot, x.cohort)
	if x.at != notLive {
		s.exit(x.cohort, x.at)
	} else {
		s.stopReading(slot, x.cohort)
	}
	s.stats.Subscriptions--
	if co.refs--; co.refs == 0 {
		s.dissolve(x.cohort)
	}
}

// exit removes the live member at a place; the last one moves there.
func (s *Shard) exit(id, at uint32) {
	co := s.cohorts[id]
	last := uint32(len(co.members) - 1)
	if moved := co.members[last]; at != last {
		co.members[at] = moved
		subs := s.subsOf(s.conn(moved))
		for j := range subs {
			if subs[j].cohort == id {
				subs[j].at = at
			}
		}
	}
	co.members = co.members[:last]
}

func (s *Shard) dissolve(id uint32) {
	co := s.cohorts[id]
	delete(s.byKey, co.spec.Key)
	s.cohorts[id], s.spare = nil, append(s.spare, id)
	if co.spec.Kind == protocol.Log {
		s.logs = remove(s.logs, id)
		s.dropPast() // another cohort may get the number
		return
	}
	s.windows.drop(id)
	t := s.values[co.spec.Canonical]
	t.cohorts = remove(t.cohorts, id)
	for _, t := range s.snapshotValues(co.spec) {
		s.dropSnapshot(t, id)
	}
	if t.last == nil && len(t.cohorts) == 0 {
		delete(s.values, t.name)
	}
}

func remove(list []uint32, x uint32) []uint32 {
	for i, y := range list {
		if x == y {
			list[i] = list[len(list)-1]
			return list[:len(list)-1]
		}
	}
	return list
}

// leave ends the connection's subscription i; the order of the others stays.
func (s *Shard) leave(slot Slot, i int) {
	s.part(slot, i)
	c := s.conn(slot)
	subs := s.subsOf(c)
	copy(subs[i:], subs[i+1:])
	n := int(c.nsubs)
	c.subs = s.subs.resize(c.subs, n, n-1)
	c.nsubs--
}

// fanOut queues a packet for every live member. It starts at another member
// each time, so that nobody is always last. Those that cannot take it come
// after the others, because they may leave the list.
func (s *Shard) fanOut(co *cohort, p uint32) {
	if len(co.members) == 0 {
		s.settle(p)
		return
	}
	s.queue.packets.items[p].refs++ // so that it outlives the loop
	slowing := blocked | closing
	if s.queue.packets.items[p].kind == entry {
		slowing |= lagging
	}
	co.turn = (co.turn + len(co.members)/3 + 1) % len(co.members)
	slow := s.pushAll(s.slow[:0], co.members[co.turn:], p, slowing)
	slow = s.pushAll(slow, co.members[:co.turn], p, slowing)
	for _, slot := range slow {
		s.offer(slot, p)
	}
	s.slow = slow
	s.unref(p)
}

// pushAll queues a packet for those that can take it and adds the rest to slow.
func (s *Shard) pushAll(slow []Slot, members []Slot, p uint32, slowing flags) []Slot {
	for _, slot := range members {
		if s.conn(slot).flags&slowing == 0 {
			s.push(slot, p)
		} else {
			slow = append(slow, slot)
		}
	}
	return slow
}

// encode makes one WebSocket text frame of a JSON message.
func (s *Shard) encode(message []byte) []byte {
	b := make([]byte, 0, len(message)+frame.HeaderLen(len(message)))
	return frame.Append(b, frame.Text, message)
}

// delivery encodes a publication for one cohort.
func (s *Shard) delivery(d protocol.Delivery) []byte {
	s.text = protocol.AppendDelivery(s.text[:0], d)
	return s.encode(s.text)
}
