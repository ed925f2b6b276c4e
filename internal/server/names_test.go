package server

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"cryptointel/internal/auth"
	"cryptointel/internal/eventloop"
	"cryptointel/protocol"
)

// verdict is what a subscribe for one channel is answered: the code, and the
// message without the name.
func verdict(t *testing.T, c *socket, channel string) string {
	t.Helper()
	name, err := json.Marshal(channel)
	if err != nil {
		t.Fatal(err)
	}
	c.send(t, `{"type":"subscribe","channels":[%s]}`, name)
	m := c.next(t)
	if m.Type != "error" {
		return m.Type
	}
	return m.Error.Code + " " + strings.ReplaceAll(m.Error.Message, channel, "*")
}

// unlimited lets a connection make as many mistakes as a test has cases.
func unlimited(c *Config) {
	c.Limits.Session.MessagesPerMinute, c.Limits.Session.MessageBurst = 0, 0
}

// TestNothingToEnumerate asks for channels that exist and for such that do
// not, without being allowed either: the answers are the same.
func TestNothingToEnumerate(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			clock := newHandClock(time.Now())
			cfg := testConfig(kind)
			cfg.Clock, cfg.Auth.AnonymousChannels = clock, nil
			unlimited(&cfg)
			s, _ := begin(t, cfg)
			s.say(t, "test:there", `{}`)
			if code, _, body := call(t, "POST", "http://"+s.Addr()+"/api/v1/publish", publisher(t),
				`{"type":"signal_alert","data":{"type":"price_spike","entities":["bitcoin"],"description":"x"}}`); code != http.StatusOK {
				t.Fatalf("publish: %d %s", code, body)
			}
			token := signed(t, auth.TokenRequest{Subject: "u1", Channels: []string{"price:solana"}})
			user := connectWith(t, s, bearing(token))
			for there, not := range map[string]string{
				"price:bitcoin": "price:nope", "price:BTC": "price:NOPE", "signals:type:price_spike": "signals:type:nope",
				"signals:entity:bitcoin": "signals:entity:nope", "test:there": "test:nope", "test:log": "test:lag",
			} {
				a, b := verdict(t, user, there), verdict(t, user, not)
				if a != b || !strings.HasPrefix(a, "FORBIDDEN ") {
					t.Errorf("%s: %q, %s: %q, want both FORBIDDEN in the same words", there, a, not, b)
				}
			}
			strangers := []*socket{connect(t, s), connect(t, s)}
			for i, names := range []string{`"price:bitcoin","test:there"`, `"price:nope","test:nope"`} {
				strangers[i].send(t, `{"type":"subscribe","channels":[%s]}`, names)
				strangers[i].send(t, `{"type":"ping"}`)
				strangers[i].next(t) // the pong: the command waits for a token
			}
			clock.now.Add(int64(11 * time.Second))
			s.loops.Wake()
			a, b := toTheEnd(t, strangers[0]), toTheEnd(t, strangers[1])
			if a != b || !strings.Contains(a, "AUTH_TIMEOUT") {
				t.Errorf("without a token: %q and %q, want the same", a, b)
			}
		})
	}
}

// toTheEnd is all that a client is told, with what happened and no names.
func toTheEnd(t *testing.T, c *socket) (told string) {
	t.Helper()
	for {
		m, err := c.message()
		if err != nil {
			return told + c.closed
		}
		told += m.Type + " " + m.Error.Code + " "
		for _, e := range m.Errors {
			told += e.Code + " "
		}
	}
}

// TestPublishEnumerates has a token publish where it may not, on what exists
// and on what does not.
func TestPublishEnumerates(t *testing.T) {
	t.Parallel()
	s, _ := begin(t, testConfig(eventloop.KindAuto))
	token := signed(t, auth.TokenRequest{Subject: "u1", Publish: []string{"test:mine"}})
	answer := func(body, name string) string {
		code, _, got := call(t, "POST", "http://"+s.Addr()+"/api/v1/publish", token, body)
		var m said
		if err := json.Unmarshal([]byte(got), &m); err != nil {
			t.Fatal(got)
		}
		return fmt.Sprint(code, " ", m.Error.Code, " ", strings.ReplaceAll(m.Error.Message, name, "*"))
	}
	s.say(t, "test:there", `{}`)
	a := answer(`{"type":"market_data","channel":"test:there","data":{}}`, "test:there")
	b := answer(`{"type":"market_data","channel":"test:nope","data":{}}`, "test:nope")
	if a != b || !strings.HasPrefix(a, "403 FORBIDDEN") {
		t.Errorf("test:there: %s, test:nope: %s, want both 403 in the same words", a, b)
	}
	a = answer(`{"type":"signal_alert","data":{"type":"price_spike","description":"x"}}`, "price_spike")
	b = answer(`{"type":"signal_alert","data":{"type":"nope","description":"x"}}`, "nope")
	if a != b || !strings.HasPrefix(a, "403 FORBIDDEN") {
		t.Errorf("price_spike: %s, nope: %s, want both 403 in the same words", a, b)
	}
}

