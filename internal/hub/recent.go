package hub

import (
	"sort"

	"cryptointel/protocol"
)

// recent is the newest part of the event log. Entries are shared with every
// other shard; this is a window of pointers on them.
type recent struct {
	maxEntries, maxBytes int

	entries []*protocol.Publication // in order of offset; the first gone ones are nil
	from    int                     // first entry that is kept
	bytes   int
	dropped int64 // offset of the last entry dropped
}

// add takes the next entry and drops the oldest beyond the bounds.
func (r *recent) add(p *protocol.Publication) {
	r.entries = append(r.entries, p)
	r.bytes += len(p.Data)
	for r.over() {
		r.dropped = r.entries[r.from].Offset
		r.bytes -= len(r.entries[r.from].Data)
		r.entries[r.from] = nil
		r.from++
	}
	if r.from > 1024 && r.from > len(r.entries)/2 {
		r.entries = append(r.entries[:0:0], r.entries[r.from:]...)
		r.from = 0
	}
}

// over reports whether a bound is exceeded; 0 is no bound. The newest entry
// always stays.
func (r *recent) over() bool {
	n := len(r.entries) - r.from
	return n > 1 && (r.maxEntries > 0 && n > r.maxEntries || r.maxBytes > 0 && r.bytes > r.maxBytes)
}

// after is the kept entries beyond offset. Nothing was missed if offset is at
// least dropped.
func (r *recent) after(offset int64) []*protocol.Publication {
	kept := r.entries[r.from:]
	i := sort.Search(len(kept), func(i int) bool { return kept[i].Offset > offset })
	return kept[i:]
}
