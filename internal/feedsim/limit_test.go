package feedsim

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
)

// TestRefusals asks for what does not exist.
func TestRefusals(t *testing.T) {
	tests := []struct{ exchange, say, want string }{
		{"coinbase", `{"type":"subscribe","product_ids":["NOPE-USD"],"channel":"ticker"}`, `{"type":"error","message":"NOPE-USD is not a valid product"}`},
		{"coinbase", `{"type":"subscribe","product_ids":["BTC-USD"],"channel":"full"}`, `channel full is not supported`},
		{"coinbase", `nonsense`, `failed to parse message`},
		{"kraken", `{"method":"subscribe","params":{"channel":"trade","symbol":["XBT/USD"]},"req_id":7}`, `"error":"Currency pair not supported XBT/USD","success":false,"symbol":"XBT/USD","req_id":7`},
		{"kraken", `{"method":"unsubscribe","params":{"channel":"trade","symbol":["BTC/USD"]}}`, `Subscription Not Found`},
		{"kraken", `{"method":"buy"}`, `Method not supported`},
		{"kraken", `{"method":"ping","req_id":101}`, `{"method":"pong","req_id":101,"time_in":`},
		{"binance", `{"method":"SUBSCRIBE","params":["nopeusdt@aggTrade"],"id":3}`, `{"result":null,"id":3}`},
		{"binance", `{"method":"SHOUT","id":3}`, `"msg":"Invalid request: unknown variant SHOUT`},
		{"binance", `{"method":"LIST_SUBSCRIPTIONS","id":4}`, `{"result":[],"id":4}`},
		{"okx", `{"op":"subscribe","args":[{"channel":"trades","instId":"NOPE-USDT"}]}`, `"code":"60018"`},
		{"okx", `{"op":"sing"}`, `"code":"60012"`},
		{"okx", `ping`, `pong`},
		{"bybit", `{"op":"subscribe","req_id":"a","args":["publicTrade.NOPEUSDT"]}`, `{"success":false,"ret_msg":"Invalid symbol :[publicTrade.NOPEUSDT]"`},
		{"bybit", `{"op":"ping","req_id":"b"}`, `"ret_msg":"pong"`},
		{"bybit", `{"op":"subscribe","args":["a","b","c","d","e","f","g","h","i","j","k"]}`, `args size >10`},
		{"bitstamp", `{"event":"bts:subscribe","data":{"channel":"live_trades_nopeusd"}}`, `{"event":"bts:error","channel":"live_trades_nopeusd","data":{"code":null,"message":"Bad subscription string."}}`},
		{"bitstamp", `{"event":"bts:heartbeat"}`, `{"event":"bts:heartbeat","channel":"","data":{"status":"success"}}`},
	}
	for _, tt := range tests {
		t.Run(tt.exchange+" "+tt.say, func(t *testing.T) {
			inside(t, Config{Exchanges: []string{tt.exchange}}, func(t *testing.T, s *Sim, n *Network) {
				c := dial(t, n, tt.exchange)
				c.say(tt.say)
				c.listen(time.Second)
				if c.count(has(tt.want)) != 1 {
					t.Errorf("got %q, want %s", c.frames, tt.want)
				}
			})
		})
	}
}

