package feedsim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// okx is OKX v5. ETH-USDT borrows its trades.
type okx struct{}

func (okx) rules() rules {
	return rules{
		hosts:      []string{"ws.okx.com", "www.okx.com"},
		resolution: time.Millisecond, gaps: true, tickerEvery: 100 * time.Millisecond,
		subscribeWithin: 30 * time.Second, quiet: 30 * time.Second,
		connects: limit{3, time.Second}, requests: limit{10, time.Second},
	}
}

func (okx) listings() []listing {
	return []listing{
		{symbol: "BTC-USDT", base: "BTC", quote: "USDT", from: "okx BTC-USDT", decimals: 1, trim: true},
		{symbol: "ETH-USDT", base: "ETH", quote: "USDT", from: "binance ETHUSDT", speed: 0.3, decimals: 2, trim: true, firstID: 271_828_182},
	}
}

// okxSubscriptions is what a connection may send beside pings.
var okxSubscriptions = limit{480, time.Hour}

func (okx) open(c *conn, _ *http.Request) { c.extra.limit = okxSubscriptions }

func (okx) connID(c *conn) string { return fmt.Sprintf("%08x", 0xa4d3ae55+c.id) }

type okxArg struct {
	Channel string `json:"channel"`
	InstID  string `json:"instId"`
}

func (v okx) message(c *conn, msg []byte) {
	if string(msg) == "ping" {
		c.say("pong")
		return
	}
	var m struct {
		Op   string   `json:"op"`
		Args []okxArg `json:"args"`
	}
	if json.Unmarshal(msg, &m) != nil || m.Op != "subscribe" && m.Op != "unsubscribe" {
		v.refuse(c, "60012", "Invalid request: "+string(msg[:min(len(msg), 200)]))
		return
	}
	if !c.extra.allow(c.now) {
		c.x.breach(c.id, "more than %s subscriptions", okxSubscriptions)
		v.limited(c)
		return
	}
	for _, a := range m.Args {
		v.change(c, m.Op, a)
	}
}

func (okx) refuse(c *conn, code, why string) {
	c.say(fmt.Sprintf(`{"event":"error","code":%q,"msg":%s,"connId":%q}`, code, quoted(why), okx{}.connID(c)))
}

// change subscribes to one channel and pushes its newest, or ends that.
func (v okx) change(c *conn, op string, a okxArg) {
	k, ok := map[string]kind{"trades": trades, "tickers": ticker, "books": other, "candle5m": other}[a.Channel]
	t := c.x.tapes[a.InstID]
	if !ok || t == nil {
		v.refuse(c, "60018", fmt.Sprintf("Wrong URL or channel:%s,instId:%s doesn't exist. Please use the correct URL, channel and parameters referring to API document.",
			a.Channel, a.InstID))
		return
	}
	ack := fmt.Sprintf(`{"event":%q,"arg":{"channel":%q,"instId":%q},"connId":%q}`, op, a.Channel, a.InstID, v.connID(c))
	if op == "unsubscribe" {
		c.unsubscribe(a.Channel, t)
		c.say(ack)
		return
	}
	s := c.subscribe(a.Channel, a.InstID, t, k)
	c.say(ack)
	switch k {
	case trades:
		v.trades(c, s, c.recent(s, 1))
	case ticker:
		s.at = c.now
		v.ticker(c, s)
	}
}

func (okx) wrap(s *sub, data string) string {
	return fmt.Sprintf(`{"arg":{"channel":%q,"instId":%q},"data":[%s]}`, s.channel, s.name, data)
}

// trades come one a frame.
func (v okx) trades(c *conn, s *sub, list []Trade) {
	for _, k := range list {
		c.tell(v.wrap(s, fmt.Sprintf(`{"instId":%q,"tradeId":"%d","px":%q,"sz":%q,"side":%q,"ts":"%d","count":"1","source":"0","seqId":%d}`,
			s.name, k.ID, k.Price, k.Size, k.Side, k.Time.UnixMilli(), k.ID+1_000_000)))
	}
}

func (v okx) ticker(c *conn, s *sub) {
	b, _ := json.Marshal(v.state(s.tape, c.now.Add(-latency))) // strings only
	c.show(v.wrap(s, string(b)))
}

