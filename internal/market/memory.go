package market

import (
	"slices"
	"sync"

	"cryptointel/protocol"
)

// memoryBars is how many bars of each span a memoryStore keeps of an asset: a
// day of minutes, and a bit.
const memoryBars = 1500

// A memoryStore keeps the newest bars until the process ends.
type memoryStore struct {
	mu   sync.Mutex // guards the field below
	bars map[string]*[4][]Candle
}

func newMemoryStore() *memoryStore { return &memoryStore{bars: make(map[string]*[4][]Candle)} }

func (m *memoryStore) write(bars map[barKey]bar, _ protocol.Time, cut [4]protocol.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, b := range bars {
		all := m.bars[k.slug]
		if all == nil {
			all = new([4][]Candle)
			m.bars[k.slug] = all
		}
		list := all[k.span]
		i, found := slices.BinarySearchFunc(list, b.Candle, byStart)
		if found {
			list[i] = b.over(bar{Candle: list[i]}).Candle
		} else {
			list = slices.Insert(list, i, b.Candle)
		}
		all[k.span] = list
	}
	for _, all := range m.bars {
		for k, list := range all {
			i, _ := slices.BinarySearchFunc(list, Candle{Start: cut[k]}, byStart)
			// Copied down, so that the array does not grow for ever.
			all[k] = slices.Delete(list, 0, max(i, len(list)-memoryBars, 0))
		}
	}
	return nil
}

func (m *memoryStore) scan(span int, slug string, from, to protocol.Time, limit int, newest bool) ([]Candle, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.bars[slug]
	if all == nil {
		return nil, nil
	}
	list := inside(all[span], from, to)
	if newest {
		list = list[max(0, len(list)-limit):]
	}
	return slices.Clone(list[:min(len(list), limit)]), nil
}

func (m *memoryStore) close() error { return nil }
