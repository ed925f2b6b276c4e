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

// Bybit decodes the public spot topics tickers and publicTrade of Bybit v5.
//
// Perpetuals and futures have topics of the same names and symbols (BTCUSDT)
// and another price. The URL of the connection tells them apart; what slips
// through is known by its form. They are counted and make no ticks.
//
// Trade ids grow and do not count: a trade that is missing shows only between
// two connections.
type Bybit struct {
	adapter
	derivatives bool // the connection is one of perpetuals, futures or options
	tape        tape
	tickers     newer
}

// NewBybit returns a codec for spot connections that has seen nothing.
func NewBybit(assets resolver) *Bybit {
	return &Bybit{adapter: newAdapter("bybit", assets)}
}

// newBybitDerivatives returns a codec that only counts.
func newBybitDerivatives(assets resolver) *Bybit {
	b := NewBybit(assets)
	b.derivatives = true
	return b
}

// Reset begins a new connection.
func (b *Bybit) Reset() {
	b.tickers.reset()
	b.tape.conn++
}

// Rules are those of the public spot endpoint: 500 connections in 5 minutes,
// 10 arguments a subscribe message, and a ping at least every 20 s. Ours come
// twice as often: REST shows only the newest 60 trades, so what a dead
// connection cost can be had for a short while alone.
func (b *Bybit) Rules() Rules {
	return Rules{
		URL:        "wss://stream.bybit.com/v5/public/spot",
		REST:       "https://api.bybit.com",
		Silence:    20 * time.Second,
		Ping:       []byte(`{"op":"ping"}`),
		PingEvery:  10 * time.Second,
		ConnectGap: time.Second,
		MessageGap: 50 * time.Millisecond,
		RequestGap: 200 * time.Millisecond,
		FrameBytes: 1 << 20,
		MaxSymbols: 200,
	}
}

// Subscribe asks for one symbol a message: a topic that does not exist makes
// Bybit refuse the whole message. The request id comes back with the answer.
func (b *Bybit) Subscribe(symbols []string) (messages [][]byte) {
	for _, s := range symbols {
		messages = append(messages, message(map[string]any{
			"req_id": s, "op": "subscribe", "args": []string{"tickers." + s, "publicTrade." + s},
		}))
	}
	return messages
}

// Decode appends the ticks of one frame.
func (b *Bybit) Decode(frame []byte, received protocol.Time, out []market.Tick) ([]market.Tick, error) {
	return b.take(frame, received, out, b.decode)
}

func (b *Bybit) decode(frame []byte, received protocol.Time, out []market.Tick) ([]market.Tick, error) {
	defer b.json.done(frame)
	v, err := b.json.parse(frame)
	if err != nil {
		return out, err
	}
	topic := text(v, "topic")
	kind, _, _ := bytes.Cut(topic, []byte{'.'})
	switch {
	case topic == nil:
		b.answered(v)
		return out, nil
	case string(kind) != "tickers" && string(kind) != "publicTrade":
		b.stats.ignore(kind)
		return out, nil
	case b.derivatives:
		b.stats.ignore(derivative)
		return out, nil
	case string(kind) == "tickers":
		return b.ticker(v, received, out)
	}
	return b.trades(v, received, out)
}

// answered counts the answer to a command and notes what it says.
func (b *Bybit) answered(v *fastjson.Value) {
	op := text(v, "op")
	if op == nil {
		op = []byte("unknown")
	}
	b.stats.ignore(op)
	if string(op) != "subscribe" {
		return
	}
	symbol := brief(text(v, "req_id"))
	if v.GetBool("success") {
		b.notes.add(Note{Kind: Subscribed, Symbol: symbol})
		b.tape.resubscribed(b.symbols.pairs[symbol], &b.notes)
		return
	}
	// error:handler not found,topic:publicTrade.NOPEUSDT
	why, topic, _ := strings.Cut(brief(text(v, "ret_msg")), ",topic:")
	if symbol == "" {
		_, symbol, _ = strings.Cut(topic, ".")
	}
	b.notes.add(refusal(symbol, why))
}

