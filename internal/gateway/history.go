package gateway

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"cryptointel/protocol"
)

// Bounds of GET /api/v1/history/prices.
const (
	usualCandles = 500
	mostCandles  = 5000
	maxReading   = 16 // requests that read candles at once
	readingWait  = 2 * time.Second
)

// A Candle is one bar of an asset's price, in USD. Volume is 0 when unknown.
type Candle struct {
	Start                          protocol.Time
	Open, High, Low, Close, Volume float64
}

// A candleQuery is what a request for candles asks.
type candleQuery struct {
	asset    string // slug
	interval string
	from, to protocol.Time // from 0 asks for the newest before to
	limit    int
}

// intervals are the candles there are, by name, with their length.
var intervals = []struct {
	name string
	long protocol.Time
}{{"1m", protocol.Minute}, {"5m", 5 * protocol.Minute}, {"1h", 60 * protocol.Minute}, {"1d", 24 * 60 * protocol.Minute}}

// historyPrices answers GET /api/v1/history/prices.
func (g *Gateway) historyPrices(w http.ResponseWriter, r *http.Request) {
	if g.parts.History == nil || g.parts.Prices == nil {
		g.notServed(w)
		return
	}
	q, refuse := g.candleQuery(r.URL.RawQuery)
	if refuse != nil {
		g.refuse(w, refuse)
		return
	}
	if refuse := g.beginReading(r.Context()); refuse != nil {
		g.refuse(w, refuse)
		return
	}
	defer func() { <-g.reading }()
	// One more than asked for tells whether there is more.
	candles, err := g.parts.History.Candles(q.asset, q.interval, q.from, q.to, q.limit+1)
	if err != nil {
		g.refuse(w, g.failed("read candles", err))
		return
	}
	g.counts.historyRead()
	w.Header().Set("Cache-Control", q.caching(g.now()))
	g.answer(w, http.StatusOK, g.appendHistory(nil, q, candles))
}

// beginReading waits for one of the places of those who read candles, so that
// a crowd of charts leaves the processor to the event loops.
func (g *Gateway) beginReading(ctx context.Context) *protocol.Error {
	select {
	case g.reading <- struct{}{}:
		return nil
	default:
	}
	patience := time.NewTimer(readingWait)
	defer patience.Stop()
	select {
	case g.reading <- struct{}{}:
		return nil
	case <-patience.C:
	case <-ctx.Done():
	}
	return soon(&protocol.Error{Code: protocol.RateLimited, Message: "too many requests for candles at once: try again"})
}

// caching is short while a candle of the answer is still running.
func (q candleQuery) caching(now protocol.Time) string {
	if q.to > now-protocol.Minute {
		return "public, max-age=5"
	}
	return "public, max-age=60"
}

// candleQuery reads the query. The error names the parameter that is wrong and
// says what to use.
func (g *Gateway) candleQuery(raw string) (candleQuery, *protocol.Error) {
	values, err := oneEach(raw)
	if err != nil {
		return candleQuery{}, err
	}
	q := candleQuery{interval: "1m", limit: usualCandles}
	if q.asset, err = g.assetNamed(values.Get("asset")); err != nil {
		return candleQuery{}, err
	}
	if values.Has("interval") {
		q.interval = values.Get("interval")
	}
	long := intervalLength(q.interval)
	if long == 0 {
		return candleQuery{}, invalid("interval is '" + protocol.Clip(q.interval) + "': use 1m, 5m, 1h or 1d")
	}
	if q.limit, err = limitNamed(values); err != nil {
		return candleQuery{}, err
	}
	if q.from, err = momentNamed(values, "from", 0); err != nil {
		return candleQuery{}, err
	}
	if q.to, err = momentNamed(values, "to", g.now()+long); err != nil {
		return candleQuery{}, err
	}
	if values.Has("from") {
		if q.from >= q.to {
			return candleQuery{}, invalid("from must be before to, and before now")
		}
		q.from = max(q.from, 1) // 1970 was asked for: 0 would be the newest
	}
	return q, nil
}

