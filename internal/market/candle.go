package market

import (
	"fmt"
	"time"

	"cryptointel/protocol"
)

// A Candle is one bar of an asset's price.
type Candle struct {
	Start                  protocol.Time
	Open, High, Low, Close float64 // USD
	Volume                 float64 // USD traded at the followed sources; 0 when unknown
}

// valid reports whether the numbers can be a bar's.
func (c *Candle) valid() bool {
	for _, v := range [4]float64{c.Open, c.High, c.Low, c.Close} {
		if known(v) == 0 {
			return false
		}
	}
	return c.Start > 0 && c.Low <= min(c.Open, c.Close) && c.High >= max(c.Open, c.Close) &&
		(c.Volume == 0 || amount(c.Volume) > 0)
}

// A span is one of the lengths that bars have.
type span struct {
	name string
	of   protocol.Time
}

func (s span) length() time.Duration { return time.Duration(s.of) }

// start is when the bar begins that a time lies in. Days are UTC's.
func (s span) start(t protocol.Time) protocol.Time { return t - t%s.of }

const (
	spanMinute = iota
	spanFive
	spanHour
	spanDay
)

var spans = [4]span{
	spanMinute: {"1m", protocol.Minute},
	spanFive:   {"5m", 5 * protocol.Minute},
	spanHour:   {"1h", hourLength},
	spanDay:    {"1d", dayLength},
}

// spanOf finds an interval by its name.
func spanOf(interval string) (int, error) {
	for k, s := range spans {
		if s.name == interval {
			return k, nil
		}
	}
	return 0, fmt.Errorf("no bars of %.20q: use 1m, 5m, 1h or 1d", interval)
}

// A sample is what bars learn from a tick.
type sample struct {
	series                   *series
	at                       protocol.Time
	price, high, low, volume float64
	late                     bool // learnt of after the fact
}

// A bar is a candle on its way to the store. A part is only what was learnt
// late of a bar: the store adds it to what it has.
type bar struct {
	Candle
	part bool
}

// begin is the first sample of a bar.
func (s *sample) begin(start protocol.Time) Candle {
	return Candle{Start: start, Open: s.price, High: s.high, Low: s.low, Close: s.price, Volume: s.volume}
}

// take enters a sample into the bar it lies in.
func (c *Candle) take(s *sample) {
	c.widen(s.high, s.low, s.volume)
	if !s.late {
		c.Close = s.price
	}
}

func (c *Candle) widen(high, low, volume float64) {
	c.High, c.Low, c.Volume = max(c.High, high), min(c.Low, low), min(c.Volume+volume, maxDollars)
}

// over is the bar put over what was known of it.
func (b bar) over(old bar) bar {
	if !b.part {
		return b
	}
	old.widen(b.High, b.Low, b.Volume)
	return old
}
