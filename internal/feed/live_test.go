package feed

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"cryptointel/internal/market"
)

const binanceInfo = `{"symbols":[{"symbol":"ETHUSDT","status":"TRADING","baseAsset":"ETH","quoteAsset":"USDT"},
	{"symbol":"BTCUSDT","status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT"},{"symbol":"BTCEUR","status":"TRADING","baseAsset":"BTC","quoteAsset":"EUR"},
	{"symbol":"SOLUSDT","status":"TRADING","baseAsset":"SOL","quoteAsset":"USDT"},{"symbol":"OLDUSDT","status":"BREAK","baseAsset":"BTC","quoteAsset":"USDT"}]}`

// aggTrade is a frame of Binance; trade n is at second n.
func aggTrade(id int) string {
	return fmt.Sprintf(`{"e":"aggTrade","E":1,"s":"BTCUSDT","a":%d,"p":"100.5","q":"2","f":1,"l":2,"T":%d}`, id, 946684800000+id*1000)
}

func aggTrades(ids ...int) string {
	var out []string
	for _, id := range ids {
		out = append(out, fmt.Sprintf(`{"a":%d,"p":"100.5","q":"2","f":1,"l":2,"T":%d,"m":true}`, id, 946684800000+id*1000))
	}
	return "[" + strings.Join(out, ",") + "]"
}

const binanceAck = `{"result":null,"id":1}`

func equalTrades(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got trades %q, want %q", got, want)
	}
}

// pass lets time pass and everything settle.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestLiveFollows(t *testing.T) {
	var sent []string
	b := &bed{name: "binance", venue: &venue{rest: answers("/api/v3/exchangeInfo", binanceInfo)}}
	b.talk = func(_ context.Context, _ int, c *talk) {
		c.await(1)
		c.say(binanceAck, aggTrade(1), aggTrade(2), aggTrade(2), `{"e":"24hrTicker","E":946684802000,"s":"BTCUSDT","c":"101"}`)
		c.stay()
		sent = c.messages()
	}
	b.run(t, func() {
		pass(2 * time.Second)
		equalTrades(t, b.out.trades(), "1", "2")
		s := b.status()
		if s.State != FeedLive || s.Symbols != 2 || s.Stats.Duplicates != 1 || s.Stats.Ticks != 3 || s.LastFrame == 0 {
			t.Errorf("got %+v", s)
		}
	})
	want := `{"method":"SUBSCRIBE","params":["btcusdt@aggTrade","btcusdt@ticker","ethusdt@aggTrade","ethusdt@ticker"],"id":1}`
	if len(sent) != 1 || sent[0] != want {
		t.Errorf("got %q\nwant %q", sent, want)
	}
}

// TestLiveSilence finds a connection that is open and dead, by the exchange's
// own deadline.
func TestLiveSilence(t *testing.T) {
	for name, deadline := range map[string]time.Duration{"coinbase": 5 * time.Second, "kraken": 5 * time.Second, "binance": confirmWithin} {
		t.Run(name, func(t *testing.T) {
			b := &bed{name: name, venue: &venue{}}
			b.talk = func(_ context.Context, _ int, c *talk) { c.stay() }
			b.run(t, func() { pass(2 * time.Minute) })
			// The beat, and half of a second of jitter or Kraken's pause
			// between connections.
			if again := b.gaps()[0]; again < deadline || again > deadline+2*time.Second {
				t.Errorf("connected again after %v, want soon after %v", again, deadline)
			}
			if b.log.count("exchange connection lost") == 0 {
				t.Errorf("nothing was logged: %q", b.log.lines)
			}
		})
	}
}

// TestLivePingIsLife shows that a server's ping keeps a quiet connection.
func TestLivePingIsLife(t *testing.T) {
	b := &bed{name: "binance", venue: &venue{rest: answers("/api/v3/exchangeInfo", binanceInfo)}}
	b.talk = func(ctx context.Context, _ int, c *talk) {
		c.await(1)
		c.say(binanceAck, aggTrade(1))
		for c.Ping(ctx) == nil && sleep(ctx, 20*time.Second) == nil {
		}
	}
	b.run(t, func() {
		pass(10 * time.Minute)
		if s := b.status(); b.count().opened != 1 || s.State != FeedLive {
			t.Errorf("got %d connections, want one; %+v", b.count().opened, s)
		}
	})
}

