package feed

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strconv"

	"github.com/valyala/fastjson"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// Coinbase speaks Advanced Trade: ticker, ticker_batch and market_trades
// become ticks; heartbeats, subscriptions and all other channels count in the
// sequence and are ignored.
type Coinbase struct {
	adapter
	next  uint64   // the sequence_num that comes next
	begun bool     // next holds
	batch []traded // scratch of trades
}

// NewCoinbase returns a codec that has seen nothing.
func NewCoinbase(assets resolver) *Coinbase {
	return &Coinbase{adapter: newAdapter("coinbase", assets)}
}

// Reset begins a new connection.
func (c *Coinbase) Reset() {
	c.begun = false
	c.symbols.reopen()
}

// Decode appends the ticks of one frame.
func (c *Coinbase) Decode(frame []byte, received protocol.Time, out []market.Tick) ([]market.Tick, error) {
	return c.take(frame, received, out, c.decode)
}

func (c *Coinbase) decode(frame []byte, received protocol.Time, out []market.Tick) ([]market.Tick, error) {
	if n, ok := level2Sequence(frame); ok {
		c.sequence(n)
		c.stats.ignore([]byte("l2_data"))
		return out, nil
	}
	defer c.json.done(frame)
	v, err := c.json.parse(frame)
	if err != nil {
		return out, err
	}
	channel := text(v, "channel")
	if channel == nil {
		// {"type":"error","message":"..."} and what may come: clients are
		// asked to ignore what they do not know.
		c.complaint(v)
		c.stats.ignore(text(v, "type"))
		return out, nil
	}
	n, err := intField(v, "sequence_num")
	if err != nil || n < 0 {
		return out, cmp.Or(err, errNegative)
	}
	current := c.sequence(uint64(n))
	switch string(channel) {
	case "ticker", "ticker_batch":
		if !current {
			return out, nil // there was a newer one; trades go by their ids
		}
		return c.tickers(v, received, out)
	case "market_trades":
		return c.trades(v, received, out)
	case "subscriptions":
		c.notes.add(Note{Kind: Subscribed})
	}
	c.stats.ignore(channel)
	return out, nil
}

// sequence compares a frame's number with the one that should come: they
// count all frames of a connection, so a jump is a loss. It is false for a
// frame that comes too late or twice.
func (c *Coinbase) sequence(n uint64) (current bool) {
	switch {
	case c.begun && n > c.next:
		c.stats.Gaps++
		c.stats.Missing += n - c.next
		c.notes.add(Note{Kind: Lost, Text: fmt.Sprintf("frames %d to %d are missing", c.next, n-1)})
	case c.begun && n < c.next:
		c.stats.OutOfOrder++
		return false
	}
	c.next, c.begun = n+1, true
	return true
}

// tickers reads the frames of ticker and ticker_batch. A ticker has no time
// of its own; the frame's is a few milliseconds later than its trade.
func (c *Coinbase) tickers(v *fastjson.Value, received protocol.Time, out []market.Tick) ([]market.Tick, error) {
	at, err := timeField(v, "timestamp")
	if err != nil {
		return out, err
	}
	for _, event := range v.GetArray("events") {
		for _, k := range event.GetArray("tickers") {
			p := c.symbols.find(text(k, "product_id"))
			if p == nil {
				c.stats.Unknown++
				continue
			}
			price, err := decimal(k, "price")
			if err != nil {
				return out, err
			}
			out = append(out, market.Tick{
				Exchange: "coinbase", Asset: p.slug, Quote: p.quote,
				Price: price, PriceText: p.price(text(k, "price")),
				Time: at, Received: received, Kind: market.Ticker,
				Day: coinbaseDay(k, price),
			})
		}
	}
	return out, nil
}

// coinbaseDay makes the open from the change, which is all that is sent.
func coinbaseDay(k *fastjson.Value, price float64) market.Day {
	d := market.Day{
		Has:    true,
		High:   optional(k, "high_24_h"),
		Low:    optional(k, "low_24_h"),
		Volume: optional(k, "volume_24_h"),
	}
	if change, ok := parseDecimal(text(k, "price_percent_chg_24_h")); ok && change > -100 {
		d.Open = price / (1 + change/100)
	}
	return d
}

// trades reads the frames of market_trades. Trade ids count every trade of a
// product (in the recording without a hole), so they tell what was seen and
// what is missing.
func (c *Coinbase) trades(v *fastjson.Value, received protocol.Time, out []market.Tick) ([]market.Tick, error) {
	c.batch = c.batch[:0]
	for _, event := range v.GetArray("events") {
		snapshot := string(text(event, "type")) == "snapshot"
		for _, k := range event.GetArray("trades") {
			p := c.symbols.find(text(k, "product_id"))
			if p == nil {
				c.stats.Unknown++
				continue
			}
			t, err := coinbaseTrade(k, p)
			if err != nil {
				return out, err
			}
			t.Received = received
			c.batch = append(c.batch, traded{p, t, snapshot})
		}
	}
	return settle(c.batch, &c.stats, &c.notes, out), nil
}

func coinbaseTrade(k *fastjson.Value, p *pair) (t market.Tick, err error) {
	t = market.Tick{Exchange: "coinbase", Asset: p.slug, Quote: p.quote}
	if t.Price, err = decimal(k, "price"); err != nil {
		return t, err
	}
	if t.Size, err = decimal(k, "size"); err != nil {
		return t, err
	}
	if t.TradeID, err = strconv.ParseInt(string(text(k, "trade_id")), 10, 64); err != nil || t.TradeID <= 0 {
		return t, fmt.Errorf("trade_id %.40q is not a positive number", text(k, "trade_id"))
	}
	t.PriceText = p.price(text(k, "price"))
	t.Time, err = timeField(k, "time")
	return t, err
}

var errNegative = errors.New("sequence_num is negative")

// level2 is how every frame of the order book begins. It is most of the
// traffic where it is subscribed, up to 5 MB in one frame, and needs nothing
// but its sequence number.
var level2 = []byte(`{"channel":"l2_data","timestamp":"`)

// level2Sequence reads the number from the head of a level2 frame; what
// follows is not looked at. It is false for a frame that begins otherwise,
// even if it is a level2 frame: then the parser reads it.
func level2Sequence(frame []byte) (uint64, bool) {
	rest, ok := bytes.CutPrefix(frame, level2)
	if !ok {
		return 0, false
	}
	end := bytes.IndexByte(rest, '"')
	if end < 0 {
		return 0, false
	}
	rest, ok = bytes.CutPrefix(rest[end:], []byte(`","sequence_num":`))
	if !ok {
		return 0, false
	}
	digits := 0
	for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
		digits++
	}
	n, err := strconv.ParseUint(string(rest[:digits]), 10, 64)
	return n, err == nil && bytes.HasPrefix(rest[digits:], []byte(`,"events":[`))
}
