package feed

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/valyala/fastjson"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// OKX decodes the public channels tickers and trades of OKX v5. Only spot
// markets make ticks: swaps, futures and options, which the same connection
// may carry, are counted and ignored.
//
// The channel trades puts the fills of one order at one price together and
// says how many there were, so trade ids show every gap.
type OKX struct {
	adapter
	tape    tape
	tickers newer
}

// NewOKX returns a codec that has seen nothing.
func NewOKX(assets resolver) *OKX {
	return &OKX{adapter: newAdapter("okx", assets), tape: tape{counted: true}}
}

// Reset begins a new connection.
func (o *OKX) Reset() {
	o.tickers.reset()
	o.symbols.reopen()
}

// Rules are those of the public endpoint: 3 connects a second and 480
// subscribe messages an hour; 30 s without a frame end the connection.
func (o *OKX) Rules() Rules {
	return Rules{
		URL:        "wss://ws.okx.com:8443/ws/v5/public",
		REST:       "https://www.okx.com",
		Silence:    25 * time.Second,
		Ping:       []byte("ping"),
		PingEvery:  15 * time.Second,
		ConnectGap: 500 * time.Millisecond,
		MessageGap: 500 * time.Millisecond,
		RequestGap: 200 * time.Millisecond, // history-trades allows 10 a second
		FrameBytes: 1 << 20,
		MaxSymbols: 200,
	}
}

// okxArg names a channel of an instrument.
type okxArg struct {
	Channel string `json:"channel"`
	InstID  string `json:"instId"`
}

// Subscribe asks for ticker and trades of 50 symbols a message.
func (o *OKX) Subscribe(symbols []string) (messages [][]byte) {
	const most = 50
	for len(symbols) > 0 {
		n := min(most, len(symbols))
		var args []okxArg
		for _, s := range symbols[:n] {
			args = append(args, okxArg{"tickers", s}, okxArg{"trades", s})
		}
		messages = append(messages, message(map[string]any{"op": "subscribe", "args": args}))
		symbols = symbols[n:]
	}
	return messages
}

// message encodes what is sent. It holds strings only, so it cannot fail.
func message(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("feed: encode %T: %v", v, err))
	}
	return b
}

// Decode appends the ticks of one frame.
func (o *OKX) Decode(frame []byte, received protocol.Time, out []market.Tick) ([]market.Tick, error) {
	return o.take(frame, received, out, o.decode)
}

func (o *OKX) decode(frame []byte, received protocol.Time, out []market.Tick) ([]market.Tick, error) {
	if string(frame) == "pong" { // the one frame that is not JSON
		o.stats.ignore(frame)
		return out, nil
	}
	defer o.json.done(frame)
	v, err := o.json.parse(frame)
	if err != nil {
		return out, err
	}
	if event := text(v, "event"); event != nil {
		o.stats.ignore(event)
		o.event(event, v)
		return out, nil
	}
	arg := v.Get("arg")
	switch channel := text(arg, "channel"); string(channel) {
	case "tickers":
		return o.ticker(v, received, out)
	case "trades":
		return o.trades(v, received, out)
	case "":
		o.stats.ignore([]byte("unknown"))
	default:
		o.stats.ignore(channel)
	}
	return out, nil
}

// spot finds the pair of an instrument; nil for one that makes no ticks.
// BTC-USDT is a spot market, BTC-USDT-SWAP and BTC-USD-220527 are not.
func (o *OKX) spot(instrument []byte) *pair {
	if bytes.Count(instrument, []byte{'-'}) > 1 {
		o.stats.ignore(derivative)
		return nil
	}
	p := o.symbols.find(instrument)
	if p == nil {
		o.stats.Unknown++
	}
	return p
}

// derivative is how ticks that are no spot prices are counted.
var derivative = []byte("derivative")

// priceless is how tickers of markets without a trade are counted.
var priceless = []byte("ticker without price")

