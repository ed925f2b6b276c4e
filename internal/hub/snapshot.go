package hub

import (
	"cmp"
	"slices"

	"cryptointel/internal/session"
	"cryptointel/protocol"
)

// snapshotTopics is the topics whose newest values make up the snapshot of a
// state subscription: its own, or under price:* every asset's, by name so that
// two snapshots come in the same order.
func (s *Shard) snapshotTopics(spec *session.Spec) []*topic {
	if spec.Topic != protocol.AllPrices {
		return []*topic{s.topics[spec.Topic]}
	}
	var all []*topic
	for name, t := range s.topics {
		if isPrice(name) && name != protocol.AllPrices {
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b *topic) int { return cmp.Compare(a.name, b.name) })
	return all
}
