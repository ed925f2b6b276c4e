package gateway

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cryptointel/internal/limit"
	"cryptointel/protocol"
)

// few allows ten requests a minute, two at once, at a clock that tests turn.
func few(clock *atomic.Int64) func(*Config, *Parts) {
	clock.Store(noon.UnixNano())
	return func(c *Config, p *Parts) {
		readable(c, p)
		c.Limits = Limits{RequestsPerMinutePerIP: 10}
		c.Proxy.BehindProxy = []string{"10.0.0.0/8", "127.0.0.0/8"}
		p.Now = func() time.Time { return time.Unix(0, clock.Load()) }
		p.Tickets = new(booth)
	}
}

// from asks a route as a client of this address behind the proxy.
func from(h http.Handler, method, path, addr string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(`{"type":"market_data","channel":"test:x","data":{"n":1}}`))
	r.RemoteAddr = "10.0.0.1:5"
	r.Header.Set("X-Forwarded-For", addr)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// A household has its requests, whatever it asks and with which of its
// addresses; others have theirs.
func TestRequestsPerMinute(t *testing.T) {
	var clock atomic.Int64
	h := newHarness(t, few(&clock))
	for _, tt := range []struct {
		method, path, addr string
		later              time.Duration
		want               int
	}{
		{"GET", "/api/v1/prices", "2001:db8::1", 0, 200},
		{"GET", "/ws/stats", "2001:db8::2", 0, 200},
		{"GET", "/api/v1/assets", "2001:db8::3", 0, 429},
		{"POST", "/api/v1/tickets", "2001:db8::3", 0, 429},
		{"POST", "/api/v1/publish", "2001:db8::3", 0, 429}, // without a token
		{"GET", "/api/v1/history/prices", "2001:db8::3", 0, 429},
		{"GET", "/healthz", "2001:db8::3", 0, 200},
		{"GET", "/readyz", "2001:db8::3", 0, 200},
		{"GET", "/ws", "2001:db8::3", 0, 400}, // no upgrade: not counted here
		{"GET", "/api/v1/prices", "2001:db8:0:1::1", 0, 200},
		{"GET", "/api/v1/prices", "192.0.2.1", 0, 200},
		{"GET", "/api/v1/prices", "2001:db8::1", 5 * time.Second, 429},
		{"GET", "/api/v1/prices", "2001:db8::1", time.Second, 200},
		{"GET", "/api/v1/prices", "2001:db8::1", 0, 429},
	} {
		clock.Add(int64(tt.later))
		w := from(h, tt.method, tt.path, tt.addr)
		if w.Code != tt.want {
			t.Errorf("%s %s of %s: got %d %s, want %d", tt.method, tt.path, tt.addr, w.Code, w.Body, tt.want)
		}
		if tt.want == 429 && (w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), `"code":"RATE_LIMITED"`)) {
			t.Errorf("%s %s: %v %s does not say when to come back", tt.method, tt.path, w.Header(), w.Body)
		}
	}
	if n := h.Counts().Refused[protocol.RateLimited]; n != 6 {
		t.Errorf("%d refusals are counted, want 6", n)
	}
}

// Reload switches the limit off and on.
func TestRequestsReload(t *testing.T) {
	var clock atomic.Int64
	h := newHarness(t, few(&clock))
	cfg := DefaultConfig()
	cfg.Proxy.BehindProxy = []string{"10.0.0.0/8"}
	var got []int
	for _, n := range []int{0, 0, 0, 0, 5, 5} { // of five a minute one at once
		cfg.Limits.RequestsPerMinutePerIP = n
		if err := h.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		got = append(got, from(h, "GET", "/api/v1/prices", "192.0.2.1").Code)
	}
	if want := "[200 200 200 200 200 429]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
	cfg.Limits.RequestsPerMinutePerIP = -1
	if err := h.Reload(cfg); err == nil || !strings.Contains(err.Error(), "limits.requests_per_minute_per_ip is -1") {
		t.Errorf("got %v", err)
	}
}

