package feed

import (
	"slices"
	"strconv"
	"strings"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// slowWhole is a number above 0, as digits.
func slowWhole(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || n == 0 {
		return 0, errSlow
	}
	return int64(n), nil
}

// year2200 ends what is taken as a time.
const year2200 = 7_258_118_400

func slowTimeText(s string, unit protocol.Time) (protocol.Time, error) {
	n, err := slowWhole(s)
	if err != nil || n/int64(protocol.Second/unit) > year2200 || protocol.Time(n) > year2200*(protocol.Second/unit) {
		return 0, errSlow
	}
	return protocol.Time(n) * unit, nil
}

func slowMillis(v any, key string) (protocol.Time, error) {
	n, err := slowInt(v, key)
	if err != nil || n <= 0 || n > year2200*1000 {
		return 0, errSlow
	}
	return protocol.Time(n) * protocol.Millisecond, nil
}

func has(v any, key string) bool {
	m, _ := v.(map[string]any)
	_, ok := m[key]
	return ok
}

func empty(v any, key string) bool {
	m, _ := v.(map[string]any)
	s, ok := m[key].(string)
	return ok && s == ""
}

// A slowTrade keeps what is gone from the tick.
type slowTrade struct {
	symbol string
	tick   market.Tick
}

// slowOnce sorts trades by id and drops the repeated ones of a symbol, but
// those that come a minute later: then ids began anew.
func slowOnce(all []slowTrade) (out []market.Tick) {
	slices.SortStableFunc(all, func(a, b slowTrade) int { return int(max(-1, min(1, a.tick.TradeID-b.tick.TradeID))) })
	last := make(map[string]market.Tick)
	for _, k := range all {
		l, known := last[k.symbol]
		if known && l.TradeID == k.tick.TradeID && k.tick.Time <= l.Time+protocol.Minute {
			continue
		}
		out = append(out, k.tick)
		k.tick.Time = max(k.tick.Time, l.Time)
		last[k.symbol] = k.tick
	}
	return out
}

// slowOKX decodes a frame for a codec that has seen nothing.
func slowOKX(frame []byte, assets resolver) (out []market.Tick, err error) {
	if string(frame) == "pong" {
		return nil, nil
	}
	m, err := object(frame)
	if err != nil || m == nil {
		return nil, errSlow
	}
	if _, answer := m["event"].(string); answer {
		return nil, nil
	}
	var trades []slowTrade
	newest := make(map[string]protocol.Time)
	for _, k := range list(m, "data") {
		symbol := str(k, "instId")
		slug, quote := splitSymbol(assets, symbol)
		channel := str(m["arg"], "channel")
		if slug == "" || strings.Count(symbol, "-") > 1 || channel != "tickers" && channel != "trades" {
			continue
		}
		t := market.Tick{Exchange: "okx", Asset: slug, Quote: quote}
		if channel == "tickers" {
			if empty(k, "last") {
				continue
			}
			if t, err = slowOKXTicker(k, t); err != nil {
				return nil, err
			}
			if t.Time >= newest[symbol] {
				out = append(out, t)
				if t.Time <= protocol.Minute {
					newest[symbol] = t.Time
				}
			}
			continue
		}
		if t, err = slowOKXTrade(k, t); err != nil {
			return nil, err
		}
		trades = append(trades, slowTrade{symbol, t})
	}
	return append(out, slowOnce(trades)...), nil
}

func slowOKXTicker(k any, t market.Tick) (market.Tick, error) {
	var e1, e2 error
	t.Kind, t.PriceText = market.Ticker, str(k, "last")
	t.Price, e1 = slowDecimal(t.PriceText)
	t.Time, e2 = slowTimeText(str(k, "ts"), protocol.Millisecond)
	t.Day = market.Day{Has: true, Open: slowOptional(str(k, "open24h")), High: slowOptional(str(k, "high24h")),
		Low: slowOptional(str(k, "low24h")), Volume: slowOptional(str(k, "vol24h")), QuoteVolume: slowOptional(str(k, "volCcy24h"))}
	if e1 != nil || e2 != nil {
		return t, errSlow
	}
	return t, nil
}

func slowOKXTrade(k any, t market.Tick) (market.Tick, error) {
	var e1, e2, e3, e4, e5 error
	t.PriceText = str(k, "px")
	t.Price, e1 = slowDecimal(t.PriceText)
	t.Size, e2 = slowDecimal(str(k, "sz"))
	t.TradeID, e3 = slowWhole(str(k, "tradeId"))
	t.Time, e4 = slowTimeText(str(k, "ts"), protocol.Millisecond)
	count := int64(1)
	if has(k, "count") {
		count, e5 = slowWhole(str(k, "count"))
	}
	if e1 != nil || e2 != nil || e3 != nil || e4 != nil || e5 != nil || count > 10_000 || count > t.TradeID {
		return t, errSlow
	}
	return t, nil
}

// slowBybit decodes a frame of a spot connection for a codec that has seen
// nothing.
func slowBybit(frame []byte, assets resolver) (out []market.Tick, err error) {
	m, err := object(frame)
	if err != nil || m == nil {
		return nil, errSlow
	}
	kind, _, _ := strings.Cut(str(m, "topic"), ".")
	if kind == "tickers" {
		k := m["data"]
		slug, quote := splitSymbol(assets, str(k, "symbol"))
		if str(m, "type") != "snapshot" || has(k, "markPrice") || slug == "" || empty(k, "lastPrice") {
			return nil, nil
		}
		t := market.Tick{Exchange: "bybit", Asset: slug, Quote: quote, Kind: market.Ticker, PriceText: str(k, "lastPrice")}
		var e1, e2 error
		t.Price, e1 = slowDecimal(t.PriceText)
		t.Time, e2 = slowMillis(m, "ts")
		t.Day = market.Day{Has: true, Open: slowOptional(str(k, "prevPrice24h")), High: slowOptional(str(k, "highPrice24h")),
			Low: slowOptional(str(k, "lowPrice24h")), Volume: slowOptional(str(k, "volume24h")), QuoteVolume: slowOptional(str(k, "turnover24h"))}
		if e1 != nil || e2 != nil {
			return nil, errSlow
		}
		return []market.Tick{t}, nil
	}
	if kind != "publicTrade" {
		return nil, nil
	}
	var trades []slowTrade
	for _, k := range list(m, "data") {
		slug, quote := splitSymbol(assets, str(k, "s"))
		if block, _ := k.(map[string]any); slug == "" || strings.Contains(str(k, "i"), "-") || block["BT"] == true {
			continue
		}
		t := market.Tick{Exchange: "bybit", Asset: slug, Quote: quote, PriceText: str(k, "p")}
		var e1, e2, e3, e4 error
		t.Price, e1 = slowDecimal(t.PriceText)
		t.Size, e2 = slowDecimal(str(k, "v"))
		t.TradeID, e3 = slowWhole(str(k, "i"))
		t.Time, e4 = slowMillis(k, "T")
		if e1 != nil || e2 != nil || e3 != nil || e4 != nil {
			return nil, errSlow
		}
		trades = append(trades, slowTrade{str(k, "s"), t})
	}
	return slowOnce(trades), nil
}

// slowBitstamp decodes a frame for a codec that has seen nothing.
func slowBitstamp(frame []byte, assets resolver) ([]market.Tick, error) {
	m, err := object(frame)
	if err != nil || m == nil {
		return nil, errSlow
	}
	symbol, ok := strings.CutPrefix(str(m, "channel"), "live_trades_")
	slug, quote := splitSymbol(assets, symbol)
	if !ok || str(m, "event") != "trade" || slug == "" {
		return nil, nil
	}
	k := m["data"]
	t := market.Tick{Exchange: "bitstamp", Asset: slug, Quote: quote, PriceText: str(k, "price_str")}
	var e1, e2, e3, e4 error
	t.Price, e1 = slowDecimal(t.PriceText)
	t.Size, e2 = slowDecimal(str(k, "amount_str"))
	t.TradeID, e3 = slowInt(k, "id")
	t.Time, e4 = slowTimeText(str(k, "microtimestamp"), protocol.Microsecond)
	if e1 != nil || e2 != nil || e3 != nil || e4 != nil || t.TradeID <= 0 {
		return nil, errSlow
	}
	return []market.Tick{t}, nil
}
