package feed

import (
	"context"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

func newDemo(t testing.TB, cfg DemoConfig, out sink) *Demo {
	t.Helper()
	d, err := NewDemo(cfg, registry(t), out, WallClock{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// simulate runs the market for a while, stepping every step.
func simulate(t *testing.T, seed uint64, step, length protocol.Time, each func(market.Tick)) {
	d := newDemo(t, DemoConfig{Seed: seed, Rate: 25}, nil)
	for at := protocol.Time(0); at <= length; at += step {
		for _, k := range d.Step(now0 + at) {
			each(k)
		}
	}
}

func TestDemoIsDeterministic(t *testing.T) {
	run := func(seed uint64, step protocol.Time) (out []string) {
		simulate(t, seed, step, protocol.Minute, func(k market.Tick) { out = append(out, tickText(k)) })
		return out
	}
	once := run(1, demoStep)
	equalLines(t, run(1, demoStep), once)
	equalLines(t, run(1, 5*protocol.Second), once) // how often Step is called changes nothing
	if other := run(2, demoStep); fmt.Sprint(other) == fmt.Sprint(once) {
		t.Error("another seed gives the same market")
	}
}

// TestDemoMarket simulates three hours and looks at the whole.
func TestDemoMarket(t *testing.T) {
	type seen struct {
		n                   int
		first, last, widest float64
		biggest             float64
	}
	assets := make(map[string]*seen)
	total := 0
	m, err := market.New(market.DefaultConfig(), registry(t), &published{}, func() protocol.Time { return now0 })
	if err != nil {
		t.Fatal(err)
	}
	var last protocol.Time
	simulate(t, 1, protocol.Second, 3*3600*protocol.Second, func(k market.Tick) {
		total++
		s := assets[k.Asset]
		if s == nil {
			s = &seen{first: k.Price, last: k.Price}
			assets[k.Asset] = s
		}
		if !k.Demo || k.Exchange != "demo" || k.Price <= 0 || k.Size < 0 || k.Time < last || k.PriceText == "" {
			t.Fatalf("got tick %+v", k)
		}
		d := k.Day
		if !d.Has || !(d.Low <= k.Price && k.Price <= d.High && d.Low <= d.Open && d.Open <= d.High && d.Volume > 0 && d.QuoteVolume > 0) {
			t.Fatalf("got day %+v at price %v", d, k.Price)
		}
		s.n, last = s.n+1, k.Time
		s.biggest = max(s.biggest, math.Abs(k.Price/s.last-1))
		s.widest = max(s.widest, math.Abs(k.Price/s.first-1))
		s.last = k.Price
		m.Observe(k)
	})
	if len(assets) != 50 {
		t.Errorf("got %d assets, want 50", len(assets))
	}
	if perSecond := float64(total) / (3 * 3600); perSecond < 20 || perSecond > 40 {
		t.Errorf("got %.1f ticks a second, want about 25", perSecond)
	}
	if assets["bitcoin"].n < 3*assets["the-graph"].n {
		t.Errorf("got %d ticks of bitcoin and %d of the-graph: large ones tick more often", assets["bitcoin"].n, assets["the-graph"].n)
	}
	jumps := 0
	for slug, s := range assets {
		if s.biggest > 0.01 {
			jumps++
		}
		if s.widest < 0.005 || s.widest > 0.6 {
			t.Errorf("%s moved by %.1f %% at most", slug, 100*s.widest)
		}
	}
	if jumps < 20 {
		t.Errorf("got %d assets that jumped by a percent, want at least 20", jumps)
	}
	if s := m.Stats(); len(s.Dropped) != 0 {
		t.Errorf("the market dropped %v", s.Dropped)
	}
}

func TestPriceText(t *testing.T) {
	tests := []struct {
		price float64
		want  string
	}{
		{90700.126, "90700.13"}, {905, "905.00"}, {139.123, "139.12"}, {13.1555, "13.155"}, {2.07, "2.0700"},
		{0.1385, "0.13850"}, {0.0000085, "0.0000085000"},
	}
	for _, tt := range tests {
		if got := priceText(tt.price); got != tt.want {
			t.Errorf("%v: got %s, want %s", tt.price, got, tt.want)
		}
	}
}

func TestDemoRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &ticks{}
		d := newDemo(t, DefaultDemoConfig(), out)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := d.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if n := len(out.all); n < 50+200 || n > 50+500 {
			t.Errorf("got %d ticks in 10 s, want 50 and about 25 a second", n)
		}
	})
	if _, err := NewDemo(DemoConfig{}, registry(t), nil, nil); err == nil {
		t.Error("a Rate of 0: want an error")
	}
}

func BenchmarkDemoStep(b *testing.B) {
	d := newDemo(b, DefaultDemoConfig(), nil)
	now := protocol.Time(now0)
	b.ReportAllocs()
	for b.Loop() {
		now += demoStep
		d.Step(now)
	}
}
