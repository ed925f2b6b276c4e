package gateway

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"cryptointel/protocol"
)

func readable(_ *Config, p *Parts) {
	p.LastPrices = func() [][]byte {
		return [][]byte{[]byte(`{"asset":"bitcoin","price":1}`), []byte(`{"asset":"ethereum","price":2}`)}
	}
	p.Assets = func() []Asset { return []Asset{{Slug: "bitcoin", Tickers: []string{"BTC"}, Name: "Bitcoin"}} }
	p.Stats = func() any { return map[string]int{"connections": 3} }
}

func TestRoutes(t *testing.T) {
	full := newHarness(t, readable)
	bare := newHarness(t, nil)
	draining := newHarness(t, func(_ *Config, p *Parts) {
		p.Ready = func() *protocol.Error { return &protocol.Error{Code: protocol.Draining, Message: "going away"} }
	})
	broken := newHarness(t, func(_ *Config, p *Parts) { p.Stats = func() any { return make(chan int) } })
	tests := []struct {
		name         string
		h            *harness
		method, path string
		status       int
		body         string
		header       string
	}{
		{"health", bare, "GET", "/healthz", 200, `{"status":"ok"}`, "Cache-Control: no-store"},
		{"health while draining", draining, "GET", "/healthz", 200, `{"status":"ok"}`, ""},
		{"ready", bare, "GET", "/readyz", 200, `{"status":"ready"}`, ""},
		{"draining", draining, "GET", "/readyz", 503, `{"error":{"code":"DRAINING","message":"going away","timestamp":"2026-11-22T12:00:00.000Z","retryable":true}}`, "Retry-After: 1"},
		{"prices", full, "GET", "/api/v1/prices", 200, `{"prices":[{"asset":"bitcoin","price":1},{"asset":"ethereum","price":2}]}`, "Cache-Control: public, max-age=1"},
		{"assets", full, "GET", "/api/v1/assets", 200, `{"assets":[{"slug":"bitcoin","tickers":["BTC"],"name":"Bitcoin"}]}`, "Cache-Control: public, max-age=300"},
		{"stats", full, "GET", "/ws/stats", 200, `{"connections":3}`, "Content-Type: application/json"},
		{"stats that cannot be encoded", broken, "GET", "/ws/stats", 500, failure("INTERNAL", "something went wrong here: try again"), ""},
		{"no part", bare, "GET", "/api/v1/prices", 404, failure("INVALID_MESSAGE", "this server does not serve this path"), ""},
		{"head", full, "HEAD", "/ws/stats", 200, `{"connections":3}`, ""}, // net/http drops the body
		{"wrong method", full, "POST", "/api/v1/prices", 405, failure("INVALID_MESSAGE", "this path answers GET, HEAD, OPTIONS"), "Allow: GET, HEAD, OPTIONS"},
		{"get of publish", full, "GET", "/api/v1/publish", 405, failure("INVALID_MESSAGE", "this path answers POST, OPTIONS"), "Allow: POST, OPTIONS"},
		{"delete", full, "DELETE", "/healthz", 405, failure("INVALID_MESSAGE", "this path answers GET, HEAD, OPTIONS"), "Allow: GET, HEAD, OPTIONS"},
		{"options", full, "OPTIONS", "/api/v1/publish", 204, "", "Allow: POST, OPTIONS"},
		{"unknown", full, "GET", "/api/v1/nothing", 404, failure("INVALID_MESSAGE", "no such path; see docs/protocol.md section 8 for the list"), "X-Content-Type-Options: nosniff"},
		{"nothing is cleaned", full, "GET", "/healthz/", 404, failure("INVALID_MESSAGE", "no such path; see docs/protocol.md section 8 for the list"), "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'"},
		{"no profiles here", full, "GET", "/debug/pprof/", 404, failure("INVALID_MESSAGE", "no such path; see docs/protocol.md section 8 for the list"), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			tt.h.ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, nil))
			got := strings.Replace(w.Body.String(), `"retryable":true}}`, `"retryable":false}}`, 1)
			want := strings.Replace(tt.body, `"retryable":true}}`, `"retryable":false}}`, 1)
			if w.Code != tt.status || got != want {
				t.Errorf("got %d %s, want %d %s", w.Code, w.Body, tt.status, tt.body)
			}
			if name, value, _ := strings.Cut(tt.header, ": "); w.Header().Get(name) != value {
				t.Errorf("got %s: %q, want %q", name, w.Header().Get(name), value)
			}
		})
	}
}