func (o *OKX) ticker(v *fastjson.Value, received protocol.Time, out []market.Tick) ([]market.Tick, error) {
	for _, k := range v.GetArray("data") {
		p := o.spot(text(k, "instId"))
		if p == nil {
			continue
		}
		if last := text(k, "last"); last != nil && len(last) == 0 {
			o.stats.ignore(priceless)
			continue
		}
		t := market.Tick{Exchange: "okx", Asset: p.slug, Quote: p.quote, Received: received, Kind: market.Ticker}
		var err error
		if t.Price, err = decimal(k, "last"); err != nil {
			return out, err
		}
		if t.Time, err = timeText(k, "ts", protocol.Millisecond); err != nil {
			return out, err
		}
		if !o.tickers.pass(p, t.Time, received) {
			o.stats.OutOfOrder++
			continue
		}
		t.PriceText = p.price(text(k, "last"))
		t.Day = market.Day{
			Has:         true,
			Open:        optional(k, "open24h"),
			High:        optional(k, "high24h"),
			Low:         optional(k, "low24h"),
			Volume:      optional(k, "vol24h"),
			QuoteVolume: optional(k, "volCcy24h"),
		}
		out = append(out, t)
	}
	return out, nil
}

func (o *OKX) trades(v *fastjson.Value, received protocol.Time, out []market.Tick) ([]market.Tick, error) {
	o.tape.begin()
	for _, k := range v.GetArray("data") {
		p := o.spot(text(k, "instId"))
		if p == nil {
			continue
		}
		t, err := okxTrade(k, p, received)
		if err != nil {
			return out, err
		}
		count, err := okxCount(k, t.TradeID)
		if err != nil {
			return out, err
		}
		o.tape.add(p, count, t)
	}
	return o.tape.take(&o.stats, &o.notes, out), nil
}

func okxTrade(k *fastjson.Value, p *pair, received protocol.Time) (t market.Tick, err error) {
	t = market.Tick{Exchange: "okx", Asset: p.slug, Quote: p.quote, Received: received}
	if t.Price, err = decimal(k, "px"); err != nil {
		return t, err
	}
	if t.Size, err = decimal(k, "sz"); err != nil {
		return t, err
	}
	if t.TradeID, err = wholeText(k, "tradeId"); err != nil {
		return t, err
	}
	if t.Time, err = timeText(k, "ts", protocol.Millisecond); err != nil {
		return t, err
	}
	t.PriceText = p.price(text(k, "px"))
	return t, nil
}

// okxCount is how many trades were put together. Frames of 2022 do not tell:
// then each trade is one.
func okxCount(k *fastjson.Value, id int64) (int64, error) {
	if k.Get("count") == nil {
		return 1, nil
	}
	n, err := wholeText(k, "count")
	if err != nil {
		return 0, err
	}
	if n > maxCount || n > id {
		return 0, fmt.Errorf("count %d of trade %d is too large", n, id)
	}
	return n, nil
}

// event notes what an answer or a notice says. Error codes are those of the
// documentation's section on WebSocket errors.
func (o *OKX) event(event []byte, v *fastjson.Value) {
	switch string(event) {
	case "subscribe":
		// Each channel is confirmed apart; a symbol's trades come second.
		if arg := v.Get("arg"); string(text(arg, "channel")) == "trades" {
			o.notes.add(Note{Kind: Subscribed, Symbol: brief(text(arg, "instId"))})
		}
	case "channel-conn-count-error":
		o.notes.add(Note{Kind: Limited, Text: "too many connections for channel " + brief(text(v, "channel"))})
	case "notice":
		if string(text(v, "code")) == "64008" {
			o.notes.add(Note{Kind: Moving, Text: brief(text(v, "msg"))})
		}
	case "error":
		o.refusal(text(v, "code"), brief(text(v, "msg")))
	}
}

func (o *OKX) refusal(code []byte, msg string) {
	n := Note{Kind: Refused, Text: string(code) + " " + msg}
	switch string(code) {
	case "60014", "50011", "50061":
		n.Kind = Limited
	default:
		// ... channel:trades,instId:NOPE-USDT doesn't exist. ...
		if _, rest, ok := strings.Cut(msg, "instId:"); ok {
			n.Symbol, _, _ = strings.Cut(rest, " ")
		}
	}
	o.notes.add(n)
}

