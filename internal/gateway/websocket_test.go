package gateway

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"cryptointel/protocol"
)

const getWS = "GET /ws HTTP/1.1"

// ask sends a raw request and returns the answer.
func ask(t testing.TB, addr, request string) (*http.Response, string) {
	t.Helper()
	c := dial(t, addr)
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("read the answer: %v", err)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp, ""
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestHandshake(t *testing.T) {
	addr := newHarness(t, unlimited).serve(t)
	const key = "Sec-WebSocket-Key"
	tests := []struct {
		name    string
		request string
		status  int
		header  string // "Name: value" that must be there
		body    string // must be in it
	}{
		{"good", upgradeLines(getWS), 101, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", ""},
		{"connection is a token list", upgradeLines(getWS, "Connection", "keep-alive, UPGRADE"), 101, "Upgrade: websocket", ""},
		{"connection on two lines", upgradeLines(getWS, "Connection", "keep-alive", "Connection+", "upgrade"), 101, "", ""},
		{"upgrade in any case, listed", upgradeLines(getWS, "Upgrade", "h2c, WebSocket"), 101, "", ""},
		{"a query", upgradeLines("GET /ws?a=b HTTP/1.1"), 101, "", ""},
		{"no upgrade", "GET /ws HTTP/1.1\r\nHost: a\r\n\r\n", 400, "Content-Type: text/plain; charset=utf-8", "Expected WebSocket"},
		{"no connection header", upgradeLines(getWS, "Connection", ""), 400, "", "Expected WebSocket"},
		{"connection only begins like upgrade", upgradeLines(getWS, "Connection", "upgraded"), 400, "", "Expected WebSocket"},
		{"post", upgradeLines("POST /ws HTTP/1.1", "Content-Length+", "0"), 405, "Allow: GET", "INVALID_MESSAGE"},
		{"head", upgradeLines("HEAD /ws HTTP/1.1"), 405, "Allow: GET", ""},
		{"http/1.0", upgradeLines("GET /ws HTTP/1.0"), 505, "", "HTTP/1.1"},
		{"old version", upgradeLines(getWS, "Sec-WebSocket-Version", "8"), 426, "Sec-WebSocket-Version: 13", "13"},
		{"no version", upgradeLines(getWS, "Sec-WebSocket-Version", ""), 426, "Sec-WebSocket-Version: 13", ""},
		{"two versions", upgradeLines(getWS, "Sec-WebSocket-Version+", "8"), 426, "Sec-WebSocket-Version: 13", ""},
		{"no key", upgradeLines(getWS, key, ""), 400, "", key},
		{"two keys", upgradeLines(getWS, key+"+", "dGhlIHNhbXBsZSBub25jZQ=="), 400, "", key},
		{"key of 15 bytes", upgradeLines(getWS, key, "dGhlIHNhbXBsZSBub25j"), 400, "", key},
		{"key of 17 bytes", upgradeLines(getWS, key, "dGhlIHNhbXBsZSBub25jZWU="), 400, "", key},
		{"key that is not base64", upgradeLines(getWS, key, "dGhlIHNhbXBsZSBub25jZ!=="), 400, "", key},
		{"key with loose bits", upgradeLines(getWS, key, "dGhlIHNhbXBsZSBub25jZR=="), 400, "", key},
		{"a body", upgradeLines(getWS, "Content-Length+", "3") + "abc", 400, "", "body"},
		{"a chunked body", upgradeLines(getWS, "Transfer-Encoding+", "chunked") + "0\r\n\r\n", 400, "", "body"},
		{"broken subprotocol", upgradeLines(getWS, "Sec-WebSocket-Protocol", "a b"), 400, "", "list of names"},
		{"no such path", upgradeLines("GET /wss HTTP/1.1"), 404, "Content-Type: application/json", "INVALID_MESSAGE"},
		{"huge header", upgradeLines(getWS, "X", strings.Repeat("x", 20<<10)), 431, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := ask(t, addr, tt.request)
			if resp.StatusCode != tt.status || !strings.Contains(body, tt.body) {
				t.Errorf("got %d %q, want %d with %q", resp.StatusCode, body, tt.status, tt.body)
			}
			if name, value, _ := strings.Cut(tt.header, ": "); resp.Header.Get(name) != value {
				t.Errorf("got %s: %q, want %q", name, resp.Header.Get(name), value)
			}
		})
	}
}

// unlimited takes the limits off that a test would run into.
func unlimited(c *Config, _ *Parts) { c.Limits = Limits{} }

func TestSubprotocol(t *testing.T) {
	h := newHarness(t, unlimited)
	addr := h.serve(t)
	tests := []struct {
		name, offered, echoed string
		refused               protocol.Code
	}{
		{"none", "", "", ""},
		{"ours", "cryptointel.v1", "cryptointel.v1", ""},
		{"ours among others", "chat, cryptointel.v1", "cryptointel.v1", ""},
		{"only unknown", "chat, superchat", "chat", protocol.UnsupportedProtocol},
		{"a later version", "cryptointel.v2", "cryptointel.v2", protocol.UnsupportedProtocol},
		{"empty elements", ", ,", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, _ := ask(t, addr, upgradeLines(getWS, "Sec-WebSocket-Protocol", tt.offered))
			if got := resp.Header.Get("Sec-WebSocket-Protocol"); resp.StatusCode != 101 || got != tt.echoed {
				t.Errorf("got %d %q, want 101 %q", resp.StatusCode, got, tt.echoed)
			}
			if got := refusedWith(<-h.conns.got); got != tt.refused {
				t.Errorf("Refuse: got %q, want %q", got, tt.refused)
			}
		})
	}
}