// TestLiveRefill fills a gap by REST, however REST behaves at first.
func TestLiveRefill(t *testing.T) {
	tries := 0
	rest := func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/v3/exchangeInfo") {
			fmt.Fprint(w, binanceInfo)
			return
		}
		if got, want := r.URL.RequestURI(), "/api/v3/aggTrades?symbol=BTCUSDT&fromId=3&limit=4"; tries < 4 && got != want {
			t.Errorf("got request %s, want %s", got, want)
		}
		switch tries++; tries {
		case 1:
			http.Error(w, "broken", 500)
		case 2:
			w.Header().Set("Retry-After", "5")
			http.Error(w, "slow down", http.StatusTooManyRequests)
		case 3:
			fmt.Fprint(w, "<html>not JSON")
		case 4: // the gap, something around it, and not all of it
			fmt.Fprint(w, aggTrades(2, 3, 4, 5, 9))
		default:
			fmt.Fprint(w, aggTrades(6, 7))
		}
	}
	b := &bed{name: "binance", venue: &venue{rest: rest}}
	b.talk = func(_ context.Context, _ int, c *talk) {
		c.await(1)
		c.say(binanceAck, aggTrade(1), aggTrade(2), aggTrade(7), aggTrade(6))
		for id := 8; sleep(c.ctx, 10*time.Second) == nil; id++ {
			c.say(aggTrade(id))
		}
	}
	b.run(t, func() {
		pass(59 * time.Second)
		got := b.out.trades()
		slices.Sort(got)
		equalTrades(t, got, "1", "10", "11", "12", "2", "3late", "4late", "5late", "6late", "7", "8", "9")
		s := b.status()
		if s.Refilled != 4 || s.RefillFailed != 0 || s.RESTErrors != 2 || s.Stats.Missing != 4 || s.Stats.Recovered != 4 || s.RefillWaiting != 0 {
			t.Errorf("got %+v", s)
		}
	})
}

// TestLiveRefillGivesUp counts what nobody gives.
func TestLiveRefillGivesUp(t *testing.T) {
	b := &bed{name: "binance", venue: &venue{rest: answers("/api/v3/exchangeInfo", binanceInfo, "/api/v3/aggTrades", "[]")}}
	b.talk = func(_ context.Context, _ int, c *talk) {
		c.await(1)
		c.say(binanceAck, aggTrade(1), aggTrade(4))
		for id := 5; sleep(c.ctx, 10*time.Second) == nil; id++ {
			c.say(aggTrade(id))
		}
	}
	b.run(t, func() {
		pass(5 * time.Minute)
		if s := b.status(); s.RefillFailed != 2 || s.RefillWaiting != 0 || s.Refilled != 0 {
			t.Errorf("got %+v", s)
		}
		if n := b.log.count("exchange trades stay missing"); n != 1 {
			t.Errorf("%d lines, want 1: %q", n, b.log.lines)
		}
	})
}

// TestLiveMoves replaces a connection before the exchange ends it: every trade
// arrives once, and the new connection is there before the old one goes.
func TestLiveMoves(t *testing.T) {
	var open, most int
	var mu sync.Mutex
	b := &bed{name: "binance", venue: &venue{rest: answers("/api/v3/exchangeInfo", binanceInfo)}}
	start := time.Time{}
	b.talk = func(_ context.Context, n int, c *talk) {
		mu.Lock()
		if start.IsZero() {
			start = time.Now()
		}
		open++
		most = max(most, open)
		mu.Unlock()
		c.await(1)
		c.say(binanceAck)
		id := func() int { return int(time.Since(start)/(100*time.Millisecond)) + 1 }
		for last := id(); ; {
			for ; last <= id(); last++ {
				if !c.say(aggTrade(last)) {
					mu.Lock()
					open--
					mu.Unlock()
					return
				}
			}
			if n == 0 && last == 100 {
				c.say(`{"e":"serverShutdown","E":1}`)
			}
			if sleep(c.ctx, 10*time.Millisecond) != nil {
				mu.Lock()
				open--
				mu.Unlock()
				return
			}
		}
	}
	b.run(t, func() {
		pass(30 * time.Second)
		got := b.out.trades()
		for i, id := range got {
			if id != fmt.Sprint(i+1) {
				t.Fatalf("delivery %d is trade %s", i+1, id)
			}
		}
		if len(got) < 290 || b.count().opened != 2 || most != 2 || open != 1 {
			t.Errorf("%d trades, %d connections, %d at once, %d now", len(got), b.count().opened, most, open)
		}
		if s := b.status(); s.Reconnects != 1 || s.Stats.Gaps != 0 || s.State != FeedLive {
			t.Errorf("got %+v", s)
		}
	})
}

