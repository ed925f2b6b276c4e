package market

import (
	"math"

	"cryptointel/protocol"
)

// A Reason says what became of a tick.
type Reason uint8

// The reasons. All but Accepted leave the published price as it is.
const (
	Accepted       Reason = iota
	BadPrice              // not a finite number above zero
	BadTime               // no time of the exchange
	Future                // more than a minute after it was received
	Old                   // older than the last tick of the same source
	Jump                  // more than 50 % from the source's last price
	OtherQuote            // in another money than dollars: kept apart
	UnknownAsset          // the registry has no such slug
	TooManySources        // the asset has Config.MaxSources fresh sources
	Behind                // a good tick, but the price of another source is newer
	Outranked             // a good tick, but an exchange's price is fresh
	reasons
)

var reasonNames = [reasons]string{"accepted", "bad_price", "bad_time", "future", "old",
	"jump", "other_quote", "unknown_asset", "too_many_sources", "behind", "outranked"}

func (r Reason) String() string {
	if r < reasons {
		return reasonNames[r]
	}
	return "unknown"
}

// Stats counts what was taken in and what came of it.
type Stats struct {
	Ticks     uint64 // all that were observed
	Published uint64 // by a tick
	Stale     uint64 // published as stale by Sweep
	// Dropped counts the other ticks by Reason.String.
	Dropped map[string]uint64
	Assets  int // that have a price
}

type counters struct {
	by    [reasons]uint64
	Stale uint64
}

func (c *counters) count(r Reason) { c.by[r]++ }

// Stats returns the counts so far.
func (m *Market) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Stats{Published: m.stats.by[Accepted], Stale: m.stats.Stale, Dropped: make(map[string]uint64)}
	for r, n := range m.stats.by {
		s.Ticks += n
		if Reason(r) != Accepted && n > 0 {
			s.Dropped[Reason(r).String()] = n
		}
	}
	for _, a := range m.assets {
		if a.price > 0 {
			s.Assets++
		}
	}
	return s
}

// checkTick says what is wrong with a tick by itself.
func checkTick(t *Tick) Reason {
	switch {
	case known(t.Price) == 0:
		return BadPrice
	case t.Time <= 0:
		return BadTime
	case t.Time > t.Received+protocol.Minute:
		return Future
	case !dollar(t.Quote):
		return OtherQuote
	}
	return Accepted
}

// known is v when it is a finite number above zero, else 0.
func known(v float64) float64 {
	if v > 0 && !math.IsInf(v, 1) {
		return v
	}
	return 0
}

// A jump is believed when the price stays where it went for this many ticks
// and this long; else one wrong tick would lock a source out for good after a
// real move.
const (
	jumpTicks = 3
	jumpTime  = 10 * protocol.Second
)

// check compares a tick with the last of its source.
func (s *source) check(t *Tick) Reason {
	if t.Time < s.time {
		return Old
	}
	if s.price == 0 || math.Abs(t.Price-s.price) <= s.price/2 {
		return Accepted
	}
	if s.jumps == 0 || math.Abs(t.Price-s.jumped) > s.jumped/10 {
		s.jumps, s.jumped, s.jumpedAt = 0, t.Price, t.Time
	}
	if s.jumps++; s.jumps >= jumpTicks && t.Time-s.jumpedAt >= jumpTime {
		return Accepted
	}
	return Jump
}
