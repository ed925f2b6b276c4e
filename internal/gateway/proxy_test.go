package gateway

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestRequireTLS(t *testing.T) {
	tests := []struct {
		listen          string
		secure, proxied bool
		ok              bool
	}{
		{"127.0.0.1:8080", false, false, true},
		{"127.8.8.8:0", false, false, true},
		{"[::1]:8080", false, false, true},
		{"[::ffff:127.0.0.1]:8080", false, false, true},
		{"localhost:8080", false, false, true},
		{":8080", false, false, false},
		{"0.0.0.0:8080", false, false, false},
		{"[::]:8080", false, false, false},
		{"10.0.0.1:8080", false, false, false},
		{"localhost.example:8080", false, false, false},
		{"gate.example:8080", false, false, false},
		{":8080", true, false, true},
		{":8080", false, true, true},
		{"8080", true, true, false},
	}
	for _, tt := range tests {
		err := RequireTLS(tt.listen, tt.secure, tt.proxied)
		if (err == nil) != tt.ok {
			t.Errorf("%s, %v, %v: got %v", tt.listen, tt.secure, tt.proxied, err)
		}
		if err == nil || tt.secure {
			continue
		}
		for _, out := range []string{tt.listen, "--tls-cert", "--tls-key", "--behind-proxy", "127.0.0.1"} {
			if !strings.Contains(err.Error(), out) {
				t.Errorf("%s: %q does not name %s", tt.listen, err, out)
			}
		}
	}
}

func TestRequireAdminTLS(t *testing.T) {
	for _, tt := range []struct {
		listen                   string
		secure, proxied, ok, tls bool
	}{
		{"", false, false, true, false},
		{"", true, false, true, false},
		{"127.0.0.1:9090", false, false, true, false},
		{"localhost:9090", true, false, true, false},
		{"[::1]:9090", true, true, true, false},
		{":9090", false, false, false, false},
		{"10.0.0.1:9090", false, false, false, false},
		{"10.0.0.1:9090", true, false, true, true},
		{"10.0.0.1:9090", false, true, true, false},
		{"9090", false, false, false, false},
	} {
		err := RequireAdminTLS(tt.listen, tt.secure, tt.proxied)
		if (err == nil) != tt.ok || AdminTLS(tt.listen, tt.secure) != tt.tls {
			t.Errorf("%s, %v, %v: got %v, TLS %v", tt.listen, tt.secure, tt.proxied, err, AdminTLS(tt.listen, tt.secure))
		}
		if err != nil && !strings.HasPrefix(err.Error(), "admin-listen: "+tt.listen+" can be reached") {
			t.Errorf("%s: %q", tt.listen, err)
		}
	}
}

