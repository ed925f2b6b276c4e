package server

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"cryptointel/internal/auth"
	"cryptointel/internal/eventloop"
	"cryptointel/protocol"
)

// limited is a server with these limits and a clock that stands still.
func limited(t *testing.T, kind string, set func(*Config)) (*Server, *handClock) {
	t.Helper()
	clock := newHandClock(time.Now())
	cfg := testConfig(kind)
	cfg.Clock, cfg.Loops = clock, 2
	set(&cfg)
	s, _ := begin(t, cfg)
	return s, clock
}

func from(address string) dialer { return dialer{from: address} }

func bearing(token string) dialer {
	return dialer{header: http.Header{"Authorization": {"Bearer " + token}}}
}

// refused checks that a connection is let in only to be told why not.
func refused(t *testing.T, s *Server, d dialer, closed string) {
	t.Helper()
	c, resp, err := d.dial(s.Addr())
	if err != nil || c == nil {
		t.Fatalf("dial: %v %v", resp, err)
	}
	last, got := c.end(t)
	if want := string(last.Error.Code); got != closed || got[5:] != want {
		t.Errorf("closed with %s after %s, want %s", got, last.text, closed)
	}
}

// authenticate sends the token and returns what the server says to it.
func authenticate(t *testing.T, c *socket, token, more string) said {
	t.Helper()
	c.send(t, `{"type":"auth","token":%q%s}`, token, more)
	return c.next(t)
}

func wantAuth(t *testing.T, m said) {
	t.Helper()
	if m.Type != "ack" || m.For != "auth" {
		t.Fatalf("auth: %s", m.text)
	}
}

// shares waits until so many connections count against limits.
func shares(t *testing.T, s *Server, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for s.registry.Open() != n {
		if _, err := s.loops.Stats(ctx); err != nil {
			t.Fatalf("%d connections count, want %d: %v", s.registry.Open(), n, err)
		}
	}
}

func TestConnectionsPerIP(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s, _ := limited(t, kind, func(c *Config) { c.Limits.Door.ConnectionsPerIP = 2 })
			first := connectWith(t, s, from("127.0.0.2"))
			connectWith(t, s, from("127.0.0.2"))
			refused(t, s, from("127.0.0.2"), "4503 CONNECTION_FULL")
			connectWith(t, s, from("127.0.0.3"))
			first.conn.Close()
			shares(t, s, 2)
			connectWith(t, s, from("127.0.0.2"))
		})
	}
}

func TestConnectsPerMinutePerIP(t *testing.T) {
	t.Parallel()
	s, clock := limited(t, eventloop.KindAuto, func(c *Config) { c.Limits.Door.ConnectsPerMinutePerIP = 3 })
	for range 3 {
		connectWith(t, s, from("127.0.0.2"))
	}
	c, resp, err := from("127.0.0.2").dial(s.Addr())
	if err != nil || c != nil || resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "20" {
		t.Errorf("the fourth in a minute: %v %v, want 429 and Retry-After: 20", resp, err)
	}
	connectWith(t, s, from("127.0.0.3"))
	clock.now.Add(int64(20 * time.Second))
	connectWith(t, s, from("127.0.0.2"))
}

func TestConnectionsPerUser(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s, _ := limited(t, kind, func(c *Config) { c.Limits.Door.ConnectionsPerUser = 2 })
			token := signed(t, auth.TokenRequest{Subject: "u1"})
			first := connect(t, s)
			wantAuth(t, authenticate(t, first, token, ""))
			connectWith(t, s, bearing(token))
			third := connect(t, s)
			if m := authenticate(t, third, token, ""); m.Error.Code != string(protocol.ConnectionFull) {
				t.Errorf("the third connection's auth: %s", m.text)
			}
			if _, closed := third.end(t); closed != "4503 CONNECTION_FULL" {
				t.Errorf("closed with %s, want 4503 CONNECTION_FULL", closed)
			}
			refused(t, s, bearing(token), "4503 CONNECTION_FULL")
			other := connect(t, s)
			wantAuth(t, authenticate(t, other, signed(t, auth.TokenRequest{Subject: "u2"}), ""))
			first.conn.Close()
			shares(t, s, 2)
			connectWith(t, s, bearing(token))
		})
	}
}

