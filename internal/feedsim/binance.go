package feedsim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// binance is the spot market. A trade of the recording is shown as an
// aggregate of one: the aggTrade's a is the trade's id in Truth, and its f, l
// and the raw stream's t are rawID beyond, for the two are counted apart.
type binance struct{}

const rawID = 1_000_000_000

func (binance) rules() rules {
	return rules{
		hosts:      []string{"stream.binance.com", "data-stream.binance.vision", "api.binance.com", "data-api.binance.vision"},
		resolution: time.Millisecond, gaps: true, tickerEvery: time.Second,
		pingEvery: 20 * time.Second, pongWithin: time.Minute, life: 24 * time.Hour,
		connects: limit{300, 5 * time.Minute}, messages: limit{5, time.Second}, requests: limit{600, time.Minute},
	}
}

func (binance) listings() []listing {
	return []listing{
		{symbol: "BTCUSDT", base: "BTC", quote: "USDT", from: "binance BTCUSDT", decimals: 2, pad: 8},
		{symbol: "ETHUSDT", base: "ETH", quote: "USDT", from: "binance ETHUSDT", decimals: 2, pad: 8},
	}
}

// open subscribes to what the URL names: /ws/STREAM or /stream?streams=A/B.
func (v binance) open(c *conn, r *http.Request) {
	c.combined = strings.HasPrefix(r.URL.Path, "/stream")
	streams := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/ws"), "/")
	if c.combined {
		streams = r.URL.Query().Get("streams")
	}
	for _, s := range strings.Split(streams, "/") {
		v.add(c, s)
	}
}

// add subscribes to a stream. One that does not exist is accepted and never
// says anything, as there.
func (binance) add(c *conn, stream string) {
	symbol, channel, ok := strings.Cut(stream, "@")
	t := c.x.tapes[strings.ToUpper(symbol)]
	if !ok || t == nil || symbol != strings.ToLower(symbol) {
		return
	}
	k := map[string]kind{"aggTrade": trades, "trade": trades, "ticker": ticker, "miniTicker": ticker}[channel]
	c.subscribe(channel, stream, t, k)
}

func (v binance) message(c *conn, msg []byte) {
	var m struct {
		Method string          `json:"method"`
		Params []any           `json:"params"`
		ID     json.RawMessage `json:"id"`
	}
	err := json.Unmarshal(msg, &m)
	if m.ID == nil {
		m.ID = json.RawMessage("null")
	}
	if err != nil {
		c.say(fmt.Sprintf(`{"code":3,"msg":"Invalid JSON: %s","id":%s}`, "expected value at line 1 column 1", m.ID))
		return
	}
	result := "null"
	switch m.Method {
	case "SUBSCRIBE", "UNSUBSCRIBE":
		for _, p := range m.Params {
			v.change(c, m.Method, fmt.Sprint(p))
		}
	case "LIST_SUBSCRIPTIONS":
		names := []string{}
		for _, s := range c.subs {
			names = append(names, s.name)
		}
		b, _ := json.Marshal(names) // strings only
		result = string(b)
	case "SET_PROPERTY":
		c.combined = len(m.Params) == 2 && m.Params[1] == true
	default:
		c.say(fmt.Sprintf(`{"code":2,"msg":"Invalid request: unknown variant %s, expected one of `+"`SUBSCRIBE`, `UNSUBSCRIBE`, "+
			"`LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`"+`","id":%s}`, strings.Trim(quoted(m.Method), `"`), m.ID))
		return
	}
	if len(c.subs) > 1024 {
		c.breach(websocket.StatusPolicyViolation, "more than 1024 streams")
		return
	}
	c.say(fmt.Sprintf(`{"result":%s,"id":%s}`, result, m.ID))
}

func (v binance) change(c *conn, method, stream string) {
	if method == "SUBSCRIBE" {
		v.add(c, stream)
		return
	}
	symbol, channel, _ := strings.Cut(stream, "@")
	if t := c.x.tapes[strings.ToUpper(symbol)]; t != nil {
		c.unsubscribe(channel, t)
	}
}

// wrap puts an event into its stream's wrapping where the client asked.
func (binance) wrap(c *conn, stream, event string) string {
	if c.combined {
		return fmt.Sprintf(`{"stream":%q,"data":%s}`, stream, event)
	}
	return event
}

