package feedsim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
)

// faulty lets one fault happen to a client of an exchange that has listened
// for five seconds, and listens for d more.
func faulty(t *testing.T, exchange string, f Fault, d time.Duration, test func(t *testing.T, s *Sim, n *Network, c *client)) {
	t.Helper()
	inside(t, Config{Exchanges: []string{exchange}}, func(t *testing.T, s *Sim, n *Network) {
		c := dial(t, n, exchange)
		c.say(c.talk.subscribe(s.Symbols(exchange))...)
		f.Exchange, f.At = exchange, time.Now().Add(5*time.Second)
		s.Do(f)
		if len(s.Plan()) != 1 {
			t.Errorf("planned: %v", s.Plan())
		}
		c.listen(d)
		log := s.Log()
		if len(log) != 1 || log[0].Kind != f.Kind || log[0].At.Sub(s.Start()) < 5*time.Second || len(s.Plan()) != 0 {
			t.Fatalf("log %v, plan %v", log, s.Plan())
		}
		test(t, s, n, c)
	})
}

// lost counts the trades that were made after the first that arrived and did
// not arrive, and how many came twice and out of order.
func lost(s *Sim, exchange string, c *client) (missing, twice, disordered int) {
	for symbol, got := range c.seen() {
		times := make(map[int64]int)
		for i, k := range got {
			times[k.id]++
			if i > 0 && k.id < got[i-1].id && times[k.id] == 1 {
				disordered++
			}
			if times[k.id] == 2 {
				twice++
			}
		}
		for _, k := range s.Truth(exchange, symbol) {
			if k.ID > got[0].id && k.Time.Before(time.Now().Add(-time.Second)) && times[k.ID] == 0 {
				missing++
			}
		}
	}
	return missing, twice, disordered
}

func TestDrop(t *testing.T) {
	for _, exchange := range []string{"kraken", "binance", "okx"} {
		t.Run(exchange, func(t *testing.T) {
			faulty(t, exchange, Fault{Kind: Drop, Frames: 8}, 30*time.Second, func(t *testing.T, s *Sim, _ *Network, c *client) {
				if missing, _, _ := lost(s, exchange, c); missing == 0 {
					t.Error("nothing was lost")
				}
			})
		})
	}
	t.Run("coinbase", func(t *testing.T) {
		faulty(t, "coinbase", Fault{Kind: Drop, Frames: 3}, 10*time.Second, func(t *testing.T, s *Sim, _ *Network, c *client) {
			first, last := c.frames[0], c.frames[len(c.frames)-1]
			if n := sequence(t, last) - sequence(t, first) + 1; n != len(c.frames)+3 {
				t.Errorf("%d frames with numbers over %d", len(c.frames), n)
			}
		})
	})
}

func sequence(t *testing.T, frame string) (n int) {
	t.Helper()
	_, rest, _ := strings.Cut(frame, `"sequence_num":`)
	if _, err := fmt.Sscanf(rest, "%d", &n); err != nil {
		t.Fatal(frame)
	}
	return n
}

func TestDuplicate(t *testing.T) {
	faulty(t, "binance", Fault{Kind: Duplicate, Frames: 20}, 20*time.Second, func(t *testing.T, s *Sim, _ *Network, c *client) {
		if missing, twice, _ := lost(s, "binance", c); twice == 0 || missing != 0 {
			t.Errorf("%d twice, %d missing", twice, missing)
		}
	})
}

func TestReorder(t *testing.T) {
	faulty(t, "binance", Fault{Kind: Reorder, Frames: 20}, 30*time.Second, func(t *testing.T, s *Sim, _ *Network, c *client) {
		if missing, _, disordered := lost(s, "binance", c); disordered == 0 || missing != 0 {
			t.Errorf("%d out of order, %d missing", disordered, missing)
		}
	})
}

func TestDelay(t *testing.T) {
	faulty(t, "coinbase", Fault{Kind: Delay, For: 3 * time.Second}, 7900*time.Millisecond, func(t *testing.T, s *Sim, _ *Network, c *client) {
		if beats := c.count(c.talk.beat); beats != 4 && beats != 5 {
			t.Errorf("%d heartbeats in %d frames before the delay is over", beats, len(c.frames))
		}
	})
	faulty(t, "coinbase", Fault{Kind: Delay, For: 3 * time.Second}, 9500*time.Millisecond, func(t *testing.T, s *Sim, _ *Network, c *client) {
		if beats := c.count(c.talk.beat); beats != 9 {
			t.Errorf("%d heartbeats after the delay", beats)
		}
	})
}

