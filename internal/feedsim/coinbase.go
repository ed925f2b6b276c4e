package feedsim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// coinbase is Advanced Trade.
type coinbase struct{}

func (coinbase) rules() rules {
	return rules{
		hosts:      []string{"advanced-trade-ws.coinbase.com", "api.coinbase.com"},
		resolution: time.Microsecond, gaps: true, tickerEvery: 50 * time.Millisecond,
		beatEvery: time.Second, subscribeWithin: 5 * time.Second,
		connects: limit{8, time.Second}, messages: limit{8, time.Second}, requests: limit{10, time.Second},
	}
}

func (coinbase) listings() []listing {
	return []listing{
		{symbol: "BTC-USD", base: "BTC", quote: "USD", from: "coinbase BTC-USD", decimals: 2},
		{symbol: "ETH-USD", base: "ETH", quote: "USD", from: "coinbase ETH-USD", decimals: 2},
	}
}

// coinbaseChannels are the public ones.
var coinbaseChannels = map[string]kind{
	"market_trades": trades, "ticker": ticker, "ticker_batch": ticker,
	"candles": other, "level2": other, "status": other, "heartbeats": other,
}

func (coinbase) open(*conn, *http.Request) {}

// frame queues a frame with the connection's next number. All of them may be
// lost: the number tells.
func (coinbase) frame(c *conn, channel, events string) {
	c.tell(fmt.Sprintf(`{"channel":%q,"timestamp":%q,"sequence_num":%d,"events":[%s]}`,
		channel, c.now.UTC().Format(time.RFC3339Nano), c.sequence, events))
	c.sequence++
}

func (v coinbase) message(c *conn, msg []byte) {
	var m struct {
		Type     string   `json:"type"`
		Products []string `json:"product_ids"`
		Channel  string   `json:"channel"`
	}
	if json.Unmarshal(msg, &m) != nil {
		v.refuse(c, "failed to parse message")
		return
	}
	k, ok := coinbaseChannels[m.Channel]
	switch {
	case m.Type != "subscribe" && m.Type != "unsubscribe":
		v.refuse(c, fmt.Sprintf("unrecognized message type: %s", m.Type))
		return
	case !ok:
		v.refuse(c, fmt.Sprintf("channel %s is not supported", m.Channel))
		return
	}
	if m.Channel == "heartbeats" {
		if c.beatAt.IsZero() {
			c.beatAt = c.now.Add(time.Second)
		}
		c.subscribe(m.Channel, "", c.x.tapes["BTC-USD"], other)
	}
	for _, p := range m.Products {
		// A -USDC product is the -USD one under another name.
		t := c.x.tapes[strings.TrimSuffix(p, "C")]
		switch {
		case m.Channel == "heartbeats":
		case t == nil:
			v.refuse(c, p+" is not a valid product")
			return
		case m.Type == "unsubscribe":
			c.unsubscribe(m.Channel, t)
		default:
			v.snapshot(c, c.subscribe(m.Channel, t.symbol, t, k))
		}
	}
	v.subscriptions(c)
}

func (coinbase) refuse(c *conn, why string) {
	c.say(fmt.Sprintf(`{"type":"error","message":%s}`, quoted(why)))
}

// snapshot is what each subscription begins with: the last hundred trades,
// newest first, or the ticker.
func (v coinbase) snapshot(c *conn, s *sub) {
	switch s.kind {
	case trades:
		list := slices.Clone(c.recent(s, 100))
		slices.Reverse(list)
		v.frame(c, s.channel, v.event("snapshot", s.tape, list))
	case ticker:
		s.at = c.now
		v.frame(c, s.channel, v.state(c, s, "snapshot"))
	}
}

// subscriptions lists all of the connection's.
func (v coinbase) subscriptions(c *conn) {
	by := make(map[string][]string)
	for _, s := range c.subs {
		name := s.tape.symbol
		if s.channel == "heartbeats" {
			name = s.channel
		}
		by[s.channel] = append(by[s.channel], name)
	}
	b, _ := json.Marshal(by) // strings only
	v.frame(c, "subscriptions", fmt.Sprintf(`{"subscriptions":%s}`, b))
}