// oneEach reads a query in which each parameter stands at most once. A
// parameter that does not exist is an error: a misspelt one would silently
// answer another question.
func oneEach(raw string) (url.Values, *protocol.Error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, invalid("the query cannot be read: percent-encode what is not a letter, a digit or one of - . _ ~")
	}
	for name, given := range values {
		switch name {
		case "asset", "interval", "from", "to", "limit":
		default:
			return nil, invalid("there is no parameter '" + protocol.Clip(name) + "': use asset, interval, from, to and limit")
		}
		if len(given) > 1 {
			return nil, invalid(name + " is given more than once")
		}
	}
	return values, nil
}

// assetNamed is the slug of the asset, which may be given by its ticker.
func (g *Gateway) assetNamed(name string) (string, *protocol.Error) {
	if name == "" {
		return "", invalid("asset is missing: name one by slug or ticker, such as asset=bitcoin; GET /api/v1/assets lists them")
	}
	slug, known := g.parts.Prices.Slug(name)
	if !known {
		return "", unknownAsset(name)
	}
	return slug, nil
}

func limitNamed(values url.Values) (int, *protocol.Error) {
	if !values.Has("limit") {
		return usualCandles, nil
	}
	text := values.Get("limit")
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > mostCandles {
		return 0, invalid("limit is '" + protocol.Clip(text) + "': use 1 to " + strconv.Itoa(mostCandles))
	}
	return n, nil
}

// momentNamed reads a time as RFC 3339 or unix milliseconds.
func momentNamed(values url.Values, name string, otherwise protocol.Time) (protocol.Time, *protocol.Error) {
	if !values.Has(name) {
		return otherwise, nil
	}
	text := values.Get(name)
	var t time.Time
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil {
		t = time.UnixMilli(ms).UTC()
	} else if t, err = time.Parse(time.RFC3339Nano, text); err != nil {
		return 0, invalid(name + " is '" + protocol.Clip(text) + "': use RFC 3339, such as 2025-12-02T12:30:00Z, or unix milliseconds")
	}
	if t.Year() < 1970 || t.Year() > 2200 {
		return 0, invalid(name + " is '" + protocol.Clip(text) + "': use a time from 1970 to 2200; numbers are milliseconds")
	}
	return protocol.Time(t.UnixNano()), nil
}

func intervalLength(name string) protocol.Time {
	for _, i := range intervals {
		if i.name == name {
			return i.long
		}
	}
	return 0
}

// appendHistory appends the answer: candles oldest first and, where more follow
// them before to, the start of the next.
func (g *Gateway) appendHistory(dst []byte, q candleQuery, candles []Candle) []byte {
	var next *Candle
	if len(candles) > q.limit {
		if q.from > 0 {
			next, candles = &candles[q.limit], candles[:q.limit]
		} else {
			candles = candles[len(candles)-q.limit:]
		}
	}
	dst = slices.Grow(dst, 128+128*len(candles))
	dst = protocol.AppendString(append(dst, `{"asset":`...), q.asset)
	dst = appendText(dst, `,"symbol":`, g.symbols()[q.asset])
	dst = append(append(append(dst, `,"interval":"`...), q.interval...), `","candles":[`...)
	for i, c := range candles {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendCandle(dst, c)
	}
	dst = append(dst, ']')
	if next != nil {
		dst = appendMillis(append(dst, `,"next":`...), next.Start)
	}
	return append(dst, '}')
}

func appendCandle(dst []byte, c Candle) []byte {
	dst = appendMillis(append(dst, `{"start":`...), c.Start)
	dst = protocol.AppendFloat(append(dst, `,"open":`...), c.Open)
	dst = protocol.AppendFloat(append(dst, `,"high":`...), c.High)
	dst = protocol.AppendFloat(append(dst, `,"low":`...), c.Low)
	dst = protocol.AppendFloat(append(dst, `,"close":`...), c.Close)
	dst = protocol.AppendFloat(append(dst, `,"volume":`...), c.Volume)
	return append(dst, '}')
}

func appendMillis(dst []byte, t protocol.Time) []byte {
	return strconv.AppendInt(dst, int64(t/protocol.Millisecond), 10)
}

// symbolTable is the first ticker of each asset by slug, in upper case as
// price_update has it.
func (g *Gateway) symbolTable() map[string]string {
	table := make(map[string]string)
	if g.parts.Assets == nil {
		return table
	}
	for _, a := range g.parts.Assets() {
		if len(a.Tickers) > 0 {
			table[a.Slug] = strings.ToUpper(a.Tickers[0])
		}
	}
	return table
}