func TestConnectsPerMinutePerUser(t *testing.T) {
	t.Parallel()
	s, clock := limited(t, eventloop.KindAuto, func(c *Config) { c.Limits.Door.ConnectsPerMinutePerUser = 2 })
	token := signed(t, auth.TokenRequest{Subject: "u1"})
	c := connect(t, s)
	wantAuth(t, authenticate(t, c, token, ""))
	wantAuth(t, authenticate(t, c, token, "")) // a refresh is no connection
	connectWith(t, s, bearing(token))
	if _, resp, err := bearing(token).dial(s.Addr()); err != nil || resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "30" {
		t.Errorf("the third in a minute: %v %v, want 429 and Retry-After: 30", resp, err)
	}
	third := connect(t, s)
	if m := authenticate(t, third, token, ""); m.Error.Code != string(protocol.RateLimited) {
		t.Errorf("the third connection's auth: %s", m.text)
	}
	if _, closed := third.end(t); closed != "4529 RATE_LIMITED" {
		t.Errorf("closed with %s, want 4529 RATE_LIMITED", closed)
	}
	clock.now.Add(int64(30 * time.Second))
	connectWith(t, s, bearing(token))
}

func TestMaxConnections(t *testing.T) {
	t.Parallel()
	s, _ := limited(t, eventloop.KindAuto, func(c *Config) { c.Limits.Door.MaxConnections = 2 })
	first := connect(t, s)
	connectWith(t, s, bearing(signed(t, auth.TokenRequest{Subject: "u1"})))
	refused(t, s, dialer{}, "4503 CONNECTION_FULL")
	first.conn.Close()
	shares(t, s, 1)
	connect(t, s)
}

// TestRefund lets many users of one address in: a connection that has
// authenticated does not count for its address any more.
func TestRefund(t *testing.T) {
	t.Parallel()
	s, _ := limited(t, eventloop.KindAuto, func(c *Config) {
		c.Limits.Door.ConnectsPerMinutePerIP, c.Limits.Door.ConnectionsPerIP = 1, 1
	})
	for _, user := range []string{"u1", "u2", "u3"} {
		c := connect(t, s)
		wantAuth(t, authenticate(t, c, signed(t, auth.TokenRequest{Subject: user}), ""))
	}
	connect(t, s)
	if _, resp, err := (dialer{}).dial(s.Addr()); err != nil || resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("a second anonymous connection: %v %v, want 429", resp, err)
	}
	connectWith(t, s, bearing(signed(t, auth.TokenRequest{Subject: "u4"})))
}

// TestBearer gives tokens at the door.
func TestBearer(t *testing.T) {
	t.Parallel()
	s, _ := begin(t, testConfig(eventloop.KindAuto))
	token := signed(t, auth.TokenRequest{Subject: "u1", Channels: []string{"signals:*"}})
	c := connectWith(t, s, bearing(token))
	c.subscribe(t, `"signals:all"`)
	c.until(t, func(m said) bool { return m.Type == "caught_up" })
	c.send(t, `{"type":"status"}`)
	var status struct{ User string }
	if m := c.next(t); json.Unmarshal(m.Data, &status) != nil || status.User != "u1" {
		t.Errorf("status: %s, want the user u1", m.text)
	}
	old, err := auth.Sign([]byte(testSecret), auth.TokenRequest{Subject: "u1", TTL: time.Minute}, time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	refused(t, s, bearing("garbage"), "4401 INVALID_TOKEN")
	refused(t, s, bearing(old), "4501 EXPIRED_TOKEN")
	anonymous := connect(t, s)
	anonymous.send(t, `{"type":"subscribe","channels":["price:bitcoin","signals:all"]}`)
	anonymous.send(t, `{"type":"ping","id":1}`)
	if m := anonymous.next(t); m.Type != "pong" { // the command waits for auth
		t.Errorf("got %s, want a pong", m.text)
	}
}

// TestTakeover moves an instance to a new connection while the user has as
// many as allowed.
func TestTakeover(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s, clock := limited(t, kind, func(c *Config) { c.Limits.Door.ConnectionsPerUser = 2 })
			token := signed(t, auth.TokenRequest{Subject: "u1", Channels: []string{"signals:*"}})
			phone, laptop := connect(t, s), connect(t, s)
			wantAuth(t, authenticate(t, phone, token, `,"instance":"phone"`))
			wantAuth(t, authenticate(t, laptop, token, `,"instance":"laptop"`))

			again := connect(t, s)
			wantAuth(t, authenticate(t, again, token, `,"instance":"phone"`))
			if _, closed := phone.end(t); closed != "4409 REPLACED" {
				t.Errorf("the first phone: %s, want 4409 REPLACED", closed)
			}
			shares(t, s, 2)
			clock.now.Add(int64(6 * time.Second))
			laptop.send(t, `{"type":"ping"}`)
			if m := laptop.next(t); m.Type != "pong" {
				t.Errorf("the laptop: %s", m.text)
			}
		})
	}
}
