package feed

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
)

// A quoted price_update, as far as it is looked at.
type update struct {
	Price     float64   `json:"price"`
	Stale     bool      `json:"stale"`
	Timestamp time.Time `json:"timestamp"`
	Sources   []struct {
		Name  string  `json:"name"`
		Price float64 `json:"price"`
		Rate  float64 `json:"rate"`
	} `json:"sources"`
}

// staleAfter is the market's default: how long a price counts.
const staleAfter = time.Minute

// An extent is the lowest and the highest price of a second, in dollars. Nothing
// in the simulation says what a stable coin is worth, so it is a dollar.
type extent struct{ low, high float64 }

// spans are an asset's prices by the second, over all exchanges that matter:
// what was traded in it, and what stood when it began.
func (w *world) spans(asset string, from time.Time) []extent {
	out := make([]extent, int(time.Since(from)/time.Second)+1)
	for i := range out {
		out[i] = extent{math.Inf(1), 0}
	}
	for _, p := range places() {
		if p.asset != asset {
			continue
		}
		last, at := 0.0, 0
		include := func(i int, v float64) {
			if v > 0 && i >= 0 {
				out[i] = extent{min(out[i].low, v), max(out[i].high, v)}
			}
		}
		for _, k := range w.sim.Truth(p.exchange, p.symbol) {
			second := min(int(k.Time.Sub(from)/time.Second), len(out)-1)
			for ; at <= second; at++ {
				include(at, last)
			}
			last, _ = strconv.ParseFloat(k.Price, 64)
			if !k.Time.Before(from) {
				include(second, last)
			}
		}
		for ; at < len(out); at++ {
			include(at, last)
		}
	}
	return out
}

// within reports whether a price was one of the minute before at, and of the
// second in which that began.
func within(spans []extent, from, at time.Time, price float64) (extent, bool) {
	s := extent{math.Inf(1), 0}
	last := int(at.Sub(from) / time.Second)
	for i := max(0, last-int(staleAfter/time.Second)-1); i <= last && i < len(spans); i++ {
		s = extent{min(s.low, spans[i].low), max(s.high, spans[i].high)}
	}
	return s, price >= s.low && price <= s.high
}

// prices looks at everything that was published of an asset: offsets rise, the
// price's time never goes back and is told stale when it is too old, and no
// price is one that nobody traded at.
func (w *world) prices(asset string) (n int, findings []string) {
	from := w.sim.Start().Add(-2 * staleAfter) // the first prices are older
	spans := w.spans(asset, from)
	add := func(format string, args ...any) {
		if len(findings) < 20 {
			findings = append(findings, fmt.Sprintf(asset+": "+format, args...))
		}
	}
	var last update
	offset := int64(0)
	for _, s := range w.desk.seen.shown {
		if s.Channel != "price:"+asset {
			continue
		}
		n++
		var u update
		if err := json.Unmarshal(s.Data, &u); err != nil {
			add("published %q: %v", s.Data, err)
			continue
		}
		if s.Offset <= offset {
			add("offset %d after %d", s.Offset, offset)
		}
		if u.Timestamp.Before(last.Timestamp) || u.Timestamp.After(s.at) {
			add("time %v at %v, after %v", u.Timestamp, s.at, last.Timestamp)
		}
		if age := s.at.Sub(u.Timestamp); !u.Stale && age > staleAfter+2*time.Second {
			add("%v old at %v and not stale", age, s.at)
		}
		if u.Stale && u.Price != last.Price {
			add("stale at %v with a new price: %v after %v", s.at, u.Price, last.Price)
		}
		if got, ok := within(spans, from, s.at, u.Price); !ok && !u.Stale {
			add("price %v at %v: invented, trades of the last minute were from %v to %v", u.Price, s.at, got.low, got.high)
		}
		for _, x := range u.Sources {
			if got, ok := within(spans, from, s.at, x.Price); !ok || x.Rate != 0 && x.Rate != 1 {
				add("source %s: price %v, rate %v at %v: invented, trades were from %v to %v", x.Name, x.Price, x.Rate, s.at, got.low, got.high)
			}
		}
		last, offset = u, s.Offset
	}
	return n, findings
}
