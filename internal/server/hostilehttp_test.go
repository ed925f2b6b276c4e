package server

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"cryptointel/internal/frame"
	"cryptointel/protocol"
)

// hostileBytes is random but the same each time.
func hostileBytes(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 6455))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// TestHostileDoor is attacks before the upgrade.
func TestHostileDoor(t *testing.T) {
	hostileRun(t, nil, []hostileAttack{
		{"garbage", hostileNoHTTP},
		{"a TLS handshake", func(t *testing.T, h *hostile) {
			c := rfcTCP(t, h.Addr())
			defer c.Close()
			err := tls.Client(c, &tls.Config{ServerName: "localhost"}).HandshakeContext(t.Context())
			var plain tls.RecordHeaderError
			if !errors.As(err, &plain) || string(plain.RecordHeader[:]) != "HTTP/" {
				t.Errorf("got %v, want an answer in HTTP", err)
			}
		}},
		{"requests that smuggle", hostileRequests},
		{"leaving at every stage", hostileLeaving},
	})
}

// hostileNoHTTP sends what is no HTTP.
func hostileNoHTTP(t *testing.T, h *hostile) {
	inputs := []string{"\x00", "\n\n\n\n", "GET /\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n", "EHLO example\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"}
	for seed := range 20 {
		inputs = append(inputs, string(hostileBytes(uint64(seed), 512)))
	}
	for _, in := range inputs {
		c := rfcTCP(t, h.Addr())
		c.send(t, []byte(in))
		_ = c.Conn.(*net.TCPConn).CloseWrite()
		got, err := io.ReadAll(c.r)
		if err != nil || len(got) > 0 && !strings.HasPrefix(string(got), "HTTP/1.1 4") && !strings.HasPrefix(string(got), "HTTP/1.1 505") {
			t.Errorf("%.40q: got %.80q, %v", in, got, err)
		}
		c.Close()
	}
}

// hostileRequests sends requests that a proxy could understand in another way
// than the server. Each must be refused, and nothing of it may be answered as
// a request of its own.
func hostileRequests(t *testing.T, h *hostile) {
	const (
		get    = "GET /ws HTTP/1.1\r\nHost: a\r\n"
		up     = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
		inside = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
	)
	tests := []struct{ name, in, status string }{
		{"two lengths", get + up + "Content-Length: 0\r\nContent-Length: 5\r\n\r\n" + inside, "400"},
		{"a negative length", get + up + "Content-Length: -1\r\n\r\n" + inside, "400"},
		{"a length that is no number", get + up + "Content-Length: 0x10\r\n\r\n" + inside, "400"},
		{"a length with a sign", get + up + "Content-Length: +5\r\n\r\n" + inside, "400"},
		{"a body", get + up + "Content-Length: 38\r\n\r\n" + inside, "400"},
		{"chunked and a length", get + up + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + inside, "400"},
		{"an unknown coding", get + up + "Transfer-Encoding: xchunked\r\n\r\n" + inside, "501"},
		{"chunked twice", get + up + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inside, "501"},
		{"a space before the colon", get + up + "Content-Length : 5\r\n\r\n" + inside, "400"},
		{"a NUL in a value", get + up + "X: a\x00b\r\n\r\n" + inside, "400"},
		{"a NUL in a name", get + up + "X\x00: a\r\n\r\n" + inside, "400"},
		{"a bare CR in a value", get + up + "X: a\rTransfer-Encoding: chunked\r\n\r\n" + inside, "400"},
		{"a line without a colon", get + up + "nonsense\r\n\r\n" + inside, "400"},
		{"an empty name", get + up + ": x\r\n\r\n" + inside, "400"},
		{"no host", "GET /ws HTTP/1.1\r\n" + up + "\r\n", "400"},
		{"two hosts", get + "Host: b\r\n" + up + "\r\n", "400"},
		{"a host that is none", "GET /ws HTTP/1.1\r\nHost: a b\r\n" + up + "\r\n", "400"},
		{"a version that does not exist", "GET /ws HTTP/1.2\r\nHost: a\r\n" + up + "\r\n", "505"},
		{"no version", "GET /ws\r\nHost: a\r\n" + up + "\r\n", "400"},
		{"a method that is none", "G(ET /ws HTTP/1.1\r\nHost: a\r\n" + up + "\r\n", "400"},
		{"a tab in the path", "GET /ws\t/x HTTP/1.1\r\nHost: a\r\n" + up + "\r\n", "400"},
		{"a header of 20 KiB", get + up + "X: " + rfcRepeat("x", 20<<10) + "\r\n\r\n", "431"},
		{"a thousand headers", get + up + rfcRepeat("X-Y: z\r\n", 24000) + "\r\n", "431"},
		{"no upgrade", get + "\r\n", "400"},
	}
	for _, tt := range tests {
		c := rfcTCP(t, h.Addr())
		c.send(t, []byte(tt.in))
		_ = c.Conn.(*net.TCPConn).CloseWrite()
		b, err := io.ReadAll(c.r)
		got := string(b)
		if err != nil || !strings.HasPrefix(got, "HTTP/1.1 "+tt.status) {
			t.Errorf("%s: got %.60q, %v, want %s", tt.name, got, err, tt.status)
		}
		if strings.Contains(got, "HTTP/1.1 200") || strings.Contains(got, "HTTP/1.1 101") {
			t.Errorf("%s: something was answered that was none of the request: %q", tt.name, got)
		}
		c.Close()
	}
}

