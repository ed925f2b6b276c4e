package market

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"cryptointel/protocol"
)

var update = flag.Bool("update", false, "rewrite testdata")

// start is the fake clock's first time, 2026-01-12T09:00:00Z.
const start = 1768208400 * protocol.Second

type fixture struct {
	*Market
	now       protocol.Time
	published []protocol.Publication
}

func (f *fixture) Publish(p protocol.Publication) { f.published = append(f.published, p) }

// newFixture has a market that publishes every tick, unless changed.
func newFixture(t testing.TB, change ...func(*Config)) *fixture {
	t.Helper()
	cfg := DefaultConfig()
	cfg.ConfirmEvery = 0
	for _, c := range change {
		c(&cfg)
	}
	f := &fixture{now: start}
	m, err := New(cfg, registry(t, cfg.Assets...), f, func() protocol.Time { return f.now })
	if err != nil {
		t.Fatal(err)
	}
	f.Market = m
	return f
}

// tick is a dollar trade of bitcoin, ms after start by both clocks.
func tick(exchange string, price float64, ms int64) Tick {
	at := start + protocol.Time(ms)*protocol.Millisecond
	return Tick{Exchange: exchange, Asset: "bitcoin", Quote: "USD", Price: price, Size: 1, Time: at, Received: at}
}

// of is a tick of another asset.
func of(asset string, t Tick) Tick {
	t.Asset = asset
	return t
}

// observe plays a tick at its own time.
func (f *fixture) observe(t Tick) Reason {
	f.now = max(f.now, t.Received)
	_, r := f.Observe(t)
	return r
}

// TestGolden compares what a short story publishes with testdata/golden.txt.
func TestGolden(t *testing.T) {
	f := newFixture(t)
	day := Day{Has: true, Open: 90000, High: 91000, Low: 89000, Volume: 10}
	story := []func(){
		func() { f.observe(tick("coinbase", 90500.5, 0)) },
		func() { k := tick("coinbase", 90600, 100); k.Kind, k.Day = Ticker, day; f.observe(k) },
		func() { f.observe(tick("coinbase", 91500, 200)) },
		func() { k := tick("binance", 91510.25, 300); k.Quote = "USDT"; f.observe(k) },
		func() { k := tick("coinbase", 85000, 300); k.Quote = "EUR"; f.observe(k) },
		func() { f.observe(of("tether", tick("kraken", 0.9996, 310))) },
		func() { k := tick("binance", 91540.25, 320); k.Quote = "USDT"; f.observe(k) },
		func() { k := tick("kraken", 91508, 330); k.Kind, k.Day = Ticker, day; k.Day.Volume = 30; f.observe(k) },
		func() { f.observe(tick("poison", 71500, 340)) },
		func() { k := tick("demo", 91400, 400); k.Demo = true; f.observe(k) },
		func() { k := tick("api:\"me\"\n", 91450, 500); f.observe(k) },
		func() {
			k := tick("demo", 0.0000001234, 600)
			k.Asset = "pepe"
			k.Day = Day{Has: true, Open: 1.2e-7, QuoteVolume: 1e6}
			f.observe(k)
		},
		func() { f.now += 61 * protocol.Second; f.Sweep(f.now) },
		func() { f.Sweep(f.now + 1) },
		func() { f.observe(tick("coinbase", 91460, 62000)) },
		func() { f.now += 3600 * protocol.Second; f.Sweep(f.now) },
	}
	for _, step := range story {
		step()
	}
	var got strings.Builder
	for _, p := range f.published {
		if !json.Valid(p.Data) {
			t.Errorf("not JSON: %s", p.Data)
		}
		fmt.Fprintf(&got, "%s %s %d %d %v\n%s\n", p.Channel, p.Type, p.Offset, p.TS, p.Price, p.Data)
	}
	const file = "testdata/golden.txt"
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}

