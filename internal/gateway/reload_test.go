package gateway

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"cryptointel/protocol"
)

func TestReload(t *testing.T) {
	h := newHarness(t, func(c *Config, p *Parts) { readable(c, p); p.Tickets = new(booth) })
	addr := h.serve(t)
	answer := func(lines ...string) (int, protocol.Code, bool) {
		resp, _ := ask(t, addr, upgradeLines(getWS, lines...))
		if resp.StatusCode != 101 {
			return resp.StatusCode, "", false
		}
		a := <-h.conns.got
		return 101, refusedWith(a), a.hello.Deflate
	}
	page := []string{"Origin", "https://app.example.com", "Sec-WebSocket-Extensions", "permessage-deflate"}
	if status, _, _ := answer(page...); status != 403 {
		t.Errorf("a page that is not listed: got %d", status)
	}
	if status, _, deflate := answer(page[2:]...); status != 101 || !deflate {
		t.Errorf("before: got %d, compressed %v", status, deflate)
	}
	cfg := DefaultConfig()
	cfg.Origins, cfg.Compression, cfg.Limits.ConnectionsPerIP = []string{"https://app.example.com"}, false, 1
	cfg.HighConfidence = 0.5
	if err := h.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	if status, code, deflate := answer(page...); status != 101 || code != protocol.ConnectionFull || deflate {
		t.Errorf("after: got %d %s, compressed %v", status, code, deflate)
	}
	if _, body := post(h, "ann:*", `{"type":"signal_alert","data":{"id":"x","type":"a","confidence":0.6}}`); !strings.Contains(body, "offset") || !h.sink.log[0].Publication.Signal.High {
		t.Errorf("a confidence of 0.6 is not high: %s", body)
	}
	cfg.Origins = []string{"nonsense"}
	if err := h.Reload(cfg); err == nil || !strings.Contains(err.Error(), "origins") {
		t.Errorf("got %v, want an error about origins", err)
	}
	cfg.Origins, cfg.Limits.ConnectionsPerIP = nil, -1
	if err := h.Reload(cfg); err == nil || !strings.Contains(err.Error(), "limits.connections_per_ip") {
		t.Errorf("got %v, want an error about limits", err)
	}
	if status, code, _ := answer(page...); status != 101 || code != protocol.ConnectionFull {
		t.Errorf("after bad ones: got %d %s, want the good one's answer", status, code)
	}
}

// An accept rate that stays keeps what it has counted: reloading in a storm
// must not open the door.
func TestReloadAcceptRate(t *testing.T) {
	h := newHarness(t, func(c *Config, p *Parts) { unlimited(c, p); c.AcceptRate = 2 })
	addr := h.serve(t)
	cfg := DefaultConfig()
	cfg.Limits = Limits{}
	var got []int
	for _, rate := range []int{2, 2, 2, 3, 3, 0, 0} {
		cfg.AcceptRate = rate
		if err := h.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		resp, _ := ask(t, addr, upgradeLines(getWS))
		got = append(got, resp.StatusCode)
	}
	if want := "[101 101 503 101 101 101 101]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// A listener that is open goes by the limits that hold now.
func TestReloadPending(t *testing.T) {
	h := newHarness(t, func(c *Config, _ *Parts) { c.PendingPerIP = 1 })
	l := h.Listen(nil)
	peer := home
	if !l.enter(peer, peer) || l.enter(peer, peer) {
		t.Fatal("the first limit does not hold")
	}
	cfg := DefaultConfig()
	cfg.PendingPerIP = 2
	if err := h.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	if !l.enter(peer, peer) || l.enter(peer, peer) {
		t.Error("the second limit does not hold")
	}
	cfg.Proxy.BehindProxy = []string{peer.String()}
	if err := h.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	if !l.enter(peer, peer) {
		t.Error("a proxy is limited")
	}
}

func TestSetLimits(t *testing.T) {
	r := NewRegistry(Limits{ConnectsPerMinutePerIP: 60, ConnectsPerMinutePerUser: 60, ConnectionsPerUser: 1, MaxConnections: 4})
	admit := func(now protocol.Time) protocol.Code {
		if _, err := r.AdmitIP(home, now); err != nil {
			return err.Code
		}
		return ""
	}
	claimAs := func(now protocol.Time) protocol.Code {
		_, got := claim(r, ClaimRequest{User: "ann"}, now)
		return got.Code
	}
	now := 1000 * second
	got := []protocol.Code{admit(now), claimAs(now), claimAs(now)}
	r.SetLimits(Limits{ConnectsPerMinutePerIP: 1, ConnectsPerMinutePerUser: 60, ConnectionsPerUser: 2, MaxConnections: 3})
	got = append(got, admit(now), claimAs(now), admit(now+2*protocol.Minute))
	r.SetLimits(Limits{})
	got = append(got, admit(now), admit(now), claimAs(now), claimAs(now))
	// What was charged at the old rate leaves no room at the new, lower one.
	want := []protocol.Code{"", "", protocol.ConnectionFull, protocol.RateLimited, "", protocol.ConnectionFull, "", "", "", ""}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if r.Open() != 7 {
		t.Errorf("%d open, want 7", r.Open())
	}
}

// A refund at another rate than the charge neither stays owed nor becomes a
// credit.
func TestSetLimitsAndRefund(t *testing.T) {
	r := NewRegistry(Limits{ConnectsPerMinutePerIP: 60})
	now := 1000 * second
	owner, _ := r.AdmitIP(home, now)
	r.SetLimits(Limits{ConnectsPerMinutePerIP: 2})
	if _, got := claim(r, ClaimRequest{User: "ann", Owner: owner}, now); got.Code != "" {
		t.Fatalf("refused: %s", got.Code)
	}
	admitted := 0
	for range 5 {
		if _, err := r.AdmitIP(home, now); err == nil {
			admitted++
		}
	}
	if admitted != 2 {
		t.Errorf("%d were admitted, want 2", admitted)
	}
}

// For the race detector: requests of every kind while the configuration and
// the limits change.
func TestReloadWhileServing(t *testing.T) {
	h := newHarness(t, func(c *Config, p *Parts) { withHistory(c, p); p.Tickets = new(booth); p.History = nil })
	l := h.Listen(nil)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, path := range []string{"/ws/stats", "/ws?token=x", "/api/v1/tickets", "/api/v1/publish"} {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				r := httptest.NewRequest("POST", path, strings.NewReader(`{"type":"signal_alert","data":{"id":"x","type":"a","confidence":0.6}}`))
				r.Header.Set("Authorization", "Bearer ann:*")
				r.Header.Set("Origin", "https://app.example.com")
				h.ServeHTTP(httptest.NewRecorder(), r)
				h.clientAddr(r)
				if owner, err := h.parts.Registry.AdmitIP(home, protocol.Time(time.Now().UnixNano())); err == nil {
					h.parts.Registry.Release(owner)
				}
				if l.enter(home, home) {
					l.exit(home)
				}
			}
		})
	}
	for i := range 200 {
		cfg := DefaultConfig()
		cfg.AcceptRate, cfg.Limits.ConnectionsPerIP = i%3, i%5
		cfg.Origins = []string{"*", "https://app.example.com"}[i%2:][:1]
		cfg.Proxy.BehindProxy = []string{"192.0.2.0/24", "10.0.0.0/8"}[i%2:]
		if err := h.Reload(cfg); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
	if open := h.parts.Registry.Open(); open != 0 {
		t.Errorf("%d open", open)
	}
}