func refusedWith(a adopted) protocol.Code {
	if a.hello.Refuse == nil {
		return ""
	}
	return a.hello.Refuse.Code
}

func TestOrigin(t *testing.T) {
	tests := []struct {
		name    string
		allowed []string
		origin  []string
		status  int
	}{
		{"no origin", nil, nil, 101},
		{"same host", nil, []string{"http://gate.example:8080"}, 101},
		{"same host in capitals", nil, []string{"HTTPS://Gate.Example:8080"}, 101},
		{"another port", nil, []string{"http://gate.example"}, 403},
		{"foreign", nil, []string{"http://evil.example"}, 403},
		{"null", nil, []string{"null"}, 403},
		{"empty", nil, []string{" "}, 403},
		{"host as prefix", nil, []string{"http://gate.example:8080.evil.example"}, 403},
		{"host as suffix", nil, []string{"http://evilgate.example:8080"}, 403},
		{"host as user", nil, []string{"http://gate.example:8080@evil.example"}, 403},
		{"host as path", nil, []string{"http://evil.example/gate.example:8080"}, 403},
		{"another scheme", nil, []string{"file://gate.example:8080"}, 403},
		{"two origins", nil, []string{"http://gate.example:8080", "http://evil.example"}, 403},
		{"listed", []string{"https://app.example.com"}, []string{"https://app.example.com"}, 101},
		{"listed, with the scheme's port", []string{"https://app.example.com:443"}, []string{"https://app.example.com"}, 101},
		{"listed, other scheme", []string{"https://app.example.com"}, []string{"http://app.example.com"}, 403},
		{"listed, as prefix", []string{"https://app.example.com"}, []string{"https://app.example.com.evil.example"}, 403},
		{"listed, as suffix", []string{"https://app.example.com"}, []string{"https://evil-app.example.com"}, 403},
		{"a list replaces same host", []string{"https://app.example.com"}, []string{"http://gate.example:8080"}, 403},
		{"null is not on the list", []string{"https://app.example.com"}, []string{"null"}, 403},
		{"everyone", []string{"*"}, []string{"null"}, 101},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t, func(c *Config, _ *Parts) { c.Origins = tt.allowed })
			var lines []string
			for _, o := range tt.origin {
				lines = append(lines, "Origin+", o)
			}
			resp, _ := ask(t, h.serve(t), upgradeLines(getWS, lines...))
			if resp.StatusCode != tt.status {
				t.Errorf("got %d, want %d", resp.StatusCode, tt.status)
			}
			if open := h.parts.Registry.Open(); tt.status == 403 && open != 0 {
				t.Errorf("a refused origin was charged: %d open", open)
			}
		})
	}
}

// A client may send frames before it has seen the 101: they must reach the
// adopter, which continues on the same socket.
func TestPipelinedBytes(t *testing.T) {
	for _, n := range []int{0, 1, 100, 9000} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			h := newHarness(t, unlimited)
			c := dial(t, h.serve(t))
			want := strings.Repeat("frame bytes ", n/12+1)[:n]
			go func() {
				io.WriteString(c, upgradeLines(getWS)+want)
				c.(*net.TCPConn).CloseWrite()
			}()
			a := <-h.conns.got
			defer a.conn.Close()
			if _, ok := a.conn.(*net.TCPConn); !ok {
				t.Fatalf("adopted a %T, want the socket itself", a.conn)
			}
			more, err := io.ReadAll(a.conn)
			if got := string(a.rest) + string(more); err != nil || got != want {
				t.Errorf("got %d bytes (%d already read), error %v, want %d", len(got), len(a.rest), err, n)
			}
		})
	}
}

