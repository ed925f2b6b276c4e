package gateway

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"cryptointel/protocol"
)

// booth is a fake of the tickets' part: each ticket counts once.
type booth struct {
	mu    sync.Mutex // guards given
	given map[string]*protocol.Grant
	err   error
}

func (b *booth) Issue(grant *protocol.Grant, now time.Time) (string, protocol.Time, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return "", 0, b.err
	}
	if b.given == nil {
		b.given = make(map[string]*protocol.Grant)
	}
	ticket := "ticket-" + grant.Subject
	b.given[ticket] = grant
	return ticket, protocol.Time(now.Add(30 * time.Second).UnixNano()), nil
}

func (b *booth) Redeem(ticket string, _ time.Time) (*protocol.Grant, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	grant := b.given[ticket]
	delete(b.given, ticket)
	switch {
	case b.err != nil:
		return nil, b.err
	case ticket == "late":
		return nil, &protocol.Error{Code: protocol.ExpiredToken, Message: "the ticket has expired"}
	case grant == nil:
		return nil, &protocol.Error{Code: protocol.InvalidToken, Message: "the ticket is not good"}
	}
	return grant, nil
}

func ticketed(c *Config, p *Parts) { unlimited(c, p); p.Tickets = new(booth) }

func askTicket(h http.Handler, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/api/v1/tickets", nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestTickets(t *testing.T) {
	out := func(_ *Config, p *Parts) { p.Tickets = &booth{err: errors.New("no randomness at 10.1.2.3")} }
	large := func(_ *Config, p *Parts) {
		p.Tickets = &booth{err: &protocol.Error{Code: protocol.InvalidToken, Message: "the token is too large for a ticket"}}
	}
	tests := []struct {
		name    string
		change  func(*Config, *Parts)
		headers []string
		status  int
		body    string
	}{
		{"good", ticketed, []string{"Authorization", "Bearer ann:"}, 200, `{"ticket":"ticket-ann","expires_at":1795348830000}`},
		{"no token", ticketed, nil, 401, "UNAUTHORIZED"},
		{"another scheme", ticketed, []string{"Authorization", "Basic YTpi"}, 401, "UNAUTHORIZED"},
		{"bad token", ticketed, []string{"Authorization", "Bearer x"}, 401, "INVALID_TOKEN"},
		{"expired token", ticketed, []string{"Authorization", "Bearer expired"}, 401, "EXPIRED_TOKEN"},
		{"two tokens", ticketed, []string{"Authorization", "Bearer ann:", "Authorization", "Bearer bob:"}, 401, "INVALID_TOKEN"},
		{"a foreign page", ticketed, []string{"Authorization", "Bearer ann:", "Origin", "https://evil.example"}, 403, "FORBIDDEN"},
		{"the part's own trouble", out, []string{"Authorization", "Bearer ann:"}, 500, `"something went wrong here: try again"`},
		{"a token that fits no URL", large, []string{"Authorization", "Bearer ann:"}, 401, "too large"},
		{"not served", unlimited, []string{"Authorization", "Bearer ann:"}, 404, "does not serve"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := askTicket(newHarness(t, tt.change), tt.headers...)
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.body) {
				t.Errorf("got %d %s, want %d with %s", w.Code, w.Body, tt.status, tt.body)
			}
			if strings.Contains(w.Body.String(), "10.1.2.3") || w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("got %s %v", w.Body, w.Header())
			}
		})
	}
}

func TestTicketBody(t *testing.T) {
	h := newHarness(t, ticketed)
	r := httptest.NewRequest(http.MethodPost, "/api/v1/tickets", strings.NewReader(strings.Repeat(" ", 1<<20)))
	r.Header.Set("Authorization", "Bearer ann:")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("got %d %s, want 413", w.Code, w.Body)
	}
}

func TestTicketAtTheDoor(t *testing.T) {
	tests := []struct {
		name, target string
		headers      []string
		change       func(*Config, *Parts)
		user         string
		refused      protocol.Code
		spent        bool
	}{
		{"good", "GET /ws?ticket=ticket-ann HTTP/1.1", nil, ticketed, "ann", "", true},
		{"with an escape in the name", "GET /ws?%74icket=ticket-ann HTTP/1.1", nil, ticketed, "ann", "", true},
		{"unknown", "GET /ws?ticket=ticket-bob HTTP/1.1", nil, ticketed, "", protocol.InvalidToken, false},
		{"expired", "GET /ws?ticket=late HTTP/1.1", nil, ticketed, "", protocol.ExpiredToken, false},
		{"empty", "GET /ws?ticket= HTTP/1.1", nil, ticketed, "", protocol.InvalidToken, false},
		{"two", "GET /ws?ticket=ticket-ann&ticket=ticket-ann HTTP/1.1", nil, ticketed, "", protocol.InvalidToken, false},
		{"beside a token", "GET /ws?ticket=ticket-ann&token=ann%3A HTTP/1.1", nil, ticketed, "", protocol.InvalidToken, false},
		{"beside a header", "GET /ws?ticket=ticket-ann HTTP/1.1", []string{"Authorization", "Bearer bob:"}, ticketed, "bob", "", false},
		{"not a WebSocket key", "GET /ws?ticket=ticket-ann HTTP/1.1", []string{"Sec-WebSocket-Key", ""}, ticketed, "", "", false},
		{"a foreign page", "GET /ws?ticket=ticket-ann HTTP/1.1", []string{"Origin", "https://evil.example"}, ticketed, "", "", false},
		{"not served", "GET /ws?ticket=ticket-ann HTTP/1.1", nil, unlimited, "", protocol.InvalidToken, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t, tt.change)
			askTicket(h, "Authorization", "Bearer ann:")
			resp, body := ask(t, h.serve(t), upgradeLines(tt.target, tt.headers...))
			<-h.served
			if strings.Contains(body+h.logs.String(), "ticket-ann") {
				t.Errorf("the ticket is told: %s\n%s", body, h.logs)
			}
			if resp.StatusCode == http.StatusSwitchingProtocols {
				a := <-h.conns.got
				var user string
				if a.hello.Grant != nil {
					user = a.hello.Grant.Subject
				}
				if got := refusedWith(a); user != tt.user || got != tt.refused {
					t.Errorf("got user %q, refused %q, want %q, %q", user, got, tt.user, tt.refused)
				}
			} else if tt.user != "" || tt.refused != "" {
				t.Errorf("got %d %s, want an upgrade", resp.StatusCode, body)
			}
			if got := h.Counts().TicketsRedeemed == 1; got != tt.spent {
				t.Errorf("spent: %v, want %v", got, tt.spent)
			}
		})
	}
}

// Of many that come with the same ticket at once, one gets in by it.
func TestTicketOnce(t *testing.T) {
	h := newHarness(t, ticketed)
	askTicket(h, "Authorization", "Bearer ann:")
	addr := h.serve(t)
	var wg sync.WaitGroup
	for range 8 {
		c := dial(t, addr)
		wg.Go(func() { io.WriteString(c, upgradeLines("GET /ws?ticket=ticket-ann HTTP/1.1")) })
	}
	wg.Wait()
	granted := 0
	for range 8 {
		if a := <-h.conns.got; a.hello.Grant != nil {
			granted++
		}
	}
	if e := h.Counts(); granted != 1 || e.TicketsIssued != 1 || e.TicketsRedeemed != 1 || e.TicketsRefused != 7 {
		t.Errorf("granted %d, counted %+v", granted, e)
	}
}
