package feed

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"cryptointel/internal/feedsim"
)

// A deadline is by when an exchange's feed must bring fresh prices again.
type deadline struct {
	// silence is when a connection that says nothing is given up: as the
	// exchanges document it; for Binance the ping that is sent after 15 s and
	// the 10 s it has, each up to half a second later.
	silence time.Duration
	// connect is a connection with its subscriptions, our pacing included.
	connect time.Duration
}

func deadlines() map[string]deadline {
	return map[string]deadline{
		"coinbase": {5 * time.Second, 3 * time.Second},
		"kraken":   {5 * time.Second, 7 * time.Second},
		"binance":  {26 * time.Second, 4 * time.Second},
		"okx":      {25 * time.Second, 4 * time.Second},
		"bybit":    {20 * time.Second, 3 * time.Second},
		"bitstamp": {25 * time.Second, 3 * time.Second},
	}
}

const (
	transit   = 100 * time.Millisecond // of a trade, on a good day
	beatBound = 600 * time.Millisecond // deadlines are looked at twice a second
	// firstPause bounds the wait before the first attempt after a minute
	// without trouble, mostPause that before any.
	firstPause = time.Second
	mostPause  = time.Minute
	// limitPause is how much longer an exchange that says "too much" is left
	// alone: 10 s, twice as long each time, 2 min at most.
	limitFirst = 10 * time.Second
	limitMost  = 2 * time.Minute
	calm       = 62 * time.Second // after it the count of attempts has started over
)

// interrupts says whether a fault can keep prices from coming.
func interrupts(k feedsim.Kind) bool {
	switch k {
	case feedsim.Delay, feedsim.HalfOpen, feedsim.Abrupt, feedsim.CleanEnd, feedsim.Moving,
		feedsim.RateLimit, feedsim.Outage, feedsim.Oversized, feedsim.Drop, feedsim.Reorder:
		return true
	}
	return false
}

// bound is how long after a fault's end a fresh price must have come. alone
// says that there was no other trouble for a while.
func (d deadline) bound(k feedsim.Kind, alone bool) time.Duration {
	pause, limit := mostPause, limitMost
	if alone {
		pause, limit = firstPause, limitFirst
	}
	switch k {
	case feedsim.HalfOpen:
		return d.silence + beatBound + pause + d.connect
	case feedsim.Moving: // the next connection is there before this one goes
		if alone {
			return time.Second
		}
		return pause + d.connect
	case feedsim.Abrupt, feedsim.CleanEnd, feedsim.Oversized:
		return pause + d.connect
	case feedsim.Outage: // the attempts meanwhile have counted
		return mostPause + d.connect
	case feedsim.RateLimit:
		return limit + mostPause + d.connect
	case feedsim.Drop, feedsim.Reorder: // a few frames of it
		return d.silence
	}
	return time.Second
}

// A recovery is how long prices took to come again after a fault had ended.
type recovery struct {
	kind  feedsim.Kind
	place place
	took  time.Duration
}

// faults are what happened at an exchange, as often as it is to be recovered
// from.
func (w *world) faultsOf(exchange string) (out []feedsim.Fault) {
	for _, f := range w.sim.Log() {
		if f.Exchange != exchange || f.Kind == feedsim.Breach {
			continue
		}
		out = append(out, f)
		if f.Kind == feedsim.Moving { // asked to go, and cut ten seconds later
			f.At = f.At.Add(10 * time.Second)
			out = append(out, f)
		}
	}
	slices.SortStableFunc(out, func(a, b feedsim.Fault) int { return a.At.Compare(b.At) })
	return out
}

// recoveries looks at what came after each fault: a live tick of what was
// traded since its end, with the first trade behind the exchange's deadline at
// the latest. A fault that happens before the recovery from another one may
// take as long as that, and one that is followed by another before its own
// deadline is judged by that one.
func (w *world) recoveries(p place) (out []recovery, findings []string) {
	truth := w.sim.Truth(p.exchange, p.symbol)
	ticks := slices.DeleteFunc(w.desk.seen.of(p), func(g got) bool { return g.Late })
	faults := w.faultsOf(p.exchange)
	var before, until time.Time // the deadline of a fault that is not recovered from, and when it is
	var well time.Time          // since when prices came without trouble
	for i, f := range faults {
		end := f.At.Add(f.For)
		alone := f.At.Sub(well) > calm
		bound := deadlines()[p.exchange].bound(f.Kind, alone)
		fresh, ok := firstFresh(ticks, end)
		if interrupts(f.Kind) {
			well = later(well, later(fresh, end))
		}
		if !until.IsZero() && f.At.After(until) {
			before = time.Time{}
		}
		due := later(before, w.end.Add(time.Hour)) // settle has looked at the last ones
		if last := indexAt(truth, end.Add(bound)); last < indexAt(truth, w.end) {
			due = later(before, truth[last].Time.Add(transit))
		}
		if !ok || i+1 < len(faults) && fresh.After(faults[i+1].At) {
			before, until = due, fresh
		}
		if ok && !fresh.After(due) {
			out = append(out, recovery{f.Kind, p, max(0, fresh.Sub(truth[indexAt(truth, end)].Time))})
			continue
		}
		if slices.ContainsFunc(faults[i+1:], func(g feedsim.Fault) bool { return interrupts(g.Kind) && g.At.Before(due) }) {
			continue
		}
		findings = append(findings, fmt.Sprintf("%s %s: fresh %v after the end of the fault, want within %v and the next trade, %v: %v (alone: %t)",
			p.exchange, p.symbol, fresh.Sub(end), bound, due.Sub(end), f, alone))
	}
	return out, findings
}

// halfOpen holds that a connection that went silent was given up in time.
func (w *world) halfOpen(exchange string) (findings []string) {
	for _, f := range w.faultsOf(exchange) {
		due := f.At.Add(deadlines()[exchange].silence + beatBound)
		if f.Kind != feedsim.HalfOpen || due.After(w.end) {
			continue
		}
		found := slices.ContainsFunc(w.wires.links[exchange], func(l *upgraded) bool {
			return !l.opened.After(f.At) && !l.closed.Before(f.At) && !l.closed.After(due)
		})
		if !found {
			findings = append(findings, fmt.Sprintf("%s: no connection given up within %v of: %v", exchange, due.Sub(f.At), f))
		}
	}
	return findings
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// firstFresh is when the first tick came that is of after a time.
func firstFresh(ticks []got, after time.Time) (time.Time, bool) {
	i, _ := slices.BinarySearchFunc(ticks, after, func(g got, at time.Time) int { return g.at.Compare(at) })
	for _, g := range ticks[i:] {
		if int64(g.Time) >= after.UnixNano() {
			return g.at, true
		}
	}
	return time.Time{}, false
}

// distribution is how recoveries went, in one line.
func distribution(list []recovery) string {
	if len(list) == 0 {
		return "none"
	}
	slices.SortFunc(list, func(a, b recovery) int { return cmp.Compare(a.took, b.took) })
	at := func(q float64) time.Duration {
		return list[int(q*float64(len(list)-1))].took.Round(10 * time.Millisecond)
	}
	worst := list[len(list)-1]
	return fmt.Sprintf("%d recoveries, p50 %v p90 %v p99 %v most %v (%s)", len(list), at(.5), at(.9), at(.99), at(1), worst.kind)
}
