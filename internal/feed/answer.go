package feed

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/valyala/fastjson"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// barSpan is the length of the bars that exchanges are asked for.
const barSpan = 5 * protocol.Minute

// answer parses the body of a REST answer. Nothing of it is kept.
func answer(body []byte) (*fastjson.Value, error) {
	v, err := fastjson.ParseBytes(body)
	if err != nil {
		return nil, fmt.Errorf("parse answer: %w", err)
	}
	return v, nil
}

// rows is the array under keys. Without keys it is v itself.
func rows(v *fastjson.Value, keys ...string) ([]*fastjson.Value, error) {
	a := v.Get(keys...)
	if a == nil || a.Type() != fastjson.TypeArray {
		return nil, fmt.Errorf("answer without a list of %v", keys)
	}
	return a.GetArray(), nil
}

// plainSymbol reports whether a symbol can stand in a subscription and in a
// path as it is.
func plainSymbol(symbol []byte) bool {
	for _, c := range symbol {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' {
			return false
		}
	}
	return len(symbol) > 0 && len(symbol) <= 40
}

// bar makes a candle of a start in units and of open, high, low, close and
// volume, all as text.
func bar(start []byte, unit protocol.Time, fields ...[]byte) (c market.Candle, err error) {
	n, err := whole(start)
	if c.Start = protocol.Time(n) * unit; err != nil || n > latest/int64(unit) || c.Start%barSpan != 0 {
		return c, fmt.Errorf("bar start %.40q is no time of a five-minute bar", start)
	}
	for i, to := range []*float64{&c.Open, &c.High, &c.Low, &c.Close, &c.Volume} {
		var ok bool
		if *to, ok = parseDecimal(fields[i]); !ok {
			return c, fmt.Errorf("bar field %d %.40q is not a decimal", i+1, fields[i])
		}
	}
	if c.Low <= 0 || c.Low > min(c.Open, c.Close) || c.High < max(c.Open, c.Close) || c.Volume < 0 {
		return c, fmt.Errorf("bar at %s contradicts itself: open %v high %v low %v close %v volume %v", start, c.Open, c.High, c.Low, c.Close, c.Volume)
	}
	return c, nil
}

// inOrder puts bars oldest first; of two with one start the first is kept.
func inOrder(bars []market.Candle) []market.Candle {
	slices.SortStableFunc(bars, func(a, b market.Candle) int { return cmp.Compare(a.Start, b.Start) })
	return slices.CompactFunc(bars, func(a, b market.Candle) bool { return a.Start == b.Start })
}

// A harvest is what an answer holds of a gap between ids that only grow.
type harvest struct {
	gap       Note
	ticks     []market.Tick
	low, high int64 // the lowest and highest id of the whole answer, 0 in an empty one
}

// add takes a trade of the answer.
func (h *harvest) add(k market.Tick) {
	id := k.TradeID
	if h.low == 0 || id < h.low {
		h.low = id
	}
	h.high = max(h.high, id)
	k.Late = true
	h.ticks = append(h.ticks, k)
}

// outOfReach marks what is left of a gap that is older than the exchange's
// list of recent trades, so that it is not asked for in vain.
const outOfReach = "older than the exchange's list of recent trades"

var errNotYet = errors.New("the answer does not reach up to the end of the gap yet: ask again")

// take returns the trades of the gap that are still missing, oldest first, and
// what of it the answer does not reach. How many were missing is known only
// now. A gap that has an end ends before a trade that was seen, so an answer
// without that trade is too early. Behind one that has none the newest trade
// of the answer is the newest known: the connection's trades go on from it.
func (h *harvest) take(p *pair, st *Stats) (ticks []market.Tick, rest Note, err error) {
	if h.gap.To != openEnd && h.high <= h.gap.To {
		return nil, h.gap, errNotYet
	}
	inside := func(s hole) bool { return s.to >= h.gap.From && s.from <= h.gap.To }
	for _, s := range p.missing {
		if inside(s) && s.to != openEnd && h.high <= s.to {
			return nil, h.gap, errNotYet
		}
	}
	slices.SortStableFunc(h.ticks, func(a, b market.Tick) int { return cmp.Compare(a.TradeID, b.TradeID) })
	h.ticks = slices.CompactFunc(h.ticks, func(a, b market.Tick) bool { return a.TradeID == b.TradeID })
	var left []hole
	for _, s := range p.missing {
		if !inside(s) || h.high < s.from {
			left = append(left, s)
			continue
		}
		ticks = append(ticks, h.between(s.from, s.to)...)
		if old := s; h.low > s.from {
			old.to = min(h.low-1, s.to)
			left = append(left, old)
			rest = h.gap
			rest.From, rest.To, rest.Text = old.from, old.to, outOfReach
		}
		if s.to == openEnd {
			p.lastTrade, p.lastTime = h.high, max(p.lastTime, h.ticks[len(h.ticks)-1].Time)
			left = append(left, hole{from: h.high + 1, to: openEnd, after: p.lastTime})
		}
	}
	p.missing = left
	if n := uint64(len(ticks)); n > 0 {
		st.Gaps++
		st.Missing += n
		st.Recovered += n
		st.Ticks += n
	}
	return ticks, rest, nil
}

// between are the ticks with ids from one to another.
func (h *harvest) between(from, to int64) (out []market.Tick) {
	for _, k := range h.ticks {
		if k.TradeID >= from && k.TradeID <= to {
			out = append(out, k)
		}
	}
	return out
}

// latest is the last time that is believed, in 2200.
const latest = int64(7_258_118_400 * protocol.Second)

// whole reads digits as a number above 0.
func whole(b []byte) (int64, error) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("%.40q is not a positive number", b)
		}
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%.40q is not a positive number", b)
	}
	return n, nil
}

// wholeText is the number above 0 that the string under key spells.
func wholeText(v *fastjson.Value, key string) (int64, error) {
	n, err := whole(text(v, key))
	if err != nil {
		return 0, fmt.Errorf("%s %w", key, err)
	}
	return n, nil
}

// timeText is the time that the string under key counts in units since 1970.
func timeText(v *fastjson.Value, key string, unit protocol.Time) (protocol.Time, error) {
	n, err := whole(text(v, key))
	if err != nil || n > latest/int64(unit) {
		return 0, fmt.Errorf("%s %.40q is not a time", key, text(v, key))
	}
	return protocol.Time(n) * unit, nil
}

// timeNumber is the time that the number under key counts in milliseconds.
func timeNumber(v *fastjson.Value, key string) (protocol.Time, error) {
	n, err := intField(v, key)
	if err != nil || n <= 0 || n > latest/int64(protocol.Millisecond) {
		return 0, fmt.Errorf("%s is not a time in milliseconds", key)
	}
	return protocol.Time(n) * protocol.Millisecond, nil
}
