package market

import (
	"math"
	"testing"

	"cryptointel/protocol"
)

// five is a bar of five minutes that begins so many minutes after start.
func five(minute int, open, high, low, closing, volume float64) Candle {
	return Candle{start + protocol.Time(minute)*protocol.Minute, open, high, low, closing, volume}
}

func TestSeedFillsTheDay(t *testing.T) {
	f := newFixture(t)
	f.Keep(openMemory(t))
	var past []Candle
	for m := -24 * 60; m < 0; m += 5 {
		past = append(past, five(m, 80, 82, 79, 81, 10))
	}
	f.Seed("bitcoin", "coinbase", past)
	if len(f.published) != 0 || f.Stats().Assets != 0 {
		t.Fatalf("seeds made a price: %d publications", len(f.published))
	}
	f.observe(tick("coinbase", 100, 0))
	d := f.last(t)
	if d.Change == nil || *d.Change != 25 || d.High != 100 || d.Low != 79 || math.Abs(d.Volume-(287*10+100)) > 0.01 {
		t.Errorf("got %+v, change %v", d, d.Change)
	}
}

func TestSeedAroundWhatIsKnown(t *testing.T) {
	for name, h := range map[string]*History{"memory": openMemory(t), "disk": openDisk(t, t.TempDir())} {
		t.Run(name, func(t *testing.T) {
			defer h.Close()
			f := newFixture(t)
			f.Keep(h)
			f.observe(tick("a", 100, 22*60_000)) // five minutes from 20
			f.observe(tick("a", 101, 62*60_000)) // and from 60, the next hour
			f.observe(tick("a", 102, 63*60_000))
			past := []Candle{
				five(10, 90, 95, 90, 91, 1000), five(15, 91, 110, 91, 92, 1000),
				five(20, 1, 1, 1, 1, 1),            // known
				five(25, 99, 100, 80, 98, 1000),    // after what is known of its hour
				five(55, 97, 98, 96, 97.5, 1000),   // the hour's end
				five(60, 5, 5, 5, 5, 5),            // known, and running
				five(65, 5, 5, 5, 5, 5),            // not over
				five(30, 90, 80, 70, 75, 1),        // its open is above its high
				five(35, 90, math.NaN(), 70, 9, 1), // no number
				five(41, 90, 91, 90, 91, 1),        // no bar's beginning
			}
			want := func() {
				t.Helper()
				same(t, "5m", bars(t, h, "5m"), []Candle{{10, 90, 95, 90, 91, 1000}, {15, 91, 110, 91, 92, 1000}, {20, 100, 100, 100, 100, 100},
					{25, 99, 100, 80, 98, 1000}, {55, 97, 98, 96, 97.5, 1000}, {60, 101, 102, 101, 102, 203}})
				same(t, "1h", bars(t, h, "1h"), []Candle{{0, 90, 110, 80, 97.5, 4100}, {60, 101, 102, 101, 102, 203}})
				same(t, "1d", bars(t, h, "1d"), []Candle{{-9 * 60, 90, 110, 80, 102, 4303}})
				same(t, "1m", bars(t, h, "1m"), []Candle{{22, 100, 100, 100, 100, 100}, {62, 101, 101, 101, 101, 101}, {63, 102, 102, 102, 102, 102}})
			}
			f.Seed("bitcoin", "a", past)
			want()
			if err := h.Flush(); err != nil {
				t.Fatal(err)
			}
			f.Seed("bitcoin", "b", past) // once more changes nothing
			want()
			if d := f.assets["bitcoin"]; d.price != 102 || d.window.high != 110 || d.window.low != 80 || d.window.volume != 4303 {
				t.Errorf("got price %v and window %v %v %v", d.price, d.window.high, d.window.low, d.window.volume)
			}
		})
	}
}

// TestSeedThenTicks shows that the hour and the day that seeds began go on.
func TestSeedThenTicks(t *testing.T) {
	h := openMemory(t)
	f := newFixture(t)
	f.Keep(h)
	f.now = start + 10*protocol.Minute
	f.Seed("bitcoin", "a", []Candle{five(-5, 90, 90, 90, 90, 1), five(0, 91, 92, 91, 92, 1), five(5, 92, 93, 92, 93, 1)})
	f.observe(tick("a", 100, 11*60_000))
	same(t, "5m", bars(t, h, "5m"), []Candle{{-5, 90, 90, 90, 90, 1}, {0, 91, 92, 91, 92, 1}, {5, 92, 93, 92, 93, 1}, {10, 100, 100, 100, 100, 100}})
	same(t, "1h", bars(t, h, "1h"), []Candle{{-60, 90, 90, 90, 90, 1}, {0, 91, 100, 91, 100, 102}})
	same(t, "1d", bars(t, h, "1d"), []Candle{{-9 * 60, 90, 100, 90, 100, 103}})
}

func TestSeedOfUnknownAsset(t *testing.T) {
	f := newFixture(t)
	f.Seed("nope", "a", []Candle{five(-5, 90, 90, 90, 90, 1)})
	f.Seed("bitcoin", "a", nil)
	if len(f.assets) != 0 {
		t.Errorf("got %d assets", len(f.assets))
	}
}

// TestSeedOfPoison shows which past bars are not believed: wicks far from
// their own bar, and what does not lead to the price that is known, or to the
// middle of all bars when none is.
func TestSeedOfPoison(t *testing.T) {
	past := func() []Candle {
		return []Candle{
			five(-60, 100, 101, 99, 100, 1),
			five(-55, 10_000, 10_000, 10_000, 10_000, 1), // another coin's
			five(-50, 100, 151.6, 99, 101, 1),            // a wick
			five(-45, 101, 101, 44, 90, 1),               // one down
			five(-40, 90, 140, 90, 140, 1),               // as far as a bar goes
			five(-35, 140, 200, 140, 200, 1),             // and on
			five(-30, 200, 400, 200, 400, 1),             // too far
			five(-25, 200, 200, 150, 150, 1),
			five(-20, 1, 1, 1, 1, 1),
		}
	}
	for _, known := range []bool{false, true} {
		f := newFixture(t)
		h := openMemory(t)
		f.Keep(h)
		want := []Candle{{-60, 100, 101, 99, 100, 1}, {-40, 90, 140, 90, 140, 1}, {-35, 140, 200, 140, 200, 1}, {-25, 200, 200, 150, 150, 1}}
		if known {
			f.observe(tick("a", 120, 0))
			want = append(want, Candle{0, 120, 120, 120, 120, 120})
		}
		f.Seed("bitcoin", "a", past())
		same(t, "5m", bars(t, h, "5m"), want)
		if n := f.Stats().SuspectBars; n != 5 {
			t.Errorf("got %d suspect bars, want 5", n)
		}
		if w := f.assets["bitcoin"].window; w.high != 200 || w.low != 90 {
			t.Errorf("the window goes from %v to %v", w.low, w.high)
		}
	}
}

// TestSeedFarFromThePrice shows that a history of another coin is not taken.
func TestSeedFarFromThePrice(t *testing.T) {
	f := newFixture(t)
	f.observe(tick("a", 100, 0))
	f.Seed("bitcoin", "a", []Candle{five(-10, 3, 3, 3, 3, 1), five(-5, 3, 3, 3, 3, 1)})
	if w := f.assets["bitcoin"].window; w.low != 100 || len(w.buckets) != 1 {
		t.Errorf("the window goes down to %v", w.low)
	}
}