func TestHalfOpen(t *testing.T) {
	faulty(t, "kraken", Fault{Kind: HalfOpen}, 2*time.Minute, func(t *testing.T, s *Sim, n *Network, c *client) {
		if !errors.Is(c.err, context.DeadlineExceeded) {
			t.Errorf("reading ended with %v, want silence", c.err)
		}
		if beats := c.count(c.talk.beat); beats > 5 {
			t.Errorf("%d heartbeats", beats)
		}
	})
	inside(t, Config{Exchanges: []string{"binance"}}, func(t *testing.T, s *Sim, n *Network) {
		c := dial(t, n, "binance")
		c.say(c.talk.subscribe(s.Symbols("binance"))...)
		s.Do(Fault{Exchange: "binance", Kind: HalfOpen, At: time.Now().Add(time.Second)})
		go func() {
			for {
				if _, _, err := c.ws.Read(t.Context()); err != nil {
					return
				}
			}
		}()
		time.Sleep(2 * time.Second)
		c.say(`{"method":"LIST_SUBSCRIPTIONS","id":2}`) // is swallowed: the connection is open
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := c.ws.Ping(ctx); err == nil {
			t.Error("a half-open connection answered a ping")
		}
		c.ws.CloseNow()
		synctest.Wait()
		if st := s.Stats("binance"); st.Open != 0 {
			t.Errorf("%d connections open after the client left", st.Open)
		}
	})
}

func TestEndings(t *testing.T) {
	tests := []struct {
		exchange string
		kind     Kind
		code     websocket.StatusCode // -1: no close frame
		frame    string               // that must have come
		end      time.Duration        // at the latest
	}{
		{"kraken", Abrupt, -1, "", 6 * time.Second},
		{"okx", CleanEnd, websocket.StatusServiceRestart, "", 6 * time.Second},
		{"binance", Moving, websocket.StatusGoingAway, `{"e":"serverShutdown","E":`, 16 * time.Second},
		{"okx", Moving, websocket.StatusGoingAway, `"64008"`, 16 * time.Second},
		{"bitstamp", Moving, websocket.StatusGoingAway, `"bts:request_reconnect"`, 16 * time.Second},
		{"coinbase", RateLimit, websocket.StatusPolicyViolation, `"rate limit exceeded"`, 6 * time.Second},
		{"kraken", RateLimit, websocket.StatusPolicyViolation, `"Exceeded msg rate"`, 6 * time.Second},
		{"binance", RateLimit, websocket.StatusPolicyViolation, "", 6 * time.Second},
		{"okx", RateLimit, websocket.StatusPolicyViolation, `"60014"`, 6 * time.Second},
		{"bybit", RateLimit, websocket.StatusPolicyViolation, `"Too many visits!"`, 6 * time.Second},
		{"bitstamp", RateLimit, websocket.StatusPolicyViolation, `"Rate limit exceeded."`, 6 * time.Second},
		{"bybit", Outage, -1, "", 6 * time.Second},
		{"coinbase", Oversized, websocket.StatusMessageTooBig, "", 6 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.exchange+" "+string(tt.kind), func(t *testing.T) {
			faulty(t, tt.exchange, Fault{Kind: tt.kind}, time.Minute, func(t *testing.T, s *Sim, n *Network, c *client) {
				code := websocket.CloseStatus(c.err)
				if tt.kind == Oversized && errors.Is(c.err, websocket.ErrMessageTooBig) {
					code = websocket.StatusMessageTooBig
				}
				if took := time.Since(s.Start()); took > tt.end || code != tt.code {
					t.Errorf("ended after %v with %v, want %v", took, c.err, tt.code)
				}
				if tt.frame != "" && c.count(has(tt.frame)) != 1 {
					t.Errorf("no %s in %d frames, the last %s", tt.frame, len(c.frames), c.frames[len(c.frames)-1])
				}
				_, resp, err := websocket.Dial(t.Context(), c.talk.url, &websocket.DialOptions{HTTPClient: n.Client()})
				switch refused := tt.kind == RateLimit; {
				case tt.kind == Outage:
					if !errors.Is(err, syscall.ECONNREFUSED) {
						t.Errorf("in an outage: %v", err)
					}
				case (err != nil) != refused || refused && resp.StatusCode != 429:
					t.Errorf("the next connection: %v", err)
				}
				time.Sleep(11 * time.Second)
				dial(t, n, tt.exchange)
			})
		})
	}
}

func TestGarbage(t *testing.T) {
	faulty(t, "bybit", Fault{Kind: Garbage}, 10*time.Second, func(t *testing.T, s *Sim, _ *Network, c *client) {
		if n := c.count(has("502 Bad Gateway")); n != 1 {
			t.Errorf("%d frames of garbage", n)
		}
		if missing, _, _ := lost(s, "bybit", c); missing != 0 {
			t.Errorf("%d trades missing", missing)
		}
	})
}