// TestLimits breaks each exchange's rules.
func TestLimits(t *testing.T) {
	tests := []struct {
		name, exchange string
		say            string        // repeatedly
		times          int           // how often
		every          time.Duration // 0: at once
		code           websocket.StatusCode
		least, most    time.Duration // when the connection ends
		breach         string
	}{
		{"nothing subscribed", "coinbase", "", 0, 0, 1008, 5 * time.Second, 5 * time.Second, "no subscription in time"},
		{"nothing subscribed", "okx", "", 0, 0, 1008, 30 * time.Second, 30 * time.Second, "no subscription in time"},
		{"no ping", "bybit", `{"op":"subscribe","args":["kline.1.BTCUSDT"]}`, 1, 0, 1000, 10 * time.Minute, 10 * time.Minute, "nothing said in time"},
		{"nothing said by anyone", "okx", `{"op":"subscribe","args":[{"channel":"books","instId":"BTC-USDT"}]}`, 1, 0, 4004, 30 * time.Second, 30 * time.Second, "No data received in 30s."},
		{"too many messages", "coinbase", `{"type":"subscribe","channel":"heartbeats"}`, 9, 0, 1008, 0, 0, "more than 8 in 1s messages"},
		{"too many messages", "binance", `{"method":"LIST_SUBSCRIPTIONS","id":1}`, 6, 150 * time.Millisecond, 1008, 750 * time.Millisecond, 750 * time.Millisecond, "more than 5 in 1s messages"},
		{"too many messages", "kraken", `{"method":"ping"}`, 21, 0, 1008, 0, 0, "more than 20 in 1s messages"},
		{"too many subscriptions", "okx", `{"op":"unsubscribe","args":[]}`, 481, 10 * time.Millisecond, 1008, 4800 * time.Millisecond, 4800 * time.Millisecond, "more than 480 in 1h0m0s subscriptions"},
		{"within the limit", "binance", `{"method":"LIST_SUBSCRIPTIONS","id":1}`, 100, 210 * time.Millisecond, 1001, 24 * time.Hour, 24 * time.Hour, ""},
	}
	for _, tt := range tests {
		t.Run(tt.exchange+" "+tt.name, func(t *testing.T) {
			inside(t, Config{Exchanges: []string{tt.exchange}}, func(t *testing.T, s *Sim, n *Network) {
				c := dial(t, n, tt.exchange)
				var wg sync.WaitGroup
				defer wg.Wait()
				wg.Go(func() {
					for range tt.times {
						c.ws.Write(t.Context(), websocket.MessageText, []byte(tt.say)) // may meet the end
						time.Sleep(tt.every)
					}
				})
				c.talk.ping = ""
				c.listen(25 * time.Hour)
				if took := time.Since(s.Start()); took < tt.least || took > tt.most || websocket.CloseStatus(c.err) != tt.code {
					t.Errorf("ended after %v with %v", took, c.err)
				}
				var notes []string
				for _, b := range s.Breaches() {
					notes = append(notes, b.Note)
				}
				if strings.Join(notes, "; ") != tt.breach {
					t.Errorf("breaches %q, want %q", notes, tt.breach)
				}
			})
		})
	}
}

// TestConnects asks for more connections, and requests, than are granted.
func TestConnects(t *testing.T) {
	inside(t, Config{Exchanges: []string{"okx"}}, func(t *testing.T, s *Sim, n *Network) {
		for range 3 {
			dial(t, n, "okx")
		}
		_, resp, err := websocket.Dial(t.Context(), talks["okx"].url, &websocket.DialOptions{HTTPClient: n.Client()})
		if err == nil || resp.StatusCode != 429 {
			t.Errorf("the fourth within a second: %v", err)
		}
		time.Sleep(time.Second)
		dial(t, n, "okx")
		for i := range 11 {
			want := 200
			if i == 10 {
				want = 429
			}
			if got := get(t, n, "https://www.okx.com/api/v5/market/tickers?instType=SPOT", nil); got != want {
				t.Errorf("request %d: %d", i, got)
			}
		}
		if b := s.Breaches(); len(b) != 2 {
			t.Errorf("breaches %v", b)
		}
	})
}

// TestPings has the server's pings answered for five minutes, then not.
func TestPings(t *testing.T) {
	inside(t, Config{Exchanges: []string{"binance"}}, func(t *testing.T, s *Sim, n *Network) {
		pings := 0
		var deaf atomic.Bool
		ws, _, err := websocket.Dial(t.Context(), talks["binance"].url, &websocket.DialOptions{HTTPClient: n.Client(),
			OnPingReceived: func(_ context.Context, _ []byte) bool { pings++; return !deaf.Load() }})
		if err != nil {
			t.Fatal(err)
		}
		c := &client{t: t, talk: talks["binance"], ws: ws}
		defer ws.CloseNow()
		time.AfterFunc(5*time.Minute, func() { deaf.Store(true) })
		c.listen(time.Hour)
		if took := time.Since(s.Start()); took < 6*time.Minute || took > 6*time.Minute+30*time.Second || websocket.CloseStatus(c.err) != 1008 {
			t.Errorf("ended after %v with %v", took, c.err)
		}
		if pings < 14 || pings > 16 {
			t.Errorf("%d pings", pings)
		}
	})
}

// restless reconnects as soon as its connection ends, and pings as asked.
func restless(t *testing.T, s *Sim, n *Network, exchange string, until time.Time) {
	tk := talks[exchange]
	for time.Now().Before(until) {
		ws, _, err := websocket.Dial(t.Context(), tk.url, &websocket.DialOptions{HTTPClient: n.Client()})
		if err != nil {
			time.Sleep(time.Second)
			continue
		}
		pinged := time.Now()
		for _, m := range tk.subscribe(s.Symbols(exchange)) {
			ws.Write(t.Context(), websocket.MessageText, []byte(m)) // the end shows in listen
			time.Sleep(250 * time.Millisecond)
		}
		for time.Now().Before(until) { // a new listener where nothing came for 20 s: half-open
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			_, _, err := ws.Read(ctx)
			cancel()
			if err != nil {
				break
			}
			if tk.ping != "" && time.Since(pinged) > 15*time.Second {
				pinged = time.Now()
				ws.Write(t.Context(), websocket.MessageText, []byte(tk.ping))
			}
		}
		ws.CloseNow()
		time.Sleep(time.Second)
	}
}

