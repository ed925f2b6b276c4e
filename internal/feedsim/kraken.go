package feedsim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// kraken is Kraken's WebSocket v2, after the documented examples: no
// recording of it exists. Its trades are recorded REST trades of XBT/USDT,
// forty times as fast, for there were two a minute; ETH/USD borrows.
type kraken struct{}

func (kraken) rules() rules {
	return rules{
		hosts:      []string{"ws.kraken.com", "beta-ws.kraken.com", "api.kraken.com"},
		resolution: time.Microsecond, gaps: true, tickerEvery: 50 * time.Millisecond,
		beatEvery: time.Second, beatIdle: true,
		connects: limit{150, 10 * time.Minute}, messages: limit{20, time.Second}, requests: limit{5, time.Second},
	}
}

func (kraken) listings() []listing {
	const from = "kraken XBT/USDT"
	return []listing{
		{symbol: "BTC/USD", base: "BTC", quote: "USD", from: from, speed: 40, decimals: 1, firstID: 80_123_456},
		{symbol: "BTC/USDT", base: "BTC", quote: "USDT", from: from, speed: 30, decimals: 1},
		{symbol: "ETH/USD", base: "ETH", quote: "USD", from: "coinbase ETH-USD", decimals: 2, firstID: 51_234_567},
	}
}

func (kraken) open(c *conn, _ *http.Request) {
	// The connection's number is beyond what a float64 holds exactly.
	c.say(fmt.Sprintf(`{"channel":"status","type":"update","data":[{"version":"2.0.10","system":"online","api_version":"v2","connection_id":%d}]}`,
		12072546403441331453+c.id))
}

type krakenMessage struct {
	Method string          `json:"method"`
	ReqID  json.RawMessage `json:"req_id"`
	Params struct {
		Channel  string   `json:"channel"`
		Symbol   []string `json:"symbol"`
		Snapshot *bool    `json:"snapshot"`
	} `json:"params"`
}

func (v kraken) message(c *conn, msg []byte) {
	var m krakenMessage
	if json.Unmarshal(msg, &m) != nil {
		v.reply(c, m, `"error":"Malformed request","success":false`)
		return
	}
	k, ok := map[string]kind{"trade": trades, "ticker": ticker, "book": other, "ohlc": other}[m.Params.Channel]
	switch {
	case m.Method == "ping":
		v.reply(c, m, "")
	case m.Method != "subscribe" && m.Method != "unsubscribe":
		v.reply(c, m, `"error":"Method not supported","success":false`)
	case !ok:
		v.reply(c, m, `"error":"Channel not supported","success":false`)
	default:
		for _, symbol := range m.Params.Symbol {
			v.change(c, m, symbol, k)
		}
	}
}

// change subscribes to one symbol, or ends that.
func (v kraken) change(c *conn, m krakenMessage, symbol string, k kind) {
	t := c.x.tapes[symbol]
	if t == nil {
		v.reply(c, m, fmt.Sprintf(`"error":%s,"success":false,"symbol":%s`, quoted("Currency pair not supported "+symbol), quoted(symbol)))
		return
	}
	snapshot := m.Params.Snapshot == nil || *m.Params.Snapshot
	if m.Method == "unsubscribe" {
		if c.unsubscribe(m.Params.Channel, t) {
			v.reply(c, m, fmt.Sprintf(`"result":{"channel":%q,"symbol":%q},"success":true`, m.Params.Channel, symbol))
		} else {
			v.reply(c, m, fmt.Sprintf(`"error":"Subscription Not Found","success":false,"symbol":%q`, symbol))
		}
		return
	}
	before := len(c.subs)
	s := c.subscribe(m.Params.Channel, symbol, t, k)
	if len(c.subs) == before {
		v.reply(c, m, fmt.Sprintf(`"error":"Already subscribed","success":false,"symbol":%q`, symbol))
		return
	}
	v.reply(c, m, fmt.Sprintf(`"result":{"channel":%q,"symbol":%q,"snapshot":%t},"success":true`, m.Params.Channel, symbol, snapshot))
	if c.beatAt.IsZero() {
		c.beatAt = c.now.Add(time.Second)
	}
	switch {
	case !snapshot:
	case k == trades:
		c.tell(v.list(s, "snapshot", c.recent(s, 50)))
	case k == ticker:
		s.at = c.now
		c.show(v.state(c, s, "snapshot"))
	}
}