func (okx) state(t *tape, now time.Time) object {
	d := t.day(now)
	return object{"instType": "SPOT", "instId": t.symbol, "last": d.last.Price, "lastSz": d.last.Size,
		"askPx": t.text(d.close + 0.1), "askSz": "1.55896972", "bidPx": t.text(d.close), "bidSz": "0.23393",
		"open24h": t.text(d.open), "high24h": t.text(d.high), "low24h": t.text(d.low), "sodUtc0": t.text(d.open), "sodUtc8": t.text(d.open),
		"volCcy24h": decimal(d.value, 8), "vol24h": decimal(d.volume, 8), "ts": integer(now.UnixMilli())}
}

func (okx) beat(*conn) {}

func (v okx) limited(c *conn) {
	v.refuse(c, "60014", "Requests too frequent")
	c.finish(CleanEnd, websocket.StatusPolicyViolation, "Requests too frequent")
}

func (okx) moving() string {
	return `{"event":"notice","code":"64008","msg":"The connection will soon be closed for a service upgrade. Please reconnect.","connId":"a4d3ae55"}`
}

func (okx) tooMany() string { return `{"msg":"Too Many Requests","code":"50011"}` }

func (v okx) serve(x *exchange, w http.ResponseWriter, r *http.Request) {
	data := list{}
	q := r.URL.Query()
	path := strings.TrimPrefix(r.URL.Path, "/api/v5/")
	t := x.tapes[q.Get("instId")]
	one := path != "public/instruments" && path != "market/tickers"
	switch {
	case one && t == nil:
		answer(w, http.StatusOK, object{"code": "51001", "msg": "Instrument ID, Instrument ID code, or Spread ID doesn't exist.", "data": list{}})
		return
	case !one && q.Get("instType") != "SPOT":
		answer(w, http.StatusOK, object{"code": "51000", "msg": "Parameter instType error", "data": list{}})
		return
	}
	switch path {
	case "public/instruments":
		for _, symbol := range x.order {
			t := x.tapes[symbol]
			data = append(data, object{"instType": "SPOT", "instId": symbol, "baseCcy": t.base, "quoteCcy": t.quote,
				"tickSz": "0.1", "lotSz": "0.00000001", "minSz": "0.00001", "state": "live", "listTime": "1606468572000"})
		}
	case "market/tickers":
		for _, symbol := range x.order {
			data = append(data, v.state(x.tapes[symbol], time.Now()))
		}
	case "market/ticker":
		data = append(data, v.state(t, time.Now()))
	case "market/candles", "market/history-candles":
		data = v.candles(t, r)
	case "market/trades":
		n, _ := t.upTo(time.Now())
		data = v.list(t, newest(t.trades(0, n), limitParam(r, 100, 500)))
	case "market/history-trades":
		data = v.history(t, r)
	default:
		http.NotFound(w, r)
		return
	}
	answer(w, http.StatusOK, object{"code": "0", "msg": "", "data": data})
}

// candles are newest first: older than after, newer than before.
func (okx) candles(t *tape, r *http.Request) list {
	now, out := time.Now(), list{}
	if r.URL.Query().Get("bar") != "5m" {
		return out // Only five minutes are simulated.
	}
	from := millisParam(r, "before", time.UnixMilli(0)).Add(time.Millisecond)
	to := millisParam(r, "after", now.Add(time.Millisecond)).Add(-time.Millisecond)
	for _, b := range newest(t.fives(now, from, to), limitParam(r, 100, 300)) {
		confirm := "1"
		if b.start.Add(barLength).After(now) {
			confirm = "0"
		}
		v, q := decimal(b.volume, 8), decimal(b.value, 8)
		out = append(out, list{integer(b.start.UnixMilli()), t.text(b.open), t.text(b.high), t.text(b.low), t.text(b.close), v, q, q, confirm})
	}
	return out
}

// history are trades, newest first: with ids (type 1) or times (type 2) below
// after and above before.
func (v okx) history(t *tape, r *http.Request) list {
	key := func(k Trade) int64 { return k.ID }
	if intParam(r, "type", 1) == 2 {
		key = func(k Trade) int64 { return k.Time.UnixMilli() }
	}
	after, before := intParam(r, "after", 1<<62), intParam(r, "before", 0)
	n, _ := t.upTo(time.Now())
	var in []Trade
	for _, k := range t.trades(0, n) {
		if key(k) > before && key(k) < after {
			in = append(in, k)
		}
	}
	return v.list(t, newest(in, limitParam(r, 100, 100)))
}

func (okx) list(t *tape, trades []Trade) list {
	out := list{}
	for _, k := range trades {
		out = append(out, object{"instId": t.symbol, "tradeId": integer(k.ID), "px": k.Price, "sz": k.Size,
			"side": k.Side, "ts": integer(k.Time.UnixMilli())})
	}
	return out
}