func TestAssetsAreCached(t *testing.T) {
	h := newHarness(t, readable)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/assets", nil))
	r := httptest.NewRequest("GET", "/api/v1/assets", nil)
	r.Header.Set("If-None-Match", w.Header().Get("ETag"))
	again := httptest.NewRecorder()
	h.ServeHTTP(again, r)
	if again.Code != http.StatusNotModified || again.Body.Len() > 0 {
		t.Errorf("got %d %s, want 304 and nothing", again.Code, again.Body)
	}
}

func TestCORS(t *testing.T) {
	const app = "https://app.example.com"
	tests := []struct {
		name, method, path, origin string
		preflight                  bool
		status                     int
		allowed                    string // Access-Control-Allow-Origin
	}{
		{"no page", "GET", "/healthz", "", false, 200, ""},
		{"allowed page", "GET", "/healthz", app, false, 200, app},
		{"foreign page may not read", "GET", "/healthz", "https://evil.example", false, 200, ""},
		{"foreign page may not publish", "POST", "/api/v1/publish", "https://evil.example", false, 403, ""},
		{"allowed page may publish", "POST", "/api/v1/publish", app, false, 200, app},
		{"preflight", "OPTIONS", "/api/v1/publish", app, true, 204, app},
		{"preflight of a foreign page", "OPTIONS", "/api/v1/publish", "https://evil.example", true, 403, ""},
		{"preflight of null", "OPTIONS", "/api/v1/publish", "null", true, 403, ""},
	}
	h := newHarness(t, func(c *Config, _ *Parts) { c.Origins = []string{app} })
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, tt.path, strings.NewReader(`{"type":"price_update","channel":"test:a","data":{}}`))
			r.Header.Set("Authorization", "Bearer ann:*")
			if tt.origin != "" {
				r.Header.Set("Origin", tt.origin)
			}
			if tt.preflight {
				r.Header.Set("Access-Control-Request-Method", "POST")
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if got := w.Header().Get("Access-Control-Allow-Origin"); w.Code != tt.status || got != tt.allowed || w.Header().Get("Vary") != "Origin" {
				t.Errorf("got %d, allowed %q, vary %q, want %d, %q", w.Code, got, w.Header().Get("Vary"), tt.status, tt.allowed)
			}
			if w.Header().Get("Access-Control-Allow-Credentials") != "" {
				t.Error("credentials are allowed")
			}
		})
	}
}