func TestTokenAtTheDoor(t *testing.T) {
	tests := []struct {
		name    string
		target  string
		headers []string
		inURL   bool
		user    string // of the grant
		refused protocol.Code
	}{
		{"none", getWS, nil, false, "", ""},
		{"bearer", getWS, []string{"Authorization", "Bearer ann:"}, false, "ann", ""},
		{"bearer in any case", getWS, []string{"Authorization", "BEARER  ann:"}, false, "ann", ""},
		{"another scheme is a proxy's", getWS, []string{"Authorization", "Basic YTpi"}, false, "", ""},
		{"invalid", getWS, []string{"Authorization", "Bearer nonsense"}, false, "", protocol.InvalidToken},
		{"expired", getWS, []string{"Authorization", "Bearer expired"}, false, "", protocol.ExpiredToken},
		{"verifier's own trouble", getWS, []string{"Authorization", "Bearer broken"}, false, "", protocol.InvalidToken},
		{"empty", getWS, []string{"Authorization", "Bearer "}, false, "", protocol.InvalidToken},
		{"two", getWS, []string{"Authorization+", "Bearer ann:", "Authorization+", "Bearer bob:"}, false, "", protocol.InvalidToken},
		{"cookie", getWS, []string{"Cookie", "token=ann:"}, false, "", ""},
		{"in the URL, off", "GET /ws?token=ann%3A HTTP/1.1", nil, false, "", protocol.InvalidToken},
		{"in the URL, on", "GET /ws?token=ann%3A HTTP/1.1", nil, true, "ann", ""},
		{"in the URL, on, invalid", "GET /ws?token=x HTTP/1.1", nil, true, "", protocol.InvalidToken},
		{"another parameter", "GET /ws?token_type=x HTTP/1.1", nil, false, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t, func(c *Config, _ *Parts) { c.TokenInURL = tt.inURL })
			resp, _ := ask(t, h.serve(t), upgradeLines(tt.target, tt.headers...))
			if resp.StatusCode != 101 {
				t.Fatalf("got %d, want 101", resp.StatusCode)
			}
			a := <-h.conns.got
			var user string
			if a.hello.Grant != nil {
				user = a.hello.Grant.Subject
			}
			if got := refusedWith(a); user != tt.user || got != tt.refused {
				t.Errorf("got user %q, refused %q, want %q, %q", user, got, tt.user, tt.refused)
			}
			if len(a.hello.Session) != 16 || a.hello.Owner == 0 {
				t.Errorf("session %q, owner %d", a.hello.Session, a.hello.Owner)
			}
		})
	}
}

func TestConnectLimits(t *testing.T) {
	bearer := []string{"Authorization", "Bearer ann:"}
	tests := []struct {
		name    string
		limits  Limits
		headers []string
		open    int // connections that are let in before
		status  int
		refused protocol.Code // when let in to be told
	}{
		{"address too often", Limits{ConnectsPerMinutePerIP: 2}, nil, 2, 429, ""},
		{"address full", Limits{ConnectionsPerIP: 2}, nil, 2, 101, protocol.ConnectionFull},
		{"user too often", Limits{ConnectsPerMinutePerUser: 2}, bearer, 2, 429, ""},
		{"user full", Limits{ConnectionsPerUser: 2}, bearer, 2, 101, protocol.ConnectionFull},
		{"a user does not count for the address", Limits{ConnectsPerMinutePerIP: 1, ConnectionsPerIP: 1}, bearer, 3, 101, ""},
		{"node full", Limits{MaxConnections: 2}, nil, 2, 101, protocol.ConnectionFull},
		{"node full for a user", Limits{MaxConnections: 2}, bearer, 2, 101, protocol.ConnectionFull},
		{"none", Limits{}, nil, 30, 101, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t, func(c *Config, _ *Parts) { c.Limits = tt.limits })
			addr := h.serve(t)
			for range tt.open {
				ask(t, addr, upgradeLines(getWS, tt.headers...))
				if a := <-h.conns.got; a.hello.Refuse != nil {
					t.Fatalf("refused too early: %v", a.hello.Refuse)
				}
			}
			resp, body := ask(t, addr, upgradeLines(getWS, tt.headers...))
			if resp.StatusCode != tt.status {
				t.Fatalf("got %d %s, want %d", resp.StatusCode, body, tt.status)
			}
			if tt.status == 429 {
				if resp.Header.Get("Retry-After") == "" || !strings.Contains(body, "retry_after_ms") {
					t.Errorf("no Retry-After: %v %s", resp.Header, body)
				}
				return
			}
			if got := refusedWith(<-h.conns.got); got != tt.refused {
				t.Errorf("refused with %q, want %q", got, tt.refused)
			}
		})
	}
}

