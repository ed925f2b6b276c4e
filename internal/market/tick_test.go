package market

import (
	"slices"
	"testing"
	"time"

	"cryptointel/protocol"
)

func TestConfirmations(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.ConfirmEvery = time.Second })
	f.play(t, []step{
		{tick("a", 100, 0), Accepted, 100},
		{tick("a", 100, 100), Confirmed, 100},
		{tick("a", 101, 200), Accepted, 101}, // a change is published at once
		{tick("a", 101, 1100), Confirmed, 101},
		{tick("b", 101, 1150), Confirmed, 101},
		{tick("b", 101, 1200), Accepted, 101},
	})
	offset, _ := f.Observe(tick("a", 101, 1200))
	if newest := f.published[len(f.published)-1].Offset; offset != newest || len(f.published) != 3 {
		t.Errorf("got offset %d and %d publications, want %d and 3", offset, len(f.published), newest)
	}
	// Everything counts in the volume, shown or not.
	f.observe(tick("a", 101, 3000))
	if d := f.last(t); d.Volume != 100+100+101*6 {
		t.Errorf("got volume %v, want 806", d.Volume)
	}
}

func lateTick(price float64, ms int64) Tick {
	t := tick("a", price, ms)
	t.Late = true
	return t
}

func TestLateTicks(t *testing.T) {
	f := newFixture(t)
	f.play(t, []step{
		{tick("a", 100, 0), Accepted, 100},
		{tick("a", 101, 200_000), Accepted, 101},
		{lateTick(103, 60_000), Late, 101},
		{lateTick(104, 61_000), Late, 101},
		{lateTick(1, 62_000), Jump, 101},       // poison
		{lateTick(92, 63_000), Outlier, 101},   // more than 5 % off what is known around it
		{lateTick(97, -3600_000), Late, 101},   // before everything
		{lateTick(99, -25*3600_000), Old, 101}, // out of the window
	})
	a := f.assets["bitcoin"]
	if len(f.published) != 2 || a.at != start+200*protocol.Second {
		t.Errorf("got %d publications at %v, want 2 and the time unmoved", len(f.published), a.at-start)
	}
	f.observe(tick("a", 101, 201_000))
	if d := f.last(t); d.High != 104 || d.Low != 97 || d.Volume != 100+101+103+104+97+101 {
		t.Errorf("got %+v", d)
	}
	if !slices.IsSortedFunc(a.window.buckets, func(x, y bucket) int { return int(x.minute - y.minute) }) {
		t.Error("the window is out of order")
	}
}

// TestLateRatchet is the attack: late trades, each a step further out than the
// one before, of minutes that were seen and of one that was not.
func TestLateRatchet(t *testing.T) {
	for _, minute := range []int64{0, 2} {
		f := newFixture(t)
		h := openMemory(t)
		f.Keep(h)
		for _, name := range []string{"a", "b", "c"} {
			f.observe(tick(name, 100, 0))
		}
		for ms := int64(240_000); ms < 243_000; ms += 1000 {
			for _, name := range []string{"a", "b", "c"} {
				f.observe(tick(name, 100, ms))
			}
		}
		refused := 0
		for i, price := range []float64{104.9, 110, 115, 120, 125, 130, 135, 140, 145, 149} {
			k := lateTick(price, minute*60_000+int64(i))
			if f.observe(k) == Outlier {
				refused++
			}
		}
		f.observe(tick("a", 100, 243_000))
		if d := f.last(t); d.High != 104.9 || refused != 9 {
			t.Errorf("minute %d: high_24h is %v, %d were refused, want 104.9 and 9", minute, d.High, refused)
		}
		for _, c := range bars(t, h, "1m") {
			if c.High > 104.9 {
				t.Errorf("minute %d: got bar %+v", minute, c)
			}
		}
	}
}

