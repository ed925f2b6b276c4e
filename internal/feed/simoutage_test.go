package feed

import (
	"encoding/json"
	"testing"
	"time"

	"cryptointel/internal/feedsim"
)

// away takes all exchanges away for a while.
func (w *world) away(d time.Duration) {
	for _, name := range LiveExchanges() {
		w.sim.Do(feedsim.Fault{Exchange: name, Kind: feedsim.Outage, For: d})
	}
}

// newest is what was published of an asset last.
func (w *world) newest(asset string) (u update, at time.Time) {
	w.desk.mu.Lock()
	defer w.desk.mu.Unlock()
	for _, s := range w.desk.seen.shown {
		if s.Channel == "price:"+asset {
			u = update{}
			if err := json.Unmarshal(s.Data, &u); err != nil {
				w.t.Fatal(err)
			}
			at = s.at
		}
	}
	return u, at
}

// TestSimulationOutage takes all exchanges away for longer than a price
// counts: it is told stale in time and not made up, and when they are back it
// is fresh again and nothing is missing.
func TestSimulationOutage(t *testing.T) {
	p := plan{seed: 11}
	const outage = 100 * time.Second
	p.simulate(t, func(w *world) {
		pass(time.Minute)
		w.away(outage)
		began := time.Now()
		// The last tick was on its way; the market looks once a second.
		pass(staleAfter + 2*time.Second)
		for _, asset := range []string{"bitcoin", "ethereum"} {
			if u, at := w.newest(asset); !u.Stale || at.Sub(began) < staleAfter-time.Second {
				t.Errorf("%s: published %+v %v after the exchanges went, want it stale after %v", asset, u, at.Sub(began), staleAfter)
			}
		}
		pass(outage - staleAfter - 4*time.Second)
		for _, s := range w.live.Status() {
			if s.State == FeedLive || s.Why == "" {
				t.Errorf("%s is %s, why %q, with no exchange there", s.Exchange, s.State, s.Why)
			}
		}
		back := time.Now()
		pass(mostPause + 10*time.Second)
		w.settle()
		for _, asset := range []string{"bitcoin", "ethereum"} {
			if u, _ := w.newest(asset); u.Stale || u.Timestamp.Before(back) || len(u.Sources) != len(LiveExchanges()) {
				t.Errorf("%s: published %+v with all exchanges back since %v", asset, u, back)
			}
		}
		pass(time.Minute)
	}, func(w *world) {
		wantFindings(t, w.findings(), "")
		logOutcomes(t, w.outcomes())
	})
}

// TestSimulationLateStart begins while no exchange can be reached: the
// built-in markets stand in, and those that an exchange does not have are in
// nobody's way.
func TestSimulationLateStart(t *testing.T) {
	p := plan{seed: 12, early: func(w *world) { w.away(30 * time.Second) }}
	p.simulate(t, func(w *world) {
		pass(3 * time.Minute)
		w.settle()
	}, func(w *world) {
		wantFindings(t, w.findings(), "")
		for _, p := range places() {
			if n, _ := w.trades(p); n.made == 0 {
				t.Errorf("%s %s: no trades", p.exchange, p.symbol)
			}
		}
		for _, s := range w.live.Status() {
			t.Logf("%s: %d symbols, %d frames", s.Exchange, s.Symbols, s.Stats.Frames)
		}
	})
}

// TestSimulationMoving: asked to go, a feed has the next connection before it
// leaves the old one, and leaves it before it is cut.
func TestSimulationMoving(t *testing.T) {
	p := plan{seed: 13}
	moving := []string{"binance", "okx", "bitstamp"} // the others never ask
	var asked time.Time
	p.simulate(t, func(w *world) {
		pass(90 * time.Second)
		asked = time.Now()
		for _, name := range moving {
			w.sim.Do(feedsim.Fault{Exchange: name, Kind: feedsim.Moving})
		}
		pass(time.Minute)
		w.settle()
	}, func(w *world) {
		wantFindings(t, w.findings(), "")
		for _, name := range moving {
			l := w.wires.links[name]
			if len(l) != 2 || l[1].opened.Before(asked) || !l[1].opened.Before(l[0].closed) || l[0].closed.Sub(asked) > 8*time.Second {
				t.Errorf("%s: %d connections; want a second one between %v and the end of the first", name, len(l), asked)
			}
		}
	})
}
