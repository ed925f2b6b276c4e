package hub

import "cryptointel/protocol"

// maxTopics bounds how many state channels without a subscriber keep their
// newest value: publishers may invent test:{name} at will.
const maxTopics = 20_000

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
	if s.topics[p.Channel] == nil && len(s.topics) >= maxTopics {
		s.evictTopic()
	}
	t := s.topic(p.Channel)
	if t.last != nil && p.Offset <= t.last.Offset {
		return // an older value, from another path
	}
	t.last = p
	for id, packet := range t.snapshots {
		delete(t.snapshots, id)
		s.unref(packet)
	}
	for _, id := range t.cohorts {
		s.publishState(id, t, p)
	}
	if isPrice(p.Channel) && p.Channel != protocol.AllPrices {
		if all := s.topics[protocol.AllPrices]; all != nil {
			for _, id := range all.cohorts {
				s.publishState(id, t, p)
			}
		}
	}
}

func isPrice(channel string) bool { return len(channel) > 6 && channel[:6] == "price:" }

// evictTopic forgets the newest value of some channel that nobody follows.
func (s *Shard) evictTopic() {
	for name, t := range s.topics {
		if len(t.cohorts) == 0 && len(t.snapshots) == 0 && !isPrice(name) {
			delete(s.topics, name)
			return
		}
	}
}

func (s *Shard) publishState(id uint32, t *topic, p *protocol.Publication) {
	co := s.cohorts[id]
	if co.spec.Rate > 0 {
		s.throttle(id, t, p)
		return
	}
	if len(co.members) > 0 {
		s.sendState(id, t, p, nil)
	}
}

// sendState encodes once and queues for all.
func (s *Shard) sendState(id uint32, t *topic, p *protocol.Publication, m *protocol.Merge) {
	co := s.cohorts[id]
	b := s.delivery(protocol.Delivery{Channel: co.spec.Name, Pub: p, Merge: m})
	s.fanOut(co, s.packet(packet{bytes: b, kind: state, cohort: id, topic: t}))
}

// snapshot queues the newest value of a state subscription that has begun:
// under price:* that of every asset.
func (s *Shard) snapshot(slot Slot, id uint32) {
	for _, t := range s.snapshotTopics(s.cohorts[id].spec) {
		if t.last != nil {
			s.push(slot, s.snapshotOf(t, id))
		}
	}
}

// snapshotOf is the packet of a topic's newest value for a cohort. It is kept
// until the value changes: after a restart thousands ask for the same one.
func (s *Shard) snapshotOf(t *topic, id uint32) uint32 {
	if p, ok := t.snapshots[id]; ok {
		return p
	}
	d := protocol.Delivery{Channel: s.cohorts[id].spec.Name, Pub: t.last, Snapshot: true}
	p := s.packet(packet{bytes: s.delivery(d), kind: state, cohort: id, topic: t})
	s.queue.packets.items[p].refs++
	if t.snapshots == nil {
		t.snapshots = map[uint32]uint32{}
	}
	t.snapshots[id] = p
	return p
}

// pushNewest queues the newest value for a connection that has missed some.
func (s *Shard) pushNewest(slot Slot, st staleState) {
	co := s.cohorts[st.cohort]
	if co == nil || st.topic.last == nil || !s.follows(slot, st.cohort) {
		return
	}
	b := s.delivery(protocol.Delivery{Channel: co.spec.Name, Pub: st.topic.last})
	s.push(slot, s.packet(packet{bytes: b, kind: state, cohort: st.cohort, topic: st.topic}))
}

// follows reports whether a connection is in a cohort.
func (s *Shard) follows(slot Slot, id uint32) bool {
	for _, x := range s.subsOf(s.conn(slot)) {
		if x.cohort == id {
			return true
		}
	}
	return false
}
