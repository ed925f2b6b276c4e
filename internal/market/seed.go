package market

import (
	"cmp"
	"slices"

	"cryptointel/protocol"
)

// Seed enters an exchange's past bars of five minutes, where nothing was seen
// by ourselves: into the 24 hour window and the bars of five minutes, an hour
// and a day. It never moves a price. Bars that cannot be or are not believed, and
// one that is not over, are left out. The numbers must be in dollars. It reads stored bars, so it belongs to the start and to
// reconnects. It is for the goroutine that owns the Market.
func (m *Market) Seed(asset, exchange string, bars []Candle) {
	bars = m.past(bars)
	bars = m.seedWindow(asset, bars)
	if len(bars) == 0 || m.history == nil {
		return
	}
	if err := m.history.seed(asset, bars); err != nil {
		m.history.log.Warn("past bars not kept", "asset", asset, "exchange", exchange, "err", err)
	}
}

// past are the usable ones of an exchange's bars, in order, one each.
func (m *Market) past(bars []Candle) []Candle {
	five := spans[spanFive]
	now := m.now()
	bars = slices.DeleteFunc(slices.Clone(bars), func(c Candle) bool {
		return !c.valid() || c.Start != five.start(c.Start) || c.Start+five.of > now
	})
	slices.SortFunc(bars, byStart)
	return slices.CompactFunc(bars, func(a, b Candle) bool { return a.Start == b.Start })
}

func byStart(a, b Candle) int { return cmp.Compare(a.Start, b.Start) }

// seedWindow enters the bars that are believed, and returns them: none when
// there is no such asset.
func (m *Market) seedWindow(slug string, bars []Candle) []Candle {
	if len(bars) == 0 {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.assetLocked(slug)
	if a == nil {
		return nil
	}
	all := len(bars)
	bars = a.believed(bars)
	m.stats.SuspectBars += uint64(all - len(bars))
	for i := range bars {
		if bars[i].Start > m.now()-dayLength {
			a.window.seed(&bars[i], spans[spanFive].of)
		}
	}
	return bars
}

// believed are the bars that lead to the asset's price, or to the middle of all
// when there is none: going back, each ends within what a tick may jump of
// where the one after it begins. One with a wick beyond that is a mistake.
func (a *asset) believed(bars []Candle) []Candle {
	ref := a.price
	if ref == 0 {
		middle := slices.SortedFunc(slices.Values(bars), func(x, y Candle) int { return cmp.Compare(x.Close, y.Close) })
		ref = middle[len(middle)/2].Close
	}
	var out []Candle
	for _, c := range slices.Backward(bars) {
		if apart(c.Close, ref, 0.5) || apart(c.Open, c.Close, 0.5) || !c.calm() {
			continue
		}
		out, ref = append(out, c), c.Open
	}
	slices.Reverse(out)
	return out
}

// calm reports whether high and low are near where the bar begins or ends.
func (c *Candle) calm() bool {
	return c.High <= 1.5*max(c.Open, c.Close) && c.Low >= min(c.Open, c.Close)/2
}

// seed enters past bars that do not overlap what is known.
func (h *History) seed(slug string, bars []Candle) error {
	day := spans[spanDay]
	from, to := day.start(bars[0].Start), day.start(bars[len(bars)-1].Start)+day.of
	own, err := h.candles(spanFive, slug, from, to, 1<<20)
	if err != nil {
		return err
	}
	fresh := slices.DeleteFunc(slices.Clone(bars), func(c Candle) bool {
		_, found := slices.BinarySearchFunc(own, c, byStart)
		return found
	})
	if len(fresh) == 0 {
		return nil
	}
	wider := make([][]Candle, 0, 2)
	for _, k := range []int{spanHour, spanDay} {
		known, err := h.candles(k, slug, from, to, 1<<20)
		if err != nil {
			return err
		}
		wider = append(wider, widen(spans[k], known, own, fresh))
	}
	h.putSeeds(slug, fresh, wider)
	return nil
}

// widen adds new five-minute bars to the longer ones that they lie in, and
// returns those that change. own are the five-minute bars that known was made
// from, as far as they are still kept: what comes before the first of them
// opens a bar, what comes after the last closes it.
func widen(s span, known, own, fresh []Candle) (out []Candle) {
	for len(fresh) > 0 {
		start := s.start(fresh[0].Start)
		n, _ := slices.BinarySearchFunc(fresh, Candle{Start: start + s.of}, byStart)
		part := fresh[:n]
		fresh = fresh[n:]
		c := fold(start, part)
		if i, found := slices.BinarySearchFunc(known, c, byStart); found {
			c = join(known[i], c, part, inside(own, start, start+s.of))
		}
		out = append(out, c)
	}
	return out
}

// fold makes one bar of several.
func fold(start protocol.Time, bars []Candle) Candle {
	c := bars[0]
	c.Start, c.Close = start, bars[len(bars)-1].Close
	for _, b := range bars[1:] {
		c.High, c.Low, c.Volume = max(c.High, b.High), min(c.Low, b.Low), min(c.Volume+b.Volume, maxDollars)
	}
	return c
}

// join puts a bar that was folded from parts over the one that is known.
func join(old, folded Candle, parts, own []Candle) Candle {
	old.High, old.Low = max(old.High, folded.High), min(old.Low, folded.Low)
	old.Volume = min(old.Volume+folded.Volume, maxDollars)
	if len(own) > 0 && parts[0].Start < own[0].Start {
		old.Open = folded.Open
	}
	if len(own) > 0 && parts[len(parts)-1].Start > own[len(own)-1].Start {
		old.Close = folded.Close
	}
	return old
}

func inside(bars []Candle, from, to protocol.Time) []Candle {
	i, _ := slices.BinarySearchFunc(bars, Candle{Start: from}, byStart)
	j, _ := slices.BinarySearchFunc(bars, Candle{Start: to}, byStart)
	return bars[i:max(i, j)]
}

// putSeeds enters the new bars. Ticks cannot have come since they were made:
// the caller owns the Market.
func (h *History) putSeeds(slug string, five []Candle, wider [][]Candle) {
	s := h.series(slug)
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, bars := range [][]Candle{five, wider[0], wider[1]} {
		k := spanFive + i
		for _, c := range bars {
			h.last = max(h.last, c.Start)
			if c.Start == s.live[k].Start || s.live[k].Start == 0 && c.Start == bars[len(bars)-1].Start {
				s.live[k], s.touched[k] = c, true
				continue
			}
			h.putLocked(barKey{k, slug, c.Start}, bar{Candle: c})
		}
	}
}
