package market

import (
	"math"

	"cryptointel/protocol"
)

// A Reason says what became of a tick.
type Reason uint8

// The reasons. All but Accepted leave the published price as it is, except
// that the first Outlier of a source is published too.
const (
	Accepted       Reason = iota
	BadPrice              // not a finite number above zero
	BadTime               // no time of the exchange
	Future                // more than a minute after it was received
	Old                   // older than the last tick of the same source, or late by more than a day
	Jump                  // more than 50 % from the source's last price, or late and as far from the asset's
	OtherQuote            // in another money than dollars: kept apart
	UnknownAsset          // the registry has no such slug
	TooManySources        // the asset has Config.MaxSources fresh sources
	Behind                // a good tick, but the price of another source is newer
	Outranked             // a good tick, but an exchange's price is fresh
	Confirmed             // a good tick that changed nothing: published once a Config.ConfirmEvery
	Outlier               // the source is off the others and not part of the price, or a late trade is off its minute's
	Late                  // learnt of after the fact: it counts in bars and volume only
	reasons
)

var reasonNames = [reasons]string{"accepted", "bad_price", "bad_time", "future", "old",
	"jump", "other_quote", "unknown_asset", "too_many_sources", "behind", "outranked",
	"confirmed", "outlier", "late"}

func (r Reason) String() string {
	if r < reasons {
		return reasonNames[r]
	}
	return "unknown"
}

// Stats counts what was taken in and what came of it.
type Stats struct {
	Ticks     uint64 // all that were observed
	Published uint64 // by a tick that moved or confirmed a price
	Confirmed uint64 // good ticks that changed nothing and were not published
	Late      uint64 // learnt of after the fact, counted in bars and volume
	Stale     uint64 // published as stale by Sweep
	Settled   uint64 // published by Sweep because a source fell silent
	// Dropped counts the ticks that no price was made of, by Reason.String.
	Dropped map[string]uint64
	// SuspectDays counts 24 hour figures of exchanges that were not believed.
	SuspectDays uint64
	SuspectBars uint64 // past bars of exchanges that were not believed
	Assets      int    // that have a price
	StaleAssets int    // of them stale now
	Quarantined int    // sources that are off the others now
}

type counters struct {
	by                         [reasons]uint64
	Stale, Settled, SuspectDay uint64
	SuspectBars                uint64
}

func (c *counters) count(r Reason) { c.by[r]++ }

// Stats returns the counts so far.
func (m *Market) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Stats{
		Published: m.stats.by[Accepted], Confirmed: m.stats.by[Confirmed], Late: m.stats.by[Late],
		Stale: m.stats.Stale, Settled: m.stats.Settled,
		SuspectDays: m.stats.SuspectDay, SuspectBars: m.stats.SuspectBars, Dropped: make(map[string]uint64),
	}
	for r, n := range m.stats.by {
		s.Ticks += n
		switch r := Reason(r); {
		case n == 0 || r == Accepted || r == Confirmed || r == Late:
		default:
			s.Dropped[r.String()] = n
		}
	}
	now := m.now()
	for _, a := range m.assets {
		if a.price > 0 {
			s.Assets++
		}
		if a.stale {
			s.StaleAssets++
		}
		for i := range a.sources {
			if a.sources[i].outlier && a.sources[i].counts(now, m.counted) {
				s.Quarantined++
			}
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

// maxDollars is more than all markets trade in a day: what is above it is a
// mistake, and sums of what is below stay finite.
const maxDollars = 1e13

// amount is a sum of dollars when it can be one, else 0.
func amount(v float64) float64 {
	if v > 0 && v <= maxDollars {
		return v
	}
	return 0
}

// near is v when it lies within a factor of the price, else 0. It keeps a
// poisoned high or open out of figures that last a day.
func near(v, price, factor float64) float64 {
	if v >= price/factor && v <= price*factor {
		return v
	}
	return 0
}

// apart reports whether v is further than a share of ref from ref.
func apart(v, ref, share float64) bool { return math.Abs(v-ref) > share*ref }

// What is too far off is believed when it stays where it went for this many
// ticks and this long; else one wrong tick would lock a source out for good
// after a real move.
const (
	jumpTicks = 3
	jumpTime  = 10 * protocol.Second
)

// A claim is a value that is too far off, waiting to be confirmed.
type claim struct {
	ticks int
	value float64
	since protocol.Time
}

// confirmed enters a value and reports whether it has stayed within a tenth
// of the first for long enough.
func (c *claim) confirmed(value float64, at protocol.Time) bool {
	if c.ticks == 0 || apart(value, c.value, 0.1) {
		*c = claim{value: value, since: at}
	}
	c.ticks++
	return c.ticks >= jumpTicks && at-c.since >= jumpTime
}

// check compares a tick with the last of its source.
func (s *source) check(t *Tick) Reason {
	if t.Time < s.time {
		return Old
	}
	if s.price == 0 || !apart(t.Price, s.price, 0.5) || s.jump.confirmed(t.Price, t.Time) {
		return Accepted
	}
	return Jump
}
