package market

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"cryptointel/protocol"
)

// heavy is a ticker of an exchange that trades so many dollars a day.
func heavy(exchange string, price, dollars float64, ms int64) Tick {
	t := tick(exchange, price, ms)
	t.Kind, t.Day = Ticker, Day{Has: true, QuoteVolume: dollars}
	return t
}

// A step is a tick and what is to come of it.
type step struct {
	tick  Tick
	want  Reason
	price float64 // of the asset afterwards
}

func (f *fixture) play(t *testing.T, steps []step) {
	t.Helper()
	for i, s := range steps {
		if got := f.observe(s.tick); got != s.want {
			t.Errorf("step %d, %s at %v: got %v, want %v", i, s.tick.Exchange, s.tick.Price, got, s.want)
		}
		if got := f.assets[s.tick.Asset].price; got != s.price {
			t.Errorf("step %d, %s at %v: the price is %v, want %v", i, s.tick.Exchange, s.tick.Price, got, s.price)
		}
	}
}

func TestMedian(t *testing.T) {
	type w struct{ usd, weight float64 }
	tests := []struct {
		name  string
		votes []w
		want  float64
	}{
		{"none", nil, 0},
		{"one", []w{{7, 1}}, 7},
		{"the heavier of two", []w{{1, 1}, {9, 2}}, 9},
		{"two that share the middle", []w{{1, 2}, {9, 2}}, 5},
		{"three alike", []w{{1, 1}, {5, 1}, {9, 1}}, 5},
		{"most of the weight", []w{{1, 1}, {5, 1}, {9, 3}}, 9},
		{"half above", []w{{1, 1}, {2, 1}, {9, 2}}, 5.5},
		{"four alike", []w{{1, 1}, {2, 1}, {4, 1}, {9, 1}}, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := &asset{}
			for i, v := range tt.votes {
				a.sources = append(a.sources, source{weight: v.weight})
				a.votes = append(a.votes, vote{usd: v.usd, i: i, in: true})
			}
			if got := a.median(); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			// One that is not in changes nothing.
			a.sources = append(a.sources, source{weight: 1e9})
			a.votes = append(a.votes, vote{usd: 1e6, i: len(tt.votes)})
			if got := a.median(); got != tt.want {
				t.Errorf("beside one that is out: got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestPriceFollowsTheVolume(t *testing.T) {
	f := newFixture(t)
	f.play(t, []step{
		{heavy("small", 100, 1e6, 0), Accepted, 100},
		{heavy("large", 101, 1e9, 10), Accepted, 101},
		{heavy("small", 102, 1e6, 20), Accepted, 101},
		{heavy("middle", 100.5, 8e8, 30), Accepted, 101},
		{heavy("other", 100.4, 9e8, 40), Accepted, 100.5}, // above 101 is too little, below 100.5 too
	})
}

func TestOneOutlierOfMany(t *testing.T) {
	f := newFixture(t)
	f.play(t, []step{
		{heavy("a", 100, 1e6, 0), Accepted, 100},
		{heavy("b", 100, 1e6, 0), Accepted, 100},
		{heavy("big", 100, 1e9, 0), Accepted, 100},
		{heavy("big", 106, 1e9, 10), Outlier, 100}, // the weight alone does not help it
		{heavy("a", 101, 1e6, 20), Accepted, 100.5},
		{heavy("big", 107, 1e9, 30), Outlier, 100.5},
		{heavy("big", 104, 1e9, 40), Accepted, 101}, // it agrees again, with less than half
	})
	if s := f.Stats(); s.Dropped["outlier"] != 2 || s.Quarantined != 0 {
		t.Errorf("got %+v, want two outliers and none left", s)
	}
}

func TestMajorityMoves(t *testing.T) {
	f := newFixture(t)
	f.play(t, []step{
		{heavy("a", 100, 1e6, 0), Accepted, 100},
		{heavy("b", 100, 2e6, 0), Accepted, 100},
		{heavy("c", 100, 2.5e6, 0), Accepted, 100},
		{heavy("a", 90, 1e6, 10), Outlier, 100},
		{heavy("b", 90, 2e6, 20), Accepted, 90}, // two of three, and 3 of 5.5 million
		{heavy("c", 100, 2e6, 30), Outlier, 90}, // now it is the one that is off
		{heavy("c", 91, 2e6, 40), Accepted, 90},
	})
}

// TestNumberWithoutWeight shows that many small ones cannot outvote the two
// where most is traded, while these speak.
func TestNumberWithoutWeight(t *testing.T) {
	begin := []step{
		{heavy("big", 100, 1e9, 0), Accepted, 100},
		{heavy("large", 100, 1e9, 0), Accepted, 100},
		{heavy("a", 100, 1e6, 0), Accepted, 100},
		{heavy("b", 100, 1e6, 0), Accepted, 100},
		{heavy("c", 100, 1e6, 0), Accepted, 100},
		{heavy("a", 90, 1e6, 10), Outlier, 100},
		{heavy("b", 90, 1e6, 20), Outlier, 100},
		{heavy("c", 90, 1e6, 30), Outlier, 100},
	}
	f := newFixture(t)
	f.play(t, append(begin,
		step{heavy("big", 100, 1e9, 1000), Accepted, 100},
		step{heavy("a", 90, 1e6, 6000), Outlier, 100},
		step{heavy("a", 90, 1e6, 12000), Outlier, 100}, // sure, but a big one spoke at 1000
	))
	// Silent since they are off, the two are outvoted.
	f = newFixture(t)
	f.play(t, append(begin,
		step{heavy("a", 90, 1e6, 6000), Outlier, 100},
		step{heavy("a", 90, 1e6, 12000), Accepted, 90},
		step{heavy("big", 90.5, 1e9, 12100), Accepted, 90},
	))
}

// TestNumberAgainstOne shows that the majority wins against a single one,
// however much it trades.
func TestNumberAgainstOne(t *testing.T) {
	f := newFixture(t)
	f.play(t, []step{
		{heavy("big", 100, 1e9, 0), Accepted, 100},
		{heavy("a", 100, 1e6, 0), Accepted, 100},
		{heavy("b", 100, 1e6, 0), Accepted, 100},
		{heavy("a", 90, 1e6, 10), Outlier, 100},
		{heavy("b", 90, 1e6, 20), Accepted, 90},
		{heavy("big", 100, 1e9, 30), Outlier, 90},
		{heavy("big", 90.5, 1e9, 12100), Accepted, 90},
	})
}

func TestTwoSources(t *testing.T) {
	f := newFixture(t)
	f.play(t, []step{
		{heavy("big", 100, 1e9, 0), Accepted, 100},
		{heavy("small", 100, 1e6, 0), Accepted, 100},
		{heavy("small", 110, 1e6, 10), Outlier, 100},
		{heavy("small", 110, 1e6, 5000), Outlier, 100},
		{heavy("small", 110, 1e6, 10_010), Accepted, 110}, // it stays, and the big one is silent
		{heavy("big", 101, 1e9, 10_020), Accepted, 101},   // the heavier wins when it speaks
		{heavy("small", 110, 1e6, 10_030), Outlier, 101},
		{heavy("big", 110, 1e9, 10_040), Accepted, 110},
		{heavy("small", 111, 1e6, 10_050), Accepted, 110},
	})
}

// TestSpike is the attack: 100 times the price, from one of three and from the
// only one.
func TestSpike(t *testing.T) {
	f := newFixture(t)
	f.play(t, []step{
		{tick("a", 100, 0), Accepted, 100},
		{tick("a", 10_000, 10), Jump, 100},
		{tick("fresh", 10_000, 20), Outlier, 100}, // no last price to jump from
		{tick("fresh", 10_000, 30), Outlier, 100},
		{tick("a", 101, 40), Accepted, 101},
	})
	d := f.last(t)
	if d.High != 101 || d.Low != 100 || d.Volume != 201 {
		t.Errorf("the window has seen the poison: %+v", d)
	}
}

// TestLastGoodSourceDies shows that what was quarantined counts when nothing
// else is left.
func TestLastGoodSourceDies(t *testing.T) {
	f := newFixture(t)
	f.play(t, []step{
		{tick("good", 100, 0), Accepted, 100},
		{tick("off", 110, 1), Outlier, 100},
		{tick("off", 110, 2), Outlier, 100},
		{tick("off", 111, 61_000), Accepted, 111},
	})
}

func TestSilentSourceLeavesThePrice(t *testing.T) {
	f := newFixture(t)
	f.play(t, []step{
		{heavy("big", 100, 1e9, 0), Accepted, 100},
		{heavy("small", 102, 1e6, 30_000), Accepted, 100},
	})
	f.now = start + 59*protocol.Second
	if f.Sweep(f.now); len(f.published) != 2 {
		t.Errorf("both count: got %d publications, want 2", len(f.published))
	}
	f.now = start + 61*protocol.Second
	before := len(f.published)
	f.Sweep(f.now)
	f.Sweep(f.now)
	if got := f.last(t); len(f.published) != before+1 || got.Price != 102 {
		t.Errorf("got %d publications and %v, want one of 102", len(f.published)-before, got.Price)
	}
	if s := f.Stats(); s.Settled != 1 || s.Stale != 0 {
		t.Errorf("got %+v, want one settled", s)
	}
}

func TestOutlierSwitchedOff(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Outlier = 0 })
	f.play(t, []step{
		{tick("a", 100, 0), Accepted, 100},
		{tick("b", 100, 0), Accepted, 100},
		{tick("c", 10_000, 0), Accepted, 100}, // the heaviest by what was traded has less than half
		{tick("d", 10_000, 0), Accepted, 10_000},
	})
}

// TestOutlierIsShown shows the state changes, each published at once.
func TestOutlierIsShown(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.ConfirmEvery = 1e9 })
	f.play(t, []step{
		{tick("a", 100, 0), Accepted, 100},
		{tick("b", 120, 1), Outlier, 100},
		{tick("b", 121, 2), Outlier, 100},
		{tick("b", 100, 3), Accepted, 100},
	})
	var got []bool
	for _, p := range f.published {
		got = append(got, strings.Contains(string(p.Data), `"name":"b"`) && strings.Contains(string(p.Data), `"outlier":true`))
	}
	if want := []bool{false, true, false}; !slices.Equal(got, want) {
		t.Errorf("published %v as outlier, want %v", got, want)
	}
}