func TestBadInput(t *testing.T) {
	with := func(change func(*Tick)) Tick {
		k := tick("coinbase", 100, 1000)
		change(&k)
		return k
	}
	tests := []struct {
		name string
		tick Tick
		want Reason
	}{
		{"good", with(func(*Tick) {}), Accepted},
		{"same time", with(func(*Tick) {}), Accepted},
		{"not a number", with(func(k *Tick) { k.Price = math.NaN() }), BadPrice},
		{"infinite", with(func(k *Tick) { k.Price = math.Inf(1) }), BadPrice},
		{"minus infinite", with(func(k *Tick) { k.Price = math.Inf(-1) }), BadPrice},
		{"zero", with(func(k *Tick) { k.Price = 0 }), BadPrice},
		{"negative", with(func(k *Tick) { k.Price = -1 }), BadPrice},
		{"no time", with(func(k *Tick) { k.Time = 0 }), BadTime},
		{"future", with(func(k *Tick) { k.Time += 61 * protocol.Second }), Future},
		{"older", with(func(k *Tick) { k.Time-- }), Old},
		{"jump up", with(func(k *Tick) { k.Price = 150.01 }), Jump},
		{"jump down", with(func(k *Tick) { k.Price = 49.99 }), Jump},
		{"half as much again", with(func(k *Tick) { k.Price = 150 }), Accepted},
		{"other quote", with(func(k *Tick) { k.Quote = "EUR" }), OtherQuote},
		{"unknown asset", with(func(k *Tick) { k.Asset = "nope" }), UnknownAsset},
		{"ticker for slug", with(func(k *Tick) { k.Asset = "BTC" }), UnknownAsset},
		{"another source is behind", with(func(k *Tick) { k.Exchange, k.Price, k.Time = "late", 150, k.Time-3*protocol.Second }), Behind},
		{"another source within the skew", with(func(k *Tick) { k.Exchange, k.Price, k.Time = "skewed", 150, k.Time-protocol.Second }), Accepted},
	}
	f := newFixture(t)
	wantDropped := make(map[string]uint64)
	for _, tt := range tests {
		before := len(f.published)
		got := f.observe(tt.tick)
		if got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
		if published := len(f.published) > before; published != (tt.want == Accepted) {
			t.Errorf("%s: published %v", tt.name, published)
		}
		if tt.want != Accepted {
			wantDropped[tt.want.String()]++
		}
	}
	s := f.Stats()
	if fmt.Sprint(s.Dropped) != fmt.Sprint(wantDropped) || s.Ticks != uint64(len(tests)) {
		t.Errorf("got stats %+v, want dropped %v", s, wantDropped)
	}
}

func TestJumpThatStaysIsBelieved(t *testing.T) {
	f := newFixture(t)
	var got []Reason
	for _, k := range []Tick{
		tick("a", 100, 0), tick("a", 300, 1000), tick("a", 100, 2000), // one wrong tick
		tick("a", 300, 3000), tick("a", 301, 4000), tick("a", 302, 5000), tick("a", 303, 14000), tick("a", 304, 15000),
	} {
		got = append(got, f.observe(k))
	}
	want := []Reason{Accepted, Jump, Accepted, Jump, Jump, Jump, Accepted, Accepted}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestOffsetsGrow(t *testing.T) {
	f := newFixture(t)
	f.Restore(protocol.Publication{Channel: "price:bitcoin", Offset: start.Micros() + 5})
	var got []int64
	for i := range 3 {
		offset, _ := f.Observe(tick("a", 100, int64(i)))
		got = append(got, offset-start.Micros())
	}
	f.now += protocol.Second
	offset, _ := f.Observe(tick("a", 100, 5))
	got = append(got, offset-start.Micros())
	if want := []int64{6, 7, 8, 1e6}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got offsets %v after now, want %v", got, want)
	}
}

type priceData struct {
	Price  float64  `json:"price"`
	Change *float64 `json:"change_24h"`
	Volume float64  `json:"volume_24h"`
	High   float64  `json:"high_24h"`
	Low    float64  `json:"low_24h"`
}

