package market

import (
	"testing"
	"time"

	"cryptointel/protocol"
)

// crowd has 50 assets at six exchanges, three of them quoting in USDT, all
// heard a moment ago, and bars in memory. The ticks go round them; every
// n-th moves its price.
func crowd(tb testing.TB, moves int, confirm time.Duration) (m *Market, next func() Tick) {
	tb.Helper()
	cfg := DefaultConfig()
	cfg.ConfirmEvery = confirm
	now := start
	m, err := New(cfg, registry(tb), discard{}, func() protocol.Time { return now })
	if err != nil {
		tb.Fatal(err)
	}
	m.Keep(openMemory(tb))
	tether := tick("kraken", 0.9996, 0)
	tether.Asset = "tether"
	m.Observe(tether)
	exchanges := []string{"coinbase", "kraken", "binance", "okx", "bybit", "bitstamp"}
	var slugs []string
	for _, a := range m.registry.All()[:60] {
		if coin := a.Slug; coin != "tether" && len(slugs) < 50 {
			slugs = append(slugs, coin)
		}
	}
	n := 0
	next = func() Tick {
		e, a := n%len(exchanges), n/len(exchanges)%len(slugs)
		n++
		now += 200 * protocol.Microsecond // 5,000 a second
		t := Tick{Exchange: exchanges[e], Asset: slugs[a], Quote: "USD", Price: 100 + float64(a), Size: 0.25, Time: now, Received: now}
		if e >= 2 && e <= 4 {
			t.Quote = "USDT"
		}
		if moves > 0 && n%moves == 0 {
			t.Price += float64(n%97) / 100
		}
		if n < 2*len(exchanges)*len(slugs) {
			t.Kind, t.Day = Ticker, Day{Has: true, Open: t.Price, High: t.Price + 1, Low: t.Price - 1, QuoteVolume: float64(1+e) * 1e7}
		}
		return t
	}
	for range 4 * len(exchanges) * len(slugs) {
		m.Observe(next())
	}
	return m, next
}

// BenchmarkObserve is a trade into a market of 50 assets at six exchanges.
func BenchmarkObserve(b *testing.B) {
	for _, bb := range []struct {
		name    string
		moves   int
		confirm time.Duration
	}{
		{"all_published", 1, 0},
		{"all_move", 1, time.Second},
		{"quarter_moves", 4, time.Second},
	} {
		b.Run(bb.name, func(b *testing.B) {
			m, next := crowd(b, bb.moves, bb.confirm)
			b.ReportAllocs()
			for b.Loop() {
				m.Observe(next())
			}
		})
	}
}

// TestObserveAllocates: a suppressed tick nothing, a published one its bytes.
func TestObserveAllocates(t *testing.T) {
	for _, tt := range []struct {
		name    string
		confirm time.Duration
		want    float64
	}{
		{"published", 0, 1},
		{"confirmed", time.Hour, 0},
	} {
		m, next := crowd(t, 0, tt.confirm)
		if got := testing.AllocsPerRun(1000, func() { m.Observe(next()) }); got > tt.want {
			t.Errorf("%s: %v allocations a tick, want %v", tt.name, got, tt.want)
		}
	}
}
