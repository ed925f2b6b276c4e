package feed

import (
	"fmt"

	"github.com/valyala/fastjson"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// Kraken speaks the WebSocket API v2: ticker and trade become ticks; the
// answers to our messages become notes; heartbeats and status are ignored.
// Prices are JSON numbers there, and their digits are kept as they are
// written. (The status message's connection_id exceeds 2^63: nothing reads it.)
type Kraken struct {
	adapter
	batch  []traded // scratch of trades
	digits []byte   // scratch of numbers
}

// NewKraken returns a codec that has seen nothing.
func NewKraken(assets resolver) *Kraken {
	return &Kraken{adapter: newAdapter("kraken", assets)}
}

// Reset begins a new connection. Nothing numbers the frames; trade ids show
// what was missed, and the next snapshot repeats some of it.
func (k *Kraken) Reset() { k.symbols.reopen() }

// Decode appends the ticks of one frame.
func (k *Kraken) Decode(frame []byte, received protocol.Time, out []market.Tick) ([]market.Tick, error) {
	return k.take(frame, received, out, k.decode)
}

func (k *Kraken) decode(frame []byte, received protocol.Time, out []market.Tick) ([]market.Tick, error) {
	defer k.json.done(frame)
	v, err := k.json.parse(frame)
	if err != nil {
		return out, err
	}
	switch channel := text(v, "channel"); {
	case channel == nil:
		k.answer(v)
	case string(channel) == "ticker":
		return k.tickers(v, received, out)
	case string(channel) == "trade":
		return k.trades(v, received, out)
	default: // heartbeat, status, and what may come
		k.stats.ignore(channel)
	}
	return out, nil
}

// answer reads the reply to a message of ours.
func (k *Kraken) answer(v *fastjson.Value) {
	method := text(v, "method")
	if method == nil {
		method = []byte("unknown")
	}
	k.stats.ignore(method)
	symbol := text(v, "symbol")
	if symbol == nil {
		symbol = text(v.Get("result"), "symbol")
	}
	switch {
	case text(v, "error") != nil:
		k.notes.add(refusal(string(symbol), string(text(v, "error"))))
	case string(method) == "subscribe" && v.GetBool("success"):
		k.notes.add(Note{Kind: Subscribed, Symbol: string(symbol)})
	}
}

func (k *Kraken) tickers(v *fastjson.Value, received protocol.Time, out []market.Tick) ([]market.Tick, error) {
	for _, d := range v.GetArray("data") {
		p := k.symbols.find(text(d, "symbol"))
		if p == nil {
			k.stats.Unknown++
			continue
		}
		t := market.Tick{Exchange: "kraken", Asset: p.slug, Quote: p.quote, Time: received, Received: received, Kind: market.Ticker}
		var err error
		if t.Price, err = k.number(d, "last"); err != nil {
			return out, err
		}
		t.PriceText = p.price(k.digits)
		// Older servers send no time.
		if d.Get("timestamp") != nil {
			if t.Time, err = timeField(d, "timestamp"); err != nil {
				return out, err
			}
		}
		t.Day = k.day(d, t.Price)
		out = append(out, t)
	}
	return out, nil
}

// day is the last 24 hours: the change is absolute, the volume in the asset
// and its mean price told.
func (k *Kraken) day(d *fastjson.Value, price float64) market.Day {
	day := market.Day{Has: true, High: k.optional(d, "high"), Low: k.optional(d, "low"), Volume: k.optional(d, "volume")}
	day.QuoteVolume = day.Volume * k.optional(d, "vwap")
	if d.Get("change") != nil {
		day.Open = max(0, price-k.optional(d, "change"))
	}
	return day
}

func (k *Kraken) trades(v *fastjson.Value, received protocol.Time, out []market.Tick) ([]market.Tick, error) {
	snapshot := string(text(v, "type")) == "snapshot"
	k.batch = k.batch[:0]
	for _, d := range v.GetArray("data") {
		p := k.symbols.find(text(d, "symbol"))
		if p == nil {
			k.stats.Unknown++
			continue
		}
		t := market.Tick{Exchange: "kraken", Asset: p.slug, Quote: p.quote, Received: received}
		var err error
		if t.Price, err = k.number(d, "price"); err != nil {
			return out, err
		}
		t.PriceText = p.price(k.digits)
		if t.Size, err = k.number(d, "qty"); err != nil {
			return out, err
		}
		if t.TradeID, err = intField(d, "trade_id"); err != nil {
			return out, err
		}
		if t.TradeID <= 0 {
			return out, fmt.Errorf("trade_id %d is not a positive number", t.TradeID)
		}
		if t.Time, err = timeField(d, "timestamp"); err != nil {
			return out, err
		}
		k.batch = append(k.batch, traded{p, t, snapshot})
	}
	return settle(k.batch, &k.stats, &k.notes, out), nil
}

// number is the number under key; digits then hold how it is written.
func (k *Kraken) number(v *fastjson.Value, key string) (float64, error) {
	k.digits = rawNumber(v.Get(key), k.digits[:0])
	f, ok := parseDecimal(k.digits)
	if !ok {
		return 0, fmt.Errorf("%s %.40q is not a decimal", key, k.digits)
	}
	return f, nil
}

// optional is number for a figure that may be absent or odd: 0 then.
func (k *Kraken) optional(v *fastjson.Value, key string) float64 {
	f, _ := k.number(v, key)
	return f
}

// rawNumber appends a number as it is written, be it a JSON number or a
// string; nothing for anything else.
func rawNumber(v *fastjson.Value, dst []byte) []byte {
	switch {
	case v == nil:
		return dst
	case v.Type() == fastjson.TypeString:
		return append(dst, v.GetStringBytes()...)
	case v.Type() == fastjson.TypeNumber:
		return v.MarshalTo(dst)
	}
	return dst
}
