package feed

import (
	"bytes"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/valyala/fastjson"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// Bitstamp decodes the channels live_trades of Bitstamp's WebSocket API v2.
// It has no channel of tickers, so its ticks carry no statistics of the day.
//
// Trade ids count the trades of all markets together: of one they only grow,
// and a trade that is missing shows only between two connections.
type Bitstamp struct {
	adapter
	tape tape
	now  protocol.Time // when the newest frame came
}

// NewBitstamp returns a codec that has seen nothing.
func NewBitstamp(assets resolver) *Bitstamp {
	return &Bitstamp{adapter: newAdapter("bitstamp", assets)}
}

// Reset begins a new connection.
func (b *Bitstamp) Reset() { b.tape.conn++ }

// Rules: Bitstamp ends a connection after 90 days and allows 10,000 requests
// in 10 minutes. It documents no limit on messages.
func (b *Bitstamp) Rules() Rules {
	return Rules{
		URL:        "wss://ws.bitstamp.net",
		REST:       "https://www.bitstamp.net",
		Silence:    25 * time.Second,
		Ping:       []byte(`{"event":"bts:heartbeat"}`),
		PingEvery:  15 * time.Second,
		Life:       80 * 24 * time.Hour,
		ConnectGap: time.Second,
		MessageGap: 20 * time.Millisecond,
		RequestGap: 200 * time.Millisecond,
		FrameBytes: 1 << 20,
		MaxSymbols: 200,
	}
}

// liveTrades is what the names of the channels begin with.
const liveTrades = "live_trades_"

// Subscribe asks for one channel a message; the protocol knows no lists.
func (b *Bitstamp) Subscribe(symbols []string) (messages [][]byte) {
	for _, s := range symbols {
		messages = append(messages, message(map[string]any{
			"event": "bts:subscribe", "data": map[string]string{"channel": liveTrades + s},
		}))
	}
	return messages
}

// Decode appends the ticks of one frame.
func (b *Bitstamp) Decode(frame []byte, received protocol.Time, out []market.Tick) ([]market.Tick, error) {
	b.now = received
	return b.take(frame, received, out, b.decode)
}

func (b *Bitstamp) decode(frame []byte, received protocol.Time, out []market.Tick) ([]market.Tick, error) {
	defer b.json.done(frame)
	v, err := b.json.parse(frame)
	if err != nil {
		return out, err
	}
	event := text(v, "event")
	symbol, isTrades := bytes.CutPrefix(text(v, "channel"), []byte(liveTrades))
	if !isTrades {
		symbol = nil
	}
	if string(event) != "trade" || !isTrades {
		b.said(event, symbol, v)
		return out, nil
	}
	p := b.symbols.find(symbol)
	if p == nil {
		b.stats.Unknown++
		return out, nil
	}
	t, err := bitstampTrade(v.Get("data"), p)
	if err != nil {
		return out, err
	}
	t.Received = received
	b.tape.begin()
	b.tape.add(p, 1, t)
	return b.tape.take(&b.stats, &b.notes, out), nil
}

// bitstampTrade reads a trade of the stream. Its numbers come twice; as text
// they have all their digits.
func bitstampTrade(k *fastjson.Value, p *pair) (t market.Tick, err error) {
	t = market.Tick{Exchange: "bitstamp", Asset: p.slug, Quote: p.quote}
	if k == nil {
		return t, fmt.Errorf("trade without data")
	}
	if t.Price, err = decimal(k, "price_str"); err != nil {
		return t, err
	}
	if t.Size, err = decimal(k, "amount_str"); err != nil {
		return t, err
	}
	if t.TradeID, err = intField(k, "id"); err != nil {
		return t, err
	}
	if t.TradeID <= 0 {
		return t, fmt.Errorf("id %d is not a positive number", t.TradeID)
	}
	if t.Time, err = timeText(k, "microtimestamp", protocol.Microsecond); err != nil {
		return t, err
	}
	t.PriceText = p.price(text(k, "price_str"))
	return t, nil
}

// said counts a frame without a trade and notes what it says. symbol is empty
// when it is about none.
func (b *Bitstamp) said(event, symbol []byte, v *fastjson.Value) {
	if event == nil {
		event = []byte("unknown")
	}
	b.stats.ignore(event)
	switch string(event) {
	case "bts:subscription_succeeded":
		if len(symbol) > 0 {
			b.notes.add(Note{Kind: Subscribed, Symbol: brief(symbol)})
			b.tape.resubscribed(b.symbols.pairs[string(symbol)], &b.notes)
		}
	case "bts:request_reconnect":
		b.notes.add(Note{Kind: Moving, Text: "bts:request_reconnect"})
	case "bts:error":
		b.notes.add(refusal(brief(symbol), string(v.GetStringBytes("data", "message"))))
	}
}

// Catalog asks for the tickers of all markets, which tell the volumes.
func (b *Bitstamp) Catalog() Request { return Request{Path: "/api/v2/ticker/"} }

// Listings reads the answer to Catalog. A pair is spelled BTC/USD there and
// btcusd everywhere else; BTC/USD-PERP is a perpetual.
func (b *Bitstamp) Listings(body []byte) (out []Listing, err error) {
	list, err := bitstampList(body)
	if err != nil {
		return nil, err
	}
	for _, k := range list {
		name := string(text(k, "pair"))
		symbol := strings.ToLower(strings.Replace(name, "/", "", 1))
		if !plainSymbol([]byte(symbol)) || optional(k, "last") <= 0 {
			continue
		}
		// The stream's spelling must lead to the same asset.
		slug, quote := splitSymbol(b.symbols.assets, name)
		again, quoteAgain := splitSymbol(b.symbols.assets, symbol)
		if slug != "" && slug == again && quote == quoteAgain {
			out = append(out, Listing{Symbol: symbol, Asset: slug, Quote: quote, VolumeQuote: bitstampVolume(k)})
		}
	}
	return out, nil
}

// bitstampVolume is the volume in the quote, of which only the parts are told.
func bitstampVolume(k *fastjson.Value) float64 {
	price := optional(k, "vwap")
	if price == 0 {
		price = optional(k, "last")
	}
	return optional(k, "volume") * price
}

// bitstampList is an answer that is a list; errors come as an object.
func bitstampList(body []byte, keys ...string) ([]*fastjson.Value, error) {
	v, err := answer(body)
	if err != nil {
		return nil, fmt.Errorf("bitstamp: %w", err)
	}
	for _, key := range []string{"reason", "error", "message"} {
		if why := text(v, key); why != nil {
			return nil, fmt.Errorf("bitstamp: refused: %s", brief(why))
		}
	}
	list, err := rows(v, keys...)
	if err != nil {
		return nil, fmt.Errorf("bitstamp: %w", err)
	}
	return list, nil
}

// Bars asks for up to 1000 finished bars from since on.
func (b *Bitstamp) Bars(symbol string, since protocol.Time) Request {
	return Request{Path: fmt.Sprintf("/api/v2/ohlc/%s/?step=300&limit=1000&exclude_current_candle=true&start=%d",
		url.PathEscape(symbol), since/protocol.Second)}
}

// ParseBars reads the answer to Bars. Its volumes are in the coin; at a bar's
// middle price they become the quote's.
func (b *Bitstamp) ParseBars(_ string, body []byte) (out []market.Candle, err error) {
	list, err := bitstampList(body, "data", "ohlc")
	if err != nil {
		return nil, err
	}
	for _, k := range list {
		c, err := bar(text(k, "timestamp"), protocol.Second, text(k, "open"),
			text(k, "high"), text(k, "low"), text(k, "close"), text(k, "volume"))
		if err != nil {
			return nil, fmt.Errorf("bitstamp: %w", err)
		}
		c.Volume *= (c.High + c.Low + c.Close) / 3
		out = append(out, c)
	}
	return inOrder(out), nil
}

// Refill asks for the trades of the last hour, or of the last day when the gap
// began earlier.
func (b *Bitstamp) Refill(gap Note) Request {
	if gap.Text == outOfReach {
		return Request{}
	}
	span := "hour"
	if gap.After < b.now-55*protocol.Minute {
		span = "day"
	}
	return Request{Path: "/api/v2/transactions/" + url.PathEscape(gap.Symbol) + "/?time=" + span}
}

// ParseRefill reads the answer to Refill: a list, newest first, of trades
// whose times are whole seconds.
func (b *Bitstamp) ParseRefill(gap Note, body []byte, received protocol.Time) ([]market.Tick, Note, error) {
	list, err := bitstampList(body)
	if err != nil {
		return nil, gap, err
	}
	p := b.symbols.find([]byte(gap.Symbol))
	if p == nil {
		return nil, gap, fmt.Errorf("bitstamp: refill of %.40q, which was never seen", gap.Symbol)
	}
	h := harvest{gap: gap}
	for _, k := range list {
		t := market.Tick{Exchange: "bitstamp", Asset: p.slug, Quote: p.quote, Received: received}
		if err := bitstampTransaction(k, p, &t); err != nil {
			return nil, gap, fmt.Errorf("bitstamp: %w", err)
		}
		h.add(t)
	}
	ticks, rest, err := h.take(p, &b.stats)
	if err != nil {
		return nil, gap, fmt.Errorf("bitstamp: %w", err)
	}
	return ticks, rest, nil
}

func bitstampTransaction(k *fastjson.Value, p *pair, t *market.Tick) (err error) {
	if t.Price, err = decimal(k, "price"); err != nil {
		return err
	}
	if t.Size, err = decimal(k, "amount"); err != nil {
		return err
	}
	if t.TradeID, err = wholeText(k, "tid"); err != nil {
		return err
	}
	if t.Time, err = timeText(k, "date", protocol.Second); err != nil {
		return err
	}
	t.PriceText = p.price(text(k, "price"))
	return nil
}