func TestAcceptRate(t *testing.T) {
	h := newHarness(t, func(c *Config, p *Parts) { unlimited(c, p); c.AcceptRate = 3 })
	addr := h.serve(t)
	for i := range 4 {
		resp, body := ask(t, addr, upgradeLines(getWS))
		want := 101
		if i == 3 {
			want = 503
		}
		if resp.StatusCode != want || want == 503 && resp.Header.Get("Retry-After") == "" {
			t.Errorf("connection %d: got %d %s, want %d", i, resp.StatusCode, body, want)
		}
	}
}

func TestDrainingLetsNobodyIn(t *testing.T) {
	h := newHarness(t, func(_ *Config, p *Parts) {
		p.Ready = func() *protocol.Error { return &protocol.Error{Code: protocol.Draining, Message: "going away"} }
	})
	resp, body := ask(t, h.serve(t), upgradeLines(getWS))
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, "DRAINING") {
		t.Errorf("got %d %q %s", resp.StatusCode, resp.Header.Get("Retry-After"), body)
	}
}

func TestFailedAdoptionReleases(t *testing.T) {
	h := newHarness(t, nil)
	h.conns.err = errors.New("no descriptors")
	c := dial(t, h.serve(t))
	io.WriteString(c, upgradeLines(getWS))
	if _, err := io.ReadAll(c); err != nil {
		t.Fatal(err)
	}
	<-h.served
	if open := h.parts.Registry.Open(); open != 0 {
		t.Errorf("%d shares are still taken", open)
	}
}

// A token must not get into a log, whatever is wrong with the request.
func TestTokensAreNotLogged(t *testing.T) {
	const marker = "SECRETMARKER"
	lost := &adopters{err: errors.New("no descriptors")}
	h := newHarness(t, func(c *Config, p *Parts) {
		unlimited(c, p)
		c.TokenInURL, p.Connections, p.Tickets = true, lost, new(booth)
	})
	h.sink.err = errors.New("the log is down")
	addr := h.serve(t)
	post := func(token, body string) string {
		return "POST /api/v1/publish?token=" + marker + " HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + token +
			"\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	}
	requests := []string{
		upgradeLines("GET /ws?token=" + marker + " HTTP/1.1"),
		upgradeLines("GET /ws?token=" + marker + ": HTTP/1.1"), // adoption fails
		upgradeLines("GET /ws?ticket=" + marker + " HTTP/1.1"),
		"GET /ws?ticket=" + marker + " HTTP/1.1\r\nHost: a\r\n\r\n", // a page in a browser's bar
		upgradeLines("GET /nowhere?token=" + marker + " HTTP/1.1"),
		upgradeLines(getWS, "Authorization", "Bearer "+marker),
		upgradeLines(getWS, "Authorization", "Bearer "+marker, "Sec-WebSocket-Version", "7"),
		post(marker, "{}"),
		post("ann:*", `{"type":"price_update","channel":"test:x","data":{"token":"`+marker+`"}}`),
		"GET /ws?token=" + marker + " HTTP/9.9\r\n\r\n",
		"GET /ws?token=" + marker + "\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
	}
	for i, r := range requests {
		if _, body := ask(t, addr, r); strings.Contains(body, marker) {
			t.Errorf("request %d: the answer has the token: %s", i, body)
		}
	}
	for range 9 { // those that get as far as the handler
		<-h.served
	}
	if logs := h.logs.String(); strings.Contains(logs, marker) || !strings.Contains(logs, "the log is down") ||
		!strings.Contains(logs, "no descriptors") {
		t.Errorf("the log has the token, or too little:\n%s", logs)
	}
}

func TestEcho(t *testing.T) {
	h := newHarness(t, func(_ *Config, p *Parts) { p.Echo = true })
	addr := h.serve(t)
	for _, target := range []string{"GET / HTTP/1.1", "GET /ws HTTP/1.1", "GET /any/path?case=1 HTTP/1.1"} {
		resp, _ := ask(t, addr, upgradeLines(target, "Origin", "http://suite.example"))
		if a := <-h.conns.got; resp.StatusCode != 101 || !a.hello.Echo {
			t.Errorf("%s: got %d, hello %+v", target, resp.StatusCode, a.hello)
		}
	}
}