func inUSDT(t Tick) Tick {
	t.Quote = "USDT"
	return t
}

// rates are what the newest publication says of sources that are no dollars.
func (f *fixture) rates(t *testing.T) (out []string) {
	t.Helper()
	var d struct {
		Sources []struct {
			Name, Quote string
			Price, Rate float64
			Assumed     bool
		}
	}
	if err := json.Unmarshal(f.assets["bitcoin"].newest.Data, &d); err != nil {
		t.Fatal(err)
	}
	for _, s := range d.Sources {
		out = append(out, fmt.Sprintf("%s %q %v %v %v", s.Name, s.Quote, s.Price, s.Rate, s.Assumed))
	}
	return out
}

func TestStableCoins(t *testing.T) {
	f := newFixture(t)
	usdt := func(price float64, ms int64) Tick { return inUSDT(heavy("binance", price, 1e9, ms)) }
	tether := func(price float64, ms int64) Tick { return of("tether", tick("kraken", price, ms)) }
	f.play(t, []step{
		{usdt(100, 0), Accepted, 100}, // nobody knows better: at 1
		{tether(0.999, 10), Accepted, 0.999},
		{of("tether", inUSDC(tick("other", 1.01, 15))), Accepted, 1.0045}, // not in dollars: no rate
		{usdt(100, 20), Accepted, 99.9},
		{tick("coinbase", 99.95, 30), Accepted, 99.9},
		{tether(0.9, 40), Outlier, 1.01}, // one tick that is off moves no other price
		{usdt(100, 50), Accepted, 99.9},
	})
	sources := func(what string, want ...string) {
		t.Helper()
		if got := f.rates(t); !slices.Equal(got, want) {
			t.Errorf("%s: got sources %v, want %v", what, got, want)
		}
	}
	sources("known", `binance "USDT" 99.9 0.999 false`, `coinbase "" 99.95 0 false`)
	// After five minutes without a price in dollars the last rate holds, openly.
	f.play(t, []step{{usdt(100, 341_000), Accepted, 99.9}})
	sources("long ago", `binance "USDT" 99.9 0.999 true`)
	f.play(t, []step{{tether(0.998, 342_000), Accepted, 0.998}, {usdt(100, 343_000), Accepted, 99.8}})
	sources("known again", `binance "USDT" 99.8 0.998 false`)
}

