package market

import (
	"math"
	"slices"

	"cryptointel/protocol"
)

// A source is one exchange's price of an asset in one quote.
type source struct {
	name, quote string
	first       int    // index of the exchange's first source of the asset
	coin        *asset // whose price the quote is worth; nil for dollars
	published   bool   // by the publish API

	price     float64       // in the quote
	usd, rate float64       // in dollars, and by which rate
	time      protocol.Time // the exchange's clock
	received  protocol.Time // the feed's clock
	arrived   protocol.Time // the wall clock
	weight    float64       // in the asset's price: dollars a day
	day       daily
	seen      seen
	jump      claim         // a price too far from the last
	outlier   bool          // too far from the other sources
	off       claim         // where an outlier is
	agreed    float64       // where others were when they last agreed; alone its own price; 0: never
	offSince  protocol.Time // by the wall clock
}

// take makes the tick's price the source's.
func (s *source) take(t *Tick, now protocol.Time) {
	s.price, s.received, s.arrived = t.Price, t.Received, now
	// One time that is ahead must not make the ones that follow old.
	s.time = min(t.Time, t.Received+clockSkew)
	s.rate, s.jump = 0, claim{}
	s.convert()
}

// convert brings the price in dollars up to date and returns it.
func (s *source) convert() float64 {
	rate := 1.0
	if s.coin != nil {
		rate = s.coin.peg.at()
	}
	if rate != s.rate {
		s.rate = rate
		s.usd = s.dollars(s.price)
	}
	return s.usd
}

// assumed reports whether nobody says by now what the quote is worth.
func (s *source) assumed(now protocol.Time) bool {
	return s.quote != "USD" && (s.coin == nil || s.coin.peg.assumed(now))
}

// dollars is an amount of the quote in dollars. Eight digits are kept: more
// than a rate has would only make frames longer.
func (s *source) dollars(v float64) float64 {
	if s.rate == 1 || v <= 0 {
		return v
	}
	v *= s.rate
	unit := math.Pow10(7 - int(math.Floor(math.Log10(v))))
	if r := math.Round(v*unit) / unit; known(r) > 0 {
		return r
	}
	return v // so small or large that it has no such digits
}

// age is how old the source's price is: its age when it came, by the feed's
// clock, and the wall time since. Never below 0, though exchanges' clocks can
// be ahead.
func (s *source) age(now protocol.Time) protocol.Time {
	return max(0, s.received-s.time) + max(0, now-s.arrived)
}

func (s *source) fresh(now, staleAfter protocol.Time) bool {
	return s.price > 0 && (staleAfter == 0 || s.age(now) <= staleAfter)
}

// counts reports whether the price is new enough to be part of the asset's.
func (s *source) counts(now, counted protocol.Time) bool {
	return s.price > 0 && s.age(now) <= counted
}

// minWeight is the dollars a day that a source counts for when nothing says
// how much is traded there.
const minWeight = 1000

// weigh sets the weight after figures or trades came. Who publishes prices
// says himself what he trades, so all publishers weigh the same.
func (s *source) weigh() {
	s.weight = minWeight
	switch {
	case s.published:
	case s.day.volume > 0 && s.time-s.day.at < dayLength:
		s.weight = max(minWeight, s.day.volume)
	case s.seen.sum > minWeight:
		s.weight = s.seen.sum
	}
}

const (
	hourLength = 60 * protocol.Minute
	dayLength  = 24 * hourLength
)

// seen is what was seen traded in the last 24 hours, by the hour.
type seen struct {
	hours [24]float64
	hour  int64 // since 1970, the newest
	sum   float64
}

func (v *seen) add(t protocol.Time, dollars float64) {
	hour := int64(t / hourLength)
	if hour > v.hour {
		for h := max(v.hour+1, hour-23); h <= hour; h++ {
			v.hours[h%24] = 0
		}
		v.hour, v.sum = hour, 0
		for _, h := range v.hours {
			v.sum += h
		}
	}
	if hour > v.hour-24 {
		v.hours[hour%24] += dollars
		v.sum = min(v.sum+dollars, maxDollars)
	}
}

// dayFresh is how long an exchange's 24 hour statistics hold without a newer
// ticker: exchanges' volumes differ by factors, and the asset's must not swing
// with each of them.
const dayFresh = 5 * protocol.Minute

// daily is a source's own 24 hour statistics in dollars, extended by what was
// seen since. 0 is unknown.
type daily struct {
	at                      protocol.Time // the newest ticker's time; 0: never one
	open, high, low, volume float64
	odd                     claim // a volume that cannot be
}

// fresh reports whether the figures hold at a time of the asset.
func (d *daily) fresh(at protocol.Time) bool { return d.at > 0 && at-d.at <= dayFresh }

// takeDay takes the figures of a ticker; false when they are not believed, or
// not wholly. A volume of a day does not change tenfold between two tickers,
// and a first one is not more than limit (0 is none).
func (s *source) takeDay(t *Tick, limit float64) (ok bool) {
	ok = true
	volume := amount(t.Day.QuoteVolume * s.rate)
	if volume == 0 {
		volume = amount(t.Day.Volume * s.usd)
	}
	d := &s.day
	if held := d.volume; held > 0 && d.fresh(t.Time) {
		if volume == 0 {
			volume = held
		}
		if (volume > 10*held || volume < held/10) && !d.odd.confirmed(volume, t.Time) {
			return false
		}
	} else if limit > 0 && volume > limit {
		volume, ok = limit, false
	}
	figure := func(v float64) float64 { return near(s.dollars(known(v)), s.usd, 100) }
	*d = daily{at: t.Time, open: figure(t.Day.Open), high: figure(t.Day.High), low: figure(t.Day.Low), volume: volume}
	if d.high > 0 && d.high < d.low {
		d.high, d.low = 0, 0
	}
	return ok
}

// maxRatio is how many times more than the others an exchange may say it
// trades when it says so first.
const maxRatio = 100

// believable is the most that a first volume of a day may be, by what the other
// exchanges' median is: 0, no limit, while fewer than two say it.
func (a *asset) believable(s *source) float64 {
	var others []float64
	for i := range a.sources {
		o := &a.sources[i]
		if o.first != s.first && o.published == s.published && o.day.volume > 0 && o.day.fresh(s.time) {
			others = append(others, o.day.volume)
		}
	}
	if len(others) < 2 {
		return 0
	}
	slices.Sort(others)
	return maxRatio * others[len(others)/2]
}

// extend stretches the range by a price.
func (d *daily) extend(high, low float64) {
	if d.high > 0 {
		d.high = max(d.high, high)
	}
	if d.low > 0 {
		d.low = min(d.low, low)
	}
}

// traded adds what was traded after the newest ticker.
func (d *daily) traded(t protocol.Time, dollars float64) {
	if t > d.at && d.volume > 0 {
		d.volume = min(d.volume+dollars, maxDollars)
	}
}
