package hub

import (
	"container/heap"

	"cryptointel/protocol"
)

// A window is the conflation of one state channel for one max_rate cohort
// (under price:* one asset): what came since the last frame.
type window struct {
	key   windowKey
	next  protocol.Time // when the next frame may go out
	merge protocol.Merge
	last  *protocol.Publication // nil when nothing waits
	sent  *protocol.Publication // in the last frame
}

type windowKey struct {
	cohort uint32
	value  *value
}

// windows are all of a shard's, and those with something to send by the time
// it is due.
type windows struct {
	all map[windowKey]*window
	due windowHeap
}

// throttle sends a publication of a max_rate cohort now, or merges it into
// what is sent when the period is over.
func (s *Shard) throttle(id uint32, t *value, p *protocol.Publication, at protocol.Time) {
	w := s.windows.get(windowKey{id, t})
	if w.last == nil && s.now >= w.next {
		w.next, w.sent = s.now+s.period(id), p
		s.sendState(id, t, p, nil, at)
		return
	}
	if w.last == nil {
		heap.Push(&s.windows.due, w)
	}
	w.last = p
	w.merge.Add(p.Price)
}

func (s *Shard) period(id uint32) protocol.Time {
	return protocol.Time(float64(protocol.Second) / s.cohorts[id].spec.Rate)
}

// flushWindows sends what is due. Until then waiting was what the client asked
// for, so it does not count as latency.
func (s *Shard) flushWindows() {
	for len(s.windows.due) > 0 && s.windows.due[0].next <= s.now {
		w := heap.Pop(&s.windows.due).(*window)
		var m *protocol.Merge
		if w.merge.N > 1 {
			m = &w.merge
		}
		w.sent = w.last
		s.sendState(w.key.cohort, w.key.value, w.last, m, w.next)
		w.last, w.merge, w.next = nil, protocol.Merge{}, s.now+s.period(w.key.cohort)
	}
}

func (ws *windows) get(k windowKey) *window {
	w := ws.all[k]
	if w == nil {
		if ws.all == nil {
			ws.all = map[windowKey]*window{}
		}
		w = &window{key: k}
		ws.all[k] = w
	}
	return w
}

// drop forgets a cohort's windows.
func (ws *windows) drop(id uint32) {
	for k := range ws.all {
		if k.cohort == id {
			delete(ws.all, k)
		}
	}
	kept := ws.due[:0]
	for _, w := range ws.due {
		if w.key.cohort != id {
			kept = append(kept, w)
		}
	}
	clear(ws.due[len(kept):])
	ws.due = kept
	heap.Init(&ws.due)
}

type windowHeap []*window

func (h windowHeap) Len() int           { return len(h) }
func (h windowHeap) Less(i, j int) bool { return h[i].next < h[j].next }
func (h windowHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *windowHeap) Push(x any)        { *h = append(*h, x.(*window)) }
func (h *windowHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return w
}