// TestNames asks for names that look like others, and for wildcards that are
// none, with a token that may follow everything.
func TestNames(t *testing.T) {
	t.Parallel()
	cfg := testConfig(eventloop.KindAuto)
	unlimited(&cfg)
	s, _ := begin(t, cfg)
	token := signed(t, auth.TokenRequest{Subject: "u1", Channels: []string{"*"}})
	for _, name := range []string{
		"price:bit\u0441oin", "\u0440rice:bitcoin", "price\uff1abitcoin", "price:bitc\u00f6in", "price:bit\u200bcoin",
		"price:\u202ebitcoin", "price:bitcoin ", " price:bitcoin", "price: bitcoin", "price:bitcoin\n",
		"PRICE:bitcoin", "price:Bitcoin", "Price:btc", "price:%62itcoin", "price:bitcoin/", "price:../bitcoin", "price:",
		"price", ":", "price::bitcoin", "price:bitcoin:", "price:bitcoin:x",
		"*", "**", "*:*", "price:**", "price:bit*", "price:*:*", "price:*:x", "*:bitcoin", "signals:*", "signals:type:*",
		"signals:entity:*", "test:*", "market:*", "system:*", "watchlist:*", "watchlist:you", "watchlist:u2", "replay:1:price:bitcoin",
		"price:>", "$JS.API.INFO", "_INBOX.x", "<script>", "price:<img src=x>", strings.Repeat("a", 200),
	} {
		c := connectWith(t, s, bearing(token)) // ten mistakes in a minute close one
		got := verdict(t, c, name)
		if !strings.HasPrefix(got, "INVALID_CHANNEL ") {
			t.Errorf("%q: %s, want INVALID_CHANNEL", name, got)
		}
		c.conn.Close()
	}
}

// TestMarkupIsText publishes what a browser could take for markup, and asks for
// it by name: it is delivered and answered escaped, as the text it is, and no answer
// over HTTP is a page.
func TestMarkupIsText(t *testing.T) {
	t.Parallel()
	const script = `<script>alert(1)</script>`
	cfg := testConfig(eventloop.KindAuto)
	cfg.Auth.AnonymousChannels = []string{"*"}
	s, _ := begin(t, cfg)
	c := connect(t, s)
	c.subscribe(t, `"signals:all"`)
	c.until(t, func(m said) bool { return m.Type == "caught_up" })
	base, token := "http://"+s.Addr(), publisher(t)
	post := func(body string) (int, string) {
		code, header, answer := call(t, "POST", base+"/api/v1/publish", token, body)
		noPage(t, "publish", header, answer)
		return code, answer
	}
	for _, data := range []string{
		`{"type":"x","description":"x","entities":["` + script + `"]}`,
		`{"type":"` + script + `","description":"x"}`,
		`{"type":"x","description":"x","id":"` + script + `"}`,
		`{"type":"x","description":"x","severity":"` + script + `"}`,
	} {
		if code, answer := post(`{"type":"signal_alert","data":` + data + `}`); code != http.StatusBadRequest {
			t.Errorf("%s: %d %s, want 400", data, code, answer)
		}
	}
	text := fmt.Sprintf(`{"type":"x","title":%q,"description":%q,"sources":[%q]}`, script, script+"\u2028", script)
	if code, answer := post(`{"type":"signal_alert","data":` + text + `}`); code != http.StatusOK {
		t.Fatalf("%d %s", code, answer)
	}
	m := c.next(t)
	var d struct {
		Title, Description string
		Sources            []string
	}
	if err := json.Unmarshal(m.Data, &d); err != nil || d.Title != script || d.Description != script+"\u2028" || d.Sources[0] != script {
		t.Errorf("delivered %s, %v", m.text, err)
	}
	if strings.ContainsAny(m.text, "<>\u2028") {
		t.Errorf("delivered unescaped: %s", m.text)
	}
	c.send(t, `{"type":"subscribe","channels":[%q]}`, "price:"+script)
	if m := c.next(t); m.Type != "error" || strings.ContainsAny(m.text, "<>") {
		t.Errorf("answered unescaped: %s", m.text)
	}
	for _, path := range []string{"/", "/ws", "/ws/stats", "/healthz", "/api/v1/prices", "/api/v1/assets", "/api/v1/history/prices?asset=%3Cscript%3E", "/%3Cscript%3E", "/api/v1/publish"} {
		_, header, body := call(t, "GET", base+path, "", "")
		noPage(t, path, header, body)
	}
}

// noPage checks that an answer cannot run in a browser.
func noPage(t *testing.T, what string, h http.Header, body string) {
	t.Helper()
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	if kind != "application/json" && kind != "text/plain" || h.Get("X-Content-Type-Options") != "nosniff" ||
		!strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'none'") || strings.Contains(body, "<script") {
		t.Errorf("%s: headers %v, body %.200s", what, h, body)
	}
}

