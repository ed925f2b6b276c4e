package feed

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"cryptointel/internal/feedsim"
	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// A count is what became of a place's trades.
type count struct {
	made, late, lost int
}

// trades compares what reached the sink with what an exchange traded in a
// market, from when it first spoke to us to the end: every trade once, as it
// was made, the live ones in order. It returns what the exchange gave no way
// to have, too.
func (w *world) trades(p place) (n count, findings []string) {
	truth := w.sim.Truth(p.exchange, p.symbol)
	index := make(map[int64]int, len(truth))
	for i, k := range truth {
		index[k.ID] = i
	}
	seen := make([]int, len(truth))
	add := func(format string, args ...any) {
		if len(findings) < 20 {
			findings = append(findings, fmt.Sprintf(p.exchange+" "+p.symbol+": "+format, args...))
		}
	}
	newest := -1
	first := firstAt(truth)
	for _, g := range w.desk.seen.of(p) {
		if g.Kind == market.Ticker {
			if at, ok := first[g.PriceText]; !ok || at.After(g.at) || trimmed(g.PriceText) != trimmed(fmt.Sprint(g.Price)) {
				add("a ticker at %v, where nothing had been traded at %v", g.PriceText, g.at)
			}
			continue
		}
		i, ok := index[g.TradeID]
		if !ok {
			add("trade %d was never made", g.TradeID)
			continue
		}
		if what := differs(g, truth[i]); what != "" {
			add("trade %d changed: %s", g.TradeID, what)
		}
		if seen[i]++; seen[i] == 2 {
			add("trade %d doubled", g.TradeID)
		}
		switch {
		case g.Late:
			n.late++
		case i <= newest:
			add("trade %d came live after %d", g.TradeID, truth[newest].ID)
		default:
			newest = i
		}
	}
	begin := w.begin(p, truth, slices.IndexFunc(seen, func(n int) bool { return n > 0 }))
	out := w.outOfReach(p, truth)
	for i := begin; i < indexAt(truth, w.end); i++ {
		k := truth[i]
		n.made++
		if seen[i] > 0 {
			continue
		}
		if out[i] {
			n.lost++
			continue
		}
		add("trade %d of %s lost", k.ID, k.Time.UTC().Format("15:04:05.000"))
	}
	return n, findings
}

// firstAt is when each price was first traded at.
func firstAt(truth []feedsim.Trade) map[string]time.Time {
	out := make(map[string]time.Time, len(truth))
	for _, k := range slices.Backward(truth) {
		out[k.Price] = k.Time
	}
	return out
}

// begin is the trade from which on all must come: the first that came, which
// must be no later than the first one of the subscription. That may follow the
// exchange's first frame by some paced messages. Until a market's first trade
// there is no id that a gap could be measured from, so a connection that ends
// before it leaves none.
func (w *world) begin(p place, truth []feedsim.Trade, first int) int {
	begin := indexAt(truth, w.wires.first[p.exchange].Add(time.Second))
	if first < 0 {
		return begin
	}
	cut := slices.ContainsFunc(w.faultsOf(p.exchange), func(f feedsim.Fault) bool {
		return interrupts(f.Kind) && f.At.Before(truth[first].Time)
	})
	if cut || first < begin {
		return first
	}
	return begin
}

// differs says what of a tick is not as the trade was. A tick has no side.
func differs(g got, k feedsim.Trade) string {
	text, at := g.PriceText, k.Time
	if g.Late && g.Exchange == "kraken" && trimmed(text) == trimmed(k.Price) {
		text = k.Price // REST writes five decimals
	}
	if g.Late && g.Exchange == "bitstamp" && g.Time%protocol.Second == 0 {
		at = at.Truncate(time.Second) // REST tells whole seconds
	}
	price, _ := strconv.ParseFloat(k.Price, 64)
	size, _ := strconv.ParseFloat(k.Size, 64)
	switch {
	case text != k.Price || g.Price != price:
		return fmt.Sprintf("price %s (%v), not %s", g.PriceText, g.Price, k.Price)
	case g.Size != size:
		return fmt.Sprintf("size %v, not %v", g.Size, size)
	case int64(g.Time) != at.UnixNano():
		return fmt.Sprintf("time %d, not %d", g.Time, at.UnixNano())
	}
	return ""
}

func trimmed(s string) string {
	if strings.Contains(s, ".") {
		return strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

const (
	// bybitShows is how many trades Bybit's REST API has of a spot market.
	bybitShows = 60
	// askWithin is how long a feed may take to ask after a subscription was
	// confirmed, and askAgain after REST works again.
	askWithin = time.Second
	askAgain  = 10 * time.Second
)

// outOfReach marks the trades that an exchange's own rules do not allow to
// have. Coinbase, Kraken, Binance and OKX have every trade by id for as long
// as a simulation lasts, Bitstamp an hour's: at these none is lost. Bybit
// shows the newest 60 of a market: what was not sent on a connection (the
// wires tell), and is not among the 60 newest any more when the next
// subscription has been confirmed and REST can be asked, is out of reach.
// While REST refuses, is slow (8 s an answer) or away, it cannot be asked.
func (w *world) outOfReach(p place, truth []feedsim.Trade) []bool {
	out := make([]bool, len(truth))
	if p.exchange != "bybit" {
		return out
	}
	told, acks := w.wires.told[p.symbol], w.wires.acks[p.symbol]
	for i, k := range truth {
		if told[k.ID] {
			continue
		}
		next, _ := slices.BinarySearchFunc(acks, k.Time, time.Time.Compare)
		if next == len(acks) {
			continue // there must be one
		}
		asked := w.asked(p.exchange, acks[next])
		out[i] = i < indexAt(truth, asked)-bybitShows
	}
	return out
}

// indexAt is that of the first trade not before a time.
func indexAt(truth []feedsim.Trade, at time.Time) int {
	i, _ := slices.BinarySearchFunc(truth, at, func(k feedsim.Trade, at time.Time) int { return k.Time.Compare(at) })
	return i
}

// asked is by when a feed can have asked REST for what a new subscription
// does not tell.
func (w *world) asked(exchange string, at time.Time) time.Time {
	trouble := false
	clear := at
	for again := true; again; {
		again = false
		for _, f := range w.sim.Log() {
			end := f.At.Add(f.For)
			if f.Exchange != exchange || !restFault(f.Kind) || f.At.After(clear.Add(askWithin)) || !end.After(clear) {
				continue
			}
			clear, trouble, again = end, true, true
		}
	}
	if trouble {
		return clear.Add(askAgain)
	}
	return clear.Add(askWithin)
}

func restFault(k feedsim.Kind) bool {
	switch k {
	case feedsim.Outage, feedsim.REST429, feedsim.REST500, feedsim.RESTSlow:
		return true
	}
	return false
}