func (b *Bybit) ticker(v *fastjson.Value, received protocol.Time, out []market.Tick) ([]market.Tick, error) {
	k := v.Get("data")
	if string(text(v, "type")) != "snapshot" || k.Exists("markPrice") {
		// Spot tickers are whole and know no mark price.
		b.stats.ignore(derivative)
		return out, nil
	}
	p := b.symbols.find(text(k, "symbol"))
	if p == nil {
		b.stats.Unknown++
		return out, nil
	}
	if last := text(k, "lastPrice"); last != nil && len(last) == 0 {
		b.stats.ignore(priceless)
		return out, nil
	}
	t := market.Tick{Exchange: "bybit", Asset: p.slug, Quote: p.quote, Received: received, Kind: market.Ticker}
	var err error
	if t.Price, err = decimal(k, "lastPrice"); err != nil {
		return out, err
	}
	if t.Time, err = timeNumber(v, "ts"); err != nil {
		return out, err
	}
	if !b.tickers.pass(p, t.Time, received) {
		b.stats.OutOfOrder++
		return out, nil
	}
	t.PriceText = p.price(text(k, "lastPrice"))
	t.Day = market.Day{
		Has:         true,
		Open:        optional(k, "prevPrice24h"),
		High:        optional(k, "highPrice24h"),
		Low:         optional(k, "lowPrice24h"),
		Volume:      optional(k, "volume24h"),
		QuoteVolume: optional(k, "turnover24h"),
	}
	return append(out, t), nil
}

func (b *Bybit) trades(v *fastjson.Value, received protocol.Time, out []market.Tick) ([]market.Tick, error) {
	b.tape.begin()
	for _, k := range v.GetArray("data") {
		if bytes.IndexByte(text(k, "i"), '-') >= 0 {
			// The ids of spot trades are numbers, all others' are UUIDs.
			b.stats.ignore(derivative)
			continue
		}
		if k.GetBool("BT") {
			b.stats.ignore(blockTrade)
			continue
		}
		p := b.symbols.find(text(k, "s"))
		if p == nil {
			b.stats.Unknown++
			continue
		}
		t := market.Tick{Exchange: "bybit", Asset: p.slug, Quote: p.quote, Received: received}
		var err error
		if t.Time, err = timeNumber(k, "T"); err != nil {
			return out, err
		}
		if err = bybitTrade(k, p, &t, "i", "p", "v"); err != nil {
			return out, err
		}
		b.tape.add(p, 1, t)
	}
	return b.tape.take(&b.stats, &b.notes, out), nil
}

// blockTrade is how trades at a negotiated price are counted.
var blockTrade = []byte("block trade")

// bybitTrade reads what stream and REST spell alike under different keys.
func bybitTrade(k *fastjson.Value, p *pair, t *market.Tick, id, price, size string) (err error) {
	if t.TradeID, err = wholeText(k, id); err != nil {
		return err
	}
	if t.Price, err = decimal(k, price); err != nil {
		return err
	}
	if t.Size, err = decimal(k, size); err != nil {
		return err
	}
	t.PriceText = p.price(text(k, price))
	return nil
}

// Catalog asks for the tickers: unlike the list of instruments they tell the
// volumes.
func (b *Bybit) Catalog() Request { return Request{Path: "/v5/market/tickers?category=spot"} }

// bybitResult is the list of a REST answer, and the exchange's time.
func bybitResult(body []byte) ([]*fastjson.Value, protocol.Time, error) {
	v, err := answer(body)
	if err != nil {
		return nil, 0, fmt.Errorf("bybit: %w", err)
	}
	code, err := intField(v, "retCode")
	if err != nil {
		return nil, 0, fmt.Errorf("bybit: %w", err)
	}
	if code != 0 {
		return nil, 0, fmt.Errorf("bybit: refused with code %d: %s", code, brief(text(v, "retMsg")))
	}
	list, err := rows(v, "result", "list")
	if err != nil {
		return nil, 0, fmt.Errorf("bybit: %w", err)
	}
	at, err := timeNumber(v, "time")
	if err != nil {
		return nil, 0, fmt.Errorf("bybit: %w", err)
	}
	return list, at, nil
}

