package feed

import (
	"bytes"
	"cmp"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/valyala/fastjson"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// Rules are Advanced Trade's: 8 connections and 8 messages a second of one
// address, heartbeats every second.
func (c *Coinbase) Rules() Rules {
	return Rules{
		URL: "wss://advanced-trade-ws.coinbase.com", REST: "https://api.coinbase.com",
		Silence:    5 * time.Second,
		ConnectGap: 250 * time.Millisecond, MessageGap: 200 * time.Millisecond, RequestGap: 150 * time.Millisecond,
		FrameBytes: 1 << 20, MaxSymbols: 100,
	}
}

// Subscribe asks for heartbeats first: they keep the connection and tell that
// it lives.
func (c *Coinbase) Subscribe(symbols []string) [][]byte {
	ids := stringList(symbols)
	var out [][]byte
	for _, channel := range []string{"heartbeats", "market_trades", "ticker"} {
		out = append(out, fmt.Appendf(nil, `{"type":"subscribe","product_ids":%s,"channel":"%s"}`, ids, channel))
	}
	return out
}

// complaint notes an error message.
func (c *Coinbase) complaint(v *fastjson.Value) {
	if string(text(v, "type")) != "error" {
		return
	}
	said := string(text(v, "message"))
	if reason := text(v, "reason"); len(reason) > 0 {
		said += ": " + string(reason)
	}
	c.notes.add(refusal("", said))
}

// refusal is Limited when the text speaks of a limit, else Refused.
func refusal(symbol, said string) Note {
	if len(said) > 200 {
		said = said[:200]
	}
	low := strings.ToLower(said)
	for _, word := range []string{"rate", "too many", "too fast", "limit"} {
		if strings.Contains(low, word) {
			return Note{Kind: Limited, Symbol: symbol, Text: said}
		}
	}
	return Note{Kind: Refused, Symbol: symbol, Text: said}
}

// Catalog asks for all spot products.
func (c *Coinbase) Catalog() Request {
	return Request{Path: "/api/v3/brokerage/market/products?product_type=SPOT"}
}

// Listings reads the products. An alias (BTC-USDC of BTC-USD) is the same
// market again, under the name of the other: it is left out.
func (c *Coinbase) Listings(body []byte) ([]Listing, error) {
	defer c.json.done(body)
	v, err := c.json.parse(body)
	if err != nil {
		return nil, fmt.Errorf("coinbase: products: %w", err)
	}
	var out []Listing
	for _, k := range v.GetArray("products") {
		status, kind := text(k, "status"), text(k, "product_type")
		if len(text(k, "alias")) > 0 || len(status) > 0 && string(status) != "online" ||
			len(kind) > 0 && string(kind) != "SPOT" || k.GetBool("is_disabled") || k.GetBool("trading_disabled") {
			continue
		}
		if l, ok := c.symbols.listing(string(text(k, "product_id"))); ok {
			l.VolumeQuote = optional(k, "approximate_quote_24h_volume")
			out = append(out, l)
		}
	}
	return listed("coinbase", "products", out)
}

// Bars asks for five-minute bars; 350 is the most of one answer.
func (c *Coinbase) Bars(symbol string, since protocol.Time) Request {
	from := int64(since / protocol.Second)
	return Request{Path: fmt.Sprintf("/api/v3/brokerage/market/products/%s/candles?granularity=FIVE_MINUTE&start=%d&end=%d&limit=350",
		url.PathEscape(symbol), from, from+349*300)}
}

// ParseBars reads the bars. Their volume is in the asset: what it was worth is
// taken at the bar's close.
func (c *Coinbase) ParseBars(_ string, body []byte) ([]market.Candle, error) {
	defer c.json.done(body)
	v, err := c.json.parse(body)
	if err != nil {
		return nil, fmt.Errorf("coinbase: candles: %w", err)
	}
	var out []market.Candle
	for _, k := range v.GetArray("candles") {
		b, err := bar(text(k, "start"), protocol.Second, text(k, "open"), text(k, "high"), text(k, "low"), text(k, "close"), text(k, "volume"))
		if err != nil {
			return nil, fmt.Errorf("coinbase: candles: %w", err)
		}
		b.Volume *= b.Close
		out = append(out, b)
	}
	return inOrder(out), nil
}

// Refill asks for the trades around a gap: whole seconds, newest first, 1,000
// at most. What is left of a longer gap is older, so the next request ends
// where this answer began.
func (c *Coinbase) Refill(gap Note) Request {
	path := fmt.Sprintf("/api/v3/brokerage/market/products/%s/ticker?limit=1000", url.PathEscape(gap.Symbol))
	if gap.After > 0 {
		path += fmt.Sprintf("&start=%d", int64(gap.After/protocol.Second))
	}
	if gap.Before > 0 {
		path += fmt.Sprintf("&end=%d", int64(gap.Before/protocol.Second)+1)
	}
	return Request{Path: path}
}

// ParseRefill reads the trades.
func (c *Coinbase) ParseRefill(gap Note, body []byte, received protocol.Time) ([]market.Tick, Note, error) {
	defer c.json.done(body)
	p := c.symbols.find([]byte(gap.Symbol))
	v, err := c.json.parse(body)
	if err != nil || p == nil {
		return nil, gap, cmp.Or(err, fmt.Errorf("coinbase: %q is no symbol of ours", gap.Symbol))
	}
	var answer []market.Tick
	for _, k := range v.GetArray("trades") {
		t, err := coinbaseTrade(k, p)
		if err != nil {
			return nil, gap, fmt.Errorf("coinbase: trades: %w", err)
		}
		t.Received = received
		answer = append(answer, t)
	}
	ticks, rest := p.refill(gap, answer, &c.stats)
	return ticks, rest, nil
}

// listing is the asset and quote of a symbol; not ok when there is no such
// asset.
func (s *symbols) listing(symbol string) (Listing, bool) {
	slug, quote := splitSymbol(s.assets, symbol)
	return Listing{Symbol: symbol, Asset: slug, Quote: quote}, slug != ""
}

// listed refuses an empty list: then the answer was something else.
func listed(exchange, what string, list []Listing) ([]Listing, error) {
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: %s: no market of a known asset in the answer", exchange, what)
	}
	return list, nil
}

// stringList is a JSON array of the strings. Symbols come from the exchange
// itself: what would need escapes is not sent.
func stringList(list []string) []byte {
	var b bytes.Buffer
	b.WriteByte('[')
	for _, s := range list {
		if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' }) {
			continue
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.WriteString(`"` + s + `"`)
	}
	b.WriteByte(']')
	return b.Bytes()
}
