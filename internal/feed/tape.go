package feed

import (
	"cmp"
	"math"
	"slices"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// A tape follows an exchange's trades by their ids: it drops those that were
// seen and says where some are missing. The trades of a frame are added one by
// one and then taken together, so a malformed frame leaves no trace.
type tape struct {
	// counted says that ids count the trades of a symbol, so a jump is a
	// loss. Where they only grow, trades can be missing between connections
	// alone, and nobody knows how many.
	counted bool
	conn    uint64           // counts connections
	conns   map[*pair]uint64 // that a symbol's newest trade came on; only where ids do not count
	batch   []entry
}

// An entry is a trade of the frame at hand.
type entry struct {
	pair  *pair
	count int64 // trades that the exchange put together into it; its id is the last's
	tick  market.Tick
}

// maxCount bounds the trades of one entry: each of their ids is looked for.
const maxCount = 10_000

// begin forgets the trades of a frame that was not taken.
func (t *tape) begin() { t.batch = t.batch[:0] }

func (t *tape) add(p *pair, count int64, k market.Tick) {
	t.batch = append(t.batch, entry{p, count, k})
}

// take appends what is new of the frame's trades, oldest first.
func (t *tape) take(st *Stats, n *notes, out []market.Tick) []market.Tick {
	slices.SortStableFunc(t.batch, func(a, b entry) int { return cmp.Compare(a.tick.TradeID, b.tick.TradeID) })
	for i := range t.batch {
		e := &t.batch[i]
		var what arrival
		if t.counted {
			what = e.arrive(st, n)
		} else {
			what = t.follow(e, st, n)
		}
		if what != seen {
			e.tick.Late = what == found
			out = append(out, e.tick)
		}
	}
	t.batch = t.batch[:0]
	return out
}

// arrive places an entry among the symbol's trades by ids that count them.
func (e *entry) arrive(st *Stats, n *notes) arrival {
	p, id, at := e.pair, e.tick.TradeID, e.tick.Time
	first := id - e.count + 1
	switch {
	case p.lastTrade == 0 || id > p.lastTrade && first <= p.lastTrade+1:
	case id > p.lastTrade:
		p.miss(hole{from: p.lastTrade + 1, to: first - 1, after: p.lastTime, before: at}, st, n)
	case at > p.lastTime+renumbered:
		p.missing = p.missing[:0]
	default:
		return e.repeat(first, st)
	}
	p.lastTrade, p.lastTime = id, max(at, p.lastTime)
	return fresh
}

// repeat looks whether an entry that is no news closes part of a gap.
func (e *entry) repeat(first int64, st *Stats) arrival {
	what := seen
	for id := first; id <= e.tick.TradeID; id++ {
		if e.pair.take(id, true) {
			st.Recovered++
			what = found
		}
	}
	if what == seen {
		st.Duplicates++
	}
	return what
}

// uncounted is the text of a gap between ids that do not count trades: there
// may be nothing to find in it.
const uncounted = "how many trades are missing is unknown: ids do not count them"

// openEnd is the end of a gap behind which nothing was seen yet.
const openEnd = math.MaxInt64

// follow places an entry among the symbol's trades by ids that only grow.
func (t *tape) follow(e *entry, st *Stats, n *notes) arrival {
	p, id, at := e.pair, e.tick.TradeID, e.tick.Time
	known := p.lastTrade != 0
	joined := t.join(p)
	if known && id <= p.lastTrade && at <= p.lastTime+renumbered {
		st.Duplicates++
		return seen
	}
	switch {
	case !known || joined:
	case id <= p.lastTrade:
		p.missing = p.missing[:0]
	case id > p.lastTrade+1:
		p.gap(hole{from: p.lastTrade + 1, to: id - 1, after: p.lastTime, before: at}, n)
	}
	p.lastTrade, p.lastTime = id, max(at, p.lastTime)
	return fresh
}

// join notes that a symbol's trades come on this connection, and reports
// whether they did before. From then on none is missed: one that repeats what
// is known says so too.
func (t *tape) join(p *pair) (joined bool) {
	if t.conns == nil {
		t.conns = make(map[*pair]uint64)
	}
	joined = t.conns[p] == t.conn
	t.conns[p] = t.conn
	p.missing = slices.DeleteFunc(p.missing, func(s hole) bool { return s.to == openEnd })
	return joined
}

// resubscribed says that a symbol's trades will come on this connection. What
// was missed since the last one is asked for at once: the next trade may take
// a while, and exchanges show the newest only.
func (t *tape) resubscribed(p *pair, n *notes) {
	if t.counted || p == nil || p.lastTrade == 0 || t.conns[p] == t.conn {
		return
	}
	p.missing = slices.DeleteFunc(p.missing, func(s hole) bool { return s.to == openEnd })
	p.gap(hole{from: p.lastTrade + 1, to: openEnd, after: p.lastTime}, n)
}

// gap remembers ids among which trades may be missing.
func (p *pair) gap(s hole, n *notes) {
	if len(p.missing) == maxHoles {
		p.missing = slices.Delete(p.missing, 0, 1)
	}
	p.missing = append(p.missing, s)
	n.add(Note{Kind: Gap, Symbol: p.symbol, From: s.from, To: s.to, After: s.after, Before: s.before, Text: uncounted})
}

// newer follows the times of a symbol's tickers, so that one that was
// overtaken does not set an older price.
type newer struct{ times map[*pair]protocol.Time }

// reset begins a new connection, which may lead to a server that is behind.
func (n *newer) reset() { clear(n.times) }

// pass reports whether a ticker is no older than the one before.
func (n *newer) pass(p *pair, at, received protocol.Time) bool {
	if at < n.times[p] {
		return false
	}
	// A ticker from the future would lock out those after it.
	if at <= received+protocol.Minute {
		if n.times == nil {
			n.times = make(map[*pair]protocol.Time)
		}
		n.times[p] = at
	}
	return true
}

// brief is an exchange's text as it may stand in a note.
func brief(b []byte) string {
	const most = 200
	return string(b[:min(len(b), most)])
}