// Listings reads the answer to Catalog.
func (b *Bybit) Listings(body []byte) (out []Listing, err error) {
	list, _, err := bybitResult(body)
	if err != nil {
		return nil, err
	}
	for _, k := range list {
		symbol := text(k, "symbol")
		if !plainSymbol(symbol) || optional(k, "lastPrice") <= 0 {
			continue
		}
		if slug, quote := splitSymbol(b.symbols.assets, string(symbol)); slug != "" {
			out = append(out, Listing{Symbol: string(symbol), Asset: slug, Quote: quote, VolumeQuote: optional(k, "turnover24h")})
		}
	}
	return out, nil
}

// Bars asks for up to 1000 bars from since on, three and a half days.
func (b *Bybit) Bars(symbol string, since protocol.Time) Request {
	return Request{Path: fmt.Sprintf("/v5/market/kline?category=spot&symbol=%s&interval=5&start=%d&limit=1000",
		url.QueryEscape(symbol), since.Millis())}
}

// ParseBars reads the answer to Bars, newest first: start, open, high, low,
// close, volume in the coin and in the quote. The bar that still runs at the
// time of the answer is left out.
func (b *Bybit) ParseBars(_ string, body []byte) (out []market.Candle, err error) {
	list, at, err := bybitResult(body)
	if err != nil {
		return nil, err
	}
	for _, row := range list {
		f := row.GetArray()
		if len(f) < 7 {
			return nil, fmt.Errorf("bybit: bar of %d fields, want 7", len(f))
		}
		c, err := bar(f[0].GetStringBytes(), protocol.Millisecond, f[1].GetStringBytes(),
			f[2].GetStringBytes(), f[3].GetStringBytes(), f[4].GetStringBytes(), f[6].GetStringBytes())
		if err != nil {
			return nil, fmt.Errorf("bybit: %w", err)
		}
		if c.Start+barSpan <= at {
			out = append(out, c)
		}
	}
	return inOrder(out), nil
}

// Refill asks for the newest 60 trades, all that Bybit shows of a spot market.
func (b *Bybit) Refill(gap Note) Request {
	if gap.Text == outOfReach {
		return Request{}
	}
	return Request{Path: "/v5/market/recent-trade?category=spot&limit=60&symbol=" + url.QueryEscape(gap.Symbol)}
}

// ParseRefill reads the answer to Refill.
func (b *Bybit) ParseRefill(gap Note, body []byte, received protocol.Time) ([]market.Tick, Note, error) {
	list, _, err := bybitResult(body)
	if err != nil {
		return nil, gap, err
	}
	p := b.symbols.find([]byte(gap.Symbol))
	if p == nil {
		return nil, gap, fmt.Errorf("bybit: refill of %.40q, which was never seen", gap.Symbol)
	}
	h := harvest{gap: gap}
	for _, k := range list {
		if k.GetBool("isBlockTrade") {
			continue
		}
		t := market.Tick{Exchange: "bybit", Asset: p.slug, Quote: p.quote, Received: received}
		if t.Time, err = timeText(k, "time", protocol.Millisecond); err != nil {
			return nil, gap, fmt.Errorf("bybit: %w", err)
		}
		if err = bybitTrade(k, p, &t, "execId", "price", "size"); err != nil {
			return nil, gap, fmt.Errorf("bybit: %w", err)
		}
		h.add(t)
	}
	ticks, rest, err := h.take(p, &b.stats)
	if err != nil {
		return nil, gap, fmt.Errorf("bybit: %w", err)
	}
	return ticks, rest, nil
}