func TestClientAddr(t *testing.T) {
	tests := []struct {
		name, remote string
		forwarded    []string
		want         string
	}{
		{"direct", "192.0.2.1:1", nil, "192.0.2.1"},
		{"a stranger's claim", "192.0.2.1:1", []string{"8.8.8.8"}, "192.0.2.1"},
		{"a proxy's word", "10.0.0.1:1", []string{"192.0.2.1"}, "192.0.2.1"},
		{"what the client wrote left of it", "10.0.0.1:1", []string{"8.8.8.8, 192.0.2.1"}, "192.0.2.1"},
		{"two proxies", "10.0.0.1:1", []string{"8.8.8.8, 192.0.2.1, 10.9.9.9"}, "192.0.2.1"},
		{"two lines", "10.0.0.1:1", []string{"8.8.8.8", "192.0.2.1"}, "192.0.2.1"},
		{"with a port", "10.0.0.1:1", []string{"192.0.2.1:999"}, "192.0.2.1"},
		{"IPv6 with a port", "10.0.0.1:1", []string{"[2001:db8::1]:999"}, "2001:db8::1"},
		{"IPv6 in brackets", "10.0.0.1:1", []string{"[2001:db8::1]"}, "2001:db8::1"},
		{"nonsense", "10.0.0.1:1", []string{"unknown"}, "10.0.0.1"},
		{"nonsense left of a proxy", "10.0.0.1:1", []string{"x, 10.9.9.9"}, "10.9.9.9"},
		{"only proxies", "10.0.0.1:1", []string{"10.1.1.1, 10.9.9.9"}, "10.1.1.1"},
		{"empty", "10.0.0.1:1", []string{""}, "10.0.0.1"},
		{"IPv4 in IPv6", "[::ffff:10.0.0.1]:1", []string{"::ffff:192.0.2.1"}, "192.0.2.1"},
		{"one trusted address", "203.0.113.9:1", []string{"192.0.2.1"}, "192.0.2.1"},
		{"a zone", "[fe80::1%eth0]:1", nil, "fe80::1"},
		{"a unix socket", "@", nil, "invalid IP"},
	}
	h := newHarness(t, func(c *Config, _ *Parts) { c.Proxy.BehindProxy = []string{"10.0.0.0/8", "203.0.113.9"} })
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &http.Request{RemoteAddr: tt.remote, Header: http.Header{"X-Forwarded-For": tt.forwarded}}
			if got := h.clientAddr(r).String(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestHousehold(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "fe80::1%eth0": "fe80::",
	} {
		if got := household(netip.MustParseAddr(in)); got != netip.MustParseAddr(want) {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func TestConfig(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Config)
		field  string // named by the error, empty when it is good
	}{
		{"defaults", func(*Config) {}, ""},
		{"no limits", func(c *Config) { *c = Config{} }, ""},
		{"origins", func(c *Config) { c.Origins = []string{"https://a.example", "http://b.example:81", "*"} }, ""},
		{"an origin with a path", func(c *Config) { c.Origins = []string{"https://a.example/"} }, "origins"},
		{"an origin without a scheme", func(c *Config) { c.Origins = []string{"a.example"} }, "origins"},
		{"an origin with a star", func(c *Config) { c.Origins = []string{"https://*.a.example", "ftp://a"} }, "origins"},
		{"proxies", func(c *Config) { c.Proxy.BehindProxy = []string{"10.0.0.0/8", "::1", "fd00::/8"} }, ""},
		{"a proxy by name", func(c *Config) { c.Proxy.BehindProxy = []string{"proxy"} }, "behind-proxy"},
		{"a negative limit", func(c *Config) { c.Limits.ConnectionsPerUser = -1 }, "limits.connections_per_user"},
		{"a negative time", func(c *Config) { c.RequestTimeout = -time.Second }, "gateway.request_timeout is -1s:"},
		{"a mapped network", func(c *Config) { c.Proxy.BehindProxy = []string{"::ffff:10.0.0.0/104"} }, "behind-proxy"},
		{"a negative HSTS", func(c *Config) { c.HSTS = -1 }, "hsts"},
		{"confidence", func(c *Config) { c.HighConfidence = 80 }, "high_confidence"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := DefaultConfig()
			tt.change(&c)
			err := c.Validate()
			if (err == nil) != (tt.field == "") || err != nil && !strings.Contains(err.Error(), tt.field) {
				t.Errorf("got %v, want an error about %q", err, tt.field)
			}
		})
	}
}

// The kong tags and DefaultConfig say the same, since either may fill a Config.
func TestDefaultTags(t *testing.T) {
	var fromTags Config
	fillDefaults(t, reflect.ValueOf(&fromTags).Elem())
	fillDefaults(t, reflect.ValueOf(&fromTags.Limits).Elem())
	fillDefaults(t, reflect.ValueOf(&fromTags.Proxy).Elem())
	fillDefaults(t, reflect.ValueOf(new(TLS)).Elem())
	if want := DefaultConfig(); !reflect.DeepEqual(fromTags, want) {
		t.Errorf("the tags say %+v, DefaultConfig %+v", fromTags, want)
	}
}

// fillDefaults sets the fields of a struct from their default tags.
func fillDefaults(t *testing.T, v reflect.Value) {
	t.Helper()
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if field.Tag.Get("kong") == "-" {
			continue
		}
		if field.Tag.Get("name") == "" || field.Tag.Get("help") == "" {
			t.Errorf("%s has no name or help", field.Name)
		}
		text := field.Tag.Get("default")
		if text == "" {
			continue
		}
		var err error
		switch at := v.Field(i).Addr().Interface().(type) {
		case *time.Duration:
			*at, err = time.ParseDuration(text)
		case *int:
			*at, err = strconv.Atoi(text)
		case *bool:
			*at, err = strconv.ParseBool(text)
		case *float64:
			*at, err = strconv.ParseFloat(text, 64)
		default:
			t.Errorf("%s: no way to read its default", field.Name)
		}
		if err != nil {
			t.Errorf("%s: %v", field.Name, err)
		}
	}
}
