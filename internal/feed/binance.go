package feed

import (
	"fmt"

	"github.com/valyala/fastjson"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// Binance speaks the spot streams trade, aggTrade, 24hrMiniTicker and
// 24hrTicker, wrapped ({"stream":…,"data":…}) or raw, one event or an array
// of them. Others are counted and ignored. Its keys differ only in case
// (e and E, t and T), so nothing here may match keys as encoding/json does.
type Binance struct {
	adapter
}

// NewBinance returns a codec that has seen nothing.
func NewBinance(assets resolver) *Binance {
	return &Binance{adapter: newAdapter("binance", assets)}
}

// Reset begins a new connection. Binance repeats nothing and numbers no
// frames: trades missed meanwhile show as a gap. What a second connection
// received while the first one lost it closes gaps.
func (b *Binance) Reset() { b.symbols.reopen() }

// Decode appends the ticks of one frame.
func (b *Binance) Decode(frame []byte, received protocol.Time, out []market.Tick) ([]market.Tick, error) {
	return b.take(frame, received, out, b.decode)
}

func (b *Binance) decode(frame []byte, received protocol.Time, out []market.Tick) ([]market.Tick, error) {
	defer b.json.done(frame)
	v, err := b.json.p.ParseBytes(frame)
	if err != nil {
		return out, fmt.Errorf("parse frame: %w", err)
	}
	if data := v.Get("data"); data != nil && v.Get("stream") != nil {
		v = data
	}
	switch v.Type() {
	case fastjson.TypeObject:
		return b.event(v, received, out)
	case fastjson.TypeArray: // !ticker@arr and !miniTicker@arr
		for _, e := range v.GetArray() {
			if out, err = b.event(e, received, out); err != nil {
				return out, err
			}
		}
		return out, nil
	}
	return out, fmt.Errorf("parse frame: a %s, not an event", v.Type())
}

func (b *Binance) event(v *fastjson.Value, received protocol.Time, out []market.Tick) ([]market.Tick, error) {
	kind := text(v, "e")
	switch string(kind) {
	case "trade", "aggTrade", "24hrMiniTicker", "24hrTicker":
	default:
		b.notice(v, kind)
		b.stats.ignore(binanceKind(v, kind))
		return out, nil
	}
	p := b.symbols.find(text(v, "s"))
	if p == nil {
		b.stats.Unknown++
		return out, nil
	}
	t := market.Tick{Exchange: "binance", Asset: p.slug, Quote: p.quote, Received: received}
	var err error
	isNew := true
	switch string(kind) {
	case "trade":
		err = binanceTrade(v, p, &t, "t")
		isNew = err == nil && b.contiguous(&p.lastTrade, t.TradeID)
	case "aggTrade":
		err = binanceTrade(v, p, &t, "a")
		isNew = err == nil && b.aggregate(p, &t)
	default:
		err = binanceTicker(v, p, &t)
	}
	if err != nil {
		return out, fmt.Errorf("%s: %w", kind, err)
	}
	if isNew {
		out = append(out, t)
	}
	return out, nil
}

// binanceKind names what is ignored; a bookTicker has no event type.
func binanceKind(v *fastjson.Value, kind []byte) []byte {
	switch {
	case kind != nil:
		return kind
	case v.Get("u") != nil && v.Get("b") != nil:
		return []byte("bookTicker")
	case v.Get("result") != nil:
		return []byte("result")
	case v.Get("error") != nil || v.Get("code") != nil:
		return []byte("error")
	}
	return []byte("unknown")
}

// binanceTrade reads a trade or an aggregate of trades.
func binanceTrade(v *fastjson.Value, p *pair, t *market.Tick, idKey string) (err error) {
	if t.Price, err = decimal(v, "p"); err != nil {
		return err
	}
	if t.Size, err = decimal(v, "q"); err != nil {
		return err
	}
	if t.TradeID, err = intField(v, idKey); err != nil {
		return err
	}
	if t.Time, err = binanceTime(v, "T"); err != nil {
		return err
	}
	t.PriceText = p.price(text(v, "p"))
	return nil
}

// aggregate places an aggregate trade: live feeds follow these, so their gaps
// are remembered and refilled. An id of 0 and below is none.
func (b *Binance) aggregate(p *pair, t *market.Tick) (isNew bool) {
	switch p.arrive(&p.lastAgg, t.TradeID, t.Time, &b.stats, &b.notes) {
	case seen:
		return false
	case found:
		t.Late = true
	}
	return true
}

// contiguous compares an id with the one that should come: they count every
// trade of a symbol.
func (b *Binance) contiguous(last *int64, id int64) (fresh bool) {
	switch {
	case *last != 0 && id <= *last:
		b.stats.Duplicates++
		return false
	case *last != 0 && id > *last+1:
		b.stats.Gaps++
		b.stats.Missing += uint64(id - *last - 1)
	}
	*last = id
	return true
}

// binanceTicker reads both kinds of ticker: the mini one is a subset.
func binanceTicker(v *fastjson.Value, p *pair, t *market.Tick) (err error) {
	t.Kind = market.Ticker
	if t.Price, err = decimal(v, "c"); err != nil {
		return err
	}
	if t.Time, err = binanceTime(v, "E"); err != nil {
		return err
	}
	t.PriceText = p.price(text(v, "c"))
	t.Day = market.Day{
		Has:         true,
		Open:        optional(v, "o"),
		High:        optional(v, "h"),
		Low:         optional(v, "l"),
		Volume:      optional(v, "v"),
		QuoteVolume: optional(v, "q"),
	}
	return nil
}

// binanceTime reads milliseconds, or microseconds where the connection asked
// for them: the sizes tell.
func binanceTime(v *fastjson.Value, key string) (protocol.Time, error) {
	const (
		mostMillis = 1e13 // in 2286
		mostMicros = 1e16
	)
	n, err := intField(v, key)
	switch {
	case err != nil:
		return 0, err
	case n <= 0 || n >= mostMicros/2:
		return 0, fmt.Errorf("%s %d is not a time", key, n)
	case n < mostMillis/2:
		return protocol.Time(n) * protocol.Millisecond, nil
	}
	return protocol.Time(n) * protocol.Microsecond, nil
}
