package feedsim

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
)

var load = sync.OnceValues(func() (*Recordings, error) { return Load(dataDir()) })

func dataDir() string {
	if dir := os.Getenv("CRYPTOINTEL_DATA"); dir != "" {
		return dir
	}
	return filepath.Join("..", "..", "..", "shared", "data")
}

// recordings are loaded once. Without them a test is skipped, in CI it fails.
func recordings(t testing.TB) *Recordings {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dataDir(), "feeds")); err != nil {
		missing := fmt.Sprintf("no recordings in %s: set CRYPTOINTEL_DATA; not tested: the simulated exchanges", dataDir())
		if os.Getenv("CI") == "true" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	r, err := load()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// inside runs a test inside a bubble, over a network.
func inside(t *testing.T, cfg Config, test func(t *testing.T, s *Sim, n *Network)) {
	t.Helper()
	cfg.Recordings = recordings(t)
	synctest.Test(t, func(t *testing.T) {
		s, err := New(cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		n := s.Network()
		defer n.Close()
		test(t, s, n)
	})
}

// A talk is what a test says to an exchange, and how it reads trades.
type talk struct {
	url       string
	subscribe func(symbols []string) []string
	ping      string // sent every 15 s
	// trades reads symbol and id of every trade in a frame.
	trades func(frame map[string]any) []seen
	// beats says whether a frame shows life.
	beat func(frame string) bool
	ack  func(frame string) bool
	none bool // no heartbeats within ten seconds
}

type seen struct {
	symbol, price, size, side string
	id                        int64
	at                        time.Time
}

func str(v any) string { return fmt.Sprint(v) }

func each(v any) (out []map[string]any) {
	l, _ := v.([]any)
	for _, e := range l {
		m, _ := e.(map[string]any)
		out = append(out, m)
	}
	return out
}

func id(v any) int64 {
	n, err := strconv.ParseInt(str(v), 10, 64)
	if err != nil {
		return -1
	}
	return n
}

func millis(v any) time.Time { return time.UnixMilli(id(v)) }

func rfc3339(v any) time.Time {
	t, _ := time.Parse(time.RFC3339Nano, str(v))
	return t
}

func has(part string) func(string) bool {
	return func(s string) bool { return strings.Contains(s, part) }
}

func perSymbol(format string) func([]string) []string {
	return func(symbols []string) (out []string) {
		for _, s := range symbols {
			out = append(out, fmt.Sprintf(format, s))
		}
		return out
	}
}

var talks = map[string]talk{
	"coinbase": {
		url: "wss://advanced-trade-ws.coinbase.com",
		subscribe: func(symbols []string) (out []string) {
			for _, ch := range []string{"market_trades", "ticker", "heartbeats"} {
				out = append(out, fmt.Sprintf(`{"type":"subscribe","product_ids":["%s"],"channel":%q}`, strings.Join(symbols, `","`), ch))
			}
			return out
		},
		trades: func(f map[string]any) (out []seen) {
			for _, e := range each(f["events"]) {
				for _, k := range each(e["trades"]) {
					out = append(out, seen{str(k["product_id"]), str(k["price"]), str(k["size"]), strings.ToLower(str(k["side"])), id(k["trade_id"]), rfc3339(k["time"])})
				}
			}
			return out
		},
		beat: has(`"heartbeat_counter"`), ack: has(`"subscriptions"`),
	},
	"kraken": {
		url: "wss://ws.kraken.com/v2",
		subscribe: func(symbols []string) (out []string) {
			list := strings.Join(symbols, `","`)
			return []string{fmt.Sprintf(`{"method":"subscribe","params":{"channel":"ticker","symbol":["%s"]},"req_id":1}`, list),
				fmt.Sprintf(`{"method":"subscribe","params":{"channel":"trade","symbol":["%s"],"snapshot":true},"req_id":2}`, list)}
		},
		trades: func(f map[string]any) (out []seen) {
			if f["channel"] != "trade" {
				return nil
			}
			for _, k := range each(f["data"]) {
				out = append(out, seen{str(k["symbol"]), str(k["price"]), str(k["qty"]), str(k["side"]), id(k["trade_id"]), rfc3339(k["timestamp"])})
			}
			return out
		},
		beat: has(`{"channel":"heartbeat"}`), ack: has(`"success":true`),
	},
	"binance": {
		url: "wss://stream.binance.com:9443/ws",
		subscribe: func(symbols []string) []string {
			var p []string
			for _, s := range symbols {
				p = append(p, strings.ToLower(s)+"@aggTrade", strings.ToLower(s)+"@ticker")
			}
			return []string{fmt.Sprintf(`{"method":"SUBSCRIBE","params":["%s"],"id":1}`, strings.Join(p, `","`))}
		},
		trades: func(f map[string]any) []seen {
			if f["e"] != "aggTrade" {
				return nil
			}
			side := map[any]string{true: "sell", false: "buy"}[f["m"]]
			return []seen{{str(f["s"]), str(f["p"]), str(f["q"]), side, id(f["a"]), millis(f["T"])}}
		},
		ack: has(`"result":null`), none: true,
	},
	"okx": {
		url: "wss://ws.okx.com:8443/ws/v5/public",
		subscribe: func(symbols []string) []string {
			var a []string
			for _, s := range symbols {
				a = append(a, fmt.Sprintf(`{"channel":"trades","instId":%q},{"channel":"tickers","instId":%q}`, s, s))
			}
			return []string{`{"op":"subscribe","args":[` + strings.Join(a, ",") + `]}`}
		},
		ping: "ping",
		trades: func(f map[string]any) (out []seen) {
			for _, k := range each(f["data"]) {
				if k["tradeId"] != nil {
					out = append(out, seen{str(k["instId"]), str(k["px"]), str(k["sz"]), str(k["side"]), id(k["tradeId"]), millis(k["ts"])})
				}
			}
			return out
		},
		beat: has("pong"), ack: has(`"event":"subscribe"`),
	},
	"bybit": {
		url:       "wss://stream.bybit.com/v5/public/spot",
		subscribe: perSymbol(`{"op":"subscribe","args":["publicTrade.%[1]s","tickers.%[1]s"]}`),
		ping:      `{"op":"ping"}`,
		trades: func(f map[string]any) (out []seen) {
			for _, k := range each(f["data"]) {
				out = append(out, seen{str(k["s"]), str(k["p"]), str(k["v"]), strings.ToLower(str(k["S"])), id(k["i"]), millis(k["T"])})
			}
			return out
		},
		beat: has(`"pong"`), ack: has(`"success":true`),
	},
	"bitstamp": {
		url:       "wss://ws.bitstamp.net",
		subscribe: perSymbol(`{"event":"bts:subscribe","data":{"channel":"live_trades_%s"}}`),
		ping:      `{"event":"bts:heartbeat"}`,
		trades: func(f map[string]any) []seen {
			d, _ := f["data"].(map[string]any)
			if f["event"] != "trade" {
				return nil
			}
			symbol := strings.TrimPrefix(str(f["channel"]), "live_trades_")
			return []seen{{symbol, str(d["price_str"]), str(d["amount_str"]), sides[id(d["type"])], id(d["id"]), time.UnixMicro(id(d["microtimestamp"]))}}
		},
		beat: has("bts:heartbeat"), ack: has("bts:subscription_succeeded"),
	},
}

// A client is a plain WebSocket client of one exchange.
type client struct {
	t      *testing.T
	talk   talk
	ws     *websocket.Conn
	frames []string
	err    error // that ended the reading
}

func dial(t *testing.T, n *Network, exchange string) *client {
	t.Helper()
	return dialTalk(t, n, talks[exchange])
}

func dialTalk(t *testing.T, n *Network, talk talk) *client {
	t.Helper()
	c := &client{t: t, talk: talk}
	ws, _, err := websocket.Dial(t.Context(), c.talk.url, &websocket.DialOptions{HTTPClient: n.Client()})
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(1 << 20)
	c.ws = ws
	t.Cleanup(func() { ws.CloseNow() })
	return c
}

func (c *client) say(msgs ...string) {
	c.t.Helper()
	for _, m := range msgs {
		if err := c.ws.Write(c.t.Context(), websocket.MessageText, []byte(m)); err != nil {
			c.t.Fatal(err)
		}
	}
}

// listen reads for a time, pinging as the exchange asks.
func (c *client) listen(d time.Duration) {
	ctx, cancel := context.WithTimeout(c.t.Context(), d)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	if c.talk.ping != "" {
		wg.Go(func() {
			tick := time.NewTicker(15 * time.Second)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
					c.ws.Write(c.t.Context(), websocket.MessageText, []byte(c.talk.ping))
				}
			}
		})
	}
	for {
		_, msg, err := c.ws.Read(ctx)
		if err != nil {
			c.err = err
			cancel()
			return
		}
		c.frames = append(c.frames, string(msg))
	}
}

