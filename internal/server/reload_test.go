package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cryptointel/internal/auth"
	"cryptointel/internal/eventloop"
)

// reloaded gives a server another configuration and checks what it says.
func reloaded(t *testing.T, s *Server, cfg Config, changed, restart []string) {
	t.Helper()
	gotChanged, gotRestart, err := s.Reload(cfg)
	if err != nil || !slices.Equal(gotChanged, changed) || !slices.Equal(gotRestart, restart) {
		t.Fatalf("Reload: changed %v, to restart %v, %v; want %v and %v", gotChanged, gotRestart, err, changed, restart)
	}
}

// TestReload changes the settings of a running server one after the other, and
// sees each with the next connection. What is open stays.
func TestReload(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(kind)
			s, _ := begin(t, cfg)
			c := knock{from: "127.0.0.2"}.in(t, s)
			c.subscribe(t, `"test:reload"`)
			reloaded(t, s, cfg, nil, nil)

			cfg.Limits.Door.ConnectionsPerIP = 1
			reloaded(t, s, cfg, []string{"limits.connections_per_ip"}, nil)
			again := knock{from: "127.0.0.2"}
			again.told(t, s, "4503 CONNECTION_FULL")
			other := knock{from: "127.0.0.3"}.upgraded(t, s)
			if first := other.next(t); !strings.Contains(first.text, `"connections_per_ip":1,`) && !strings.Contains(first.text, `"connections_per_ip":1}`) {
				t.Errorf("the first frame is %s, want the new limit", first.text)
			}
			cfg.Limits.Door.ConnectionsPerIP = 0
			reloaded(t, s, cfg, []string{"limits.connections_per_ip"}, nil)
			again.in(t, s)

			page := knock{header: http.Header{"Origin": {"https://app.example"}}}
			page.refused(t, s, http.StatusForbidden)
			cfg.Gateway.Origins = []string{"https://app.example"}
			cfg.Gateway.Compression = false
			reloaded(t, s, cfg, []string{"gateway.compression", "gateway.origins"}, nil)
			page.in(t, s)
			plain, resp, err := offering().try(s)
			if err != nil || plain == nil || resp.Header.Get("Sec-WebSocket-Extensions") != "" {
				t.Fatalf("compression is off: %v, %v", resp, err)
			}
			plain.conn.Close()

			token := knock{path: "/ws?token=" + signedUser(t, "u1")}
			token.told(t, s, "4401 INVALID_TOKEN")
			cfg.Gateway.TokenInURL = true
			reloaded(t, s, cfg, []string{"gateway.token_in_url"}, nil)
			token.in(t, s)
			hears(t, s, c, "test:reload", `{}`)
		})
	}
}

// TestReloadSessions changes what sessions keep to: with the next message of
// those that are open, and in the first frame of new ones.
func TestReloadSessions(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(kind)
			cfg.Loops = 2
			s, _ := begin(t, cfg)
			c := connect(t, s)
			c.subscribe(t, `"test:a"`)
			cfg.Limits.Session.Channels, cfg.Limits.Session.MessageBytes = 1, 200
			cfg.Auth.AnonymousChannels = []string{"test:*"}
			reloaded(t, s, cfg, []string{"auth.anonymous_channels", "limits.channels", "limits.message_bytes"}, nil)
			late := knock{}.upgraded(t, s)
			if first := late.next(t); !strings.Contains(first.text, `"channels":1`) || !strings.Contains(first.text, `"message_bytes":200`) {
				t.Errorf("the first frame is %s, want the new limits", first.text)
			}
			if got := verdict(t, c, "test:b"); !strings.HasPrefix(got, "CHANNEL_LIMIT ") {
				t.Errorf("one channel more: %s, want CHANNEL_LIMIT", got)
			}
			hears(t, s, c, "test:a", `{}`)
			c.send(t, `{"type":"ping","x":%q}`, rfcRepeat("x", 200))
			if _, closed := c.end(t); closed != "1009 MESSAGE_TOO_LARGE" {
				t.Errorf("a message over the limit: closed with %s, want 1009", closed)
			}
			// What anonymous clients may not follow any more waits for a token.
			late.send(t, `{"type":"subscribe","channels":["price:bitcoin"]}`)
			late.send(t, `{"type":"ping"}`)
			if m := late.next(t); m.Type != "pong" {
				t.Errorf("got %s, want only a pong", m.text)
			}
		})
	}
}

// TestReloadNeedsRestart names what cannot change, beside what does, and does
// not change it.
func TestReloadNeedsRestart(t *testing.T) {
	t.Parallel()
	cfg := testConfig(eventloop.KindAuto)
	s, _ := begin(t, cfg)
	next := cfg
	next.Listen, next.Loops, next.DataDir, next.Feeds = "127.0.0.1:1", 2, t.TempDir(), []string{FeedDemo}
	next.DrainTime, next.Broker.LogEntries, next.Market.StaleAfter = time.Minute, 7, time.Hour
	next.Gateway.RequestTimeout, next.Limits.Door.HandshakeTimeout = time.Second, time.Second
	next.Limits.Door.MaxConnections = 5
	want := []string{"broker.log_entries", "data-dir", "drain-time", "feeds", "gateway.request_timeout",
		"limits.handshake_timeout", "listen", "loops", "market.stale_after"}
	reloaded(t, s, next, []string{"limits.max_connections"}, want)
	reloaded(t, s, next, nil, want) // it still needs it
	connectWith(t, s, bearing(signedUser(t, "u1")))
	reloaded(t, s, cfg, []string{"limits.max_connections"}, nil)
}