func (v binance) trades(c *conn, s *sub, list []Trade) {
	now := c.now.UnixMilli()
	for _, k := range list {
		rest := fmt.Sprintf(`"p":%q,"q":%q,`, k.Price, k.Size)
		sell := k.Side == "sell"
		if s.channel == "trade" {
			c.tell(v.wrap(c, s.name, fmt.Sprintf(`{"e":"trade","E":%d,"s":%q,"t":%d,%s"T":%d,"m":%t,"M":true}`,
				now, s.tape.symbol, k.ID+rawID, rest, k.Time.UnixMilli(), sell)))
			continue
		}
		c.tell(v.wrap(c, s.name, fmt.Sprintf(`{"e":"aggTrade","E":%d,"s":%q,"a":%d,%s"f":%d,"l":%d,"T":%d,"m":%t,"M":true}`,
			now, s.tape.symbol, k.ID, rest, k.ID+rawID, k.ID+rawID, k.Time.UnixMilli(), sell)))
	}
}

func (v binance) ticker(c *conn, s *sub) {
	d, now := s.tape.day(c.now.Add(-latency)), c.now.UnixMilli()
	if s.channel == "miniTicker" {
		c.show(v.wrap(c, s.name, fmt.Sprintf(`{"e":"24hrMiniTicker","E":%d,"s":%q,"c":%q,"o":"%.8f","h":"%.8f","l":"%.8f","v":"%.8f","q":"%.8f"}`,
			now, s.tape.symbol, d.last.Price, d.open, d.high, d.low, d.volume, d.value)))
		return
	}
	c.show(v.wrap(c, s.name, fmt.Sprintf(`{"e":"24hrTicker","E":%d,"s":%q,"p":"%.8f","P":"%.3f","w":"%.8f","x":"%.8f","c":%q,"Q":%q,`+
		`"b":"%.8f","B":"3.02920000","a":"%.8f","A":"31.43950000","o":"%.8f","h":"%.8f","l":"%.8f","v":"%.8f","q":"%.8f",`+
		`"O":%d,"C":%d,"F":%d,"L":%d,"n":%d}`,
		now, s.tape.symbol, d.close-d.open, (d.close/d.open-1)*100, d.value/d.volume, d.open, d.last.Price, d.last.Size,
		d.close, d.close+0.01, d.open, d.high, d.low, d.volume, d.value,
		now-24*time.Hour.Milliseconds(), now, d.last.ID+rawID-int64(d.trades), d.last.ID+rawID, d.trades)))
}

func (binance) beat(*conn) {}

func (binance) limited(c *conn) {
	c.finish(CleanEnd, websocket.StatusPolicyViolation, "Too many requests")
}

// moving is the raw event; connections that wrap get it wrapped.
func (binance) moving() string {
	return fmt.Sprintf(`{"e":"serverShutdown","E":%d}`, time.Now().UnixMilli())
}

func (binance) tooMany() string {
	return `{"code":-1003,"msg":"Too many requests; current limit of IP(127.0.0.1) is 6000 requests per minute. Please use WebSocket Streams for live updates to avoid polling the API."}`
}

func (v binance) serve(x *exchange, w http.ResponseWriter, r *http.Request) {
	what := strings.TrimPrefix(r.URL.Path, "/api/v3/")
	symbol := r.URL.Query().Get("symbol")
	t := x.tapes[symbol]
	switch what {
	case "exchangeInfo":
		v.info(x, w)
		return
	case "ticker/24hr":
		if symbol == "" {
			all := list{}
			for _, s := range x.order {
				all = append(all, v.day(x.tapes[s]))
			}
			answer(w, http.StatusOK, all)
			return
		}
	}
	if t == nil {
		answer(w, http.StatusBadRequest, object{"code": -1121, "msg": "Invalid symbol."})
		return
	}
	switch what {
	case "ticker/24hr":
		answer(w, http.StatusOK, v.day(t))
	case "klines", "uiKlines":
		v.klines(t, w, r)
	case "aggTrades":
		v.aggregates(t, w, r)
	case "trades", "historicalTrades":
		v.raw(t, w, r)
	default:
		http.NotFound(w, r)
	}
}

