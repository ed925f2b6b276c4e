package gateway

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// raw sends bytes, says that there are no more, and returns all that comes
// back.
func raw(t *testing.T, addr, sent string) string {
	t.Helper()
	c := dial(t, addr)
	// A server that refuses early may close while this is still writing.
	_, _ = io.WriteString(c, sent)
	_ = c.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(c)
	if err != nil && len(got) == 0 {
		t.Fatalf("%.60q: %v", sent, err)
	}
	return string(got)
}

// answers are the status codes in what came back.
func answers(got string) (codes []string) {
	for _, line := range strings.Split(got, "\r\n") {
		if i := strings.Index(line, "HTTP/1.1 "); i >= 0 && len(line) >= i+12 { // behind a body without a newline
			codes = append(codes, line[i+9:i+12])
		}
	}
	return codes
}

// What a proxy could take for one request and this server for two, or the other
// way round, is refused; nothing inside is answered as a request of its own.
func TestSmuggling(t *testing.T) {
	const (
		inside = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
		post   = "POST /api/v1/publish HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ann:*\r\n"
		ticket = "POST /api/v1/tickets HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ann:*\r\n"
	)
	tests := []struct{ name, sent, want string }{
		{"two lengths", post + "Content-Length: 0\r\nContent-Length: 36\r\n\r\n" + inside, "400"},
		{"two lengths in one", post + "Content-Length: 0, 36\r\n\r\n" + inside, "400"},
		{"a length with a sign", post + "Content-Length: +36\r\n\r\n" + inside, "400"},
		{"a length in hex", post + "Content-Length: 0x24\r\n\r\n" + inside, "400"},
		{"an endless length", post + "Content-Length: 99999999999999999999\r\n\r\n" + inside, "400"},
		{"an unknown coding", post + "Transfer-Encoding: xchunked\r\n\r\n" + inside, "501"},
		{"chunked and more", post + "Transfer-Encoding: chunked, gzip\r\n\r\n" + inside, "501"},
		{"chunked twice", ticket + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inside, "501"},
		{"a space before the colon", post + "Transfer-Encoding : chunked\r\n\r\n" + inside, "400"},
		{"a folded header", post + "X: a\r\n Transfer-Encoding: chunked\r\n\r\n" + inside, "400 200"}, // the fold is a part of X
		{"a bare CR", post + "X: a\rTransfer-Encoding: chunked\r\n\r\n" + inside, "400"},
		{"a NUL", post + "X: a\x00\r\n\r\n" + inside, "400"},
		{"a chunk size with a sign", post + "Transfer-Encoding: chunked\r\n\r\n+1\r\na\r\n0\r\n\r\n" + inside, "400"},
		{"a chunk that is longer than it says", post + "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n" + inside, "400"},
		{"a body that ends early", post + "Content-Length: 9\r\n\r\n{}", "400"},
		{"one request behind another is two", ticket + "Content-Length: 2\r\n\r\n{}" + inside, "200 200"},
		{"a body of a GET is no request", "GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 36\r\n\r\n" + inside, "200"},
	}
	h := newHarness(t, ticketed)
	addr := h.serve(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := strings.Join(answers(raw(t, addr, tt.sent)), " "); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	if n := len(h.sink.states) + len(h.sink.log) + len(h.sink.prices); n > 0 {
		t.Errorf("%d publications came of it", n)
	}
}

func TestFloods(t *testing.T) {
	const (
		head = "GET /healthz HTTP/1.1\r\nHost: a\r\n"
		post = "POST /api/v1/publish HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ann:*\r\n"
	)
	chunks := "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("10000\r\n"+strings.Repeat(" ", 0x10000)+"\r\n", 18) + "0\r\n\r\n"
	tests := []struct{ name, sent, want string }{
		{"one long header", head + "X: " + strings.Repeat("x", 20<<10) + "\r\n\r\n", "431"},
		{"many headers", head + strings.Repeat("X: y\r\n", 5000) + "\r\n", "431"},
		{"a header without an end", head + strings.Repeat("x", 1<<20), "431"},
		{"a long address", "GET /" + strings.Repeat("x", 20<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n", "431"},
		{"a header that just fits", head + "X: " + strings.Repeat("x", 15<<10) + "\r\nConnection: close\r\n\r\n", "200"},
		{"a large body that says so", post + "Content-Length: 1048577\r\n\r\n", "413"},
		{"a large body in chunks", post + chunks, "413"},
		{"a compressed body", post + "Content-Encoding: gzip\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}", "400"},
		{"a body of zeros behind a ticket", "POST /api/v1/tickets HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ann:*\r\n" + chunks, "200"},
		{"an expectation that is unknown", post + "Expect: 200-ok\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}", "417"},
		{"trace", "TRACE /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "405"},
		{"connect", "CONNECT evil.example:25 HTTP/1.1\r\nHost: evil.example:25\r\nConnection: close\r\n\r\n", "404"},
		{"a star", "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "404"},
		{"another server's address", "GET http://evil.example/etc/passwd HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "404"},
		{"dots", "GET /healthz/../debug/pprof/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "404"},
		{"HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "404"},
	}
	addr := newHarness(t, ticketed).serve(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := strings.Join(answers(raw(t, addr, tt.sent)), " "); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// A body that trickles, and a client that does not take its answer, end with
// the request's time.
func TestSlowBody(t *testing.T) {
	h := newHarness(t, func(c *Config, p *Parts) { ticketed(c, p); c.RequestTimeout = 100 * time.Millisecond })
	c := dial(t, h.serve(t))
	io.WriteString(c, "POST /api/v1/publish HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ann:*\r\nContent-Length: 1000\r\n\r\n{")
	got, err := io.ReadAll(c)
	if err != nil || strings.Contains(string(got), " 200 ") {
		t.Errorf("got %q, %v, want the end", got, err)
	}
	<-h.served
}

// What an attacker writes into a request comes back as JSON that no browser
// reads as a page, and not in a header.
func TestAnswersAreNoPages(t *testing.T) {
	const script = `<script>alert(1)</script>`
	addr := newHarness(t, withHistory).serve(t)
	for _, target := range []string{
		"/api/v1/history/prices?asset=%3Cscript%3Ealert(1)%3C/script%3E", "/%3Cscript%3Ealert(1)%3C/script%3E",
		"/api/v1/history/prices?asset=bitcoin&%3Cscript%3Ealert(1)%3C/script%3E", "/api/v1/history/prices?asset=a%0d%0aSet-Cookie:%20a=b",
	} {
		got := raw(t, addr, "GET "+target+" HTTP/1.1\r\nHost: a\r\nOrigin: "+script+"\r\nConnection: close\r\n\r\n")
		header, body, _ := strings.Cut(got, "\r\n\r\n")
		if strings.Contains(got, script) || strings.Contains(header, "Set-Cookie") || strings.Contains(body, "\n") ||
			!strings.Contains(header, "Content-Type: application/json") || !strings.Contains(header, "X-Content-Type-Options: nosniff") ||
			!strings.Contains(header, "Content-Security-Policy: default-src 'none'") {
			t.Errorf("%s: got %s", target, got)
		}
	}
}