// Publishers are not slowed, not even where others flood; bad tokens are.
func TestPublishersAreNotCounted(t *testing.T) {
	var clock atomic.Int64
	h := newHarness(t, few(&clock))
	publish := func(token string) int {
		return from(h, "POST", "/api/v1/publish", "192.0.2.1", "Authorization", "Bearer "+token).Code
	}
	for range 5 {
		if code := publish("ann:*"); code != 200 {
			t.Fatalf("a publisher got %d", code)
		}
	}
	var got []int
	for _, token := range []string{"ann:", "forged", "forged", "ann:*", "forged"} {
		got = append(got, publish(token))
	}
	if want := "[403 401 429 200 429]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// checks counts what is verified and redeemed.
type checks struct {
	tokens
	booth
	verified, redeemed atomic.Int64
}

func (c *checks) Verify(token string, now time.Time) (*protocol.Grant, error) {
	c.verified.Add(1)
	return c.tokens.Verify(token, now)
}

func (c *checks) Redeem(ticket string, now time.Time) (*protocol.Grant, error) {
	c.redeemed.Add(1)
	return c.booth.Redeem(ticket, now)
}

// At the door an address pays for what is forged, and when it floods nothing
// more is verified and no ticket spent. Good tokens cost it nothing.
func TestForgedAtTheDoor(t *testing.T) {
	var clock atomic.Int64
	c := new(checks)
	h := newHarness(t, func(cfg *Config, p *Parts) { few(&clock)(cfg, p); p.Tokens, p.Tickets = c, c })
	addr := h.serve(t)
	door := func(target, token string) int {
		t.Helper()
		resp, _ := ask(t, addr, upgradeLines("GET "+target+" HTTP/1.1", "Authorization", token, "X-Forwarded-For", "192.0.2.1"))
		<-h.served
		return resp.StatusCode
	}
	if w := from(h, "POST", "/api/v1/tickets", "192.0.2.9", "Authorization", "Bearer ann:"); w.Code != 200 {
		t.Fatalf("a ticket: %d %s", w.Code, w.Body)
	}
	for range 5 {
		if code := door("/ws", "Bearer ann:"); code != 101 {
			t.Fatalf("a good token: got %d", code)
		}
	}
	for range 2 {
		if code := door("/ws", "Bearer forged"); code != 101 { // told inside
			t.Fatalf("the first forged ones: got %d", code)
		}
	}
	verified := c.verified.Load()
	for _, x := range [][2]string{{"/ws", "Bearer forged"}, {"/ws", "Bearer ann:"}, {"/ws?ticket=ticket-ann", ""}} {
		if code := door(x[0], x[1]); code != 429 {
			t.Errorf("%s with %q in a flood: got %d, want 429", x[0], x[1], code)
		}
	}
	if n := c.verified.Load() - verified; n != 0 || c.redeemed.Load() != 0 {
		t.Errorf("%d tokens verified and %d tickets spent for a flood", n, c.redeemed.Load())
	}
	if code := door("/ws", ""); code != 101 {
		t.Errorf("without a token: got %d, want 101", code)
	}
	clock.Add(int64(6 * time.Second))
	if code := door("/ws?ticket=ticket-ann", ""); code != 101 || c.redeemed.Load() != 1 || h.Counts().TicketsRedeemed != 1 {
		t.Errorf("the ticket after the flood: got %d, %d redeemed", code, c.redeemed.Load())
	}
}

// Many addresses do not fill memory.
func TestRequestersAreBounded(t *testing.T) {
	r := NewRegistry(DefaultConfig().Limits)
	for i := range 3 * mostRequesters {
		if err := r.Request(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), second); err != nil {
			t.Fatalf("address %d: %v", i, err)
		}
	}
	if n := len(r.requests.young) + len(r.requests.old); n > 2*mostRequesters {
		t.Errorf("%d addresses are remembered, want %d at most", n, 2*mostRequesters)
	}
	if n := len(r.rates.young) + len(r.parties); n != 0 {
		t.Errorf("requests count as %d connects", n)
	}
	for i := range 200 {
		if err := r.Request(home, second); (err == nil) != (i < 120) {
			t.Fatalf("request %d: %v, want 120 at once", i+1, err)
		}
	}
	r.Forgive(home)
	if err := r.Request(home, second); err != nil {
		t.Errorf("after one was forgiven: %v", err)
	}
	if b := r.requests.bucket(r.names.address(home)); b == (limit.Bucket{}) {
		t.Error("the address is not counted")
	}
}

// The numbers of /ws/stats are asked for once a second, however many look.
func TestStatsAreShared(t *testing.T) {
	var asked, clock atomic.Int64
	clock.Store(noon.UnixNano())
	h := newHarness(t, func(c *Config, p *Parts) {
		unlimited(c, p)
		p.Now = func() time.Time { return time.Unix(0, clock.Load()) }
		p.Stats = func() any { return asked.Add(1) }
	})
	var got []string
	for _, later := range []time.Duration{0, 0, 999 * time.Millisecond, time.Millisecond, 0, -time.Hour, time.Second} {
		clock.Add(int64(later))
		got = append(got, from(h, "GET", "/ws/stats", "").Body.String())
	}
	if want := "[1 1 1 2 2 3 4]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}
