package server

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"cryptointel/internal/auth"
	"cryptointel/internal/eventloop"
)

const publishBody = `{"type":"market_data","channel":"test:published","data":{}}`

func signedUser(t testing.TB, user string) string {
	t.Helper()
	return signed(t, auth.TokenRequest{Subject: user})
}

// buy gets a ticket for a token.
func buy(t testing.TB, s *Server, token string) knock {
	t.Helper()
	code, header, body := call(t, "POST", "http://"+s.Addr()+"/api/v1/tickets", token, "")
	var answer struct {
		Ticket    string
		ExpiresAt int64 `json:"expires_at"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || code != http.StatusOK || answer.Ticket == "" {
		t.Fatalf("POST /api/v1/tickets: %d %s", code, body)
	}
	if left := answer.ExpiresAt - s.time().UnixMilli(); left <= 0 || left > 30_000 {
		t.Errorf("the ticket is good for %d ms, want up to 30 s", left)
	}
	if header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control is %q, want no-store", header.Get("Cache-Control"))
	}
	return knock{path: "/ws?ticket=" + url.QueryEscape(answer.Ticket)}
}

// ticketOf is the ticket in a knock.
func ticketOf(k knock) string {
	_, ticket, _ := strings.Cut(k.path, "=")
	return ticket
}

// TestTicket buys tickets with a token and connects with them.
func TestTicket(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s, clock := limited(t, kind, func(*Config) {})
			token := signed(t, auth.TokenRequest{Subject: "u1", Channels: []string{"signals:*"}, Publish: []string{"*"}, Admin: "write"})
			ticket := buy(t, s, token)
			c := ticket.in(t, s)
			c.subscribe(t, `"signals:all"`)
			c.until(t, func(m said) bool { return m.Type == "caught_up" })
			c.send(t, `{"type":"status"}`)
			var status struct{ User string }
			if m := c.next(t); json.Unmarshal(m.Data, &status) != nil || status.User != "u1" {
				t.Errorf("status: %s, want the user u1", m.text)
			}
			const invalid, expired = "4401 INVALID_TOKEN", "4501 EXPIRED_TOKEN"
			if m := ticket.told(t, s, invalid); !strings.Contains(m.Error.Message, "used already") {
				t.Errorf("the second use is told %q", m.Error.Message)
			}
			late := buy(t, s, token)
			clock.now.Add(int64(31 * time.Second))
			if m := late.told(t, s, expired); !strings.Contains(m.Error.Message, "30 s") {
				t.Errorf("the late use is told %q", m.Error.Message)
			}
			for _, path := range []string{"/ws?ticket=", "/ws?ticket=x", "/ws?ticket=" + token, ticket.path + "&token=x", late.path[:len(late.path)-1]} {
				knock{path: path}.told(t, s, invalid)
			}
			hears(t, s, subscribed(t, c, "test:ticket"), "test:ticket", `{}`)
		})
	}
}

func subscribed(t testing.TB, c *socket, channel string) *socket {
	t.Helper()
	c.subscribe(t, `"`+channel+`"`)
	return c
}

// TestTicketIsNoToken tries what a ticket does not allow: publishing, more
// tickets, administration, standing for a token.
func TestTicketIsNoToken(t *testing.T) {
	t.Parallel()
	cfg := testConfig(eventloop.KindAuto)
	cfg.AdminListen = "127.0.0.1:0"
	s, _ := begin(t, cfg)
	token := signed(t, auth.TokenRequest{Subject: "u1", Publish: []string{"*"}, Admin: "write"})
	ticket := ticketOf(buy(t, s, token))
	base := "http://" + s.Addr()
	for _, tt := range []struct {
		name, path, token string
	}{
		{"publish with it as a bearer", "/api/v1/publish", ticket},
		{"publish with it in the URL", "/api/v1/publish?ticket=" + ticket, ""},
		{"publish with a token in the URL", "/api/v1/publish?token=" + token, ""},
		{"a ticket for a ticket", "/api/v1/tickets", ticket},
		{"a ticket for a ticket in the URL", "/api/v1/tickets?ticket=" + ticket, ""},
		{"a ticket for nothing", "/api/v1/tickets", ""},
	} {
		code, header, body := call(t, "POST", base+tt.path, tt.token, publishBody)
		if code != http.StatusUnauthorized || header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s: %d %s, want 401", tt.name, code, body)
		}
	}
	if code, _, body := call(t, "POST", base+"/api/v1/publish", token, publishBody); code != http.StatusOK {
		t.Errorf("publish with the token: %d %s", code, body)
	}
	c := connect(t, s)
	c.send(t, `{"type":"auth","token":%q}`, ticket)
	if _, closed := c.end(t); closed != "4401 INVALID_TOKEN" {
		t.Errorf("auth with a ticket: closed with %s", closed)
	}
	for bearer, want := range map[string]int{token: 200, ticket: 401, signedUser(t, "u2"): 403, "": 401} {
		if got := adminAs(t, s, bearer); got != want {
			t.Errorf("GET /metrics from elsewhere: %d, want %d", got, want)
		}
	}
}

// adminAs asks the admin listener by a name that is not this machine's, so that
// it wants a token.
func adminAs(t *testing.T, s *Server, token string) (code int) {
	t.Helper()
	req, err := http.NewRequest("GET", "http://"+s.AdminAddr()+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host, req.Close = "metrics.example", true
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestTicketKeepsTheTokensBounds counts a connection by ticket for its user,
// and ends it with its token.
func TestTicketKeepsTheTokensBounds(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s, clock := limited(t, kind, func(c *Config) { c.Limits.Door.ConnectionsPerUser = 1 })
			token := signed(t, auth.TokenRequest{Subject: "u1", TTL: 2 * time.Minute})
			c := buy(t, s, token).in(t, s)
			buy(t, s, token).told(t, s, "4503 CONNECTION_FULL")
			c.subscribe(t, `"test:end"`)
			for range 160 { // two minutes and the leeway of half a minute
				clock.now.Add(int64(time.Second))
				s.loops.Wake()
			}
			if _, closed := c.end(t); closed != "4501 EXPIRED_TOKEN" {
				t.Errorf("closed with %s, want 4501 EXPIRED_TOKEN", closed)
			}
		})
	}
}

// A logbook is a log that tests can read while it is written.
type logbook struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// everything is a logger that leaves nothing out.
func (l *logbook) everything() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// TestSecretsAreNotLogged gives tokens and tickets, good and bad, in every way
// there is, and looks for them in the log at its loudest, in all answers and in
// the numbers.
func TestSecretsAreNotLogged(t *testing.T) {
	for _, inURL := range []bool{false, true} {
		var book logbook
		w := tlsBegin(t, eventloop.KindPortable, book.everything(), func(c *Config) {
			c.AdminListen, c.Gateway.TokenInURL = "127.0.0.1:0", inURL
		})
		good := signed(t, auth.TokenRequest{Subject: "marked", Publish: []string{"*"}, Channels: []string{"*"}})
		bad := good[:len(good)-8] + "MARKERXX"
		answers := secretsSent(t, w, good, bad)
		_, _, stats := w.call(t, "GET", "/ws/stats", "", "")
		_, _, metrics := call(t, "GET", "http://"+w.AdminAddr()+"/metrics", "", "")
		if !strings.Contains(book.String(), "TLS handshake") {
			t.Fatalf("the log is not at its loudest:\n%s", book.String())
		}
		for _, part := range append(strings.Split(good, "."), "MARKER", answers.ticket, answers.ticket[30:60], testSecret) {
			for where, text := range map[string]string{"the log": book.String(), "an answer": answers.text, "the stats": stats, "the metrics": metrics} {
				if strings.Contains(text, part) {
					t.Errorf("token in the URL %v: %s has %q in it", inURL, where, part)
				}
			}
		}
	}
}

// A secretAnswers is what came back, and the ticket that was bought.
type secretAnswers struct{ ticket, text string }

// secretsSent gives tokens and a ticket in every way.
func secretsSent(t *testing.T, w *wss, good, bad string) (out secretAnswers) {
	t.Helper()
	_, _, body := w.call(t, "POST", "/api/v1/tickets", good, "")
	var bought struct{ Ticket string }
	if err := json.Unmarshal([]byte(body), &bought); err != nil || bought.Ticket == "" {
		t.Fatalf("a ticket: %s", body)
	}
	out.ticket = bought.Ticket
	for _, token := range []string{good, bad} {
		for _, path := range []string{"/ws", "/api/v1/publish", "/api/v1/tickets", "/nowhere", "/healthz"} {
			if path == "/api/v1/tickets" && token == good {
				continue // the answer is a ticket
			}
			_, _, body := w.call(t, "POST", path+"?token="+token+"&ticket="+token, token, "x")
			out.text += body
		}
		for _, k := range []knock{
			{path: "/ws?token=" + token}, {path: "/ws?ticket=" + token}, {path: "/ws?ticket=" + bought.Ticket},
			{path: "/ws?x=1&token=" + token + "&ticket=" + token}, {path: "/ws?to%6ben=" + token}, {path: "/" + token},
			{header: bearing(token).header}, {header: http.Header{"Authorization": {token}}},
			{header: http.Header{"Authorization": {"Bearer " + token, "Bearer " + token}}},
			{header: http.Header{"Cookie": {"token=" + token}}, path: "/ws?ticket=" + token + "%zz"},
			{header: http.Header{"X": {rfcRepeat(token, 20<<10)}}},
		} {
			plain := k
			_, _, _ = plain.try(w.Server) // to a port that wants TLS
			k.secure = w.client
			out.text += secretKnock(t, w, k)
		}
		c := w.connect(t)
		c.send(t, `{"type":"auth","token":%q,"nonsense":%q}`, token, token)
		c.send(t, `{"type":%q}`, "ping")
		out.text += c.next(t).text
		raw := rfcTCP(t, w.Addr())
		raw.send(t, []byte("GET /ws?token="+token+" HTTP/1.2\r\n\r\n"))
		raw.Close()
	}
	return out
}

// secretKnock is all that is said to one who knocks.
func secretKnock(t *testing.T, w *wss, k knock) (text string) {
	t.Helper()
	c, resp, err := k.try(w.Server)
	if err != nil {
		t.Fatalf("%.60s: %v", k.path, err)
	}
	if c == nil {
		var b bytes.Buffer
		_ = resp.Write(&b)
		return b.String()
	}
	defer c.conn.Close()
	c.send(t, `{"type":"ping"}`)
	for {
		m, err := c.message()
		text += m.text
		if err != nil || m.Type == "pong" {
			return text
		}
	}
}
