package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"cryptointel/protocol"
)

// A knock is an upgrade as a test wants it. Its zero value is the usual one.
type knock struct {
	path   string // with the query; empty is /ws
	from   string // local address
	header http.Header
	secure *tls.Config // nil is without TLS
}

// try upgrades a connection. What is not answered with 101 is returned with its
// body read.
func (k knock) try(s *Server) (*socket, *http.Response, error) {
	d := net.Dialer{Timeout: patience}
	if k.from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(k.from)}
	}
	conn, err := d.Dial("tcp", s.Addr())
	if err != nil {
		return nil, nil, err
	}
	if k.secure != nil {
		conn = tls.Client(conn, k.secure)
	}
	c := &socket{conn: conn, in: bufio.NewReader(conn)}
	resp, err := k.ask(c)
	if err == nil && resp.StatusCode == http.StatusSwitchingProtocols {
		return c, resp, nil
	}
	defer conn.Close()
	if err == nil {
		var body []byte
		body, err = io.ReadAll(resp.Body)
		resp.Body = io.NopCloser(bytes.NewReader(body))
	}
	return nil, resp, err
}

func (k knock) ask(c *socket) (*http.Response, error) {
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	path := k.path
	if path == "" {
		path = "/ws"
	}
	req, err := http.NewRequest("GET", "http://"+c.conn.RemoteAddr().String()+path, nil)
	if err != nil {
		return nil, err
	}
	if k.header != nil {
		req.Header = k.header.Clone()
	}
	for name, value := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket",
		"Sec-Websocket-Version": "13", "Sec-Websocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
	} {
		req.Header.Set(name, value)
	}
	if err := req.Write(c.conn); err != nil {
		return nil, err
	}
	return http.ReadResponse(c.in, req)
}

// in is a socket that was let in, has had its first frame and closes with the
// test.
func (k knock) in(t testing.TB, s *Server) *socket {
	t.Helper()
	c := k.upgraded(t, s)
	if first := c.next(t); first.Type != protocol.TypeStatus {
		t.Fatalf("%s: first frame is %s", k.path, first.text)
	}
	return c
}

// told checks that a connection is let in only to be told why not.
func (k knock) told(t testing.TB, s *Server, closed string) said {
	t.Helper()
	last, got := k.upgraded(t, s).end(t)
	if got != closed || !strings.HasSuffix(closed, " "+last.Error.Code) {
		t.Errorf("%s: closed with %q after %s, want %q", k.path, got, last.text, closed)
	}
	return last
}

func (k knock) upgraded(t testing.TB, s *Server) *socket {
	t.Helper()
	c, resp, err := k.try(s)
	if err != nil || c == nil {
		t.Fatalf("%s: %v %v", k.path, resp, err)
	}
	t.Cleanup(func() { c.conn.Close() })
	return c
}

// refused checks that a connection is not upgraded but answered with this
// status.
func (k knock) refused(t testing.TB, s *Server, status int) (header http.Header, body string) {
	t.Helper()
	c, resp, err := k.try(s)
	if err != nil || c != nil || resp.StatusCode != status {
		t.Fatalf("%s: %v %v, want %d", k.path, resp, err, status)
	}
	b, _ := io.ReadAll(resp.Body)
	return resp.Header, string(b)
}

// launch runs a server that New made until the test ends, or until stop.
func launch(t testing.TB, s *Server) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Error("Run does not end")
		}
	})
	t.Cleanup(stop)
	return stop
}

// eventually asks until the answer is yes. What it waits for is done by other
// goroutines, so it gives way to them.
func eventually(t testing.TB, what string, yes func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !yes(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// say publishes data on a test channel.
func (s *Server) say(t testing.TB, channel, data string) {
	t.Helper()
	if err := s.broker.Publish(publication(channel, data)); err != nil {
		t.Fatal(err)
	}
}

func publication(channel, data string) *protocol.Publication {
	return &protocol.Publication{Channel: channel, Type: protocol.TypeMarket, Data: []byte(data)}
}

// hears checks that a socket that follows a test channel still gets what is
// published there.
func hears(t testing.TB, s *Server, c *socket, channel, data string) {
	t.Helper()
	s.say(t, channel, data)
	c.until(t, func(m said) bool { return m.Channel == channel && string(m.Data) == data })
}
