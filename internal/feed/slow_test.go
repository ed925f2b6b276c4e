package feed

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// The slow decoders: the same rules, written over maps that encoding/json
// filled. They are what the codecs are compared with.

// object decodes a JSON object; of keys that come twice the first counts, as
// with the codecs' parser.
func object(b []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	v, err := value(d)
	m, _ := v.(map[string]any)
	return m, err
}

func value(d *json.Decoder) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		m := make(map[string]any)
		for d.More() {
			k, err := d.Token()
			if err != nil {
				return nil, err
			}
			v, err := value(d)
			if err != nil {
				return nil, err
			}
			if _, twice := m[k.(string)]; !twice {
				m[k.(string)] = v
			}
		}
		_, err = d.Token()
		return m, err
	case json.Delim('['):
		a := []any{}
		for d.More() {
			v, err := value(d)
			if err != nil {
				return nil, err
			}
			a = append(a, v)
		}
		_, err = d.Token()
		return a, err
	}
	return t, nil
}

func list(v any, key string) []any {
	m, _ := v.(map[string]any)
	a, _ := m[key].([]any)
	return a
}

func str(v any, key string) string {
	m, _ := v.(map[string]any)
	s, _ := m[key].(string)
	return s
}

var errSlow = fmt.Errorf("malformed")

// slowDecimal is stricter by a regular shape: what ParseFloat takes and holds
// only digits, signs, points and exponents.
func slowDecimal(s string) (float64, error) {
	if strings.Trim(s, "0123456789.+-eE") != "" {
		return 0, errSlow
	}
	return strconv.ParseFloat(s, 64)
}

func slowOptional(s string) float64 {
	f, err := slowDecimal(s)
	if err != nil && !math.IsInf(f, 0) {
		return 0
	}
	return f
}

func slowTime(s string) (protocol.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() < 1970 || t.Year() > 2200 {
		return 0, errSlow
	}
	return protocol.Time(t.UnixNano()), nil
}

func slowInt(v any, key string) (int64, error) {
	m, _ := v.(map[string]any)
	n, ok := m[key].(json.Number)
	if !ok {
		return 0, errSlow
	}
	return strconv.ParseInt(n.String(), 10, 64)
}

// slowCoinbase decodes a frame for a codec that has seen nothing.
func slowCoinbase(frame []byte, assets resolver) (out []market.Tick, err error) {
	m, err := object(frame)
	if err != nil || m == nil {
		return nil, errSlow
	}
	channel, ok := m["channel"].(string)
	if !ok {
		return nil, nil
	}
	if n, err := slowInt(m, "sequence_num"); err != nil || n < 0 {
		return nil, errSlow
	}
	for _, event := range list(m, "events") {
		switch channel {
		case "ticker", "ticker_batch":
			at, err := slowTime(str(m, "timestamp"))
			if err != nil {
				return nil, err
			}
			for _, k := range list(event, "tickers") {
				slug, quote := splitSymbol(assets, str(k, "product_id"))
				if slug == "" {
					continue
				}
				price, err := slowDecimal(str(k, "price"))
				if err != nil {
					return nil, errSlow
				}
				t := market.Tick{Exchange: "coinbase", Asset: slug, Quote: quote, Price: price,
					PriceText: str(k, "price"), Time: at, Kind: market.Ticker}
				t.Day = market.Day{Has: true, High: slowOptional(str(k, "high_24_h")),
					Low: slowOptional(str(k, "low_24_h")), Volume: slowOptional(str(k, "volume_24_h"))}
				if change, err := slowDecimal(str(k, "price_percent_chg_24_h")); err == nil && change > -100 {
					t.Day.Open = price / (1 + change/100)
				}
				out = append(out, t)
			}
		case "market_trades":
			for _, k := range list(event, "trades") {
				slug, quote := splitSymbol(assets, str(k, "product_id"))
				if slug == "" {
					continue
				}
				price, e1 := slowDecimal(str(k, "price"))
				size, e2 := slowDecimal(str(k, "size"))
				id, e3 := strconv.ParseInt(str(k, "trade_id"), 10, 64)
				at, e4 := slowTime(str(k, "time"))
				if e1 != nil || e2 != nil || e3 != nil || e4 != nil || id <= 0 {
					return nil, errSlow
				}
				out = append(out, market.Tick{Exchange: "coinbase", Asset: slug, Quote: quote, Price: price,
					PriceText: str(k, "price"), Size: size, Time: at, TradeID: id})
			}
		}
	}
	if channel == "market_trades" {
		out = sortedOnce(out, m, assets)
	}
	if channel == "ticker" || channel == "ticker_batch" {
		if _, err := slowTime(str(m, "timestamp")); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// sortedOnce sorts trades by id and leaves out repeated ids of a product. The
// products are gone from the ticks, so they are taken from the frame again.
func sortedOnce(in []market.Tick, m map[string]any, assets resolver) (out []market.Tick) {
	type trade struct {
		product string
		tick    market.Tick
	}
	var all []trade
	for _, event := range list(m, "events") {
		for _, k := range list(event, "trades") {
			if slug, _ := splitSymbol(assets, str(k, "product_id")); slug != "" {
				all = append(all, trade{str(k, "product_id"), in[len(all)]})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b trade) int {
		switch {
		case a.tick.TradeID < b.tick.TradeID:
			return -1
		case a.tick.TradeID > b.tick.TradeID:
			return 1
		}
		return 0
	})
	seen := make(map[string]bool)
	for _, k := range all {
		key := fmt.Sprint(k.product, " ", k.tick.TradeID)
		if !seen[key] {
			seen[key] = true
			out = append(out, k.tick)
		}
	}
	return out
}

// slowBinance decodes a frame that holds one event, for a codec that has seen
// nothing.
func slowBinance(frame []byte, assets resolver) ([]market.Tick, error) {
	m, err := object(frame)
	if err != nil || m == nil {
		return nil, errSlow
	}
	if data, ok := m["data"].(map[string]any); ok && m["stream"] != nil {
		m = data
	}
	t := market.Tick{Exchange: "binance"}
	keys := map[string][3]string{"trade": {"p", "T", "t"}, "aggTrade": {"p", "T", "a"},
		"24hrTicker": {"c", "E", ""}, "24hrMiniTicker": {"c", "E", ""}}
	k, ok := keys[str(m, "e")]
	if !ok {
		return nil, nil
	}
	if t.Asset, t.Quote = splitSymbol(assets, str(m, "s")); t.Asset == "" {
		return nil, nil
	}
	t.PriceText = str(m, k[0])
	if t.Price, err = slowDecimal(t.PriceText); err != nil {
		return nil, errSlow
	}
	at, err := slowInt(m, k[1])
	if err != nil || at <= 0 || at >= 5e15 {
		return nil, errSlow
	}
	if t.Time = protocol.Time(at) * protocol.Millisecond; at >= 5e12 {
		t.Time = protocol.Time(at) * protocol.Microsecond
	}
	if k[2] == "" {
		t.Kind = market.Ticker
		t.Day = market.Day{Has: true, Open: slowOptional(str(m, "o")), High: slowOptional(str(m, "h")),
			Low: slowOptional(str(m, "l")), Volume: slowOptional(str(m, "v")), QuoteVolume: slowOptional(str(m, "q"))}
		return []market.Tick{t}, nil
	}
	if t.Size, err = slowDecimal(str(m, "q")); err != nil {
		return nil, errSlow
	}
	if t.TradeID, err = slowInt(m, k[2]); err != nil {
		return nil, errSlow
	}
	return []market.Tick{t}, nil
}
