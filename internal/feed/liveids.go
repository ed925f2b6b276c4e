package feed

import (
	"cmp"
	"slices"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// A hole is a run of trade ids that were not seen.
type hole struct {
	from, to      int64
	after, before protocol.Time // of the trades around it
	// open: the connection that lost them is gone, so the next one's repeats
	// count. Within one connection an id never goes back: what does is a
	// duplicate or comes out of order, and a refill is the better source.
	open bool
}

const (
	// maxHoles bounds what is remembered of one symbol's gaps.
	maxHoles = 64
	// renumbered is how much later than the newest trade a lower id must be
	// for the numbering to have started over. Without this rule one absurd id
	// would silence a symbol for good.
	renumbered = protocol.Minute
)

// An arrival is what an id is to those before it.
type arrival uint8

const (
	seen  arrival = iota // or out of order: dropped
	fresh                // the newest
	found                // closes part of a gap
)

// arrive places a trade among those before it. A jump over ids is a gap,
// counted and noted.
func (p *pair) arrive(last *int64, id int64, at protocol.Time, st *Stats, n *notes) arrival {
	switch {
	case *last == 0 || id == *last+1:
	case id > *last+1:
		p.miss(hole{from: *last + 1, to: id - 1, after: p.lastTime, before: at}, st, n)
	case at > p.lastTime+renumbered:
		p.missing = p.missing[:0]
	case p.take(id, true):
		st.Recovered++
		return found
	default:
		st.Duplicates++
		return seen
	}
	*last, p.lastTime = id, max(at, p.lastTime)
	return fresh
}

func (p *pair) miss(s hole, st *Stats, n *notes) {
	st.Gaps++
	st.Missing += uint64(s.to-s.from) + 1
	if len(p.missing) == maxHoles {
		p.missing = slices.Delete(p.missing, 0, 1)
	}
	p.missing = append(p.missing, s)
	n.add(Note{Kind: Gap, Symbol: p.symbol, From: s.from, To: s.to, After: s.after, Before: s.before})
}

// take removes an id from the gaps; false when it is in none.
func (p *pair) take(id int64, onlyOpen bool) bool {
	for i := range p.missing {
		s := &p.missing[i]
		if id < s.from || id > s.to || onlyOpen && !s.open {
			continue
		}
		left, right := *s, *s
		left.to, right.from = id-1, id+1
		switch {
		case left.from <= left.to && right.from <= right.to:
			*s = left
			p.missing = slices.Insert(p.missing, i+1, right)
		case left.from <= left.to:
			*s = left
		case right.from <= right.to:
			*s = right
		default:
			p.missing = slices.Delete(p.missing, i, i+1)
		}
		return true
	}
	return false
}

// reopen says that a new connection begins: its repeats may close gaps.
func (s *symbols) reopen() {
	for _, p := range s.pairs {
		for i := range p.missing {
			p.missing[i].open = true
		}
	}
}

// A traded tick waits for its place: a snapshot holds the recent trades newest
// first, and after a reconnect many of them again.
type traded struct {
	pair     *pair
	tick     market.Tick
	snapshot bool
}

// settle appends what is new of a frame's trades, oldest first. Of a snapshot
// only a symbol's newest trade is of now; those before it are history, which
// counts and moves no price.
func settle(batch []traded, st *Stats, n *notes, out []market.Tick) []market.Tick {
	slices.SortStableFunc(batch, func(a, b traded) int { return cmp.Compare(a.tick.TradeID, b.tick.TradeID) })
	for i := range batch {
		batch[i].pair.top = batch[i].tick.TradeID
	}
	for i := range batch {
		p, t := batch[i].pair, &batch[i].tick
		switch p.arrive(&p.lastTrade, t.TradeID, t.Time, st, n) {
		case seen:
			continue
		case found:
			t.Late = true
		case fresh:
			t.Late = batch[i].snapshot && t.TradeID != p.top
		}
		out = append(out, *t)
	}
	return out
}

// refill picks the trades of a gap from an answer, oldest first, and says what
// of it is still missing. Only what is still missing is taken, so nothing
// comes twice.
func (p *pair) refill(gap Note, answer []market.Tick, st *Stats) (ticks []market.Tick, rest Note) {
	slices.SortStableFunc(answer, func(a, b market.Tick) int { return cmp.Compare(a.TradeID, b.TradeID) })
	for _, t := range answer {
		if t.TradeID < gap.From || t.TradeID > gap.To || !p.take(t.TradeID, false) {
			continue
		}
		t.Late = true
		ticks = append(ticks, t)
	}
	st.Recovered += uint64(len(ticks))
	st.Ticks += uint64(len(ticks))
	rest = p.rest(gap)
	for _, t := range answer {
		if t.TradeID < rest.From {
			rest.After = max(rest.After, t.Time)
		} else if t.TradeID > rest.To && t.Time < rest.Before {
			rest.Before = t.Time
		}
	}
	return ticks, rest
}

// rest is what of a gap is missing, from the first id to the last; no note
// when nothing is.
func (p *pair) rest(gap Note) Note {
	r := gap
	r.From, r.To = 0, 0
	for _, s := range p.missing {
		from, to := max(s.from, gap.From), min(s.to, gap.To)
		if from > to {
			continue
		}
		if r.From == 0 || from < r.From {
			r.From = from
		}
		r.To = max(r.To, to)
	}
	if r.From == 0 {
		return Note{}
	}
	return r
}

// notes are what a codec has to say beside prices. A replay never asks for
// them, so their number is bounded.
type notes struct {
	list  []Note
	taken bool
}

const maxNotes = 1024

func (n *notes) add(note Note) {
	if n.taken {
		n.list, n.taken = n.list[:0], false
	}
	if len(n.list) < maxNotes {
		n.list = append(n.list, note)
	}
}

// take returns the notes since the last call; they hold until the next add.
func (n *notes) take() []Note {
	if n.taken {
		return nil
	}
	n.taken = true
	return n.list
}