// TestAssumedRate shows that a rate of 1 is marked while nobody knows better.
func TestAssumedRate(t *testing.T) {
	f := newFixture(t)
	f.play(t, []step{{inUSDT(tick("a", 100, 0)), Accepted, 100}})
	if got := f.rates(t); !slices.Equal(got, []string{`a "USDT" 100 1 true`}) {
		t.Errorf("got sources %v", got)
	}
}

func inUSDC(t Tick) Tick {
	t.Quote = "USDC"
	return t
}

// TestBrokenPeg shows that a coin's real fall is followed once it is sure.
func TestBrokenPeg(t *testing.T) {
	f := newFixture(t)
	tether := func(price float64, ms int64) Tick { return of("tether", tick("kraken", price, ms)) }
	f.play(t, []step{
		{inUSDT(tick("binance", 100, 0)), Accepted, 100},
		{tether(1, 0), Accepted, 1},
		{tether(0.8, 1000), Accepted, 0.8},
		{inUSDT(tick("binance", 100, 1001)), Accepted, 100},
		{tether(0.8, 6000), Accepted, 0.8},
		{inUSDT(tick("binance", 100, 6001)), Accepted, 100},
		{tether(0.8, 11_000), Accepted, 0.8},
		{inUSDT(tick("binance", 100, 11_001)), Accepted, 80},
	})
}

func TestDollars(t *testing.T) {
	tests := []struct{ price, rate, want float64 }{
		{100, 1, 100},
		{1.23456789012, 1, 1.23456789012},
		{61837.63, 0.9996, 61812.895},
		{0.0000059123, 0.9996, 0.0000059099351},
		{1e300, 2, 2e300},
		{math.MaxFloat64, 2, math.Inf(1)},
		{5e-324, 0.9, 5e-324},
		{0, 0.5, 0},
	}
	for _, tt := range tests {
		s := source{rate: tt.rate}
		if got := s.dollars(tt.price); math.Abs(got-tt.want) > 1e-9*tt.want {
			t.Errorf("%v at %v: got %v, want %v", tt.price, tt.rate, got, tt.want)
		}
	}
}