// Catalog asks for the tickers: unlike the list of instruments they tell the
// volumes.
func (o *OKX) Catalog() Request { return Request{Path: "/api/v5/market/tickers?instType=SPOT"} }

// okxData is the data of a REST answer.
func okxData(body []byte) ([]*fastjson.Value, error) {
	v, err := answer(body)
	if err != nil {
		return nil, fmt.Errorf("okx: %w", err)
	}
	if code := text(v, "code"); string(code) != "0" {
		return nil, fmt.Errorf("okx: refused with code %.20q: %s", code, brief(text(v, "msg")))
	}
	data, err := rows(v, "data")
	if err != nil {
		return nil, fmt.Errorf("okx: %w", err)
	}
	return data, nil
}

// Listings reads the answer to Catalog.
func (o *OKX) Listings(body []byte) (out []Listing, err error) {
	data, err := okxData(body)
	if err != nil {
		return nil, err
	}
	for _, k := range data {
		symbol := text(k, "instId")
		if string(text(k, "instType")) != "SPOT" || !plainSymbol(symbol) || optional(k, "last") <= 0 {
			continue
		}
		if slug, quote := splitSymbol(o.symbols.assets, string(symbol)); slug != "" {
			out = append(out, Listing{Symbol: string(symbol), Asset: slug, Quote: quote, VolumeQuote: optional(k, "volCcy24h")})
		}
	}
	return out, nil
}

// Bars asks for the newest 300 bars, 25 hours, which is all one answer holds.
func (o *OKX) Bars(symbol string, _ protocol.Time) Request {
	return Request{Path: "/api/v5/market/candles?bar=5m&limit=300&instId=" + url.QueryEscape(symbol)}
}

// ParseBars reads the answer to Bars, newest first: start, open, high, low,
// close, volume in the coin, in the quote, in the quote again, and whether the
// bar is finished. The one that still runs is left out.
func (o *OKX) ParseBars(_ string, body []byte) (out []market.Candle, err error) {
	data, err := okxData(body)
	if err != nil {
		return nil, err
	}
	for _, row := range data {
		f := row.GetArray()
		if len(f) < 9 {
			return nil, fmt.Errorf("okx: bar of %d fields, want 9", len(f))
		}
		if string(f[8].GetStringBytes()) != "1" {
			continue
		}
		c, err := bar(f[0].GetStringBytes(), protocol.Millisecond, f[1].GetStringBytes(),
			f[2].GetStringBytes(), f[3].GetStringBytes(), f[4].GetStringBytes(), f[7].GetStringBytes())
		if err != nil {
			return nil, fmt.Errorf("okx: %w", err)
		}
		out = append(out, c)
	}
	return inOrder(out), nil
}

// Refill asks for up to 100 trades, the newest of the gap first. What is
// older is left for the next request.
func (o *OKX) Refill(gap Note) Request {
	return Request{Path: fmt.Sprintf("/api/v5/market/history-trades?instId=%s&type=1&after=%d&limit=100",
		url.QueryEscape(gap.Symbol), gap.To+1)}
}

// ParseRefill reads the answer to Refill. It holds every trade by itself,
// where the stream puts some together.
func (o *OKX) ParseRefill(gap Note, body []byte, received protocol.Time) ([]market.Tick, Note, error) {
	data, err := okxData(body)
	if err != nil {
		return nil, gap, err
	}
	p := o.symbols.find([]byte(gap.Symbol))
	if p == nil {
		return nil, gap, fmt.Errorf("okx: refill of %.40q, which was never seen", gap.Symbol)
	}
	var all []market.Tick
	for _, k := range data {
		t, err := okxTrade(k, p, received)
		if err != nil {
			return nil, gap, fmt.Errorf("okx: %w", err)
		}
		all = append(all, t)
	}
	ticks, rest := p.refill(gap, all, &o.stats)
	return ticks, rest, nil
}
