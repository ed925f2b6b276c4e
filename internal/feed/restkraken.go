package feed

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/valyala/fastjson"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// Rules are Kraken's: about 150 connections in ten minutes of one address, a
// heartbeat every second, no message for five seconds is a dead connection.
func (k *Kraken) Rules() Rules {
	return Rules{
		URL: "wss://ws.kraken.com/v2", REST: "https://api.kraken.com",
		Silence: 5 * time.Second,
		Ping:    []byte(`{"method":"ping"}`), PingEvery: 30 * time.Second,
		ConnectGap: 5 * time.Second, MessageGap: 250 * time.Millisecond, RequestGap: time.Second,
		FrameBytes: 1 << 20, MaxSymbols: 200,
	}
}

// krakenBatch is how many symbols one message carries. Each is answered.
const krakenBatch = 50

// Subscribe asks for trades and tickers, both with a snapshot: that of the
// trades has the last 50, which is what a short break lost.
func (k *Kraken) Subscribe(symbols []string) [][]byte {
	var out [][]byte
	for id := 1; len(symbols) > 0; {
		n := min(len(symbols), krakenBatch)
		for _, channel := range []string{"trade", "ticker"} {
			out = append(out, fmt.Appendf(nil, `{"method":"subscribe","params":{"channel":"%s","symbol":%s,"snapshot":true},"req_id":%d}`,
				channel, stringList(symbols[:n]), id))
			id++
		}
		symbols = symbols[n:]
	}
	return out
}

// Catalog asks for all pairs.
func (k *Kraken) Catalog() Request { return Request{Path: "/0/public/AssetPairs"} }

// result reads the frame of an answer: {"error":[…],"result":{…}}.
func (k *Kraken) result(body []byte, what string) (*fastjson.Object, error) {
	v, err := k.json.parse(body)
	if err != nil {
		return nil, fmt.Errorf("kraken: %s: %w", what, err)
	}
	if said := v.GetArray("error"); len(said) > 0 {
		return nil, fmt.Errorf("kraken: %s: the exchange says %.200q", what, said[0].GetStringBytes())
	}
	o := v.GetObject("result")
	if o == nil {
		return nil, fmt.Errorf("kraken: %s: no result in the answer", what)
	}
	return o, nil
}

// Listings reads the pairs. REST spells XBT and XDG what the WebSocket API v2
// spells BTC and DOGE.
func (k *Kraken) Listings(body []byte) ([]Listing, error) {
	defer k.json.done(body)
	pairs, err := k.result(body, "AssetPairs")
	if err != nil {
		return nil, err
	}
	var out []Listing
	pairs.Visit(func(_ []byte, v *fastjson.Value) {
		if status := text(v, "status"); len(status) > 0 && string(status) != "online" {
			return
		}
		b, q, ok := strings.Cut(string(text(v, "wsname")), "/")
		if !ok {
			return
		}
		if l, ok := k.symbols.listing(ticker(b) + "/" + ticker(q)); ok {
			out = append(out, l)
		}
	})
	return listed("kraken", "AssetPairs", out)
}

// krakenPair is a symbol as REST spells it: BTC/USD is XBTUSD.
func krakenPair(symbol string) string {
	b, q, _ := strings.Cut(symbol, "/")
	old := func(s string) string {
		switch s {
		case "BTC":
			return "XBT"
		case "DOGE":
			return "XDG"
		}
		return s
	}
	return url.QueryEscape(old(b) + old(q))
}

// Bars asks for five-minute bars; the answer has at most 720.
func (k *Kraken) Bars(symbol string, since protocol.Time) Request {
	return Request{Path: fmt.Sprintf("/0/public/OHLC?pair=%s&interval=5&since=%d", krakenPair(symbol), int64(since/protocol.Second))}
}

// ParseBars reads arrays of time, open, high, low, close, vwap, volume, count
// under a name that only Kraken knows; "last" stands beside it. The volume is
// worth its mean price.
func (k *Kraken) ParseBars(_ string, body []byte) ([]market.Candle, error) {
	defer k.json.done(body)
	list, err := k.table(body, "OHLC")
	if err != nil {
		return nil, err
	}
	var out []market.Candle
	for _, row := range list {
		f := row.GetArray()
		if len(f) < 7 {
			return nil, fmt.Errorf("kraken: OHLC: a bar of %d fields, want 7 and more", len(f))
		}
		raw := func(i int) []byte { return rawNumber(f[i], nil) }
		b, err := bar(raw(0), protocol.Second, raw(1), raw(2), raw(3), raw(4), raw(6))
		if err != nil {
			return nil, fmt.Errorf("kraken: OHLC: %w", err)
		}
		mean, _ := parseDecimal(raw(5)) // 0 in a bar without trades
		b.Volume *= mean
		out = append(out, b)
	}
	return inOrder(out), nil
}

// table is the one list in a result.
func (k *Kraken) table(body []byte, what string) (list []*fastjson.Value, err error) {
	o, err := k.result(body, what)
	if err != nil {
		return nil, err
	}
	err = fmt.Errorf("kraken: %s: no list in the answer", what)
	o.Visit(func(key []byte, v *fastjson.Value) {
		if string(key) != "last" && v.Type() == fastjson.TypeArray {
			list, err = v.GetArray(), nil
		}
	})
	return list, err
}

// Refill asks for the trades since shortly before a gap: since is exclusive,
// in nanoseconds, and several trades may share a time. The answer has at most
// 1,000, oldest first.
func (k *Kraken) Refill(gap Note) Request {
	path := "/0/public/Trades?count=1000&pair=" + krakenPair(gap.Symbol)
	if gap.After > 0 {
		path += fmt.Sprintf("&since=%d", int64(gap.After-protocol.Millisecond))
	}
	return Request{Path: path}
}

// ParseRefill reads arrays of price, volume, time, side, type, misc, trade id.
func (k *Kraken) ParseRefill(gap Note, body []byte, received protocol.Time) ([]market.Tick, Note, error) {
	defer k.json.done(body)
	p := k.symbols.find([]byte(gap.Symbol))
	list, err := k.table(body, "Trades")
	if err != nil || p == nil {
		return nil, gap, cmp.Or(err, fmt.Errorf("kraken: %q is no symbol of ours", gap.Symbol))
	}
	var answer []market.Tick
	for _, row := range list {
		t, err := krakenTrade(row, p)
		if err != nil {
			return nil, gap, fmt.Errorf("kraken: Trades: %w", err)
		}
		t.Received = received
		answer = append(answer, t)
	}
	ticks, rest := p.refill(gap, answer, &k.stats)
	return ticks, rest, nil
}

func krakenTrade(row *fastjson.Value, p *pair) (t market.Tick, err error) {
	f := row.GetArray()
	if len(f) < 7 {
		return t, fmt.Errorf("a trade of %d fields, want 7", len(f))
	}
	t = market.Tick{Exchange: "kraken", Asset: p.slug, Quote: p.quote}
	var okPrice, okSize bool
	price := rawNumber(f[0], nil)
	t.Price, okPrice = parseDecimal(price)
	t.Size, okSize = parseDecimal(rawNumber(f[1], nil))
	if !okPrice || !okSize {
		return t, errors.New("price or volume is not a decimal")
	}
	t.PriceText = string(price)
	if t.Time, err = parseSeconds(string(rawNumber(f[2], nil))); err != nil {
		return t, err
	}
	if t.TradeID, err = f[6].Int64(); err != nil || t.TradeID <= 0 {
		return t, errors.New("the trade id is not a positive number")
	}
	return t, nil
}