// TestLiveUnreachable keeps trying, says so once a minute, invents nothing,
// and comes back.
func TestLiveUnreachable(t *testing.T) {
	var up atomic.Bool
	b := &bed{name: "coinbase", venue: &venue{refuse: func(int) error {
		if !up.Load() {
			return errors.New("no route to host")
		}
		return nil
	}}}
	b.talk = func(_ context.Context, _ int, c *talk) {
		c.await(3)
		c.say(fmt.Sprintf(coinbaseTradeFrame, 0, coinbaseTradeText("BTC-USD", 1, "100")))
		for n := 1; sleep(c.ctx, time.Second) == nil; n++ {
			c.say(fmt.Sprintf(`{"channel":"heartbeats","sequence_num":%d,"events":[]}`, n))
		}
	}
	b.run(t, func() {
		pass(10 * time.Minute)
		if n := b.log.count("exchange unreachable"); n < 9 || n > 11 {
			t.Errorf("%d lines in ten minutes, want about one a minute: %q", n, b.log.lines)
		}
		if b.log.count("no route to host") == 0 || len(b.out.all) != 0 {
			t.Errorf("got %d ticks, log %q", len(b.out.all), b.log.lines)
		}
		s := b.status()
		if s.State == FeedLive || !strings.Contains(s.Why, "no route to host") || s.Symbols == 0 {
			t.Errorf("got %+v", s)
		}
		// Half of the longest wait at each attempt, once they are long.
		if n := b.count().dials; n < 20 || n > 60 {
			t.Errorf("%d attempts in ten minutes", n)
		}
		up.Store(true)
		pass(time.Minute)
		if s := b.status(); s.State != FeedLive || len(b.out.all) != 1 {
			t.Errorf("got %+v and %d ticks", s, len(b.out.all))
		}
	})
}

// TestLiveCatalogComesLater begins with the built-in markets and adds what
// the catalog has, on the connection there is.
func TestLiveCatalogComesLater(t *testing.T) {
	var fine atomic.Bool
	rest := func(w http.ResponseWriter, r *http.Request) {
		if !fine.Load() {
			http.Error(w, "maintenance", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, `{"error":[],"result":{"XXBTZUSD":{"wsname":"XBT/USD","status":"online"},"XBTUSDT":{"wsname":"XBT/USDT","status":"online"},
			"XDGUSD":{"wsname":"XDG/USD","status":"online"},"X":{"wsname":"BTC/EUR"}}}`)
	}
	var sent []string
	b := &bed{name: "kraken", assets: []string{"bitcoin", "DOGE"}, venue: &venue{rest: rest}}
	b.talk = func(_ context.Context, _ int, c *talk) {
		for sleep(c.ctx, time.Second) == nil {
			c.say(`{"channel":"heartbeat"}`, `{"method":"subscribe","result":{"channel":"ticker","symbol":"BTC/USD"},"success":true}`)
		}
		sent = c.messages()
	}
	b.run(t, func() {
		pass(30 * time.Second)
		if s := b.status(); s.Symbols != 4 {
			t.Errorf("%d symbols, want the built-in BTC DOGE USDT USDC", s.Symbols)
		}
		fine.Store(true)
		pass(time.Minute)
		if s := b.status(); s.Symbols != 5 || b.count().opened != 1 {
			t.Errorf("%d symbols on %d connections, want 5 on 1", s.Symbols, b.count().opened)
		}
	})
	last := `{"method":"subscribe","params":{"channel":"ticker","symbol":["BTC/USDT"],"snapshot":true},"req_id":2}`
	if !slices.Contains(sent, last) || !slices.Contains(sent, `{"method":"ping"}`) {
		t.Errorf("got %q, want %s and a ping", sent, last)
	}
	if b.log.count("exchange catalog unavailable") != 1 {
		t.Errorf("got %q", b.log.lines)
	}
}

// TestLiveEndings are the ways in which a connection ends by the exchange.
func TestLiveEndings(t *testing.T) {
	tests := []struct {
		name, why string
		least     time.Duration // until the next connection
		end       func(c *talk)
	}{
		{"oversized", "more than 1048576 bytes", 0, func(c *talk) { c.say(strings.Repeat(" ", 2<<20)); c.stay() }},
		{"closed", `1001 \"bye`, 0, func(c *talk) { c.Conn.Close(websocket.StatusGoingAway, "bye") }},
		{"cut", "the exchange cut the connection", 0, func(c *talk) { c.CloseNow() }},
		{"limited", "the exchange limits us", limitedPause, func(c *talk) { c.say(`{"error":"Exceeded msg rate","success":false}`); c.stay() }},
		{"garbage", "no sign of life", 5 * time.Second, func(c *talk) {
			for sleep(c.ctx, time.Second) == nil {
				c.say("}{")
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := &bed{name: "kraken", venue: &venue{}}
			b.talk = func(_ context.Context, n int, c *talk) {
				if c.await(2); n == 0 {
					tt.end(c)
					return
				}
				c.stay()
			}
			b.run(t, func() { pass(45 * time.Second) })
			if gaps := b.gaps(); len(gaps) < 1 || gaps[0] < tt.least {
				t.Errorf("connections after %v", gaps)
			}
			if b.log.count(tt.why) == 0 {
				t.Errorf("no line with %q: %q", tt.why, b.log.lines)
			}
		})
	}
}

// TestLiveHandshakeLimited stays away for as long as the exchange asks.
func TestLiveHandshakeLimited(t *testing.T) {
	b := &bed{name: "kraken", venue: &venue{upgrade: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "90")
		http.Error(w, "too many", http.StatusTooManyRequests)
	}}}
	b.run(t, func() { pass(5 * time.Minute) })
	for _, d := range b.gaps() {
		if d < 90*time.Second || d > 3*time.Minute {
			t.Errorf("tried again after %v, want 90 s and more", d)
		}
	}
	if len(b.gaps()) < 2 {
		t.Errorf("connections after %v", b.gaps())
	}
}

