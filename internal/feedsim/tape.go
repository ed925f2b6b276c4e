package feedsim

import (
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Trade is one trade as the exchange made it, told or not.
type Trade struct {
	ID    int64
	Price string // the digits that the exchange's frames show
	Size  string
	Time  time.Time // in the resolution of the exchange's frames
	Side  string    // "buy" or "sell", as the exchange tells it
}

// A listing is one symbol of an exchange and what its trades are made of.
type listing struct {
	symbol      string // as the exchange's WebSocket spells it
	base, quote string
	from        string  // the recording that is repeated
	speed       float64 // how much faster than recorded; 0 is 1
	decimals    int     // of a price
	pad         int     // digits behind the point in the text, when more
	trim        bool    // 30236.0 is written 30236
	firstID     int64   // 0: the recording's
	// id numbers the trades: i counts them from 0. Nil is contiguous.
	id func(i int64) int64
}

// levels are where prices stand, so that recordings of different years are
// one market: those of the Coinbase capture.
var levels = map[string]float64{"BTC": 65083.67, "ETH": 1919.41}

const (
	barLength = 5 * time.Minute
	history   = 48 * time.Hour // of bars before the first trade
)

// A bar is five minutes of a tape.
type bar struct {
	start                  time.Time
	open, high, low, close float64
	volume, value          float64 // in the asset, in the quote
	trades                 int
}

// A tape is the trades of one symbol: the recording, moved to the present,
// repeated with ids that go on, its prices scaled to the asset's level. It
// makes them as time passes, whoever asks first.
type tape struct {
	listing
	begin      time.Time // of the first repetition
	resolution time.Duration
	drift      func(time.Time) float64
	rec        *recording
	relative   []float64 // recorded prices as parts of the first, so bent that the end meets the beginning

	mu    sync.Mutex // guards the fields below
	made  []Trade
	price []float64 // of made
	ahead Trade     // the one after made
	bars  []bar     // contiguous, since begin minus history
}

func newTape(l listing, rec *recording, begin time.Time, resolution time.Duration, drift func(time.Time) float64) *tape {
	if l.firstID == 0 {
		l.firstID = rec.trades[0].id
	}
	if l.id == nil {
		l.id = func(i int64) int64 { return i }
	}
	t := &tape{listing: l, begin: begin, resolution: resolution, drift: drift, rec: rec}
	first, last := rec.trades[0].price, rec.trades[len(rec.trades)-1].price
	for _, r := range rec.trades {
		bend := 1 + (first/last-1)*float64(r.at)/float64(rec.span)
		t.relative = append(t.relative, r.price/first*bend)
	}
	t.past()
	t.ahead, _ = t.make(0)
	return t
}

// past makes the bars before the first trade from the drift and what the
// recording trades in five minutes.
func (t *tape) past() {
	high, low, volume := 1.0, 1.0, 0.0
	for i, r := range t.rec.trades {
		high, low = max(high, t.relative[i]), min(low, t.relative[i])
		volume += number(r.size)
	}
	part := float64(barLength) / float64(t.rec.span) * t.speed
	for at := t.begin.Add(-history); at.Before(t.begin); at = at.Add(barLength) {
		o, c := t.level(at), t.level(at.Add(barLength))
		t.bars = append(t.bars, bar{
			start: at, open: t.round(o), close: t.round(c),
			high: t.round(max(o, c) * high), low: t.round(min(o, c) * low),
			volume: volume * part, value: volume * part * (o + c) / 2,
			trades: int(float64(len(t.relative)) * part),
		})
	}
}

func (t *tape) level(at time.Time) float64 { return levels[t.base] * t.drift(at) }

// round cuts to the digits that the exchange shows.
func (t *tape) round(f float64) float64 { return number(t.text(f)) }

func (t *tape) text(f float64) string {
	s := strconv.FormatFloat(f, 'f', t.decimals, 64)
	if t.trim && strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	if t.pad > t.decimals {
		s += strings.Repeat("0", t.pad-t.decimals)
	}
	return s
}

func number(s string) float64 {
	f, _ := strconv.ParseFloat(s, 64)
	return f
}

// make is the i-th trade, from 0.
func (t *tape) make(i int64) (Trade, float64) {
	n := int64(len(t.relative))
	r := &t.rec.trades[i%n]
	offset := time.Duration(i/n)*t.rec.span + r.at
	at := t.begin.Add(time.Duration(float64(offset) / t.speed)).Truncate(t.resolution)
	text := t.text(t.level(at) * t.relative[i%n])
	return Trade{ID: t.firstID + t.id(i), Price: text, Size: r.size, Time: at, Side: r.side}, number(text)
}

// upTo makes all trades up to a time and returns how many there are, and when
// the next one is.
func (t *tape) upTo(now time.Time) (n int, next time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for !t.ahead.Time.After(now) {
		p := number(t.ahead.Price)
		t.made = append(t.made, t.ahead)
		t.price = append(t.price, p)
		t.addLocked(t.ahead.Time, p, number(t.ahead.Size))
		t.ahead, _ = t.make(int64(len(t.made)))
	}
	// What is asked may lie before what others asked for.
	n = len(t.made)
	for n > 0 && t.made[n-1].Time.After(now) {
		n--
	}
	if n < len(t.made) {
		return n, t.made[n].Time
	}
	return n, t.ahead.Time
}

// addLocked puts a trade into its bar.
func (t *tape) addLocked(at time.Time, price, size float64) {
	b := &t.bars[len(t.bars)-1]
	for !at.Before(b.start.Add(barLength)) {
		t.bars = append(t.bars, bar{start: b.start.Add(barLength), open: b.close, high: b.close, low: b.close, close: b.close})
		b = &t.bars[len(t.bars)-1]
	}
	if b.trades == 0 {
		b.open, b.high, b.low = price, price, price
	}
	b.high, b.low, b.close = max(b.high, price), min(b.low, price), price
	b.volume += size
	b.value += size * price
	b.trades++
}

// trades are made trades; they do not change.
func (t *tape) trades(from, to int) []Trade {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.made[max(0, from):max(0, from, to):max(0, from, to)]
}

// find is the index of the first trade for which ok, of those made until now.
func (t *tape) find(now time.Time, ok func(Trade) bool) (from, to int) {
	to, _ = t.upTo(now)
	for i, k := range t.trades(0, to) {
		if ok(k) {
			return i, to
		}
	}
	return to, to
}

// A day is what an exchange says of the last 24 hours.
type day struct {
	last                   Trade
	open, high, low, close float64
	volume, value          float64
	trades                 int
}

// day sums up the bars of 24 hours, the running one included.
func (t *tape) day(now time.Time) day {
	n, _ := t.upTo(now)
	t.mu.Lock()
	defer t.mu.Unlock()
	const bars = int(24 * time.Hour / barLength)
	list := t.bars[max(0, len(t.bars)-bars):]
	d := day{last: t.made[n-1], open: list[0].open, high: list[0].high, low: list[0].low, close: t.price[n-1]}
	for i := range list {
		b := &list[i]
		d.high, d.low = max(d.high, b.high), min(d.low, b.low)
		d.volume += b.volume
		d.value += b.value
		d.trades += b.trades
	}
	return d
}

// fives are the bars whose start is in [from, to], oldest first, the running
// one included.
func (t *tape) fives(now, from, to time.Time) []bar {
	t.upTo(now)
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []bar
	for _, b := range t.bars {
		if b.start.Before(from) || b.start.After(to) || b.start.After(now) {
			continue
		}
		out = append(out, b)
	}
	return out
}
