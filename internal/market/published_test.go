package market

import (
	"slices"
	"testing"

	"cryptointel/protocol"
)

// published is a tick that came by the publish API.
func published(price float64, ms int64) Tick {
	t := tick("api:someone", price, ms)
	t.Kind, t.Published = Ticker, true
	return t
}

// Whoever may publish prices cannot move one that exchanges make, nor keep
// theirs out by a clock that is ahead.
func TestPublishedPricesRankBelowExchanges(t *testing.T) {
	f := newFixture(t)
	ahead := published(101, 3000)
	ahead.Time += 50 * protocol.Second
	got := []Reason{
		f.observe(published(100, 0)), // nobody else knows a price
		f.observe(tick("coinbase", 65000, 1000)),
		f.observe(published(1, 2000)),
		f.observe(ahead),
		f.observe(tick("coinbase", 65001, 3500)),
	}
	want := []Reason{Accepted, Accepted, Jump, Outranked, Accepted}
	if !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	if p := f.last(t); p.Price != 65001 {
		t.Errorf("the price is %v, want the exchange's 65001", p.Price)
	}
}

func TestPublishedPriceWhereNoExchangeIs(t *testing.T) {
	f := newFixture(t)
	f.observe(tick("coinbase", 65000, 0))
	first := len(f.published)
	if r := f.observe(published(65010, 30_000)); r != Outranked {
		t.Errorf("beside a fresh exchange: %v", r)
	}
	if r := f.observe(published(65020, 61_000)); r != Accepted {
		t.Errorf("after a minute without one: %v", r)
	}
	if n := len(f.published) - first; n != 1 {
		t.Errorf("%d publications, want 1", n)
	}
}

// A tick whose clock is ahead does not make the next ones of others late.
func TestClockAheadDelaysNobody(t *testing.T) {
	f := newFixture(t)
	ahead := tick("fast", 100, 0)
	ahead.Time += 58 * protocol.Second
	if r := f.observe(ahead); r != Accepted {
		t.Fatal(r)
	}
	if r := f.observe(tick("right", 101, 500)); r != Accepted {
		t.Errorf("the next source's tick is %v", r)
	}
}
