package feedsim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// bybit is Bybit v5's spot market. As in the recording, a symbol's trade ids
// grow and are not contiguous: a loss cannot be told from them.
type bybit struct{}

func (bybit) rules() rules {
	return rules{
		hosts:      []string{"stream.bybit.com", "api.bybit.com"},
		resolution: time.Millisecond, tickerEvery: 50 * time.Millisecond,
		idle: 10 * time.Minute, connects: limit{500, 5 * time.Minute}, requests: limit{600, 5 * time.Second},
	}
}

func (bybit) listings() []listing {
	jumps := func(i int64) int64 { return i + i/3*2 + i/7*22 }
	return []listing{
		{symbol: "BTCUSDT", base: "BTC", quote: "USDT", from: "bybit BTCUSDT", speed: 4, decimals: 1, trim: true, id: jumps},
		{symbol: "ETHUSDT", base: "ETH", quote: "USDT", from: "bybit ETHUSDT", speed: 4, decimals: 2, trim: true, id: jumps},
	}
}

func (bybit) open(*conn, *http.Request) {}

func (v bybit) message(c *conn, msg []byte) {
	var m struct {
		Op    string   `json:"op"`
		Args  []string `json:"args"`
		ReqID string   `json:"req_id"`
	}
	if json.Unmarshal(msg, &m) != nil {
		v.reply(c, false, "Invalid json", "", "")
		return
	}
	switch {
	case m.Op == "ping":
		v.reply(c, true, "pong", m.ReqID, "ping")
		return
	case m.Op != "subscribe" && m.Op != "unsubscribe":
		v.reply(c, false, "error:invalid op", m.ReqID, m.Op)
		return
	case len(m.Args) > 10:
		c.x.breach(c.id, "%d args in a message, more than 10", len(m.Args))
		v.reply(c, false, "args size >10", m.ReqID, m.Op)
		return
	}
	for _, a := range m.Args {
		if channel, symbol, _ := strings.Cut(a, "."); v.kind(channel) < 0 || c.x.tapes[v.symbol(channel, symbol)] == nil {
			v.reply(c, false, fmt.Sprintf("Invalid symbol :[%s]", a), m.ReqID, m.Op)
			return // One bad argument refuses all.
		}
	}
	v.reply(c, true, m.Op, m.ReqID, m.Op)
	for _, a := range m.Args {
		v.change(c, m.Op, a)
	}
}

// symbol is what follows the channel; order books and bars have a size before
// it: 200.BTCUSDT.
func (v bybit) symbol(channel, s string) string {
	if v.kind(channel) == int(other) {
		return s[strings.LastIndexByte(s, '.')+1:]
	}
	return s
}

// kind is what a channel is, -1 when there is no such.
func (bybit) kind(channel string) int {
	switch channel {
	case "publicTrade":
		return int(trades)
	case "tickers":
		return int(ticker)
	case "orderbook", "kline":
		return int(other)
	}
	return -1
}

func (v bybit) change(c *conn, op, topic string) {
	channel, symbol, _ := strings.Cut(topic, ".")
	t := c.x.tapes[v.symbol(channel, symbol)]
	if op == "unsubscribe" {
		c.unsubscribe(channel, t)
		return
	}
	if s := c.subscribe(channel, topic, t, kind(v.kind(channel))); s.kind == ticker {
		s.at = c.now
		v.ticker(c, s)
	}
}

func (bybit) reply(c *conn, ok bool, why, id, op string) {
	c.say(fmt.Sprintf(`{"success":%t,"ret_msg":%s,"conn_id":"d9avt8shteepr00gfc1g-%05d","req_id":%s,"op":%s}`,
		ok, quoted(why), c.id, quoted(id), quoted(op)))
}

