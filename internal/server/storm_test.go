package server

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// knocks has many clients knock at once, fifty at a time, and returns those
// that were let in. The others must be told when to come back.
func knocks(t *testing.T, s *Server, clients int) (in []*socket, away int) {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	places := make(chan struct{}, 50)
	for range clients {
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			c, resp, err := knock{}.try(s)
			mu.Lock()
			defer mu.Unlock()
			if c != nil {
				in = append(in, c)
				return
			}
			if away++; err != nil || resp.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("sent away with %v, %v, want 503", resp, err)
				return
			}
			if after, err := strconv.Atoi(resp.Header.Get("Retry-After")); err != nil || after < 1 || after > 5 {
				t.Errorf("Retry-After is %q, want 1 to 5 seconds", resp.Header.Get("Retry-After"))
			}
		})
	}
	wg.Wait()
	t.Cleanup(func() {
		for _, c := range in {
			c.conn.Close()
		}
	})
	return in, away
}

// TestStorm has many times more clients knock than a second has room for: so
// many are let in and no more, and those who are there miss nothing.
func TestStorm(t *testing.T) {
	const rate, clients = 50, 1000
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			s, clock := limited(t, kind, func(c *Config) { c.Gateway.AcceptRate = rate })
			witness := connect(t, s)
			witness.subscribe(t, `"test:storm"`)
			var over atomic.Bool
			heard := make(chan time.Duration, 1)
			go func() {
				defer close(heard)
				for n := 0; !over.Load() && !t.Failed(); n++ {
					began := time.Now()
					if err := heardSoon(s, witness, n); err != nil {
						t.Error(err)
						return
					}
					heard <- time.Since(began)
				}
			}()
			var slowest time.Duration
			done := make(chan struct{})
			go func() {
				defer close(done)
				for d := range heard {
					slowest = max(slowest, d)
				}
			}()
			in, away := knocks(t, s, clients)
			over.Store(true)
			<-done
			if len(in) != rate-1 || away != clients-rate+1 {
				t.Errorf("%d were let in and %d sent away, want %d with the witness", len(in), away, rate)
			}
			t.Logf("the slowest delivery during the storm took %v", slowest)
			clock.now.Add(int64(time.Second))
			if in, _ = knocks(t, s, 2*rate); len(in) != rate {
				t.Errorf("%d were let in a second later, want %d", len(in), rate)
			}
		})
	}
}

// heardSoon publishes and reads it.
func heardSoon(s *Server, c *socket, n int) error {
	data := fmt.Sprintf(`{"n":%d}`, n)
	if err := s.broker.Publish(publication("test:storm", data)); err != nil {
		return err
	}
	for {
		m, err := c.message()
		if err != nil || string(m.Data) == data {
			return err
		}
	}
}

// TestStormAfterRestart ends a server with two hundred clients and starts
// another in its place: they come back as they are told to, so many a second,
// and all of them get what is published.
func TestStormAfterRestart(t *testing.T) {
	const clients, rate = 200, 50
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			cfg := testConfig(kind)
			cfg.Loops = 2
			s, stop := begin(t, cfg)
			before, away := knocks(t, s, clients)
			if away > 0 {
				t.Fatalf("%d were sent away", away)
			}
			var ends sync.WaitGroup
			for _, c := range before {
				c.next(t) // the greeting: it is open for the loops too
				ends.Go(func() { drained(t, c) })
			}
			clock := newHandClock(time.Now())
			cfg.Listen, cfg.Clock, cfg.Gateway.AcceptRate = s.Addr(), clock, rate
			stop()
			ends.Wait()
			s, _ = begin(t, cfg)
			var back []*socket
			for second := 0; len(back) < clients; second++ {
				if second > clients/rate {
					t.Fatalf("%d of %d are back after %d seconds", len(back), clients, second)
				}
				in, _ := knocks(t, s, clients-len(back))
				back = append(back, in...)
				clock.now.Add(int64(time.Second))
			}
			for _, c := range back {
				c.next(t) // the greeting
				c.subscribe(t, `"test:back"`)
			}
			s.say(t, "test:back", `{"back":true}`)
			for _, c := range back {
				c.until(t, func(m said) bool { return string(m.Data) == `{"back":true}` })
			}
		})
	}
}

// drained reads up to the end, which must be that of a server that goes away.
func drained(t *testing.T, c *socket) {
	var err error
	for err == nil {
		_, err = c.message()
	}
	if c.closed != "1012 DRAINING" {
		t.Errorf("closed with %q, %v, want 1012 DRAINING", c.closed, err)
	}
}

// TestHostileAnswers asks for answers over HTTP and does not read them.
func TestHostileAnswers(t *testing.T) {
	quick := func(c *Config) {
		c.Gateway.RequestTimeout, c.Gateway.KeepAlive = 100*time.Millisecond, 100*time.Millisecond
	}
	hostileRun(t, quick, []hostileAttack{
		{"answers that nobody reads", func(t *testing.T, h *hostile) {
			c := hostileDeaf(t, h)
			ended := hostileFlood(c, []byte(strings.Repeat("GET /api/v1/assets HTTP/1.1\r\nHost: a\r\n\r\n", 100)))
			h.check(t)
			<-ended
			c.Close()
		}},
		{"bodies that do not end", func(t *testing.T, h *hostile) {
			for _, head := range []string{"Content-Length: 1000", "Transfer-Encoding: chunked", "Content-Length: 1000\r\nExpect: 100-continue"} {
				c := rfcTCP(t, h.Addr())
				c.send(t, []byte("POST /api/v1/publish HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\n"+head+"\r\n\r\n1"))
				cutOff(t, c)
				c.Close()
			}
		}},
		{"connections kept for nothing", func(t *testing.T, h *hostile) {
			c := rfcTCP(t, h.Addr())
			c.send(t, []byte("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"))
			cutOff(t, c)
			c.Close()
		}},
	})
}

// cutOff reads up to the end, which the server must make.
func cutOff(t *testing.T, c *rfcConn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, c.r); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
}