func (coinbase) event(kind string, t *tape, list []Trade) string {
	var b strings.Builder
	for i, k := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"product_id":%q,"trade_id":"%d","price":%q,"size":%q,"time":%q,"side":%q}`,
			t.symbol, k.ID, k.Price, k.Size, k.Time.UTC().Format(time.RFC3339Nano), strings.ToUpper(k.Side))
	}
	return fmt.Sprintf(`{"type":%q,"trades":[%s]}`, kind, b.String())
}

// trades are told newest first, as in the recording.
func (v coinbase) trades(c *conn, s *sub, list []Trade) {
	list = slices.Clone(list)
	slices.Reverse(list)
	v.frame(c, s.channel, v.event("update", s.tape, list))
}

func (v coinbase) ticker(c *conn, s *sub) { v.frame(c, s.channel, v.state(c, s, "update")) }

func (coinbase) state(c *conn, s *sub, kind string) string {
	d := s.tape.day(c.now.Add(-latency))
	return fmt.Sprintf(`{"type":%q,"tickers":[{"type":"ticker","product_id":%q,"price":%q,"volume_24_h":"%.8f",`+
		`"low_24_h":"%.2f","high_24_h":"%.2f","low_52_w":"%.2f","high_52_w":"%.2f","price_percent_chg_24_h":"%.14f",`+
		`"best_bid":"%.2f","best_ask":"%.2f","best_bid_quantity":"0.20371215","best_ask_quantity":"0.24290402"}]}`,
		kind, s.tape.symbol, d.last.Price, d.volume, d.low, d.high, d.low*0.9, d.high*1.9, (d.close/d.open-1)*100,
		d.close, d.close+0.01)
}

func (v coinbase) beat(c *conn) {
	c.counter++
	// Not RFC 3339: Go's own spelling, with the monotonic part.
	v.frame(c, "heartbeats", fmt.Sprintf(`{"current_time":"%s m=+%.9f","heartbeat_counter":%d}`,
		c.now.UTC().Format("2006-01-02 15:04:05.999999999 -0700 MST"), c.now.Sub(c.x.sim.start).Seconds()+41691, 41691+c.counter))
}

func (v coinbase) limited(c *conn) {
	v.refuse(c, "rate limit exceeded")
	c.finish(CleanEnd, websocket.StatusPolicyViolation, "rate limit exceeded")
}

func (coinbase) moving() string { return "" }

func (coinbase) tooMany() string {
	return `{"error":"RESOURCE_EXHAUSTED","message":"too many requests"}`
}

const coinbaseProducts = "/api/v3/brokerage/market/products"

func (v coinbase) serve(x *exchange, w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == coinbaseProducts {
		v.products(x, w)
		return
	}
	id, what, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, coinbaseProducts+"/"), "/")
	t := x.tapes[strings.TrimSuffix(id, "C")]
	switch {
	case !strings.HasPrefix(r.URL.Path, coinbaseProducts+"/"):
		http.NotFound(w, r)
	case t == nil:
		answer(w, http.StatusNotFound, object{"error": "NOT_FOUND", "error_details": "valid product_id is required", "message": "valid product_id is required"})
	case what == "":
		answer(w, http.StatusOK, v.product(t, t.symbol))
	case what == "candles":
		v.candles(t, w, r)
	case what == "ticker":
		v.recentTrades(t, w, r)
	default:
		http.NotFound(w, r)
	}
}

// products lists each market also under its -USDC name, as the exchange does.
func (v coinbase) products(x *exchange, w http.ResponseWriter) {
	var all list
	for _, symbol := range x.order {
		all = append(all, v.product(x.tapes[symbol], symbol), v.product(x.tapes[symbol], symbol+"C"))
	}
	answer(w, http.StatusOK, object{"products": all, "num_products": len(all),
		"pagination": object{"prev_cursor": "", "next_cursor": "", "has_next": false, "has_prev": false}})
}

func (coinbase) product(t *tape, id string) object {
	d := t.day(time.Now())
	alias, aliasTo := "", list{t.symbol + "C"}
	quote := "USD"
	if id != t.symbol {
		alias, aliasTo, quote = t.symbol, list{}, "USDC"
	}
	return object{
		"product_id": id, "price": d.last.Price, "price_percentage_change_24h": decimal((d.close/d.open-1)*100, 14),
		"volume_24h": decimal(d.volume, 8), "approximate_quote_24h_volume": decimal(d.value, 2),
		"base_currency_id": t.base, "quote_currency_id": quote, "base_display_symbol": t.base, "quote_display_symbol": quote,
		"base_increment": "0.00000001", "quote_increment": "0.01", "price_increment": "0.01", "display_name": id,
		"product_type": "SPOT", "product_venue": "CBE", "status": "online", "alias": alias, "alias_to": aliasTo,
		"is_disabled": false, "trading_disabled": false, "cancel_only": false, "limit_only": false, "post_only": false,
		"auction_mode": false, "view_only": false, "new": false, "watched": false, "fcm_trading_session_details": nil,
		"high_24h": decimal(d.high, 2), "low_24h": decimal(d.low, 2),
	}
}

// candles are newest first, 350 at most.
func (coinbase) candles(t *tape, w http.ResponseWriter, r *http.Request) {
	if g := r.URL.Query().Get("granularity"); g != "FIVE_MINUTE" {
		answer(w, http.StatusBadRequest, object{"error": "INVALID_ARGUMENT", "message": "granularity " + g + " is not simulated"})
		return
	}
	now := time.Now()
	from := time.Unix(intParam(r, "start", now.Add(-history).Unix()), 0)
	to := time.Unix(intParam(r, "end", now.Unix()), 0)
	if to.Sub(from) > 350*barLength {
		answer(w, http.StatusBadRequest, object{"error": "INVALID_ARGUMENT",
			"message": "number of candles requested should be less than 350"})
		return
	}
	out := list{}
	for _, b := range newest(t.fives(now, from, to), limitParam(r, 350, 350)) {
		out = append(out, object{"start": integer(b.start.Unix()), "low": decimal(b.low, 2), "high": decimal(b.high, 2),
			"open": decimal(b.open, 2), "close": decimal(b.close, 2), "volume": decimal(b.volume, 8)})
	}
	answer(w, http.StatusOK, object{"candles": out})
}

// recentTrades are newest first, a thousand at most, whole seconds from start
// to end.
func (coinbase) recentTrades(t *tape, w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	from := time.Unix(intParam(r, "start", 0), 0)
	to := time.Unix(intParam(r, "end", now.Unix()+1), 0)
	i, n := t.find(now, func(k Trade) bool { return !k.Time.Before(from) })
	out := list{}
	for _, k := range newest(t.trades(i, n), n) {
		if len(out) == limitParam(r, 100, 1000) {
			break
		}
		if k.Time.After(to) {
			continue
		}
		out = append(out, object{"trade_id": integer(k.ID), "product_id": t.symbol, "price": k.Price, "size": k.Size,
			"time": k.Time.UTC().Format(time.RFC3339Nano), "side": strings.ToUpper(k.Side), "exchange": "coinbase"})
	}
	d := t.day(now)
	answer(w, http.StatusOK, object{"trades": out, "best_bid": d.last.Price, "best_ask": decimal(d.close+0.01, 2)})
}