// seen are all trades of all frames by symbol, in the order of their arrival.
func (c *client) seen() map[string][]seen {
	by := make(map[string][]seen)
	for _, f := range c.frames {
		dec := json.NewDecoder(strings.NewReader(f))
		dec.UseNumber()
		var v map[string]any
		if f == "pong" || dec.Decode(&v) != nil {
			continue
		}
		for _, k := range c.talk.trades(v) {
			by[k.symbol] = append(by[k.symbol], k)
		}
	}
	return by
}

func (c *client) count(ok func(string) bool) (n int) {
	for _, f := range c.frames {
		if ok(f) {
			n++
		}
	}
	return n
}

// get reads a REST answer.
func get(t *testing.T, n *Network, url string, v any) int {
	t.Helper()
	resp, err := n.Client().Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if v != nil && resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(b, v); err != nil {
			t.Fatalf("%s: %v: %.200s", url, err, b)
		}
	}
	return resp.StatusCode
}

// same compares what arrived with what the exchange traded: each trade since
// the first that arrived, once.
func same(t *testing.T, exchange, symbol string, got []seen, truth []Trade) {
	t.Helper()
	slices.SortStableFunc(got, func(a, b seen) int { return int(a.id - b.id) })
	if len(got) == 0 {
		t.Errorf("%s %s: no trade arrived", exchange, symbol)
		return
	}
	i := slices.IndexFunc(truth, func(k Trade) bool { return k.ID == got[0].id })
	if i < 0 {
		t.Errorf("%s %s: trade %d was never made", exchange, symbol, got[0].id)
		return
	}
	truth = truth[i:]
	for j := range min(len(got), len(truth)) {
		k := truth[j]
		want := seen{symbol, k.Price, k.Size, k.Side, k.ID, k.Time}
		if !got[j].at.Equal(want.at) {
			t.Fatalf("%s %s: trade %d at %v, want %v", exchange, symbol, k.ID, got[j].at, want.at)
		}
		got[j].at = want.at
		if got[j] != want {
			t.Fatalf("%s %s: trade %d of %d: got %+v, want %+v", exchange, symbol, j, len(truth), got[j], want)
		}
	}
	if len(got) != len(truth) {
		t.Errorf("%s %s: %d trades arrived, %d were made", exchange, symbol, len(got), len(truth))
	}
}

