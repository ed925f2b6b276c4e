package feed

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/valyala/fastjson"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// names finds assets by ticker or slug and by full name.
type names interface {
	resolver
	ByName(name string) (market.Asset, bool)
}

// recorded is the source of prices whose exchange nobody wrote down.
const recorded = "recorded"

// A table is the part that the formats with one price a line share.
type table struct {
	tick  market.Tick // what all ticks of the file have
	count Stats
}

func (t *table) stats() Stats { return t.count.clone() }

// emit makes the tick of a line; the file's time is the only one there is.
func (t *table) emit(k market.Tick, at protocol.Time, out []market.Tick) (protocol.Time, []market.Tick, error) {
	k.Time, k.Received = at, at
	t.count.Frames++
	t.count.Ticks++
	return at, append(out, k), nil
}

// fileSymbol takes exchange and symbol from a name such as
// coinbase-btcusd-1m-20180404: the symbol is the first part that is one, the
// exchange what precedes it. "perp" after a symbol is left out: a perpetual's
// price follows its coin's.
func fileSymbol(name string, assets resolver) (market.Tick, error) {
	parts := strings.Split(name, "-")
	for i, part := range parts {
		symbol := part
		if coin, ok := strings.CutSuffix(part, "perp"); ok {
			symbol = coin + "usd"
		}
		if slug, quote := splitSymbol(assets, symbol); slug != "" {
			t := market.Tick{Exchange: recorded, Asset: slug, Quote: quote}
			if i > 0 {
				t.Exchange = parts[0]
			}
			return t, nil
		}
	}
	return market.Tick{}, fmt.Errorf("no known symbol in the file name %q (want exchange-symbol-…)", name)
}

// bars are time_ms,open,high,low,close,volume. A bar is known at its end, so
// that is its time: what it closed at becomes the price.
type bars struct {
	table
	span protocol.Time
}

func newBars(name string, assets resolver) (*bars, error) {
	t, err := fileSymbol(name, assets)
	if err != nil {
		return nil, err
	}
	t.Kind = market.Bar
	for part := range strings.SplitSeq(name, "-") {
		if span := interval(part); span != 0 {
			return &bars{table{tick: t}, span}, nil
		}
	}
	return nil, fmt.Errorf("no length of bar (1s, 1m, 5m, 1h, 1d) in the file name %q", name)
}

func interval(s string) protocol.Time {
	if len(s) < 2 {
		return 0
	}
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 10)
	if err != nil {
		return 0
	}
	units := map[byte]protocol.Time{'s': protocol.Second, 'm': protocol.Minute, 'h': 60 * protocol.Minute, 'd': 24 * 60 * protocol.Minute}
	return protocol.Time(n) * units[s[len(s)-1]]
}

func (b *bars) parse(line []byte, out []market.Tick) (protocol.Time, []market.Tick, error) {
	f, err := fields(line, 6)
	if err != nil {
		return 0, out, err
	}
	ms, err := strconv.ParseUint(string(f[0]), 10, 43)
	if err != nil || ms == 0 {
		return 0, out, fmt.Errorf("time %.40q is not milliseconds", f[0])
	}
	k := b.tick
	k.PriceText = string(f[4])
	for i, to := range []*float64{&k.High, &k.Low, &k.Price, &k.Size} {
		var ok bool
		if *to, ok = parseDecimal(f[i+2]); !ok {
			return 0, out, fmt.Errorf("%.40q is not a decimal", f[i+2])
		}
	}
	return b.emit(k, protocol.Time(ms)*protocol.Millisecond+b.span, out)
}

// trades are time_s,price,qty,side.
type trades struct{ table }

func newTrades(name string, assets resolver) (*trades, error) {
	t, err := fileSymbol(name, assets)
	return &trades{table{tick: t}}, err
}

func (r *trades) parse(line []byte, out []market.Tick) (protocol.Time, []market.Tick, error) {
	f, err := fields(line, 4)
	if err != nil {
		return 0, out, err
	}
	return r.trade(f[0], f[1], f[2], 0, out)
}