func (v bybit) trades(c *conn, s *sub, list []Trade) {
	var b strings.Builder
	for i, k := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"i":"%d","T":%d,"p":%q,"v":%q,"S":%q,"seq":%d,"s":%q,"BT":false,"RPI":false}`,
			k.ID, k.Time.UnixMilli(), k.Price, k.Size, v.side(k.Side), k.ID/7, s.tape.symbol)
	}
	c.tell(fmt.Sprintf(`{"topic":%q,"ts":%d,"type":"snapshot","data":[%s]}`, s.name, c.now.UnixMilli(), b.String()))
}

func (bybit) side(s string) string {
	if s == "sell" {
		return "Sell"
	}
	return "Buy"
}

// ticker is a snapshot always: deltas are the other markets'.
func (v bybit) ticker(c *conn, s *sub) {
	t := s.tape
	d := t.day(c.now.Add(-latency))
	c.show(fmt.Sprintf(`{"topic":%q,"ts":%d,"type":"snapshot","cs":%d,"data":{"symbol":%q,"lastPrice":%q,"highPrice24h":%q,"lowPrice24h":%q,`+
		`"prevPrice24h":%q,"volume24h":"%.6f","turnover24h":"%.8f","price24hPcnt":"%.4f","usdIndexPrice":"%.6f"}}`,
		s.name, c.now.UnixMilli(), d.last.ID/7, t.symbol, d.last.Price, t.text(d.high), t.text(d.low), t.text(d.open),
		d.volume, d.value, d.close/d.open-1, d.close))
}

func (bybit) beat(*conn) {}

func (v bybit) limited(c *conn) {
	v.reply(c, false, "Too many visits!", "", "subscribe")
	c.finish(CleanEnd, websocket.StatusPolicyViolation, "too many requests")
}

func (bybit) moving() string { return "" }

func (bybit) tooMany() string {
	return `{"retCode":10006,"retMsg":"Too many visits!","result":{},"retExtInfo":{},"time":0}`
}

func (v bybit) serve(x *exchange, w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	symbol, what := q.Get("symbol"), strings.TrimPrefix(r.URL.Path, "/v5/market/")
	reply := func(code int, msg string, result object) {
		answer(w, http.StatusOK, object{"retCode": code, "retMsg": msg, "result": result, "retExtInfo": object{}, "time": time.Now().UnixMilli()})
	}
	one := what == "kline" || what == "recent-trade"
	switch {
	case q.Get("category") != "spot":
		reply(10001, "category is not simulated: spot only", object{})
		return
	case x.tapes[symbol] == nil && (one || symbol != ""):
		reply(10001, "Not supported symbols", object{})
		return
	}
	symbols := x.order
	if symbol != "" {
		symbols = []string{symbol}
	}
	rows := list{}
	switch what {
	case "instruments-info", "tickers":
		for _, s := range symbols {
			rows = append(rows, v.row(what, x.tapes[s]))
		}
	case "kline":
		rows = v.klines(x.tapes[symbol], r)
	case "recent-trade":
		rows = v.recent(x.tapes[symbol], limitParam(r, 60, 60))
	default:
		http.NotFound(w, r)
		return
	}
	result := object{"category": "spot", "list": rows}
	if what == "kline" {
		result["symbol"] = symbol
	}
	reply(0, "OK", result)
}

func (bybit) row(what string, t *tape) object {
	if what == "instruments-info" {
		return object{"symbol": t.symbol, "baseCoin": t.base, "quoteCoin": t.quote, "innovation": "0", "status": "Trading",
			"marginTrading": "utaOnly", "stTag": "0", "lotSizeFilter": object{"basePrecision": "0.000001"},
			"priceFilter": object{"tickSize": "0.1"}}
	}
	d := t.day(time.Now())
	return object{"symbol": t.symbol, "bid1Price": t.text(d.close), "bid1Size": "1.5", "ask1Price": t.text(d.close + 0.1), "ask1Size": "0.3",
		"lastPrice": d.last.Price, "prevPrice24h": t.text(d.open), "price24hPcnt": decimal(d.close/d.open-1, 4),
		"highPrice24h": t.text(d.high), "lowPrice24h": t.text(d.low), "turnover24h": decimal(d.value, 8),
		"volume24h": decimal(d.volume, 6), "usdIndexPrice": decimal(d.close, 6)}
}

// klines are newest first: the oldest of those from start on are left out.
func (bybit) klines(t *tape, r *http.Request) list {
	now, out := time.Now(), list{}
	if r.URL.Query().Get("interval") != "5" {
		return out // Only five minutes are simulated.
	}
	bars := t.fives(now, millisParam(r, "start", time.UnixMilli(0)), millisParam(r, "end", now))
	for _, b := range newest(bars, limitParam(r, 200, 1000)) {
		out = append(out, list{integer(b.start.UnixMilli()), t.text(b.open), t.text(b.high), t.text(b.low), t.text(b.close),
			decimal(b.volume, 6), decimal(b.value, 8)})
	}
	return out
}

func (v bybit) recent(t *tape, n int) list {
	out := list{}
	to, _ := t.upTo(time.Now())
	for _, k := range newest(t.trades(0, to), n) {
		out = append(out, object{"execId": integer(k.ID), "symbol": t.symbol, "price": k.Price, "size": k.Size, "side": v.side(k.Side),
			"time": integer(k.Time.UnixMilli()), "isBlockTrade": false, "isRPITrade": false, "seq": integer(k.ID / 7)})
	}
	return out
}