// reply answers a method.
func (kraken) reply(c *conn, m krakenMessage, fields string) {
	method := m.Method
	if method == "ping" {
		method = "pong"
	}
	if fields != "" {
		fields = "," + fields
	}
	if m.ReqID != nil {
		fields += `,"req_id":` + string(m.ReqID)
	}
	at := c.now.UTC().Format("2006-01-02T15:04:05.000000Z")
	c.say(fmt.Sprintf(`{"method":%s%s,"time_in":%q,"time_out":%q}`, quoted(method), fields, at, at))
}

// list is a frame of trades. Prices and sizes are JSON numbers.
func (kraken) list(s *sub, kind string, list []Trade) string {
	var b strings.Builder
	for i, k := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"symbol":%q,"side":%q,"price":%s,"qty":%s,"ord_type":"limit","trade_id":%d,"timestamp":%q}`,
			s.tape.symbol, k.Side, k.Price, k.Size, k.ID, k.Time.UTC().Format("2006-01-02T15:04:05.000000Z"))
	}
	return fmt.Sprintf(`{"channel":"trade","type":%q,"data":[%s]}`, kind, b.String())
}

func (v kraken) trades(c *conn, s *sub, list []Trade) { c.tell(v.list(s, "update", list)) }

func (v kraken) ticker(c *conn, s *sub) { c.show(v.state(c, s, "update")) }

func (kraken) state(c *conn, s *sub, kind string) string {
	d, n := s.tape.day(c.now.Add(-latency)), s.tape.decimals
	price := func(f float64) string { return decimal(f, n) }
	return fmt.Sprintf(`{"channel":"ticker","type":%q,"data":[{"symbol":%q,"bid":%s,"bid_qty":2.5,"ask":%s,"ask_qty":3.2,`+
		`"last":%s,"volume":%.8f,"vwap":%s,"low":%s,"high":%s,"change":%s,"change_pct":%.2f,"timestamp":%q}]}`,
		kind, s.tape.symbol, price(d.close), price(d.close+0.1), d.last.Price, d.volume, price(d.value/d.volume),
		price(d.low), price(d.high), price(d.close-d.open), (d.close/d.open-1)*100,
		d.last.Time.UTC().Format("2006-01-02T15:04:05.000000Z"))
}

func (kraken) beat(c *conn) { c.say(`{"channel":"heartbeat"}`) }

func (v kraken) limited(c *conn) {
	v.reply(c, krakenMessage{Method: "subscribe"}, `"error":"Exceeded msg rate","success":false`)
	c.finish(CleanEnd, websocket.StatusPolicyViolation, "Exceeded msg rate")
}

func (kraken) moving() string { return "" }

func (kraken) tooMany() string { return `{"error":["EAPI:Rate limit exceeded"]}` }

// krakenNames are the REST API's names of the pairs: its key, its alternative
// and its WebSocket v1 name, which still say XBT.
var krakenNames = map[string][3]string{
	"BTC/USD":  {"XXBTZUSD", "XBTUSD", "XBT/USD"},
	"BTC/USDT": {"XBTUSDT", "XBTUSDT", "XBT/USDT"},
	"ETH/USD":  {"XETHZUSD", "ETHUSD", "ETH/USD"},
}

// pair finds a tape by any of its names.
func (kraken) pair(x *exchange, name string) (t *tape, key string) {
	for symbol, names := range krakenNames {
		for _, n := range append(names[:], symbol, strings.ReplaceAll(symbol, "/", "")) {
			if strings.EqualFold(n, name) {
				return x.tapes[symbol], names[0]
			}
		}
	}
	return nil, ""
}

func (v kraken) serve(x *exchange, w http.ResponseWriter, r *http.Request) {
	result := object{}
	answerWith := func() { answer(w, http.StatusOK, object{"error": list{}, "result": result}) }
	what := strings.TrimPrefix(r.URL.Path, "/0/public/")
	if what == "AssetPairs" {
		for _, symbol := range x.order {
			result[krakenNames[symbol][0]] = v.assetPair(x.tapes[symbol])
		}
		answerWith()
		return
	}
	names := strings.Split(r.URL.Query().Get("pair"), ",")
	if what == "Ticker" && names[0] == "" {
		names = x.order
	}
	for _, name := range names {
		t, key := v.pair(x, name)
		if t == nil {
			answer(w, http.StatusOK, object{"error": list{"EQuery:Unknown asset pair"}})
			return
		}
		switch what {
		case "Ticker":
			result[key] = v.summary(t)
		case "OHLC":
			result[key], result["last"] = v.bars(t, r)
		case "Trades":
			result[key], result["last"] = v.past(t, r)
		default:
			answer(w, http.StatusOK, object{"error": list{"EGeneral:Unknown method"}})
			return
		}
	}
	answerWith()
}

func (kraken) assetPair(t *tape) object {
	names := krakenNames[t.symbol]
	base, quote := strings.TrimSuffix(strings.TrimSuffix(names[0], "ZUSD"), "USDT"), "ZUSD"
	if t.quote == "USDT" {
		base, quote = "XXBT", "USDT"
	}
	return object{"altname": names[1], "wsname": names[2], "aclass_base": "currency", "base": base,
		"aclass_quote": "currency", "quote": quote, "lot": "unit", "cost_decimals": 5, "pair_decimals": t.decimals,
		"lot_decimals": 8, "lot_multiplier": 1, "ordermin": "0.00005", "costmin": "0.5", "tick_size": "0.1", "status": "online"}
}

func (kraken) summary(t *tape) object {
	d := t.day(time.Now())
	p := func(f float64) string { return decimal(f, 5) }
	v := decimal(d.volume, 8)
	return object{"a": list{p(d.close + 0.1), "1", "1.000"}, "b": list{p(d.close), "1", "1.000"},
		"c": list{p(d.close), d.last.Size}, "v": list{v, v}, "p": list{p(d.value / d.volume), p(d.value / d.volume)},
		"t": list{d.trades, d.trades}, "l": list{p(d.low), p(d.low)}, "h": list{p(d.high), p(d.high)}, "o": p(d.open)}
}

// bars are the newest 720 after since, the running one included.
func (kraken) bars(t *tape, r *http.Request) (list, int64) {
	now := time.Now()
	all := t.fives(now, time.Unix(intParam(r, "since", 0)+1, 0), now)
	out, last := list{}, int64(0)
	if r.URL.Query().Get("interval") != "5" {
		return out, 0 // Only five minutes are simulated.
	}
	for i, b := range all[max(0, len(all)-720):] {
		out = append(out, list{b.start.Unix(), decimal(b.open, t.decimals), decimal(b.high, t.decimals), decimal(b.low, t.decimals),
			decimal(b.close, t.decimals), decimal(b.value/max(b.volume, 1e-9), t.decimals), decimal(b.volume, 8), b.trades})
		if i < len(all)-1 {
			last = b.start.Unix()
		}
	}
	return out, last
}

// past are trades after since, in ns or s, oldest first, a thousand at most;
// the newest thousand without.
func (kraken) past(t *tape, r *http.Request) (list, string) {
	now, since := time.Now(), intParam(r, "since", 0)
	if since < 1e12 {
		since *= 1e9
	}
	count := min(int(intParam(r, "count", 1000)), 1000)
	i, n := t.find(now, func(k Trade) bool { return k.Time.UnixNano() > since })
	if since == 0 {
		i = max(0, n-count)
	}
	out, last := list{}, integer(now.UnixNano())
	for _, k := range t.trades(i, min(n, i+count)) {
		at := json.RawMessage(fmt.Sprintf("%d.%07d", k.Time.Unix(), k.Time.Nanosecond()/100))
		out = append(out, list{decimal(number(k.Price), 5), k.Size, at, k.Side[:1], "l", "", k.ID})
		last = integer(k.Time.UnixNano())
	}
	return out, last
}
