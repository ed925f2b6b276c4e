package market

import (
	"math"
	"slices"

	"cryptointel/protocol"
)

// An asset is the state behind one price.
type asset struct {
	Asset
	channel string
	sources []source
	window  window
	series  *series // its bars; nil when none are kept
	peg     peg

	price   float64
	at      protocol.Time // the price's own time; it never goes back
	arrived protocol.Time // of the newest good tick, by the wall clock
	// exchanged is the same for ticks of exchanges; 0 before the first.
	exchanged protocol.Time
	demo      bool
	stale     bool
	restored  bool // the price is another node's, and nothing was heard since

	// What the newest publication says.
	offset  int64
	newest  protocol.Publication
	shown   float64
	shownAt protocol.Time // by the wall clock
	changed bool          // something but the price is not shown yet

	// Scratch.
	votes  []vote
	totals []float64
}

// outrank is how long an exchange's tick keeps published prices from setting
// the asset's: whoever may publish must not be able to move a price that the
// market makes.
const outrank = protocol.Minute

func (a *asset) exchangeFresh(now protocol.Time) bool {
	return a.exchanged > 0 && now-a.exchanged <= outrank
}

// take enters a good tick of a source and makes the asset's price anew. It
// returns what bars learn from it, and whether a day's figures were refused.
func (a *asset) take(t *Tick, s *source, now, staleAfter protocol.Time) (b sample, suspect bool) {
	volume := s.traded(t)
	if t.Day.Has {
		limit := 0.0
		if !s.day.fresh(t.Time) {
			limit = a.believable(s)
		}
		suspect = !s.takeDay(t, limit)
	}
	s.seen.add(t.Time, volume)
	s.day.traded(t.Time, volume)
	s.weigh()
	price := a.composite()
	if price == 0 {
		price = s.usd // too old for a vote: as stale as it will say
	}
	// A clock that is ahead does not make the others old.
	a.at, a.arrived = max(a.at, min(t.Time, t.Received)), now
	// For good: the window and the sources keep what was simulated.
	a.demo = a.demo || t.Demo
	a.setStale(staleAfter > 0 && t.Received-t.Time > staleAfter)
	high, low := price, price
	at := a.at
	if t.Kind == Bar {
		high, low = s.reached(t, high, low)
		at-- // a bar's end is the next one's beginning
	}
	a.settle(price, high, low, volume)
	return sample{a.series, at, price, high, low, volume, false}, suspect
}

// settle makes a price the asset's.
func (a *asset) settle(price, high, low, volume float64) {
	a.price, a.restored = price, false
	a.window.add(a.at, price, high, low, volume)
	for i := range a.sources {
		a.sources[i].day.extend(high, low)
	}
}

// resettle makes the price anew when the sources that count have changed, and
// reports whether it is another one.
func (a *asset) resettle() bool {
	price := a.composite()
	if price == 0 || price == a.price {
		return false
	}
	a.settle(price, price, price, 0)
	return true
}

// fellSilent makes the price anew when an exchange has become too old to
// count. Published prices set one only when they come.
func (a *asset) fellSilent(now, counted protocol.Time) bool {
	if !a.exchangeFresh(now) {
		return false
	}
	a.poll(now, counted)
	return a.resettle()
}

func (a *asset) setStale(stale bool) {
	a.changed = a.changed || stale != a.stale
	a.stale = stale
}

// late enters a trade that does not move the price. The reason is another one
// than Late when it is not believed.
func (a *asset) late(t *Tick, s *source, share float64) (b sample, r Reason) {
	volume := s.traded(t)
	price := s.dollars(t.Price)
	if a.price > 0 && apart(price, a.price, 0.5) {
		return b, Jump
	}
	if !a.window.late(t.Time, price, volume, share) {
		return b, Outlier
	}
	s.seen.add(t.Time, volume)
	s.day.traded(t.Time, volume)
	return sample{a.series, t.Time, price, price, price, volume, true}, Late
}

// traded is the dollars of a tick. A ticker's size is the last trade's, which
// comes as a trade too.
func (s *source) traded(t *Tick) float64 {
	if t.Kind == Ticker {
		return 0
	}
	return amount(s.dollars(t.Price) * known(t.Size))
}

// reached widens a range by a bar's, within what a tick may jump: a wick
// beyond that is a mistake.
func (s *source) reached(t *Tick, high, low float64) (float64, float64) {
	price := s.dollars(t.Price)
	high = max(high, near(s.dollars(known(t.High)), price, 1.5))
	if l := near(s.dollars(known(t.Low)), price, 2); l > 0 {
		low = min(low, l)
	}
	return high, low
}

// figures are an asset's 24 hour numbers; 0, and NaN for change, are unknown.
type figures struct{ change, volume, high, low float64 }

// figures are the exchanges' own statistics while they are fresh: their
// volumes together, the rest from the largest. Without any they are what was
// seen here; high, low and volume then cover the part of the last 24 hours
// that was seen, and a change needs minHistory.
func (a *asset) figures(now protocol.Time) figures {
	f := figures{change: math.NaN()}
	open := 0.0
	if d := a.largest(now, &f.volume); d != nil {
		open, f.high, f.low = d.open, d.high, d.low
	} else {
		f.high, f.low = a.window.high, a.window.low
		if a.window.sized {
			f.volume = a.window.volume
		}
	}
	if open == 0 {
		open = a.window.open(a.at)
	}
	if open > 0 {
		f.change = (a.price/open - 1) * 100
	}
	return f
}

// largest finds the statistics of the largest exchange, in the quote that is
// traded there most, and adds up the volume of all. Publishers' count only
// while no exchange is heard.
func (a *asset) largest(now protocol.Time, volume *float64) (best *daily) {
	a.totals = slices.Grow(a.totals[:0], len(a.sources))[:len(a.sources)]
	clear(a.totals)
	published := !a.exchangeFresh(now)
	for i := range a.sources {
		s := &a.sources[i]
		if s.day.fresh(a.at) && (published || !s.published) {
			a.totals[s.first] += s.day.volume
			*volume += s.day.volume
		}
	}
	most := 0.0
	for i := range a.sources {
		s := &a.sources[i]
		if !s.day.fresh(a.at) || s.published && !published {
			continue
		}
		total := a.totals[s.first]
		if best == nil || total > most || total == most && s.day.volume > best.volume {
			best, most = &s.day, total
		}
	}
	return best
}

// due reports whether the asset is to be published after a good tick.
func (a *asset) due(now, confirmEvery protocol.Time) bool {
	return a.changed || a.price != a.shown || now-a.shownAt >= confirmEvery
}

// publish makes the asset's next publication.
func (a *asset) publish(now, staleAfter protocol.Time) protocol.Publication {
	a.offset = max(now.Micros(), a.offset+1)
	a.shown, a.shownAt, a.changed = a.price, now, false
	a.newest = protocol.Publication{
		Channel: a.channel,
		Type:    protocol.TypePrice,
		Offset:  a.offset,
		TS:      now.Millis(),
		Data:    a.data(now, staleAfter),
		Price:   a.price,
	}
	return a.newest
}

// data is what a publication says. Of a price that another node has made only
// that it is stale now is known better.
func (a *asset) data(now, staleAfter protocol.Time) []byte {
	if a.restored {
		if marked, ok := MarkStale(a.newest.Data); ok && a.stale {
			return marked
		}
		return a.newest.Data
	}
	// As long as the last, and a bit: one allocation.
	return a.appendData(make([]byte, 0, max(320, len(a.newest.Data)+32)), now, staleAfter)
}
