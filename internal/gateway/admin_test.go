package gateway

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func testAdmin() *Admin {
	numbers := prometheus.NewRegistry()
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "test_metric", Help: "A test."})
	g.Set(7)
	numbers.MustRegister(g)
	return NewAdmin(numbers, tokens{}, slog.New(slog.NewTextHandler(io.Discard, nil)))
}

// withLocal is what net/http says about the address a request came to.
func withLocal(ctx context.Context, a netip.AddrPort) context.Context {
	return context.WithValue(ctx, http.LocalAddrContextKey, net.Addr(net.TCPAddrFromAddrPort(a)))
}

func TestAdmin(t *testing.T) {
	tests := []struct {
		name, method, path, host, origin, token string
		local, remote                           string
		status                                  int
		body                                    string
	}{
		{"metrics", "GET", "/metrics", "127.0.0.1:9090", "", "", "127.0.0.1:9090", "127.0.0.1:5", 200, "test_metric 7"},
		{"profiles", "GET", "/debug/pprof/", "localhost:9090", "", "", "127.0.0.1:9090", "127.0.0.1:5", 200, "goroutine"},
		{"a profile", "GET", "/debug/pprof/goroutine?debug=1", "[::1]:9090", "", "", "[::1]:9090", "[::1]:5", 200, "goroutine profile"},
		{"free", "POST", "/debug/free", "127.0.0.1:9090", "", "", "127.0.0.1:9090", "127.0.0.1:5", 200, `"after":{"rss_bytes":`},
		{"free by get", "GET", "/debug/free", "127.0.0.1:9090", "", "", "127.0.0.1:9090", "127.0.0.1:5", 405, ""},
		{"unknown", "GET", "/", "127.0.0.1:9090", "", "", "127.0.0.1:9090", "127.0.0.1:5", 404, ""},
		{"own page", "GET", "/metrics", "127.0.0.1:9090", "http://127.0.0.1:9090", "", "127.0.0.1:9090", "127.0.0.1:5", 200, ""},
		{"a page of another site", "POST", "/debug/free", "127.0.0.1:9090", "http://evil.example", "", "127.0.0.1:9090", "127.0.0.1:5", 401, "UNAUTHORIZED"},
		{"a name pointed here", "GET", "/metrics", "evil.example:9090", "", "", "127.0.0.1:9090", "127.0.0.1:5", 401, "UNAUTHORIZED"},
		{"from elsewhere", "GET", "/metrics", "127.0.0.1:9090", "", "", "10.0.0.1:9090", "10.0.0.2:5", 401, "UNAUTHORIZED"},
		{"own page, said to be of TLS", "GET", "/metrics", "127.0.0.1:9090", "https://127.0.0.1:9090", "", "127.0.0.1:9090", "127.0.0.1:5", 401, "UNAUTHORIZED"},
		{"with a token", "GET", "/metrics", "admin.example", "", "admin:", "10.0.0.1:9090", "10.0.0.2:5", 200, "test_metric 7"},
		{"with a token without adm", "GET", "/metrics", "admin.example", "", "ann:", "10.0.0.1:9090", "10.0.0.2:5", 403, "FORBIDDEN"},
		{"with a bad token", "GET", "/metrics", "admin.example", "", "x", "10.0.0.1:9090", "10.0.0.2:5", 401, "INVALID_TOKEN"},
	}
	a := testAdmin()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, tt.path, nil)
			r.Host, r.RemoteAddr = tt.host, tt.remote
			r = r.WithContext(withLocal(r.Context(), netip.MustParseAddrPort(tt.local)))
			if tt.origin != "" {
				r.Header.Set("Origin", tt.origin)
			}
			if tt.token != "" {
				r.Header.Set("Authorization", "Bearer "+tt.token)
			}
			w := httptest.NewRecorder()
			a.ServeHTTP(w, r)
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.body) {
				t.Errorf("got %d %.300s, want %d with %q", w.Code, w.Body, tt.status, tt.body)
			}
		})
	}
}

// With TLS the page of this listener is one that came by TLS.
func TestAdminOriginTLS(t *testing.T) {
	for origin, want := range map[string]int{"https://localhost:9090": 200, "http://localhost:9090": 401} {
		r := httptest.NewRequest("GET", "https://localhost:9090/metrics", nil)
		r.RemoteAddr = "127.0.0.1:5"
		r = r.WithContext(withLocal(r.Context(), netip.MustParseAddrPort("127.0.0.1:9090")))
		r.Header.Set("Origin", origin)
		w := httptest.NewRecorder()
		testAdmin().ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("a page of %s: got %d, want %d", origin, w.Code, want)
		}
	}
}
