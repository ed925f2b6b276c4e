package gateway

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// listen starts only the listener; what it accepts comes out of the channel.
func listen(t *testing.T, change func(*Config, *Parts)) (*Listener, chan net.Conn) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newHarness(t, change).Listen(inner)
	accepted := make(chan net.Conn, 100)
	go func() {
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	t.Cleanup(func() {
		l.Close()
		for c := range accepted {
			c.Close()
		}
	})
	return l, accepted
}

func TestPendingLimits(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Config, *Parts)
		room   bool // for a third connection
	}{
		{"in all", func(c *Config, _ *Parts) { c.Pending = 2 }, false},
		{"of an address", func(c *Config, _ *Parts) { c.PendingPerIP = 2 }, false},
		{"none", func(c *Config, _ *Parts) { c.Pending, c.PendingPerIP = 0, 0 }, true},
		{"a proxy is exempt", func(c *Config, _ *Parts) { c.PendingPerIP = 2; c.Proxy.BehindProxy = []string{"127.0.0.0/8"} }, true},
		{"a proxy is not exempt from the total", func(c *Config, _ *Parts) { c.Pending = 2; c.Proxy.BehindProxy = []string{"127.0.0.0/8"} }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, accepted := listen(t, tt.change)
			var open []net.Conn
			for range 2 {
				dial(t, l.Addr().String())
				open = append(open, <-accepted)
			}
			third := dial(t, l.Addr().String())
			if tt.room {
				<-accepted
				return
			}
			resp, err := http.ReadResponse(bufio.NewReader(third), nil)
			if err != nil || resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
				t.Fatalf("got %v, %v, want 503", resp, err)
			}
			open[0].Close()
			open[0].Close() // counts once
			dial(t, l.Addr().String())
			<-accepted
			release(open[1])
			dial(t, l.Addr().String())
			<-accepted
			if pending, turned := l.Pending(); pending != 2 || turned != 1 {
				t.Errorf("got %d pending, %d turned away, want 2 and 1", pending, turned)
			}
		})
	}
}

func TestUpgradedIsNotPending(t *testing.T) {
	h := newHarness(t, unlimited)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := h.Listen(inner)
	srv := h.Server()
	go srv.Serve(l)
	defer srv.Close()
	io.WriteString(dial(t, l.Addr().String()), upgradeLines(getWS))
	a := <-h.conns.got
	defer a.conn.Close()
	if pending, _ := l.Pending(); pending != 0 {
		t.Errorf("%d pending after the upgrade", pending)
	}
}

// Whoever does not finish a header in time is cut off, and so is who trickles.
func TestSlowHandshake(t *testing.T) {
	h := newHarness(t, func(c *Config, _ *Parts) { c.Limits.HandshakeTimeout = 50 * time.Millisecond })
	c := dial(t, h.serve(t))
	io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: a\r\n")
	if b, err := io.ReadAll(c); err != nil || len(b) > 0 && !strings.HasPrefix(string(b), "HTTP/1.1 408") {
		t.Errorf("got %q, %v, want an end", b, err)
	}
}

func TestServerTimeouts(t *testing.T) {
	srv := newHarness(t, nil).Server()
	got := [4]time.Duration{srv.ReadHeaderTimeout, srv.ReadTimeout, srv.WriteTimeout, srv.IdleTimeout}
	if want := [4]time.Duration{5 * time.Second, 15 * time.Second, 15 * time.Second, time.Minute}; got != want || srv.MaxHeaderBytes+4096 != 16<<10 {
		t.Errorf("got %v and %d, want %v", got, srv.MaxHeaderBytes, want)
	}
	off := newHarness(t, func(c *Config, _ *Parts) { *c = Config{} }).Server()
	if off.ReadHeaderTimeout >= 0 || off.IdleTimeout >= 0 || off.ReadTimeout != 0 || off.WriteTimeout != 0 {
		t.Errorf("a 0 is not off: %+v", off)
	}
}

func TestCounts(t *testing.T) {
	h := newHarness(t, unlimited)
	post(h, "ann:*", `[{"type":"price_update","channel":"test:a","data":{}},1]`)
	post(h, "x", `{}`)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/nothing", nil))
	ask(t, h.serve(t), upgradeLines(getWS, "Sec-WebSocket-Protocol", "chat"))
	<-h.served
	d := h.Counts()
	if d.Upgrades != 1 || d.Turned["UNSUPPORTED_PROTOCOL"] != 1 || d.Published["price_update"] != 1 ||
		d.Unpublished["INVALID_MESSAGE"] != 1 || d.Refused["INVALID_TOKEN"] != 1 || d.Refused["INVALID_MESSAGE"] != 1 {
		t.Errorf("got %+v", d)
	}
}
