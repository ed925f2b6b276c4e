package market

import (
	"math"
	"math/rand/v2"
	"testing"

	"cryptointel/protocol"
)

// TestHeavySourceDoesNotStop shows that one exchange, however large, cannot
// hold a price that five others have left.
func TestHeavySourceDoesNotStop(t *testing.T) {
	f := newFixture(t)
	others := []string{"a", "b", "c", "d", "e"}
	for _, name := range others {
		f.observe(heavy(name, 100, 1e9, 0))
	}
	f.observe(heavy("binance", 100, 6e9, 10))
	for ms := int64(1000); ms < 4000; ms += 1000 {
		for _, name := range others {
			f.observe(heavy(name, 78.57, 1e9, ms))
		}
		f.observe(heavy("binance", 100, 6e9, ms+1))
	}
	if a := f.assets["bitcoin"]; a.price != 78.57 {
		t.Errorf("the price is %v, want that of five of six", a.price)
	}
	if n := f.Stats().Quarantined; n != 1 {
		t.Errorf("%d are off, want the large one", n)
	}
}

// TestWalkOfOne is the attack: a source that claims more than all markets
// trade walks away in steps that each look fine.
func TestWalkOfOne(t *testing.T) {
	f := newFixture(t)
	good := []string{"a", "b", "c", "d"}
	liar := 100.0
	for ms := int64(0); ms < 60_000; ms += 1000 {
		for _, name := range good {
			f.observe(heavy(name, 99, 1e9, ms))
		}
		f.observe(heavy("liar", liar, 9e12, ms))
		liar *= 1.04
		if price := f.assets["bitcoin"].price; price != 99 {
			t.Fatalf("after %d s the price is %v, want 99", ms/1000, price)
		}
	}
}

// TestHeavierOfTwoJumpsAlone shows that of two even the heavier has to stay
// where it went.
func TestHeavierOfTwoJumpsAlone(t *testing.T) {
	f := newFixture(t)
	f.play(t, []step{
		{heavy("big", 100, 1e9, 0), Accepted, 100},
		{heavy("small", 100, 1e6, 0), Accepted, 100},
		{heavy("big", 110, 1e9, 10), Outlier, 100},
		{heavy("small", 100, 1e6, 20), Accepted, 100},
		{heavy("big", 110, 1e9, 5000), Outlier, 100},
		{heavy("small", 100, 1e6, 5010), Accepted, 100},
		{heavy("big", 110, 1e9, 10_010), Accepted, 110}, // it stays
		{heavy("small", 100, 1e6, 10_020), Outlier, 110},
	})
}

// TestQuotesAreNoExchanges shows that an exchange has one vote, in however
// many dollars it quotes.
func TestQuotesAreNoExchanges(t *testing.T) {
	f := newFixture(t)
	f.play(t, []step{
		{heavy("a", 100, 1e6, 0), Accepted, 100},
		{heavy("b", 100, 1e6, 0), Accepted, 100},
		{heavy("many", 110, 1e9, 10), Outlier, 100},
		{inUSDT(heavy("many", 110, 1e9, 20)), Outlier, 100},
		{inUSDC(heavy("many", 110, 1e9, 30)), Outlier, 100},
	})
	// Beside one of the same weight too: a newcomer has to stay.
	f = newFixture(t)
	f.play(t, []step{
		{tick("a", 100, 0), Accepted, 100},
		{tick("many", 110, 10), Outlier, 100},
		{inUSDT(tick("many", 110, 20)), Outlier, 100},
		{inUSDC(tick("many", 110, 30)), Outlier, 100},
	})
}

// TestClaimedVolume bounds a first claim by what the others trade.
func TestClaimedVolume(t *testing.T) {
	f := newFixture(t)
	f.observe(heavy("a", 100, 1e6, 0))
	f.observe(heavy("b", 100, 2e6, 0))
	f.observe(heavy("c", 100, 3e6, 0))
	f.observe(heavy("liar", 100, 9e12, 10))
	if got := f.last(t).Volume; got != 206e6 {
		t.Errorf("got volume %v, want 6 million and 100 times their median", got)
	}
	if n := f.Stats().SuspectDays; n != 1 {
		t.Errorf("got %d suspect days, want 1", n)
	}
	f.observe(heavy("large", 100, 150e6, 20))
	if n := f.Stats().SuspectDays; n != 1 {
		t.Errorf("a large exchange is suspect: %d", n)
	}
}

// TestOneLiar holds the price near the truth while one of several sources
// says what it wants.
func TestOneLiar(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 7))
		f := newFixture(t)
		honest := 3 + r.IntN(4)
		volumes := make([]float64, honest)
		for i := range volumes {
			volumes[i] = math.Pow(10, 3+7*r.Float64())
		}
		l := liar{Rand: r, price: 100, volume: math.Pow(10, 13*r.Float64())}
		truth, first := 100.0, r.IntN(2) == 0
		for round := range int64(400) {
			truth *= math.Exp(0.002 * r.NormFloat64())
			ms := round * 500
			if first {
				f.observe(l.tick(truth, ms))
			}
			for _, i := range r.Perm(honest) {
				price := truth * (1 + 0.009*(2*r.Float64()-1))
				f.observe(heavy(string(rune('a'+i)), price, volumes[i], ms+int64(i)))
				if r.IntN(3) == 0 {
					f.observe(l.tick(truth, ms+int64(i)))
				}
			}
			f.Sweep(f.now)
			a := f.assets["bitcoin"]
			if off := a.price/truth - 1; math.Abs(off) > 0.02 {
				t.Fatalf("seed %d, round %d: the price is %v, the true one %v, the liar's %v of %v", seed, round, a.price, truth, l.price, l.volume)
			}
		}
	}
}

// A liar walks, jumps, or keeps just inside of what is an outlier.
type liar struct {
	*rand.Rand
	price, volume float64
}

func (l *liar) tick(truth float64, ms int64) Tick {
	switch l.IntN(20) {
	case 0:
		l.price = truth * (0.6 + 0.8*l.Float64())
	case 1, 2:
		l.price = truth * 1.049
	case 3:
		l.volume = math.Pow(10, 13*l.Float64())
	default:
		l.price *= 1 + 0.049*(2*l.Float64()-0.5)
	}
	t := heavy("liar", l.price, l.volume, ms)
	if l.IntN(4) == 0 {
		t.Kind, t.Size = Trade, l.volume/l.price
	}
	t.Late = l.IntN(10) == 0
	t.Time -= protocol.Time(l.IntN(2)) * 100 * protocol.Millisecond
	return t
}