// trade makes the tick of a trade.
func (t *table) trade(at, price, size []byte, id int64, out []market.Tick) (protocol.Time, []market.Tick, error) {
	when, err := parseSeconds(string(at))
	if err != nil {
		return 0, out, err
	}
	k := t.tick
	k.PriceText, k.TradeID = string(price), id
	var ok bool
	if k.Price, ok = parseDecimal(price); !ok {
		return 0, out, fmt.Errorf("price %.40q is not a decimal", price)
	}
	if k.Size, ok = parseDecimal(size); !ok {
		return 0, out, fmt.Errorf("size %.40q is not a decimal", size)
	}
	return t.emit(k, when, out)
}

// krakenTrades are the arrays of Kraken's REST answer, one a line:
// [price, volume, time, side, type, misc, trade_id].
type krakenTrades struct {
	table
	json fastjson.Parser
}

func newKrakenTrades(name string, assets resolver) (*krakenTrades, error) {
	t, err := fileSymbol(strings.Replace(name, "-rest-", "-", 1), assets)
	return &krakenTrades{table: table{tick: t}}, err
}

func (r *krakenTrades) parse(line []byte, out []market.Tick) (protocol.Time, []market.Tick, error) {
	v, err := r.json.ParseBytes(line)
	if err != nil {
		return 0, out, err
	}
	f := v.GetArray()
	if len(f) < 7 {
		return 0, out, errors.New("want an array of 7")
	}
	id, err := f[6].Int64()
	if err != nil {
		return 0, out, fmt.Errorf("trade id: %w", err)
	}
	return r.trade(f[2].GetStringBytes(), f[0].GetStringBytes(), f[1].GetStringBytes(), id, out)
}

// prices are time_s,coin,price_usd with the coins' full names.
type prices struct {
	table
	assets names
}

func newPrices(assets names) *prices {
	return &prices{table{tick: market.Tick{Exchange: recorded, Quote: "USD", Kind: market.Ticker}}, assets}
}

func (p *prices) parse(line []byte, out []market.Tick) (protocol.Time, []market.Tick, error) {
	f, err := fields(line, 3)
	if err != nil {
		return 0, out, err
	}
	at, err := parseSeconds(string(f[0]))
	if err != nil {
		return 0, out, err
	}
	k := p.tick
	k.PriceText = string(f[2])
	var ok bool
	if k.Price, ok = parseDecimal(f[2]); !ok {
		return 0, out, fmt.Errorf("price %.40q is not a decimal", f[2])
	}
	coin, ok := p.coin(string(f[1]))
	if !ok {
		p.count.Frames++
		p.count.Unknown++
		return at, out, nil
	}
	k.Asset = coin
	return p.emit(k, at, out)
}

// coin finds the slug for a name as the recordings spell it.
func (p *prices) coin(name string) (slug string, ok bool) {
	if slug, ok = recordedCoin(name); !ok {
		a, known := p.assets.ByName(name)
		return a.Slug, known
	}
	a, known := p.assets.Resolve(slug)
	return slug, known && a.Slug == slug
}

// recordedCoin are the coins that the recordings name otherwise than the
// registry does.
func recordedCoin(name string) (slug string, ok bool) {
	switch name {
	case "Cosmos":
		return "cosmos", true
	case "Fetch.AI":
		return "fetch-ai", true
	case "Flare Network":
		return "flare-networks", true
	case "Injective Protocol":
		return "injective-protocol", true
	case "Internet Computer (DFINITY)":
		return "internet-computer", true
	case "Mina Protocol Token":
		return "mina-protocol", true
	case "MultiversX":
		return "elrond-erd-2", true
	case "Wrapped Centrifuge":
		return "centrifuge", true
	case "XinFin Network":
		return "xdce-crowd-sale", true
	case "COQINU":
		return "coq-inu", true
	case "DOGE KILLER":
		return "leash", true
	case "Milady":
		return "milady-meme-coin", true
	case "PEPE2.0":
		return "pepe-2-0", true
	case "RichQUACK.com":
		return "richquack", true
	case "Wojak Coin":
		return "wojak", true
	}
	return "", false
}

// fields cuts a line at its commas. The files quote nothing.
func fields(line []byte, want int) ([][]byte, error) {
	f := bytes.Split(line, []byte{','})
	if len(f) != want {
		return nil, fmt.Errorf("%d fields, want %d", len(f), want)
	}
	return f, nil
}