func (binance) info(x *exchange, w http.ResponseWriter) {
	all := list{}
	for _, symbol := range x.order {
		t := x.tapes[symbol]
		all = append(all, object{"symbol": symbol, "status": "TRADING", "baseAsset": t.base, "baseAssetPrecision": 8,
			"quoteAsset": t.quote, "quotePrecision": 8, "quoteAssetPrecision": 8, "orderTypes": list{"LIMIT", "MARKET"},
			"isSpotTradingAllowed": true, "isMarginTradingAllowed": true, "filters": list{},
			"permissions": list{}, "permissionSets": list{list{"SPOT", "MARGIN"}}})
	}
	answer(w, http.StatusOK, object{"timezone": "UTC", "serverTime": time.Now().UnixMilli(),
		"rateLimits": list{}, "exchangeFilters": list{}, "symbols": all})
}

func (binance) day(t *tape) object {
	d, now := t.day(time.Now()), time.Now().UnixMilli()
	p := func(f float64) string { return decimal(f, 8) }
	return object{"symbol": t.symbol, "priceChange": p(d.close - d.open), "priceChangePercent": decimal((d.close/d.open-1)*100, 3),
		"weightedAvgPrice": p(d.value / d.volume), "prevClosePrice": p(d.open), "lastPrice": d.last.Price, "lastQty": d.last.Size,
		"bidPrice": p(d.close), "bidQty": "3.02920000", "askPrice": p(d.close + 0.01), "askQty": "31.43950000",
		"openPrice": p(d.open), "highPrice": p(d.high), "lowPrice": p(d.low), "volume": p(d.volume), "quoteVolume": p(d.value),
		"openTime": now - 24*time.Hour.Milliseconds(), "closeTime": now,
		"firstId": d.last.ID + rawID - int64(d.trades), "lastId": d.last.ID + rawID, "count": d.trades}
}

// klines are the oldest from startTime on, the newest without it.
func (binance) klines(t *tape, w http.ResponseWriter, r *http.Request) {
	if i := r.URL.Query().Get("interval"); i != "5m" {
		answer(w, http.StatusBadRequest, object{"code": -1120, "msg": "Invalid interval."})
		return
	}
	now, n := time.Now(), limitParam(r, 500, 1000)
	bars := t.fives(now, millisParam(r, "startTime", time.UnixMilli(0)), millisParam(r, "endTime", now))
	if r.URL.Query().Get("startTime") == "" {
		bars = bars[max(0, len(bars)-n):]
	}
	out := list{}
	p := func(f float64) string { return decimal(f, 8) }
	for _, b := range bars[:min(n, len(bars))] {
		start := b.start.UnixMilli()
		out = append(out, list{start, p(b.open), p(b.high), p(b.low), p(b.close), p(b.volume),
			start + barLength.Milliseconds() - 1, p(b.value), b.trades, p(b.volume / 2), p(b.value / 2), "0"})
	}
	answer(w, http.StatusOK, out)
}

// page are the trades from an id or a time on, the newest without either.
func (binance) page(t *tape, r *http.Request, offset int64) []Trade {
	now, n := time.Now(), limitParam(r, 500, 1000)
	q := r.URL.Query()
	to, _ := t.upTo(now)
	from := max(0, to-n)
	switch {
	case q.Get("fromId") != "":
		id := intParam(r, "fromId", 0) - offset
		from, _ = t.find(now, func(k Trade) bool { return k.ID >= id })
	case q.Get("startTime") != "":
		start := millisParam(r, "startTime", now)
		from, _ = t.find(now, func(k Trade) bool { return !k.Time.Before(start) })
	}
	if end := millisParam(r, "endTime", now); q.Get("endTime") != "" {
		to, _ = t.find(now, func(k Trade) bool { return k.Time.After(end) })
	}
	return t.trades(from, min(to, from+n))
}

func (v binance) aggregates(t *tape, w http.ResponseWriter, r *http.Request) {
	out := list{}
	for _, k := range v.page(t, r, 0) {
		out = append(out, object{"a": k.ID, "p": k.Price, "q": k.Size, "f": k.ID + rawID, "l": k.ID + rawID,
			"T": k.Time.UnixMilli(), "m": k.Side == "sell", "M": true})
	}
	answer(w, http.StatusOK, out)
}

func (v binance) raw(t *tape, w http.ResponseWriter, r *http.Request) {
	out := list{}
	for _, k := range v.page(t, r, rawID) {
		out = append(out, object{"id": k.ID + rawID, "price": k.Price, "qty": k.Size,
			"quoteQty": decimal(number(k.Price)*number(k.Size), 8), "time": k.Time.UnixMilli(),
			"isBuyerMaker": k.Side == "sell", "isBestMatch": true})
	}
	answer(w, http.StatusOK, out)
}