// TestLiveLostFrame takes a second connection, whose snapshot closes the gap.
func TestLiveLostFrame(t *testing.T) {
	trade := func(ids ...int) string {
		var out []string
		for _, id := range ids {
			out = append(out, coinbaseTradeText("BTC-USD", id, "100"))
		}
		return strings.Join(out, ",")
	}
	b := &bed{name: "coinbase", venue: &venue{}}
	b.talk = func(_ context.Context, n int, c *talk) {
		c.await(3)
		if n == 0 {
			c.say(fmt.Sprintf(coinbaseTradeFrame, 0, trade(1)), fmt.Sprintf(coinbaseTradeFrame, 2, trade(3)))
		} else {
			c.say(strings.Replace(fmt.Sprintf(coinbaseTradeFrame, 0, trade(4, 3, 2, 1)), `"update"`, `"snapshot"`, 1))
		}
		for k := 3; sleep(c.ctx, time.Second) == nil; k++ {
			seq := k
			if n > 0 {
				seq -= 2
			}
			c.say(fmt.Sprintf(`{"channel":"heartbeats","sequence_num":%d,"events":[]}`, seq))
		}
	}
	b.run(t, func() {
		pass(30 * time.Second)
		equalTrades(t, b.out.trades(), "1", "3", "2late", "4")
		if s := b.status(); s.Reconnects != 1 || s.Stats.Recovered != 1 || b.count().opened != 2 {
			t.Errorf("got %+v, %d connections", s, b.count().opened)
		}
	})
}

func TestLiveSinkEnds(t *testing.T) {
	b := &bed{name: "binance", venue: &venue{rest: answers("/api/v3/exchangeInfo", binanceInfo)}}
	b.out.fail = errors.New("the market is closed")
	b.talk = func(_ context.Context, _ int, c *talk) { c.await(1); c.say(aggTrade(1)); c.stay() }
	b.run(t, func() {
		err := <-b.ended
		if err == nil || !strings.Contains(err.Error(), "the market is closed") {
			t.Errorf("got %v", err)
		}
		b.ended <- err
	})
}

type seeds struct {
	mu  sync.Mutex
	got []string
}

func (s *seeds) Seed(asset, exchange string, bars []market.Candle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, fmt.Sprintf("%s %s %d %v", asset, exchange, len(bars), bars[0]))
}

func TestLiveSeeds(t *testing.T) {
	now := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Unix() // where synctest begins
	bars := fmt.Sprintf(`[[%d,"1","3","0.5","2","10",0,"20",5,"0","0","0"],[%d,"2","3","2","3","10",0,"25",5,"0","0","0"]]`, (now-600)*1000, now*1000)
	s := &seeds{}
	b := &bed{name: "binance", seeder: s, venue: &venue{rest: answers("/api/v3/exchangeInfo", binanceInfo, "/api/v3/klines?symbol=BTCUSDT", bars)}}
	b.talk = func(_ context.Context, _ int, c *talk) { c.stay() }
	b.run(t, func() { pass(10 * time.Second) })
	want := []string{fmt.Sprintf("bitcoin binance 1 {%d 1 3 0.5 2 20}", (now-600)*1e9)}
	if !slices.Equal(s.got, want) {
		t.Errorf("got %q, want %q", s.got, want)
	}
	if !slices.Contains(b.asked, fmt.Sprintf("/api/v3/klines?symbol=BTCUSDT&interval=5m&startTime=%d&limit=1000", (now-86400)*1000)) {
		t.Errorf("asked %q", b.asked)
	}
}