func TestTruth(t *testing.T) {
	t.Parallel()
	for exchange, talk := range talks {
		t.Run(exchange, func(t *testing.T) {
			t.Parallel()
			inside(t, Config{Exchanges: []string{exchange}}, func(t *testing.T, s *Sim, n *Network) {
				c := dial(t, n, exchange)
				symbols := s.Symbols(exchange)
				c.say(talk.subscribe(symbols)...)
				c.listen(time.Minute + time.Second/2)
				if c.count(talk.ack) == 0 {
					t.Error("no acknowledgement")
				}
				if !talk.none && c.count(talk.beat) == 0 {
					t.Error("no heartbeat")
				}
				by := c.seen()
				for _, symbol := range symbols {
					var truth []Trade
					for _, k := range s.Truth(exchange, symbol) {
						if !k.Time.After(time.Now().Add(-latency)) {
							truth = append(truth, k)
						}
					}
					if len(truth) < 20 || truth[0].Time.After(s.Start().Add(-warmUp)) {
						t.Errorf("%s: %d trades, since %v", symbol, len(truth), truth[0].Time)
					}
					same(t, exchange, symbol, by[symbol], truth)
				}
				if b := s.Breaches(); len(b) > 0 {
					t.Errorf("breaches: %v", b)
				}
				if st := s.Stats(exchange); st.Connects != 1 || st.Frames != uint64(len(c.frames)) {
					t.Errorf("stats %+v, %d frames read", st, len(c.frames))
				}
			})
		})
	}
}
