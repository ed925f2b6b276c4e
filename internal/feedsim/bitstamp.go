package feedsim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// bitstamp is Bitstamp v2. Its trade ids count the trades of all pairs, so a
// pair's jump as in the recording: a loss cannot be told from them. btcusd
// borrows its trades. Tickers come by REST only.
type bitstamp struct{}

func (bitstamp) rules() rules {
	return rules{
		hosts:      []string{"ws.bitstamp.net", "www.bitstamp.net"},
		resolution: time.Microsecond,
		life:       90 * 24 * time.Hour, requests: limit{400, time.Second},
	}
}

func (bitstamp) listings() []listing {
	jumps := func(i int64) int64 { return i*3 + i%2*2 }
	return []listing{
		{symbol: "btcusd", base: "BTC", quote: "USD", from: "coinbase BTC-USD", speed: 0.5, decimals: 2, firstID: 216_000_470, id: jumps},
		{symbol: "ethusd", base: "ETH", quote: "USD", from: "bitstamp ethusd", decimals: 2, id: jumps},
	}
}

func (bitstamp) open(*conn, *http.Request) {}

func (v bitstamp) message(c *conn, msg []byte) {
	var m struct {
		Event string `json:"event"`
		Data  struct {
			Channel string `json:"channel"`
		} `json:"data"`
	}
	if json.Unmarshal(msg, &m) != nil {
		v.event(c, "bts:error", "", `{"code":null,"message":"Message is not JSON."}`)
		return
	}
	i := strings.LastIndexByte(m.Data.Channel, '_')
	channel, t := m.Data.Channel[:max(i, 0)], c.x.tapes[m.Data.Channel[i+1:]]
	k, ok := map[string]kind{"live_trades": trades, "live_orders": other, "order_book": other, "diff_order_book": other}[channel]
	switch {
	case m.Event == "bts:heartbeat":
		v.event(c, "bts:heartbeat", "", `{"status":"success"}`)
	case m.Event != "bts:subscribe" && m.Event != "bts:unsubscribe":
		v.event(c, "bts:error", "", `{"code":4001,"message":"Bad message."}`)
	case !ok || t == nil:
		v.event(c, "bts:error", m.Data.Channel, `{"code":null,"message":"Bad subscription string."}`)
	case m.Event == "bts:unsubscribe":
		c.unsubscribe(channel, t)
		v.event(c, "bts:unsubscription_succeeded", m.Data.Channel, "{}")
	default:
		c.subscribe(channel, m.Data.Channel, t, k)
		v.event(c, "bts:subscription_succeeded", m.Data.Channel, "{}")
	}
}

func (bitstamp) event(c *conn, event, channel, data string) {
	c.say(fmt.Sprintf(`{"event":%q,"channel":%s,"data":%s}`, event, quoted(channel), data))
}

// trades come one a frame, figures both as numbers and as text.
func (bitstamp) trades(c *conn, s *sub, list []Trade) {
	for _, k := range list {
		order := k.Time.UnixMicro()
		c.tell(fmt.Sprintf(`{"data":{"id":%d,"timestamp":"%d","amount":%s,"amount_str":%q,"price":%s,"price_str":%q,"type":%d,`+
			`"microtimestamp":"%d","buy_order_id":%d,"sell_order_id":%d},"channel":%q,"event":"trade"}`,
			k.ID, k.Time.Unix(), plain(k.Size), k.Size, plain(k.Price), k.Price, slices.Index(sides[:], k.Side),
			k.Time.UnixMicro(), order, order-6025, s.name))
	}
}

// plain is a number without superfluous digits.
func plain(s string) string { return strconv.FormatFloat(number(s), 'f', -1, 64) }

func (bitstamp) ticker(*conn, *sub) {}

func (bitstamp) beat(*conn) {}

func (v bitstamp) limited(c *conn) {
	v.event(c, "bts:error", "", `{"code":4290,"message":"Rate limit exceeded."}`)
	c.finish(CleanEnd, websocket.StatusPolicyViolation, "Rate limit exceeded.")
}

func (bitstamp) moving() string { return `{"event":"bts:request_reconnect","channel":"","data":""}` }

func (bitstamp) tooMany() string {
	return `{"status":"error","reason":"Rate limit exceeded.","response_code":"400.002"}`
}

