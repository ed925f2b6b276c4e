package hub

import (
	"cmp"
	"slices"

	"cryptointel/internal/session"
	"cryptointel/protocol"
)

// snapshotValues is what makes up the snapshot of a state subscription: its own
// channel's value, or under price:* every asset's, by name so that two
// snapshots come in the same order.
func (s *Shard) snapshotValues(spec *session.Spec) []*value {
	if spec.Canonical != protocol.AllPrices {
		return []*value{s.values[spec.Canonical]}
	}
	var all []*value
	for name, t := range s.values {
		if isPrice(name) && name != protocol.AllPrices {
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b *value) int { return cmp.Compare(a.name, b.name) })
	return all
}
