package feed

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cryptointel/internal/feedsim"
	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// nth calls do with every n-th live trade of an exchange.
func nth(exchange string, n int, do func(k *market.Tick)) func([]market.Tick) []market.Tick {
	seen := 0
	return func(ticks []market.Tick) []market.Tick {
		ticks = slices.Clone(ticks)
		for i := range ticks {
			if k := &ticks[i]; k.Exchange == exchange && k.Kind == market.Trade && !k.Late {
				if seen++; seen%n == 0 {
					do(k)
				}
			}
		}
		return ticks
	}
}

// without drops what do has marked by taking its exchange away.
func without(bug func([]market.Tick) []market.Tick) func([]market.Tick) []market.Tick {
	return func(ticks []market.Tick) []market.Tick {
		return slices.DeleteFunc(bug(ticks), func(k market.Tick) bool { return k.Exchange == "" })
	}
}

// swap delivers some trades of Kraken after the one that follows them.
func swap() func([]market.Tick) []market.Tick {
	var held []market.Tick
	seen := 0
	return func(ticks []market.Tick) (out []market.Tick) {
		for _, k := range ticks {
			if k.Exchange != "kraken" || k.Asset != "ethereum" || k.Kind != market.Trade || k.Late {
				out = append(out, k)
				continue
			}
			if seen++; seen%20 == 0 {
				held = append(held, k)
				continue
			}
			out, held = append(append(out, k), held...), nil
		}
		return out
	}
}

// mute holds an exchange back for a minute, half a minute after the start,
// and then tells everything late.
func mute(exchange string) func([]market.Tick) []market.Tick {
	start := time.Time{}
	var held []market.Tick
	return func(ticks []market.Tick) (out []market.Tick) {
		if start.IsZero() {
			start = time.Now()
		}
		for _, k := range ticks {
			if since := time.Since(start); k.Exchange == exchange && since > 30*time.Second && since < 90*time.Second {
				k.Late = true
				held = append(held, k)
				continue
			}
			out = append(out, k)
		}
		if time.Since(start) >= 90*time.Second {
			out, held = append(held, out...), nil
		}
		return out
	}
}

// TestSimulationObserver shows that the observer finds what a broken feed
// would do, and nothing else: each bug has its own words.
func TestSimulationObserver(t *testing.T) {
	unraced(t)
	for _, c := range []struct {
		name string
		bug  func() func([]market.Tick) []market.Tick
		want string // in a finding; each of its own, separated by |
	}{
		{"none", func() func([]market.Tick) []market.Tick { return nil }, ""},
		{"drop", func() func([]market.Tick) []market.Tick {
			return without(nth("okx", 50, func(k *market.Tick) { k.Exchange = "" }))
		}, "lost"},
		{"double", func() func([]market.Tick) []market.Tick {
			var twice []market.Tick
			pick := nth("binance", 100, func(k *market.Tick) { twice = append(twice, *k); twice[0].Late = true })
			return func(ticks []market.Tick) []market.Tick {
				out := append(pick(ticks), twice...)
				twice = nil
				return out
			}
		}, "doubled"},
		{"swap", swap, "came live after"},
		{"digits", func() func([]market.Tick) []market.Tick {
			return nth("coinbase", 20, func(k *market.Tick) { k.PriceText += "0" })
		}, "changed: price"},
		{"price", func() func([]market.Tick) []market.Tick {
			return nth("coinbase", 20, func(k *market.Tick) { k.Price *= 1.0001 })
		}, "changed: price"},
		{"size", func() func([]market.Tick) []market.Tick {
			return nth("bybit", 5, func(k *market.Tick) { k.Size *= 2 })
		}, "changed: size"},
		{"time", func() func([]market.Tick) []market.Tick {
			return nth("kraken", 20, func(k *market.Tick) { k.Time += protocol.Microsecond })
		}, "changed: time"},
		{"ghost", func() func([]market.Tick) []market.Tick {
			return nth("bitstamp", 5, func(k *market.Tick) { k.TradeID += 1 << 40 })
		}, "was never made|lost"},
		{"poison", func() func([]market.Tick) []market.Tick {
			return nth("binance", 30, func(k *market.Tick) { k.Price *= 1.03 })
		}, "changed: price|invented"},
		{"other asset", func() func([]market.Tick) []market.Tick {
			return nth("okx", 30, func(k *market.Tick) { k.Asset = "litecoin" })
		}, "lost"},
		{"ticker", func() func([]market.Tick) []market.Tick {
			return func(ticks []market.Tick) []market.Tick {
				ticks = slices.Clone(ticks)
				for i := range ticks {
					if k := &ticks[i]; k.Exchange == "kraken" && k.Kind == market.Ticker {
						k.PriceText += "1"
					}
				}
				return ticks
			}
		}, "a ticker at"},
		{"mute", func() func([]market.Tick) []market.Tick { return mute("okx") }, "fresh"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := plan{seed: 7, duration: 2 * time.Minute, bug: c.bug()}
			p.simulate(t, func(w *world) {
				w.sim.Do(feedsim.Fault{Exchange: "okx", Kind: feedsim.Abrupt, At: time.Now().Add(31 * time.Second)})
				pass(p.duration)
			}, func(w *world) { wantFindings(t, w.findings(), c.want) })
		})
	}
}