func (v bitstamp) serve(x *exchange, w http.ResponseWriter, r *http.Request) {
	what, pair, _ := strings.Cut(strings.Trim(strings.TrimPrefix(r.URL.Path, "/api/v2/"), "/"), "/")
	t := x.tapes[pair]
	switch {
	case what == "trading-pairs-info" || what == "markets":
		v.pairs(x, w, what)
	case what == "ticker" && pair == "":
		all := list{}
		for _, s := range x.order {
			all = append(all, v.day(x.tapes[s]))
		}
		answer(w, http.StatusOK, all)
	case t == nil:
		answer(w, http.StatusNotFound, object{"status": "error", "reason": "Not found", "code": "API0404"})
	case what == "ticker":
		answer(w, http.StatusOK, v.day(t))
	case what == "transactions":
		answer(w, http.StatusOK, v.past(t, r.URL.Query().Get("time")))
	case what == "ohlc":
		v.ohlc(t, w, r)
	default:
		http.NotFound(w, r)
	}
}

func (bitstamp) name(t *tape) string { return t.base + "/" + t.quote }

func (v bitstamp) pairs(x *exchange, w http.ResponseWriter, what string) {
	all := list{}
	for _, symbol := range x.order {
		t := x.tapes[symbol]
		o := object{"name": v.name(t), "base_decimals": 8, "counter_decimals": t.decimals, "trading": "Enabled",
			"instant_and_market_orders": "Enabled", "description": v.name(t)}
		if what == "markets" {
			o["market_symbol"], o["base_currency"], o["counter_currency"], o["market_type"] = symbol, t.base, t.quote, "SPOT"
		} else {
			o["url_symbol"], o["minimum_order"] = symbol, "10.0 "+t.quote
		}
		all = append(all, o)
	}
	answer(w, http.StatusOK, all)
}

func (v bitstamp) day(t *tape) object {
	d := t.day(time.Now())
	return object{"timestamp": integer(time.Now().Unix()), "open": t.text(d.open), "high": t.text(d.high), "low": t.text(d.low),
		"last": d.last.Price, "volume": decimal(d.volume, 8), "vwap": t.text(d.value / d.volume), "bid": t.text(d.close),
		"ask": t.text(d.close + 0.01), "side": strconv.Itoa(slices.Index(sides[:], d.last.Side)), "open_24": t.text(d.open),
		"percent_change_24": decimal((d.close/d.open-1)*100, 2), "market_type": "SPOT", "pair": v.name(t)}
}

// past are the trades of the last minute, hour or day, newest first.
func (bitstamp) past(t *tape, span string) list {
	back, ok := map[string]time.Duration{"minute": time.Minute, "day": 24 * time.Hour}[span]
	if !ok {
		back = time.Hour
	}
	now := time.Now()
	i, n := t.find(now, func(k Trade) bool { return k.Time.After(now.Add(-back)) })
	out := list{}
	for _, k := range newest(t.trades(i, n), n) {
		out = append(out, object{"amount": k.Size, "date": integer(k.Time.Unix()), "price": k.Price,
			"tid": integer(k.ID), "type": strconv.Itoa(slices.Index(sides[:], k.Side))})
	}
	return out
}

// ohlc are bars oldest first: from start on, or the newest.
func (v bitstamp) ohlc(t *tape, w http.ResponseWriter, r *http.Request) {
	limit := intParam(r, "limit", 0)
	if r.URL.Query().Get("step") != "300" || limit < 1 || limit > 1000 {
		answer(w, http.StatusBadRequest, object{"code": "missing_or_invalid", "field": "step or limit"})
		return
	}
	now := time.Now()
	start := intParam(r, "start", 0)
	bars := t.fives(now, time.Unix(start, 0), time.Unix(intParam(r, "end", now.Unix()), 0))
	if r.URL.Query().Get("exclude_current_candle") == "true" && len(bars) > 0 && bars[len(bars)-1].start.Add(barLength).After(now) {
		bars = bars[:len(bars)-1]
	}
	n := min(int(limit), len(bars))
	if start == 0 {
		bars = bars[len(bars)-n:]
	}
	rows := list{}
	for _, b := range bars[:n] {
		rows = append(rows, object{"timestamp": integer(b.start.Unix()), "open": t.text(b.open), "high": t.text(b.high),
			"low": t.text(b.low), "close": t.text(b.close), "volume": decimal(b.volume, 8)})
	}
	answer(w, http.StatusOK, object{"data": object{"ohlc": rows, "pair": v.name(t)}})
}