func TestBehindProxy(t *testing.T) {
	tests := []struct {
		name, path, peer string
		proto            []string
		secure           bool // the peer itself speaks TLS
		status           int
		hsts             bool
	}{
		{"the proxy", "/ws/stats", "10.0.0.1:5", []string{"https"}, false, 200, true},
		{"the proxy, for WebSocket", "/ws/stats", "10.0.0.1:5", []string{"wss"}, false, 200, true},
		{"the proxy in capitals", "/ws/stats", "10.0.0.1:5", []string{" HTTPS "}, false, 200, true},
		{"the proxy that says nothing", "/ws/stats", "10.0.0.1:5", nil, false, 200, false},
		{"a client without TLS", "/ws/stats", "10.0.0.1:5", []string{"http"}, false, 403, false},
		{"a WebSocket without TLS", "/ws", "10.0.0.1:5", []string{"ws"}, false, 403, false},
		{"a client's claim in front", "/ws/stats", "10.0.0.1:5", []string{"https, http"}, false, 403, false},
		{"a client's claim behind", "/ws/stats", "10.0.0.1:5", []string{"http, https"}, false, 403, false},
		{"a client's claim on a line of its own", "/ws/stats", "10.0.0.1:5", []string{"https", "http"}, false, 403, false},
		{"an empty claim", "/ws/stats", "10.0.0.1:5", []string{""}, false, 403, false},
		{"around the proxy", "/ws/stats", "192.0.2.1:5", nil, false, 403, false},
		{"around the proxy with a claim", "/ws/stats", "192.0.2.1:5", []string{"https"}, false, 403, false},
		{"around the proxy with TLS", "/ws/stats", "192.0.2.1:5", nil, true, 403, true},
		{"around the proxy to the sockets", "/ws", "192.0.2.1:5", nil, false, 403, false},
		{"around the proxy to nothing", "/nothing", "192.0.2.1:5", nil, false, 403, false},
		{"health from anywhere", "/healthz", "192.0.2.1:5", nil, false, 200, false},
		{"readiness from anywhere", "/readyz", "192.0.2.1:5", []string{"http"}, false, 200, false},
		{"the proxy's own check", "/readyz", "10.0.0.1:5", []string{"http"}, false, 200, false},
		{"this machine", "/ws/stats", "127.0.0.1:5", nil, false, 200, false},
		{"this machine by IPv6", "/ws/stats", "[::1]:5", nil, false, 200, false},
		{"this machine's word counts only when named", "/ws/stats", "127.0.0.1:5", []string{"https"}, false, 200, false},
		{"an IPv4 proxy by IPv6", "/ws/stats", "[::ffff:10.0.0.1]:5", []string{"https"}, false, 200, true},
		{"no address", "/ws/stats", "@", nil, false, 403, false},
	}
	h := newHarness(t, func(c *Config, p *Parts) { readable(c, p); c.Proxy.BehindProxy = []string{"10.0.0.0/8"} })
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", tt.path, nil)
			r.RemoteAddr, r.Header["X-Forwarded-Proto"] = tt.peer, tt.proto
			if tt.secure {
				r.TLS = new(tls.ConnectionState)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tt.status {
				t.Errorf("got %d %s, want %d", w.Code, w.Body, tt.status)
			}
			if got := w.Header().Get("Strict-Transport-Security"); (got == "max-age=31536000") != tt.hsts {
				t.Errorf("got HSTS %q, want it: %v", got, tt.hsts)
			}
			if says := w.Body.String(); tt.status == 403 && !strings.Contains(says, "behind-proxy") && !strings.Contains(says, "wss://") {
				t.Errorf("%s does not say what to do", says)
			}
		})
	}
}

func TestWithoutProxy(t *testing.T) {
	h := newHarness(t, readable)
	for _, peer := range []string{"192.0.2.1:5", "127.0.0.1:5"} {
		for _, proto := range []string{"http", "https"} {
			r := httptest.NewRequest("GET", "/ws/stats", nil)
			r.RemoteAddr = peer
			r.Header.Set("X-Forwarded-Proto", proto)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != 200 || w.Header().Get("Strict-Transport-Security") != "" {
				t.Errorf("%s, %s: got %d %v: what nobody vouches for counts", peer, proto, w.Code, w.Header())
			}
		}
	}
}

// A page that came without TLS is not a page of the host that has it.
func TestOriginNeedsTLS(t *testing.T) {
	h := newHarness(t, nil)
	for _, tt := range []struct {
		origin string
		secure bool
		want   bool
	}{
		{"https://gate.example", true, true},
		{"http://gate.example", true, false},
		{"http://gate.example", false, true},
		{"https://gate.example", false, true}, // a proxy that says nothing may end TLS
	} {
		r := httptest.NewRequest(http.MethodGet, "/ws", nil)
		r.Host = "gate.example"
		r.Header.Set("Origin", tt.origin)
		if tt.secure {
			r.TLS = new(tls.ConnectionState)
		}
		if got := h.originAllowed(r); got != tt.want {
			t.Errorf("%s, TLS %v: got %v", tt.origin, tt.secure, got)
		}
	}
}

func TestHSTSOff(t *testing.T) {
	h := newHarness(t, func(c *Config, _ *Parts) { c.HSTS = 0 })
	r := httptest.NewRequest("GET", "/healthz", nil)
	r.TLS = new(tls.ConnectionState)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if _, there := w.Header()["Strict-Transport-Security"]; there {
		t.Errorf("got %v", w.Header())
	}
}