// hostileLeaving goes away at every stage of a connection, in order and by a
// reset.
func hostileLeaving(t *testing.T, h *hostile) {
	frames := rfcBytes{}.text(`{"type":"subscribe","channels":["price:*","signals:all"]}`).
		text(`{"type":"auth","token":"x.y.z"}`).say(frame.Ping, "").part(frame.Text, "{").say(frame.Close, "\x03\xe8")
	in := rfcBytes(rfcRequest).raw(string(frames))
	for _, reset := range []bool{false, true} {
		for at := 0; at <= len(in); at++ {
			c := rfcTCP(t, h.Addr())
			c.send(t, in[:at])
			if at >= len(rfcRequest) && at%2 == 0 { // with and without reading
				c.upgraded(t)
			}
			if reset {
				if err := c.Conn.(*net.TCPConn).SetLinger(0); err != nil {
					t.Fatal(err)
				}
			}
			c.Close()
		}
	}
	// Behind the server's close, without answering it.
	for range 10 {
		c := rfcDial(t, h.Addr())
		c.send(t, rfcBytes{}.first(0xff, ""))
		for f := (rfcFrame{}); f.Op != frame.Close; {
			var err error
			if f, err = c.next(); err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
	}
}

// TestHostileSlowHandshake opens sockets and does not get on.
func TestHostileSlowHandshake(t *testing.T) {
	quick := func(c *Config) { c.Limits.Door.HandshakeTimeout = 50 * time.Millisecond }
	hostileRun(t, quick, []hostileAttack{{"too slow", func(t *testing.T, h *hostile) {
		var conns []*rfcConn
		for i := range 100 {
			c := rfcTCP(t, h.Addr())
			c.send(t, []byte(rfcRequest)[:i])
			conns = append(conns, c)
		}
		for i, c := range conns {
			got, err := io.ReadAll(c.r)
			if err != nil || strings.Contains(string(got), " 101 ") {
				t.Errorf("after %d bytes: got %q, %v, want the end", i, got, err)
			}
			c.Close()
		}
	}}})
}

// TestHostilePending opens more sockets than one address may have without an
// upgrade.
func TestHostilePending(t *testing.T) {
	const most = 8
	few := func(c *Config) { c.Gateway.PendingPerIP = most }
	hostileRun(t, few, []hostileAttack{{"too many", func(t *testing.T, h *hostile) {
		var conns []*rfcConn
		for range most {
			c := rfcTCP(t, h.Addr())
			c.send(t, []byte("GET"))
			conns = append(conns, c)
		}
		if status := hostileTry(t, h); status != http.StatusServiceUnavailable {
			t.Errorf("got %d, want 503", status)
		}
		h.check(t)
		for _, c := range conns {
			c.Close()
		}
		for end := time.Now().Add(rfcPatience); hostileTry(t, h) != http.StatusSwitchingProtocols; {
			if time.Now().After(end) {
				t.Fatal("the places of those that left are not free again")
			}
		}
	}}})
}

// hostileTry is the answer to an upgrade; the connection is closed.
func hostileTry(t *testing.T, h *hostile) (status int) {
	t.Helper()
	c := rfcTCP(t, h.Addr())
	defer c.Close()
	// A server that has no place answers without reading, so the write may
	// fail.
	_, _ = io.WriteString(c, rfcRequest)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	return resp.StatusCode
}

// TestHostileConnections opens more connections than one address may have: told
// so and closed, while those that are open stay.
func TestHostileConnections(t *testing.T) {
	few := func(c *Config) { c.Limits.Door.ConnectionsPerIP = 3 } // the witness is one
	hostileRun(t, few, []hostileAttack{{"too many", func(t *testing.T, h *hostile) {
		a, b := rfcDial(t, h.Addr()), rfcDial(t, h.Addr())
		for range 20 {
			c := rfcDial(t, h.Addr())
			c.ends(t, protocol.ConnectionFull)
			c.Close()
		}
		a.subscribe(t, "test:a")
		b.subscribe(t, "test:b")
		a.Close()
		b.Close()
	}}})
}