func TestREST(t *testing.T) {
	const url = "https://api.kraken.com/0/public/AssetPairs"
	inside(t, Config{Exchanges: []string{"kraken"}}, func(t *testing.T, s *Sim, n *Network) {
		status := func(want int) {
			t.Helper()
			if got := get(t, n, url, nil); got != want {
				t.Errorf("status %d, want %d", got, want)
			}
		}
		status(200)
		for kind, code := range map[Kind]int{REST429: 429, REST500: 500} {
			s.Do(Fault{Exchange: "kraken", Kind: kind, For: 5 * time.Second})
			status(code)
			time.Sleep(5 * time.Second)
			status(200)
		}
		s.Do(Fault{Exchange: "kraken", Kind: RESTSlow})
		start := time.Now()
		status(200)
		if d := time.Since(start); d != slowAnswer {
			t.Errorf("answered after %v", d)
		}
		time.Sleep(10 * time.Second)
		s.Do(Fault{Exchange: "kraken", Kind: Outage})
		if _, err := n.Client().Get(url); err == nil {
			t.Error("answered in an outage")
		}
		time.Sleep(10 * time.Second)
		status(200)
		if st := s.Stats("kraken"); st.Throttled != 1 || st.Refused == 0 {
			t.Errorf("stats %+v", st)
		}
	})
}

func TestUnknownHost(t *testing.T) {
	inside(t, Config{Exchanges: []string{"kraken"}}, func(t *testing.T, s *Sim, n *Network) {
		if _, err := n.Client().Get("https://api.binance.com/"); err == nil || !strings.Contains(err.Error(), "no such host") {
			t.Error(err)
		}
	})
}

// TestPlan draws the same faults from the same seed, others from another, and
// never one that an exchange's protocol hides.
func TestPlan(t *testing.T) {
	planned := func(seed uint64) (out []Fault) {
		inside(t, Config{Seed: seed, Faults: AllFaults(), Every: 2 * time.Second}, func(t *testing.T, s *Sim, _ *Network) {
			out = s.Plan()
			for _, f := range out {
				if f.At.Add(f.For).After(s.Start().Add(10 * time.Minute)) {
					t.Errorf("after the end: %v", f)
				}
			}
		})
		return out
	}
	a, b, c := planned(1), planned(1), planned(2)
	if !slices.Equal(a, b) {
		t.Error("the same seed gave another plan")
	}
	if slices.Equal(a, c) {
		t.Error("another seed gave the same plan")
	}
	kinds := make(map[string]map[Kind]int)
	for _, f := range a {
		if kinds[f.Exchange] == nil {
			kinds[f.Exchange] = make(map[Kind]int)
		}
		kinds[f.Exchange][f.Kind]++
	}
	for exchange, n := range map[string]int{"coinbase": 14, "kraken": 14, "binance": 15, "okx": 15, "bybit": 12, "bitstamp": 13} {
		if len(kinds[exchange]) != n {
			t.Errorf("%s: %d kinds: %v, want %d", exchange, len(kinds[exchange]), kinds[exchange], n)
		}
	}
	if kinds["bybit"][Drop] > 0 || kinds["bitstamp"][Reorder] > 0 || kinds["coinbase"][Moving] > 0 {
		t.Error("a fault that nobody can notice")
	}
}

// TestSpeed counts the trades of ten seconds.
func TestSpeed(t *testing.T) {
	made := func(speed float64) (n int) {
		inside(t, Config{Exchanges: []string{"binance"}, Speed: speed}, func(t *testing.T, s *Sim, _ *Network) {
			before := len(s.Truth("binance", "BTCUSDT"))
			time.Sleep(10 * time.Second)
			n = len(s.Truth("binance", "BTCUSDT")) - before
		})
		return n
	}
	if slow, fast := made(0), made(50); slow < 50 || fast < 20*slow {
		t.Errorf("%d trades, with speed 50 %d", slow, fast)
	}
}

// TestSockets runs over real sockets, in real time.
func TestSockets(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	s, err := New(Config{Recordings: recordings(t), Exchanges: []string{"okx"}},
		slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s.Handler("okx"))
	defer srv.Close()
	defer s.Close()
	ws, _, err := websocket.Dial(t.Context(), srv.URL+"/ws/v5/public", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	for _, m := range talks["okx"].subscribe(s.Symbols("okx")) {
		if err := ws.Write(t.Context(), websocket.MessageText, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	if _, msg, err := ws.Read(t.Context()); err != nil || !talks["okx"].ack(string(msg)) {
		t.Fatal(string(msg), err)
	}
	s.Do(Fault{Exchange: "okx", Kind: Abrupt})
	for err == nil {
		_, _, err = ws.Read(t.Context())
	}
	if websocket.CloseStatus(err) != -1 || len(s.Log()) != 1 {
		t.Errorf("ended with %v, log %v", err, s.Log())
	}
	s.Close()
	if !strings.Contains(logged.String(), "simulated fault") {
		t.Errorf("logged %q", logged.String())
	}
}

func TestNoRecordings(t *testing.T) {
	_, err := New(Config{Data: t.TempDir()}, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "CRYPTOINTEL_DATA") {
		t.Error(err)
	}
	_, err = New(Config{Recordings: recordings(t), Exchanges: []string{"mtgox"}}, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "binance, bitstamp, bybit, coinbase, kraken, okx") {
		t.Error(err)
	}
}
