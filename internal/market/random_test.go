package market

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"cryptointel/protocol"
)

// A world makes random ticks around a true price, some of them poisoned.
type world struct {
	*rand.Rand
	at    protocol.Time
	price float64
}

func (w *world) tick() Tick {
	w.at += protocol.Time(w.ExpFloat64() * float64(200*protocol.Millisecond))
	w.price *= math.Exp(w.NormFloat64() * 0.001)
	exchange := w.IntN(6)
	t := Tick{
		Exchange: string(rune('a' + exchange)), Asset: []string{"bitcoin", "tether"}[w.IntN(10)/9],
		Quote: []string{"USD", "USDT", "USDC"}[w.IntN(3)], Size: w.ExpFloat64(), Kind: Kind(w.IntN(3)),
		Price: w.price * (1 + 0.001*w.NormFloat64()), Received: w.at, Late: w.IntN(50) == 0,
		Time: w.at - protocol.Time(w.Int64N(int64(300*protocol.Millisecond))),
	}
	if t.Asset == "tether" {
		t.Price = 1 + 0.001*w.NormFloat64()
	}
	if t.Kind == Ticker {
		t.Day = Day{Has: true, Open: t.Price, High: t.Price * 1.1, Low: t.Price * 0.9, QuoteVolume: math.Pow(10, float64(5+exchange))}
	}
	if w.IntN(8) == 0 {
		w.poison(&t)
	}
	return t
}

func (w *world) poison(t *Tick) {
	bad := []float64{math.NaN(), math.Inf(1), math.Inf(-1), 0, -1, 1e308, 5e-324, t.Price * 100, t.Price * 1.3, t.Price / 3}[w.IntN(10)]
	switch w.IntN(8) {
	case 0, 1, 2:
		t.Price = bad
	case 3:
		t.Size = bad
	case 4:
		t.High, t.Low, t.Kind = bad, bad, Bar
	case 5:
		t.Day = Day{Has: true, Open: bad, High: bad, Low: bad, Volume: bad, QuoteVolume: bad}
	case 6:
		t.Time += protocol.Time(w.Int64N(int64(200*protocol.Second))) - 100*protocol.Second
	case 7:
		t.Published, t.Price = true, t.Price*2
	}
}

type told struct {
	Price   float64   `json:"price"`
	Time    time.Time `json:"timestamp"`
	Stale   bool      `json:"stale"`
	Sources []struct {
		Price   float64 `json:"price"`
		Outlier bool    `json:"outlier"`
	} `json:"sources"`
	High float64 `json:"high_24h"`
	Low  float64 `json:"low_24h"`
}

// TestRandomTicks plays many minutes of random ticks and holds every
// publication to what a price promises.
func TestRandomTicks(t *testing.T) {
	for seed := range uint64(8) {
		w := &world{Rand: rand.New(rand.NewPCG(seed, 3)), at: start, price: 100}
		f := newFixture(t, func(c *Config) { c.ConfirmEvery = time.Second })
		h := openMemory(t)
		f.Keep(h)
		last := make(map[string]told)
		offsets := make(map[string]int64)
		for range 5000 {
			f.published = f.published[:0]
			k := w.tick()
			f.observe(k)
			if w.IntN(20) == 0 {
				f.Sweep(f.now)
			}
			for _, p := range f.published {
				last[p.Channel] = f.promised(t, p, last[p.Channel], offsets[p.Channel])
				offsets[p.Channel] = p.Offset
			}
			if t.Failed() {
				t.Fatalf("seed %d, tick %+v", seed, k)
			}
		}
		if len(last) != 2 {
			t.Fatalf("seed %d: prices of %d assets, want 2", seed, len(last))
		}
		if off := last["price:bitcoin"].Price/w.price - 1; math.Abs(off) > 0.05 {
			t.Errorf("seed %d: the price is %v, the true one %v", seed, last["price:bitcoin"].Price, w.price)
		}
		checkBars(t, h)
	}
}

// promised checks a publication against the one before it and the sources
// that count.
func (f *fixture) promised(t *testing.T, p protocol.Publication, before told, offset int64) told {
	t.Helper()
	var d told
	if err := json.Unmarshal(p.Data, &d); err != nil {
		t.Fatalf("%v: %s", err, p.Data)
	}
	if p.Offset <= offset {
		t.Errorf("offset %d after %d", p.Offset, offset)
	}
	if d.Time.Before(before.Time) {
		t.Errorf("time %v after %v", d.Time, before.Time)
	}
	a := f.assets[p.Channel[len("price:"):]]
	low, high := math.Inf(1), 0.0
	for i := range a.sources {
		if s := &a.sources[i]; !s.outlier && s.counts(f.now, f.counted) && !s.published {
			low, high = min(low, s.usd), max(high, s.usd)
		}
	}
	if d.Price != p.Price || !d.Stale && high > 0 && (d.Price < low || d.Price > high) {
		t.Errorf("price %v outside of %v to %v: %s", d.Price, low, high, p.Data)
	}
	if d.High > 0 && d.High < d.Price || d.Low > d.Price {
		t.Errorf("price %v outside of the day's %v to %v: %s", d.Price, d.Low, d.High, p.Data)
	}
	return d
}

// checkBars holds all bars to what a bar is.
func checkBars(t *testing.T, h *History) {
	t.Helper()
	for _, s := range spans {
		bars, err := h.Candles("bitcoin", s.name, 0, 0, 5000)
		if err != nil || len(bars) == 0 {
			t.Fatalf("%s: %d bars, %v", s.name, len(bars), err)
		}
		for i := range bars {
			if !bars[i].valid() || bars[i].Start != s.start(bars[i].Start) || i > 0 && bars[i].Start <= bars[i-1].Start {
				t.Errorf("%s: bar %d is %+v", s.name, i, bars[i])
			}
		}
	}
}