// wantFindings holds that each finding says one of the words, and each of them
// is said.
func wantFindings(t *testing.T, findings []string, words string) {
	t.Helper()
	said := make(map[string]bool)
	for _, f := range findings {
		known := false
		for word := range strings.SplitSeq(words, "|") {
			if word != "" && strings.Contains(f, word) {
				said[word], known = true, true
			}
		}
		if !known {
			t.Errorf("found, but %q was to be: %s", words, f)
		}
	}
	for word := range strings.SplitSeq(words, "|") {
		if word != "" && !said[word] {
			t.Errorf("nothing found that says %q", word)
		}
	}
}

// TestSimulationPrices is the same for what the market publishes.
func TestSimulationPrices(t *testing.T) {
	unraced(t)
	p := plan{seed: 8, duration: time.Minute}
	p.simulate(t, func(*world) { pass(p.duration) }, func(w *world) {
		wantFindings(t, w.findings(), "")
		good := w.desk.seen.shown
		for name, c := range map[string]struct {
			spoil func(a, b *shown)
			want  string
		}{
			"offset":   {func(a, b *shown) { b.Offset = a.Offset }, "offset"},
			"time":     {func(a, b *shown) { a.Data, b.Data = b.Data, a.Data }, "time"},
			"invented": {func(_, b *shown) { b.Data = bytes.Replace(b.Data, []byte(`"price":6`), []byte(`"price":7`), 1) }, "invented"},
			"rate":     {func(_, b *shown) { b.Data = bytes.Replace(b.Data, []byte(`"rate":1`), []byte(`"rate":1.01`), 1) }, "invented"},
			"stale":    {func(_, b *shown) { b.at = b.at.Add(2 * time.Minute) }, "not stale"},
		} {
			w.desk.seen.shown = slices.Clone(good)
			var two []*shown
			for i := range w.desk.seen.shown {
				if s := &w.desk.seen.shown[i]; s.Channel == "price:bitcoin" && i > len(good)/2 && bytes.Contains(s.Data, []byte("USDT")) {
					two = append(two, s)
				}
			}
			c.spoil(two[0], two[1])
			_, findings := w.prices("bitcoin")
			if !slices.ContainsFunc(findings, func(f string) bool { return strings.Contains(f, c.want) }) {
				t.Errorf("%s: nothing found; got %q", name, findings)
			}
		}
	})
}

// TestSimulationReach shows both sides of what Bybit does not give twice: what
// is among its newest trades after an outage must come, what is older cannot.
func TestSimulationReach(t *testing.T) {
	unraced(t)
	for _, c := range []struct {
		name   string
		outage time.Duration
		bug    func([]market.Tick) []market.Tick
		want   string
		lost   bool
	}{
		{"short", 20 * time.Second, nil, "", false},
		{"long", 5 * time.Minute, nil, "", true},
		{"short, not asked for", 20 * time.Second, func(ticks []market.Tick) []market.Tick {
			return slices.DeleteFunc(slices.Clone(ticks), func(k market.Tick) bool { return k.Exchange == "bybit" && k.Late })
		}, "lost", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := plan{seed: 9, bug: c.bug}
			p.simulate(t, func(w *world) {
				pass(time.Minute)
				w.sim.Do(feedsim.Fault{Exchange: "bybit", Kind: feedsim.Outage, For: c.outage})
				pass(c.outage + 90*time.Second)
				w.settle()
				synctest.Wait()
			}, func(w *world) {
				wantFindings(t, w.findings(), c.want)
				n, _ := w.trades(place{"bybit", "BTCUSDT", "bitcoin", "USDT"})
				if (n.lost > 0) != c.lost {
					t.Errorf("%d trades out of reach, want some: %t", n.lost, c.lost)
				}
			})
		})
	}
}
