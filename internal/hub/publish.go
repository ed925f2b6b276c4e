package hub

import "cryptointel/protocol"

// maxValues bounds how many state channels without a subscriber keep their
// newest value: publishers may invent test:{name} at will.
const maxValues = 20_000

// Publish shows a publication to everyone it concerns: queues its frames, and
// keeps it as the channel's newest value or the log's newest entry. Entries of
// the log come in offset order.
func (s *Shard) Publish(p *protocol.Publication, now protocol.Time) {
	s.now = now
	s.stats.Publications++
	if p.IsLog() {
		s.publishEntry(p)
		return
	}
	if s.values[p.Channel] == nil && len(s.values) >= maxValues {
		s.evictValue()
	}
	t := s.value(p.Channel)
	if t.last != nil && p.Offset <= t.last.Offset {
		return // an older value, from another path
	}
	t.last = p
	for id := range t.snapshots {
		s.dropSnapshot(t, id)
	}
	at := entered(p, now)
	for _, id := range t.cohorts {
		s.publishState(id, t, p, at)
	}
	if isPrice(p.Channel) && p.Channel != protocol.AllPrices {
		if all := s.values[protocol.AllPrices]; all != nil {
			for _, id := range all.cohorts {
				s.publishState(id, t, p, at)
			}
		}
	}
}

func isPrice(channel string) bool { return len(channel) > 6 && channel[:6] == "price:" }

// evictValue forgets the newest value of some channel that nobody follows.
func (s *Shard) evictValue() {
	for name, t := range s.values {
		if len(t.cohorts) == 0 && len(t.snapshots) == 0 && !isPrice(name) {
			delete(s.values, name)
			return
		}
	}
}

func (s *Shard) publishState(id uint32, t *value, p *protocol.Publication, at protocol.Time) {
	co := s.cohorts[id]
	if co.spec.Rate > 0 {
		s.throttle(id, t, p, at)
		return
	}
	if len(co.members) > 0 {
		s.sendState(id, t, p, nil, at)
	}
}

// sendState encodes once and queues for all. Latency counts from at.
func (s *Shard) sendState(id uint32, t *value, p *protocol.Publication, m *protocol.Merge, at protocol.Time) {
	co := s.cohorts[id]
	s.dropSnapshot(t, id)
	b := s.delivery(protocol.Delivery{Channel: co.spec.Name, Pub: p, Merge: m})
	s.fanOut(co, s.packet(packet{bytes: b, kind: state, cohort: id, born: co.born, value: t, at: at}))
}

// snapshot queues the newest value of a state subscription that has begun:
// under price:* that of every asset.
func (s *Shard) snapshot(slot Slot, id uint32) {
	for _, t := range s.snapshotValues(s.cohorts[id].spec) {
		if t.last != nil {
			s.offer(slot, s.snapshotOf(t, id))
		}
	}
}

// shown is the newest value that a cohort was sent: under max_rate what came
// since waits for the end of the period, and counts as merged there.
func (s *Shard) shown(t *value, id uint32) *protocol.Publication {
	if w := s.windows.all[windowKey{id, t}]; w != nil {
		return w.sent
	}
	return t.last
}

// snapshotOf is the packet of a newest value for a cohort. It is kept until
// the value changes: after a restart thousands ask for the same one.
func (s *Shard) snapshotOf(t *value, id uint32) uint32 {
	if p, ok := t.snapshots[id]; ok {
		return p
	}
	co := s.cohorts[id]
	d := protocol.Delivery{Channel: co.spec.Name, Pub: s.shown(t, id), Snapshot: true}
	p := s.packet(packet{bytes: s.delivery(d), kind: state, cohort: id, born: co.born, value: t, first: true})
	s.queue.packets.items[p].refs++
	if t.snapshots == nil {
		t.snapshots = map[uint32]uint32{}
	}
	t.snapshots[id] = p
	return p
}

func (s *Shard) dropSnapshot(t *value, id uint32) {
	if p, ok := t.snapshots[id]; ok {
		delete(t.snapshots, id)
		s.unref(p)
	}
}

// pushNewest queues the newest value for a connection that has missed some.
func (s *Shard) pushNewest(slot Slot, st staleState) {
	if st.first {
		s.push(slot, s.snapshotOf(st.value, st.cohort))
		return
	}
	co := s.cohorts[st.cohort]
	d := protocol.Delivery{Channel: co.spec.Name, Pub: s.shown(st.value, st.cohort)}
	s.push(slot, s.packet(packet{bytes: s.delivery(d), kind: state, cohort: st.cohort, born: co.born, value: st.value}))
}