// TestLateBeforeAll bounds late trades of a market that has no price yet by
// the first of them.
func TestLateBeforeAll(t *testing.T) {
	f := newFixture(t)
	got := []Reason{f.observe(lateTick(100, 0)), f.observe(lateTick(104, 60_000)), f.observe(lateTick(108, 120_000)), f.observe(lateTick(109, 120_000))}
	if want := []Reason{Late, Late, Outlier, Outlier}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestTradeBehindItsTicker shows that a trade which its ticker has overtaken
// is old as a price, and still counts as traded.
func TestTradeBehindItsTicker(t *testing.T) {
	f := newFixture(t)
	ticker := tick("a", 100, 5)
	ticker.Kind = Ticker
	f.play(t, []step{
		{ticker, Accepted, 100},
		{tick("a", 100, 2), Old, 100},
		{tick("a", 100, -70_000), Old, 100},
		{tick("a", 100, 10), Accepted, 100},
	})
	if d := f.last(t); d.Volume != 200 {
		t.Errorf("got volume %v, want that of two trades of 100", d.Volume)
	}
}

func TestTimeNeverGoesBack(t *testing.T) {
	f := newFixture(t)
	f.play(t, []step{
		{tick("a", 100, 5000), Accepted, 100},
		{tick("b", 101, 3500), Accepted, 100.5},
		{tick("c", 102, 2000), Behind, 100.5},
		{tick("a", 100, 5001), Accepted, 101}, // what was behind counts now
	})
	if at := f.assets["bitcoin"].at; at != start+5001*protocol.Millisecond {
		t.Errorf("the price is of %v", at-start)
	}
}

// TestOneTimeAhead shows that a source is not deaf after a tick from the
// future.
func TestOneTimeAhead(t *testing.T) {
	f := newFixture(t)
	ahead := tick("a", 100, 0)
	ahead.Time += 59 * protocol.Second
	f.play(t, []step{
		{ahead, Accepted, 100},
		{tick("a", 101, 1000), Old, 100},
		{tick("a", 102, 2000), Accepted, 102},
	})
}

func TestDayOfSeveralExchanges(t *testing.T) {
	f := newFixture(t)
	day := func(t Tick, open, high, low float64) Tick {
		t.Day.Open, t.Day.High, t.Day.Low = open, high, low
		return t
	}
	f.observe(day(heavy("small", 100, 1e6, 0), 80, 120, 70))
	f.observe(day(heavy("large", 100, 5e6, 0), 90, 110, 85))
	f.observe(day(inUSDT(heavy("large", 100, 3e6, 0)), 95, 105, 95))
	want := priceData{Price: 100, Volume: 9e6, High: 110, Low: 85}
	check := func(what string, change float64) {
		t.Helper()
		got := f.last(t)
		if got.Change == nil || *got.Change != change {
			t.Errorf("%s: got change %v, want %v", what, got.Change, change)
		}
		if got.Change = nil; got != want {
			t.Errorf("%s: got %+v, want %+v", what, got, want)
		}
	}
	check("all of them", 11.1111)
	trade := tick("large", 111, 1000)
	trade.Size = 1000
	f.observe(trade)
	want.Volume += 111_000
	f.now += 4 * protocol.Minute
	f.observe(heavy("large", 111, 6e6, 240_000))
	f.observe(tick("large", 111, 299_000))
	want.Price, want.Volume, want.High, want.Low = 111, 10e6+111, 0, 0
	d := f.last(t)
	if d.Volume != want.Volume {
		t.Errorf("four minutes on: got volume %v, want %v", d.Volume, want.Volume)
	}
	// Five minutes after the other tickers only the newest is left.
	f.observe(tick("large", 111, 301_000))
	if d := f.last(t); d.Volume != 6e6+222 {
		t.Errorf("after five minutes: got volume %v, want 6000222", d.Volume)
	}
}

func TestSuspectDay(t *testing.T) {
	f := newFixture(t)
	volume := func() float64 { return f.last(t).Volume }
	f.observe(heavy("a", 100, 1e6, 0))
	f.observe(heavy("a", 100, 1e9, 1000))
	if volume() != 1e6 {
		t.Errorf("a thousandfold volume was believed: %v", volume())
	}
	bad := heavy("a", 100, 1e300, 2000)
	bad.Day.Open, bad.Day.High, bad.Day.Low = 1e-300, 1e300, 5e-324
	f.observe(bad)
	if d := f.last(t); d.Volume != 1e6 || d.High > 100 || d.Change != nil {
		t.Errorf("impossible figures were shown: %+v", d)
	}
	if n := f.Stats().SuspectDays; n != 1 {
		t.Errorf("got %d suspect days, want 1", n)
	}
	for ms := int64(3000); ms <= 13_000; ms += 5000 {
		f.observe(heavy("a", 100, 1e9, ms))
	}
	if volume() != 1e9 {
		t.Errorf("a volume that stays was not believed: %v", volume())
	}
}

func TestWeights(t *testing.T) {
	s := source{time: start}
	weight := func() float64 { s.weigh(); return s.weight }
	if w := weight(); w != minWeight {
		t.Errorf("of nothing known: %v", w)
	}
	for h := range 48 {
		s.seen.add(start+protocol.Time(h)*hourLength, 1000)
	}
	if w := weight(); w != 24_000 {
		t.Errorf("of what was seen in a day: %v", w)
	}
	s.seen.add(start, 1e9)
	if w := weight(); w != 24_000 {
		t.Errorf("what is two days old counts: %v", w)
	}
	s.day = daily{at: start, volume: 5e6}
	if w := weight(); w != 5e6 {
		t.Errorf("of a ticker: %v", w)
	}
	s.published = true
	if w := weight(); w != minWeight {
		t.Errorf("of a publisher: %v", w)
	}
}
