package market

import (
	"math"

	"cryptointel/protocol"
)

// A source is one exchange's price of an asset in one quote.
type source struct {
	name, quote string
	price       float64
	time        protocol.Time // the exchange's clock
	received    protocol.Time // the feed's clock
	arrived     protocol.Time // the wall clock

	// A price that is too far off, waiting to be confirmed.
	jumps    int
	jumped   float64
	jumpedAt protocol.Time
}

func (s *source) take(t *Tick, now protocol.Time) {
	s.price, s.time, s.received, s.arrived = t.Price, t.Time, t.Received, now
	s.jumps = 0
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

// dayFresh is how long an exchange's 24 hour statistics hold without a newer
// ticker. So long, the tickers of other exchanges do not replace them: their
// volumes differ by factors, and the asset's must not swing between them.
const dayFresh = 5 * protocol.Minute

// daily is an exchange's 24 hour statistics, extended by trades since.
type daily struct {
	exchange                string
	at                      protocol.Time // the newest ticker's time
	open, high, low, volume float64       // volume in dollars; 0 is unknown
}

// An asset is the state behind one price.
type asset struct {
	Asset
	channel string
	sources []source
	window  window
	daily   daily

	price   float64
	at      protocol.Time // the price's own time
	arrived protocol.Time // of the newest tick, by the wall clock
	// exchanged is the same for ticks of exchanges; 0 before the first.
	exchanged protocol.Time
	demo      bool
	stale     bool

	offset int64
	newest protocol.Publication
}

// outrank is how long an exchange's tick keeps published prices from setting
// the asset's: whoever may publish must not be able to move a price that the
// market makes.
const outrank = protocol.Minute

func (a *asset) exchangeFresh(now protocol.Time) bool {
	return a.exchanged > 0 && now-a.exchanged <= outrank
}

// source finds or makes the tick's source; nil when there are too many fresh
// ones. A source that is stale makes room.
func (a *asset) source(t *Tick, now, staleAfter protocol.Time, limit int) *source {
	free := -1
	for i := range a.sources {
		s := &a.sources[i]
		if s.name == t.Exchange && s.quote == t.Quote {
			return s
		}
		if !s.fresh(now, staleAfter) {
			free = i
		}
	}
	if limit == 0 || len(a.sources) < limit {
		a.sources = append(a.sources, source{})
		free = len(a.sources) - 1
	}
	if free < 0 {
		return nil
	}
	a.sources[free] = source{name: t.Exchange, quote: t.Quote}
	return &a.sources[free]
}

// take makes the tick's price the asset's.
func (a *asset) take(t *Tick, now, staleAfter protocol.Time) {
	// A clock that is ahead does not make the others old.
	a.price, a.at, a.arrived = t.Price, min(t.Time, t.Received), now
	if !t.Published {
		a.exchanged = now
	}
	// For good: the window and the sources keep what was simulated.
	a.demo = a.demo || t.Demo
	a.stale = staleAfter > 0 && t.Received-t.Time > staleAfter
	high, low, volume := t.Price, t.Price, 0.0
	if t.Kind == Bar {
		high = max(high, known(t.High))
		if l := known(t.Low); l > 0 {
			low = min(low, l)
		}
	}
	// A ticker's size is the last trade's, which comes as a trade too.
	if t.Kind != Ticker {
		volume = t.Price * known(t.Size)
	}
	a.window.add(t.Time, t.Price, high, low, volume)
	a.daily.take(t, high, low, volume)
}

func (d *daily) take(t *Tick, high, low, volume float64) {
	mine := d.exchange == t.Exchange
	if t.Day.Has && (mine || d.exchange == "" || t.Time-d.at > dayFresh) {
		*d = daily{
			exchange: t.Exchange,
			at:       t.Time,
			open:     known(t.Day.Open),
			high:     known(t.Day.High),
			low:      known(t.Day.Low),
			volume:   known(t.Day.QuoteVolume),
		}
		if d.volume == 0 {
			d.volume = known(t.Day.Volume) * t.Price
		}
	}
	if d.high > 0 {
		d.high = max(d.high, high)
	}
	if d.low > 0 {
		d.low = min(d.low, low)
	}
	if mine && t.Time > d.at && d.volume > 0 {
		d.volume += volume
	}
}

// figures are an asset's 24 hour numbers; 0, and NaN for change, are unknown.
type figures struct{ change, volume, high, low float64 }

// figures are the exchange's own statistics while they are fresh, else what
// was seen here. High, low and volume then cover the part of the last 24
// hours that was seen; a change needs minHistory.
func (a *asset) figures() figures {
	f := figures{change: math.NaN()}
	open := a.daily.open
	if d := &a.daily; d.exchange != "" && a.at-d.at <= dayFresh {
		f.volume, f.high, f.low = d.volume, d.high, d.low
	} else {
		open = a.window.open(a.at)
		f.high, f.low = a.window.high, a.window.low
		if a.window.sized {
			f.volume = a.window.volume
		}
	}
	if open > 0 {
		f.change = (a.price/open - 1) * 100
	}
	return f
}

// publish makes the asset's next publication.
func (a *asset) publish(now, staleAfter protocol.Time) protocol.Publication {
	a.offset = max(now.Micros(), a.offset+1)
	a.newest = protocol.Publication{
		Channel: a.channel,
		Type:    protocol.TypePrice,
		Offset:  a.offset,
		TS:      now.Millis(),
		Data:    a.appendData(make([]byte, 0, 320), now, staleAfter),
		Price:   a.price,
	}
	return a.newest
}