// TestLogLinesAreWhole writes line breaks wherever a stranger can get something
// into the log: each line of it is still one of ours.
func TestLogLinesAreWhole(t *testing.T) {
	t.Parallel()
	const forged = "x\n{\"level\":\"ERROR\",\"msg\":\"forged\"}\ntime=2025 level=ERROR msg=forged"
	var book logbook
	odd := es256(t, forged)
	odd.public["use"] = "enc"
	i := newIssuer(t, es256(t, "good"), odd)
	log := slog.New(slog.NewJSONHandler(&book, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w := tlsBegin(t, eventloop.KindPortable, log, func(c *Config) { c.Auth.JWKSURL = i.URL + "/" })
	eventually(t, "a first fetch", func() bool { return w.keys.Status().Fetches > 0 })
	for _, in := range []string{forged, "GET /" + forged + " HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: " + forged + "\r\n\r\n"} {
		c := rfcTCP(t, w.Addr())
		c.send(t, []byte(in))
		c.Close()
	}
	i.answers(func(rw http.ResponseWriter, _ *http.Request) {
		http.Redirect(rw, &http.Request{}, "http://evil.example/"+forged, http.StatusFound)
	})
	c := w.connect(t)
	c.send(t, `{"type":"auth","token":%q}`, es256(t, forged).token(t, "u1"))
	c.end(t)
	eventually(t, "the handshakes in the log", func() bool { return strings.Count(book.String(), "TLS handshake") >= 3 })
	lines := strings.Split(strings.TrimSpace(book.String()), "\n")
	for _, line := range lines {
		var l struct{ Msg string }
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.Msg == "forged" || l.Msg == "" {
			t.Errorf("a line of the log is %q", line)
		}
	}
	if !strings.Contains(book.String(), "forged") {
		t.Errorf("nothing of it got into the log, so nothing was tested:\n%s", book.String())
	}
}

// TestCookiesMeanNothing gives a good token in a cookie: the connection is
// anonymous, and publishing wants a token.
func TestCookiesMeanNothing(t *testing.T) {
	t.Parallel()
	s, _ := begin(t, testConfig(eventloop.KindAuto))
	token := signed(t, auth.TokenRequest{Subject: "u1", Channels: []string{"*"}, Publish: []string{"*"}})
	cookies := strings.Join([]string{"token=" + token, "ticket=" + token, "Authorization=Bearer " + token, "session=" + token}, "; ")
	c := knock{header: http.Header{"Cookie": {cookies}}}.in(t, s)
	c.send(t, `{"type":"status"}`)
	if m := c.next(t); m.Type != protocol.TypeStatus || strings.Contains(m.text, `"user"`) {
		t.Errorf("status: %s, want no user", m.text)
	}
	req, err := http.NewRequest("POST", "http://"+s.Addr()+"/api/v1/publish", strings.NewReader(publishBody))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	req.Header.Set("Cookie", cookies)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("publish with a cookie: %s, want 401", resp.Status)
	}
}

// TestForeignPages knocks as pages of other sites do, over TLS and without.
func TestForeignPages(t *testing.T) {
	t.Parallel()
	w := tlsBegin(t, eventloop.KindPortable, quiet, nil)
	plain, _ := begin(t, testConfig(eventloop.KindAuto))
	for _, s := range []*Server{w.Server, plain} {
		scheme, k := "http://", knock{}
		if s == w.Server {
			scheme, k.secure = "https://", w.client
		}
		host := s.Addr()
		for _, origin := range []string{
			"https://evil.example", "null", "", "file://", scheme + host + ".evil.example", scheme + "evil" + host,
			scheme + "user@" + host, scheme + host + "/path", scheme + "127.0.0.1", scheme + host + "0", "gopher://" + host,
			scheme + host + " ", scheme + host + "," + scheme + host,
		} {
			k.header = http.Header{"Origin": {origin}}
			if _, resp, err := k.try(s); origin == scheme+host+" " {
				_ = resp // white space around a header's value is not part of it
			} else if err != nil || resp.StatusCode != http.StatusForbidden {
				t.Errorf("%q: %v, %v, want 403", origin, resp, err)
			}
		}
		k.header = http.Header{"Origin": {scheme + host, "https://evil.example"}}
		k.refused(t, s, http.StatusForbidden)
		k.header = http.Header{"Origin": {scheme + host}}
		k.in(t, s)
	}
	// The same host's page without TLS may be anybody's on the way.
	knock{secure: w.client, header: http.Header{"Origin": {"http://" + w.Addr()}}}.refused(t, w.Server, http.StatusForbidden)
}

// TestPublicHasNoAdmin looks for the admin listener's routes on the public one.
func TestPublicHasNoAdmin(t *testing.T) {
	t.Parallel()
	cfg := testConfig(eventloop.KindAuto)
	cfg.AdminListen = "127.0.0.1:0"
	s, _ := begin(t, cfg)
	token := signed(t, auth.TokenRequest{Subject: "root", Admin: "write"})
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/heap", "/debug/free", "/admin/", "//metrics", "/ws/../metrics", "/%6detrics"} {
		for _, method := range []string{"GET", "POST"} {
			if code, _, body := call(t, method, "http://"+s.Addr()+path, token, ""); code != http.StatusNotFound {
				t.Errorf("%s %s: %d %.100s, want 404", method, path, code, body)
			}
		}
	}
	if got := adminAs(t, s, token); got != http.StatusOK {
		t.Errorf("the admin listener: %d", got)
	}
}