// TestTenMinutes runs all exchanges with all faults. It must take few real
// seconds and leave nothing undone.
func TestTenMinutes(t *testing.T) {
	start := time.Now()
	cfg := Config{Seed: 7, Faults: AllFaults(), Every: 8 * time.Second}
	inside(t, cfg, func(t *testing.T, s *Sim, n *Network) {
		planned := len(s.Plan())
		until := s.Start().Add(10*time.Minute + 30*time.Second)
		var wg sync.WaitGroup
		for exchange := range talks {
			wg.Go(func() { restless(t, s, n, exchange, until) })
			wg.Go(func() {
				for time.Now().Before(until) {
					if resp, err := n.Client().Get("https://" + exchange + ".sim/api/v3/exchangeInfo"); err == nil {
						resp.Body.Close()
					}
					time.Sleep(5 * time.Second)
				}
			})
		}
		wg.Wait()
		if left := s.Plan(); len(left) > 0 {
			t.Errorf("seed %d: not done: %v", s.cfg.Seed, left)
		}
		done := make(map[Kind]int)
		for _, f := range s.Log() {
			if done[f.Kind]++; f.Kind == Breach {
				t.Errorf("%v", f)
			}
		}
		if kinds := slices.Collect(maps.Keys(done)); len(kinds) != len(AllFaults()) || planned < 250 {
			t.Errorf("%d planned; done: %v", planned, done)
		}
		for exchange := range talks {
			if st := s.Stats(exchange); st.Connects < 5 || st.Frames < 300 {
				t.Errorf("%s: %+v", exchange, st)
			}
		}
		t.Logf("seed %d, %d faults: %v", s.cfg.Seed, planned, done)
	})
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("ten simulated minutes took %v", took)
	}
}

// FuzzMessage says anything to any exchange: it does not panic, and what it
// answers is JSON.
func FuzzMessage(f *testing.F) {
	r := recordings(f)
	names := slices.Sorted(maps.Keys(talks))
	for i, name := range names {
		for _, m := range talks[name].subscribe([]string{"BTC-USD", "BTC/USD", "BTCUSDT", "BTC-USDT", "btcusd", "\x00\xff"}) {
			f.Add(uint8(i), []byte(m))
		}
	}
	f.Add(uint8(0), []byte(`{"method":"LIST_SUBSCRIPTIONS"}`))
	f.Add(uint8(2), []byte(`{"op":"subscribe","args":["publicTrade.\u0000.BTCUSDT"]}`))
	s, err := New(Config{Recordings: r}, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, i uint8, msg []byte) {
		x := s.exchanges[names[int(i)%len(names)]]
		c := &conn{x: x, now: s.start, combined: i > 100}
		x.venue.message(c, msg)
		c.now = c.now.Add(time.Minute)
		c.produce(t.Context())
		for _, o := range c.out {
			if !json.Valid([]byte(o.text)) && o.text != "pong" {
				t.Errorf("%s answered %q with %s", x.name, msg, o.text)
			}
		}
	})
}

// TestTickers compares what REST says of a symbol with what it trades at.
func TestTickers(t *testing.T) {
	urls := map[string]string{
		"coinbase": "https://api.coinbase.com/api/v3/brokerage/market/products/BTC-USD",
		"kraken":   "https://api.kraken.com/0/public/Ticker?pair=XBTUSD",
		"binance":  "https://api.binance.com/api/v3/ticker/24hr?symbol=BTCUSDT",
		"okx":      "https://www.okx.com/api/v5/market/ticker?instId=BTC-USDT",
		"bybit":    "https://api.bybit.com/v5/market/tickers?category=spot&symbol=BTCUSDT",
		"bitstamp": "https://www.bitstamp.net/api/v2/ticker/btcusd/",
	}
	inside(t, Config{}, func(t *testing.T, s *Sim, n *Network) {
		time.Sleep(time.Minute)
		var prices []float64
		for exchange, url := range urls {
			truth := s.Truth(exchange, s.Symbols(exchange)[0])
			last := truth[len(truth)-1]
			var v any
			if get(t, n, url, &v) != 200 || !strings.Contains(fmt.Sprint(v), last.Price) {
				t.Errorf("%s: no last price %s in %v", exchange, last.Price, v)
			}
			prices = append(prices, number(last.Price))
		}
		if lo, hi := slices.Min(prices), slices.Max(prices); hi/lo > 1.02 {
			t.Errorf("the exchanges disagree: %v", prices)
		}
		synctest.Wait()
	})
}
