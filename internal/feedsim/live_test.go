package feedsim

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"cryptointel/internal/feed"
	"cryptointel/internal/market"
)

// arrivals keeps what a live feed delivered.
type arrivals struct {
	times   map[string]int       // of each trade, by source and id
	first   map[string]int64     // trade of a source
	newest  map[string]int64     // live trade of a source
	at      map[string]time.Time // of the newest
	back    []string             // live trades behind one before
	reached time.Time            // the newest delivery
	silence []quiet              // longer than a second
}

// A quiet is a time in which nothing was delivered.
type quiet struct{ from, to time.Time }

func (a *arrivals) Deliver(_ context.Context, ticks []market.Tick) error {
	now := time.Now()
	if !a.reached.IsZero() && now.Sub(a.reached) > time.Second {
		a.silence = append(a.silence, quiet{a.reached, now})
	}
	a.reached = now
	for _, k := range ticks {
		if k.Kind != market.Trade {
			continue
		}
		source := fmt.Sprintf("%s %s/%s", k.Exchange, k.Asset, k.Quote)
		a.times[fmt.Sprintf("%s %d", source, k.TradeID)]++
		if k.Late {
			continue
		}
		at := time.Unix(0, int64(k.Time))
		if _, ok := a.first[source]; !ok {
			a.first[source] = k.TradeID
		}
		if k.TradeID < a.newest[source] || at.Before(a.at[source]) {
			a.back = append(a.back, fmt.Sprintf("%s %d after %d", source, k.TradeID, a.newest[source]))
		}
		a.newest[source], a.at[source] = k.TradeID, at
	}
	return nil
}

// live follows an exchange for ten minutes with all faults and four without.
func live(t *testing.T, s *Sim, n *Network, exchange string) (*arrivals, feed.FeedStatus) {
	t.Helper()
	assets, err := market.NewRegistry(nil)
	if err != nil {
		t.Fatal(err)
	}
	got := &arrivals{times: make(map[string]int), first: make(map[string]int64),
		newest: make(map[string]int64), at: make(map[string]time.Time)}
	// The same seed draws the same jitter.
	var mu sync.Mutex
	rnd := rand.New(rand.NewPCG(s.cfg.Seed, 1))
	draw := func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return rnd.Float64()
	}
	l, err := feed.NewLive(feed.DefaultLiveConfig(), []string{exchange}, assets, got,
		feed.LiveOptions{Client: n.Client(), Rand: draw, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	time.Sleep(14 * time.Minute)
	st := l.Status()[0]
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	return got, st
}

// compare finds the trades that were made since the first that arrived, and
// until a few seconds before the end, and did not arrive, or did so twice.
func compare(t *testing.T, s *Sim, exchange string, got *arrivals) (made, missing int) {
	t.Helper()
	end := time.Now().Add(-5 * time.Second)
	for _, symbol := range s.Symbols(exchange) {
		source := exchange + " " + assetOf(s.exchanges[exchange].tapes[symbol])
		first, ok := got.first[source]
		if !ok {
			t.Errorf("no trade of %s arrived", source)
		}
		for _, k := range s.Truth(exchange, symbol) {
			n := got.times[fmt.Sprintf("%s %d", source, k.ID)]
			if n > 1 {
				t.Errorf("%s %d was delivered %d times", source, k.ID, n)
			}
			if k.ID < first || k.Time.After(end) {
				continue
			}
			if made++; n == 0 {
				missing++
			}
		}
	}
	return made, missing
}

// excuses counts what happened to connections in a silence or just before it,
// and how long the exchange itself was away. Each fault has its own deadline:
// one may hit the connection that replaces another's.
func excuses(log []Fault, q quiet) (faults int, away time.Duration) {
	for _, f := range log {
		if strings.HasPrefix(string(f.Kind), "rest-") {
			continue
		}
		if f.At.After(q.from.Add(-movingNotice-time.Second)) && f.At.Before(q.to) {
			faults++
		}
		if f.Kind == Outage || f.Kind == RateLimit || f.Kind == Delay {
			to := f.At.Add(f.For)
			if to.After(q.to) {
				to = q.to
			}
			away += max(0, to.Sub(later(f.At, q.from)))
		}
	}
	return faults, away
}

// TestLive lets the house's own feeds follow each exchange through ten minutes
// of faults: no trade is lost that the exchange's rules allow to recover, none
// comes twice, none goes back, no limit is broken, and each recovers in time.
func TestLive(t *testing.T) {
	t.Parallel()
	for exchange, x := range codecs(t) {
		for seed := range uint64(2) {
			t.Run(fmt.Sprintf("%s seed %d", exchange, seed), func(t *testing.T) {
				t.Parallel()
				cfg := Config{Seed: seed, Exchanges: []string{exchange}, Faults: AllFaults()}
				inside(t, cfg, func(t *testing.T, s *Sim, n *Network) {
					got, st := live(t, s, n, exchange)
					made, missing := compare(t, s, exchange, got)
					// Bybit shows the last 60 trades only: what is further back is lost, and said to be.
					if missing > 0 && (exchange != "bybit" || uint64(missing) > st.RefillFailed) {
						t.Errorf("%d of %d trades never arrived", missing, made)
					}
					if len(got.back) > 0 {
						t.Errorf("%d live trades went back: %s", len(got.back), got.back[0])
					}
					for _, b := range s.Breaches() {
						t.Errorf("a limit was broken: %v", b)
					}
					// The deadline to notice, the longest wait before an attempt (60 s), and the attempt.
					var longest time.Duration
					most := x.Rules().Silence + x.Rules().PingEvery + 60*time.Second + 10*time.Second
					for _, q := range got.silence {
						faults, away := excuses(s.Log(), q)
						longest = max(longest, q.to.Sub(q.from))
						if took := q.to.Sub(q.from) - away; took > time.Duration(max(1, faults))*most {
							t.Errorf("nothing came for %v until %v, with %d faults, want at most %v each", took, q.to, faults, most)
						}
					}
					t.Logf("%d trades, %d missing (%d told), %d refilled, longest silence %v, %d reconnects, %d faults",
						made, missing, st.RefillFailed, st.Refilled, longest, st.Reconnects, len(s.Log()))
					if t.Failed() {
						var log strings.Builder
						for _, f := range s.Log() {
							fmt.Fprintln(&log, f)
						}
						t.Logf("seed %d\n%s%+v", seed, log.String(), st)
					}
				})
			})
		}
	}
}
