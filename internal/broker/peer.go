package broker

import (
	"cmp"
	"slices"
	"time"
)

const (
	// askAgain is how long an answer about missing entries is waited for
	// before they are asked for again, and giveUp until they count as lost.
	askAgain = 250 * time.Millisecond
	giveUp   = 3 * time.Second
	// heldEntries and heldBytes bound what waits for one node's entry that is
	// missing, or for room in the log. What is over it is asked for again.
	heldEntries = 4096
	heldBytes   = 8 << 20
)

// A peer is another node, as far as its entries of the log are concerned:
// they are appended in the order of their numbers, each once. Of what is
// missing the node that made it is asked again. The link's goroutine owns it.
type peer struct {
	last  int64 // number of its newest entry that is appended here
	head  int64 // number of its newest entry that there is
	held  []sharedEntry
	bytes int64     // of held
	gap   time.Time // since when an entry is missing; zero when none is
	asked time.Time // when it was asked for
	heard time.Time // when it last said anything
}

// hold keeps e until its turn comes. A second copy is left out.
func (p *peer) hold(e sharedEntry) {
	p.head = max(p.head, e.seq)
	if e.seq <= p.last {
		return
	}
	i, found := slices.BinarySearchFunc(p.held, e.seq, func(h sharedEntry, seq int64) int { return cmp.Compare(h.seq, seq) })
	// The next entry is always taken: it is what the others wait for.
	if found || e.seq != p.last+1 && (len(p.held) >= heldEntries || p.bytes > heldBytes) {
		return
	}
	p.held = slices.Insert(p.held, i, e)
	p.bytes += e.size()
}

// advance appends what is next, until add has no room.
func (p *peer) advance(now time.Time, add func(sharedEntry) bool) {
	n := 0
	for n < len(p.held) && p.held[n].seq == p.last+1 && add(p.held[n]) {
		p.last++
		p.bytes -= p.held[n].size()
		n++
	}
	p.held = slices.Delete(p.held, 0, n)
	switch {
	case !p.missing():
		p.gap = time.Time{}
	case n > 0 || p.gap.IsZero():
		p.gap = now
	}
}

// missing reports whether the next entry exists and is not here.
func (p *peer) missing() bool {
	return p.head > p.last && (len(p.held) == 0 || p.held[0].seq > p.last+1)
}

// mayAsk reports whether it is time to ask for what is missing.
func (p *peer) mayAsk(now time.Time) bool {
	if !p.missing() || now.Sub(p.asked) < askAgain {
		return false
	}
	p.asked = now
	return true
}

// skip gives up on what is missing for too long, and returns how many that
// are.
func (p *peer) skip(now time.Time) (lost int64) {
	if !p.missing() || p.gap.IsZero() || now.Sub(p.gap) < giveUp {
		return 0
	}
	next := p.head + 1
	if len(p.held) > 0 {
		next = p.held[0].seq
	}
	lost = next - 1 - p.last
	p.last, p.gap = next-1, time.Time{}
	return lost
}