// TestReloadBad gives configurations with one mistake beside a change: the
// mistake is named, and nothing changes.
func TestReloadBad(t *testing.T) {
	t.Parallel()
	cfg := testConfig(eventloop.KindAuto)
	s, _ := begin(t, cfg)
	for want, spoil := range map[string]func(*Config){
		"limits.channels is -1":             func(c *Config) { c.Limits.Session.Channels = -1 },
		"limits.connections_per_ip is -1":   func(c *Config) { c.Limits.Door.ConnectionsPerIP = -1 },
		"gateway.accept_rate is -1":         func(c *Config) { c.Gateway.AcceptRate = -1 },
		"gateway.high_confidence is 2":      func(c *Config) { c.Gateway.HighConfidence = 2 },
		`gateway.origins has "app.example"`: func(c *Config) { c.Gateway.Origins = []string{"app.example"} },
		`behind-proxy has "10.0.0.0/99"`:    func(c *Config) { c.Proxy.BehindProxy = []string{"10.0.0.0/99"} },
		"listen: 0.0.0.0:80":                func(c *Config) { c.Listen = "0.0.0.0:80" },
		"tls-key is missing":                func(c *Config) { c.TLS.Cert = "cert.pem" },
		"/nowhere/cert.pem":                 func(c *Config) { c.TLS.Cert, c.TLS.Key = "/nowhere/cert.pem", "/nowhere/key.pem" },
		"auth.leeway is 1h":                 func(c *Config) { c.Auth.Leeway = time.Hour },
		"auth.jwks_url is plain http":       func(c *Config) { c.Auth.JWKSURL = "http://issuer.example/jwks" },
		"the JWT secret has 5 bytes":        func(c *Config) { c.Auth.Secret = "short" },
		"broker.log_entries is -1":          func(c *Config) { c.Broker.LogEntries = -1 },
		"market.stale_after is -1s":         func(c *Config) { c.Market.StaleAfter = -time.Second },
		`did you mean kraken?`:              func(c *Config) { c.Feeds = []string{"krakn"} },
	} {
		next := cfg
		next.Limits.Door.MaxConnections, next.Gateway.TokenInURL = 1, true
		spoil(&next)
		changed, restart, err := s.Reload(next)
		if err == nil || !strings.Contains(err.Error(), want) || changed != nil || restart != nil {
			t.Errorf("Reload: %v, %v, %v, want an error that says %q", changed, restart, err, want)
		}
		if !reflect.DeepEqual(s.running, cfg) {
			t.Fatalf("%s: the configuration has changed", want)
		}
	}
	connect(t, s)
	connect(t, s) // there is no limit of one
	knock{path: "/ws?token=" + signedUser(t, "u1")}.told(t, s, "4401 INVALID_TOKEN")
}

// TestReloadWhileBusy changes settings again and again while clients come and
// go, publish and get tickets: for the race detector, and nobody is hurt.
func TestReloadWhileBusy(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(kind)
			cfg.Loops = 2
			s, _ := begin(t, cfg)
			witness := connect(t, s)
			witness.subscribe(t, `"test:busy"`)
			ctx, stop := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			defer wg.Wait()
			defer stop()
			wg.Go(func() { reloadForEver(ctx, t, s, cfg) })
			wg.Go(func() { reloadForEver(ctx, t, s, cfg) })
			for n := range 40 {
				token := signed(t, auth.TokenRequest{Subject: fmt.Sprint("u", n%3)})
				c := buy(t, s, token).in(t, s)
				c.subscribe(t, `"test:busy"`)
				hears(t, s, c, "test:busy", fmt.Sprintf(`{"n":%d}`, n))
				witness.until(t, func(m said) bool { return string(m.Data) == fmt.Sprintf(`{"n":%d}`, n) })
				c.conn.Close()
			}
			code, _, body := call(t, "GET", "http://"+s.Addr()+"/ws/stats", "", "")
			if code != http.StatusOK || !json.Valid([]byte(body)) {
				t.Errorf("GET /ws/stats: %d %s", code, body)
			}
		})
	}
}

// reloadForEver alternates between limits that nobody meets.
func reloadForEver(ctx context.Context, t *testing.T, s *Server, cfg Config) {
	for n := 1000; ctx.Err() == nil; n++ {
		cfg.Limits.Door.ConnectionsPerIP, cfg.Limits.Door.ConnectionsPerUser = n, n
		cfg.Gateway.AcceptRate, cfg.Gateway.Compression = n, n%2 == 0
		if _, restart, err := s.Reload(cfg); err != nil || len(restart) > 0 {
			t.Errorf("Reload: %v, %v", restart, err)
			return
		}
	}
}

// A file that takes the proxies away is not half adopted: the address it also
// changes needs a restart, and until then strangers would come in.
func TestReloadKeepsPlainClosed(t *testing.T) {
	s := proxied(t, eventloop.KindPortable, nil)
	next := s.cfg
	next.Listen, next.Proxy.BehindProxy = "127.0.0.1:0", nil
	if _, _, err := s.Reload(next); err == nil || !strings.Contains(err.Error(), "listen") {
		t.Errorf("Reload: %v, want it to name listen", err)
	}
	knock{from: fromStranger}.refused(t, s, http.StatusForbidden)
}
