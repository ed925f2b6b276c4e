package feed

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/valyala/fastjson"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// Rules are Binance's: five messages a second with our pongs among them, 300
// connections in five minutes, 1024 streams a connection, an end at 24 hours.
// A server ping every 20 s is a sign of life; a minute without is none.
func (b *Binance) Rules() Rules {
	return Rules{
		URL: "wss://data-stream.binance.vision/ws", REST: "https://data-api.binance.vision",
		Silence:    time.Minute,
		Life:       23*time.Hour + 30*time.Minute,
		ConnectGap: 1500 * time.Millisecond, MessageGap: 300 * time.Millisecond, RequestGap: 300 * time.Millisecond,
		FrameBytes: 1 << 20, MaxSymbols: 400,
	}
}

// binanceBatch is how many symbols one SUBSCRIBE carries: two streams each.
const binanceBatch = 50

// Subscribe asks for aggregate trades and the 24 hour ticker.
func (b *Binance) Subscribe(symbols []string) [][]byte {
	var out [][]byte
	for id := 1; len(symbols) > 0; id++ {
		n := min(len(symbols), binanceBatch)
		var streams []string
		for _, s := range symbols[:n] {
			s = strings.ToLower(s)
			streams = append(streams, s+"@aggTrade", s+"@ticker")
		}
		out = append(out, fmt.Appendf(nil, `{"method":"SUBSCRIBE","params":%s,"id":%d}`, stringList(streams), id))
		symbols = symbols[n:]
	}
	return out
}

// notice notes what a message without prices says.
func (b *Binance) notice(v *fastjson.Value, kind []byte) {
	switch {
	case string(kind) == "serverShutdown":
		b.notes.add(Note{Kind: Moving, Text: "serverShutdown"})
	case kind != nil:
	case v.Get("error") != nil:
		b.notes.add(refusal("", string(text(v.Get("error"), "msg"))))
	case v.Get("code") != nil && v.Get("msg") != nil:
		b.notes.add(refusal("", string(text(v, "msg"))))
	case v.Get("result") != nil && v.Get("id") != nil:
		b.notes.add(Note{Kind: Subscribed})
	}
}

// Catalog asks for the spot markets that trade.
func (b *Binance) Catalog() Request {
	return Request{Path: "/api/v3/exchangeInfo?permissions=SPOT&symbolStatus=TRADING&showPermissionSets=false"}
}

// Listings reads the markets. The answer has no volumes.
func (b *Binance) Listings(body []byte) ([]Listing, error) {
	defer b.json.done(body)
	v, err := b.json.parse(body)
	if err != nil {
		return nil, fmt.Errorf("binance: exchangeInfo: %w", err)
	}
	var out []Listing
	for _, k := range v.GetArray("symbols") {
		if string(text(k, "status")) != "TRADING" {
			continue
		}
		// The split is told here; the symbol alone can be read in two ways.
		quote := string(text(k, "quoteAsset"))
		if slug := base(b.symbols.assets, string(text(k, "baseAsset"))); slug != "" && isQuote(quote) {
			out = append(out, Listing{Symbol: string(text(k, "symbol")), Asset: slug, Quote: quote})
		}
	}
	return listed("binance", "exchangeInfo", out)
}

// Bars asks for five-minute bars.
func (b *Binance) Bars(symbol string, since protocol.Time) Request {
	return Request{Path: fmt.Sprintf("/api/v3/klines?symbol=%s&interval=5m&startTime=%d&limit=1000",
		url.QueryEscape(symbol), int64(since/protocol.Millisecond))}
}

// ParseBars reads arrays of open time, open, high, low, close, volume, close
// time, volume in the quote, and more. The quote is taken as dollars.
func (b *Binance) ParseBars(_ string, body []byte) ([]market.Candle, error) {
	defer b.json.done(body)
	v, err := b.json.p.ParseBytes(body)
	if err != nil {
		return nil, fmt.Errorf("binance: klines: %w", err)
	}
	if v.Type() != fastjson.TypeArray {
		return nil, fmt.Errorf("binance: klines: a %s, not an array: %.100q", v.Type(), body)
	}
	var out []market.Candle
	for _, k := range v.GetArray() {
		f := k.GetArray()
		if len(f) < 8 {
			return nil, fmt.Errorf("binance: klines: a bar of %d fields, want 8 and more", len(f))
		}
		b, err := bar(rawNumber(f[0], nil), protocol.Millisecond, rawNumber(f[1], nil), rawNumber(f[2], nil), rawNumber(f[3], nil), rawNumber(f[4], nil), rawNumber(f[7], nil))
		if err != nil {
			return nil, fmt.Errorf("binance: klines: %w", err)
		}
		out = append(out, b)
	}
	return inOrder(out), nil
}

// Refill asks for aggregate trades from the first missing one on.
func (b *Binance) Refill(gap Note) Request {
	return Request{Path: fmt.Sprintf("/api/v3/aggTrades?symbol=%s&fromId=%d&limit=%d",
		url.QueryEscape(gap.Symbol), gap.From, min(gap.To-gap.From+1, 1000))}
}

// ParseRefill reads the aggregate trades.
func (b *Binance) ParseRefill(gap Note, body []byte, received protocol.Time) ([]market.Tick, Note, error) {
	defer b.json.done(body)
	p := b.symbols.find([]byte(gap.Symbol))
	v, err := b.json.p.ParseBytes(body)
	if err == nil && v.Type() != fastjson.TypeArray {
		err = fmt.Errorf("binance: aggTrades: a %s, not an array: %.100q", v.Type(), body)
	}
	if err != nil || p == nil {
		return nil, gap, cmp.Or(err, fmt.Errorf("binance: %q is no symbol of ours", gap.Symbol))
	}
	var answer []market.Tick
	for _, k := range v.GetArray() {
		t := market.Tick{Exchange: "binance", Asset: p.slug, Quote: p.quote, Received: received}
		if err := binanceTrade(k, p, &t, "a"); err != nil {
			return nil, gap, fmt.Errorf("binance: aggTrades: %w", err)
		}
		answer = append(answer, t)
	}
	ticks, rest := p.refill(gap, answer, &b.stats)
	return ticks, rest, nil
}