func (f *fixture) last(t *testing.T) priceData {
	t.Helper()
	var d priceData
	if err := json.Unmarshal(f.published[len(f.published)-1].Data, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestWindow plays 30 hours of hourly prices and compares the window with the
// same numbers worked out from the list.
func TestWindow(t *testing.T) {
	f := newFixture(t)
	price := func(h int) float64 { return 1000 + 100*math.Sin(float64(h)) }
	for h := range 31 {
		f.observe(tick("a", price(h), int64(h)*3600_000))
		want := priceData{Price: price(h), High: price(h), Low: price(h)}
		first := max(0, h-23) // a minute a day ago has just left the window
		for i := first; i <= h; i++ {
			want.High, want.Low = max(want.High, price(i)), min(want.Low, price(i))
			want.Volume += price(i)
		}
		got := f.last(t)
		if h < 23 != (got.Change == nil) {
			t.Errorf("hour %d: got change %v", h, got.Change)
		}
		if got.Change != nil {
			if w := (price(h)/price(first) - 1) * 100; math.Abs(*got.Change-w) > 1e-4 {
				t.Errorf("hour %d: got change %v, want %v", h, *got.Change, w)
			}
		}
		if got.Change = nil; math.Abs(got.Volume-want.Volume) > 0.01 {
			t.Errorf("hour %d: got volume %v, want %v", h, got.Volume, want.Volume)
		}
		if got.Volume = want.Volume; got != want {
			t.Errorf("hour %d: got %+v, want %+v", h, got, want)
		}
	}
}

func TestWindowIsBounded(t *testing.T) {
	var w window
	for i := range 5000 {
		w.add(start+protocol.Time(i)*protocol.Minute, 1, 1, 1, 1)
	}
	if len(w.buckets) != 1440 || cap(w.buckets) > 3000 || w.volume != 1440 {
		t.Errorf("got %d buckets in %d, volume %v", len(w.buckets), cap(w.buckets), w.volume)
	}
}

func TestSourcesAreBounded(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.MaxSources = 2 })
	got := []Reason{f.observe(tick("a", 1, 0)), f.observe(tick("b", 1, 0)), f.observe(tick("c", 1, 0)),
		f.observe(tick("b", 1, 50_000)), f.observe(tick("c", 1, 61_000))}
	if want := []Reason{Accepted, Accepted, TooManySources, Accepted, Accepted}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestOldOnArrival shows that a price that was old when it came is published,
// and says so.
func TestOldOnArrival(t *testing.T) {
	f := newFixture(t)
	k := tick("a", 1, 0)
	k.Time -= 10 * protocol.Minute
	f.observe(k)
	if d := string(f.published[0].Data); !strings.Contains(d, `"sources":[],"stale":true`) {
		t.Errorf("got %s, want it stale", d)
	}
}

// TestReplayedTimes shows that a recording's clock, here a year back, makes
// nothing stale and no age.
func TestReplayedTimes(t *testing.T) {
	f := newFixture(t)
	k := tick("a", 1, 0)
	k.Time -= protocol.Time(365 * 24 * time.Hour)
	k.Received = k.Time + 7*protocol.Millisecond
	f.observe(k)
	f.Sweep(f.now + 59*protocol.Second)
	if len(f.published) != 1 || !strings.Contains(string(f.published[0].Data), `"age_ms":7}]`) {
		t.Errorf("got %d publications, the first %s", len(f.published), f.published[0].Data)
	}
}

func TestPricesByRank(t *testing.T) {
	f := newFixture(t)
	for _, slug := range []string{"solana", "bitcoin", "ethereum", "bitcoin"} {
		k := tick("a", 10, 0)
		k.Asset = slug
		f.observe(k)
	}
	var got []string
	for _, p := range f.Prices() {
		got = append(got, p.Channel)
	}
	if want := "[price:bitcoin price:ethereum price:solana]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestConfig(t *testing.T) {
	for _, cfg := range []Config{{StaleAfter: -1}, {MaxSources: -1}} {
		if _, err := New(cfg, registry(t), nil, nil); err == nil {
			t.Errorf("%+v: want an error", cfg)
		}
	}
	f := newFixture(t, func(c *Config) { c.StaleAfter = 0 })
	f.observe(tick("a", 1, 0))
	f.Sweep(f.now + 3600*protocol.Second)
	if len(f.published) != 1 {
		t.Errorf("StaleAfter 0 is never: got %d publications, want 1", len(f.published))
	}
}

type discard struct{}

func (discard) Publish(protocol.Publication) {}
