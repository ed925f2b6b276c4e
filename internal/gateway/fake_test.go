package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"cryptointel/internal/hub"
	"cryptointel/protocol"
)

// tokens are the fake verifier's: the token "sub:pattern,pattern" publishes
// those patterns.
type tokens struct{}

func (tokens) Verify(token string, _ time.Time) (*protocol.Grant, error) {
	sub, patterns, ok := strings.Cut(token, ":")
	switch {
	case token == "expired":
		return nil, &protocol.Error{Code: protocol.ExpiredToken, Message: "the token has expired"}
	case token == "broken":
		return nil, errors.New("key server is down at 10.1.2.3")
	case !ok:
		return nil, &protocol.Error{Code: protocol.InvalidToken, Message: "the token is not good"}
	}
	g := &protocol.Grant{Subject: sub}
	if patterns != "" {
		g.Publish = strings.Split(patterns, ",")
	}
	if sub == "admin" {
		g.Admin = "read"
	}
	return g, nil
}

// adopted is one connection that the fake adopter was given.
type adopted struct {
	conn  net.Conn
	rest  []byte
	hello hub.Hello
}

type adopters struct {
	got chan adopted
	err error
}

func (a *adopters) Adopt(c net.Conn, rest []byte, h hub.Hello) error {
	if a.err != nil {
		c.Close()
		return a.err
	}
	a.got <- adopted{c, rest, h}
	return nil
}

// sink takes what is published, with offsets from 1.
type sink struct {
	mu     sync.Mutex
	offset int64
	states []protocol.Publication
	prices []Quote
	log    []Entry
	err    error
}

func (s *sink) next() (int64, error) {
	if s.err != nil {
		return 0, s.err
	}
	s.offset++
	return s.offset, nil
}

func (s *sink) Publish(_ context.Context, p *protocol.Publication) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.states = append(s.states, *p)
	return s.next()
}

func (s *sink) Append(_ context.Context, e Entry) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, e)
	return s.next()
}

func (s *sink) Price(_ context.Context, q Quote) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prices = append(s.prices, q)
	return s.next()
}

func (s *sink) Slug(asset string) (string, bool) {
	slug, ok := map[string]string{"bitcoin": "bitcoin", "BTC": "bitcoin", "btc": "bitcoin", "ethereum": "ethereum", "ETH": "ethereum"}[asset]
	return slug, ok
}

// noon is when everything in these tests happens.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// harness is a gateway with fakes around it.
type harness struct {
	*Gateway
	conns *adopters
	sink  *sink
	logs  *lockedBuffer
	// served hears of every request that serve has finished.
	served chan struct{}
}

// lockedBuffer is a log that a test reads while a server writes it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newHarness makes a gateway; change may be nil.
func newHarness(t testing.TB, change func(*Config, *Parts)) *harness {
	t.Helper()
	h := &harness{
		conns:  &adopters{got: make(chan adopted, 64)},
		sink:   &sink{},
		logs:   &lockedBuffer{},
		served: make(chan struct{}, 1024),
	}
	cfg := DefaultConfig()
	parts := Parts{
		Connections: h.conns, Tokens: tokens{},
		States: h.sink, Signals: h.sink, Prices: h.sink,
		Now: func() time.Time { return noon },
		Log: slog.New(slog.NewTextHandler(h.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&cfg, &parts)
	}
	if parts.Registry == nil {
		parts.Registry = NewRegistry(cfg.Limits)
	}
	g, err := New(cfg, parts)
	if err != nil {
		t.Fatal(err)
	}
	h.Gateway = g
	return h
}

// serve starts the gateway's own server on loopback and returns its address.
func (h *harness) serve(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := h.Server()
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r)
		h.served <- struct{}{}
	})
	done := make(chan error, 1)
	go func() { done <- srv.Serve(h.Listen(l)) }()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return l.Addr().String()
}

// dial opens a connection that is closed with the test.
func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// upgradeLines is a good handshake with changes: a value replaces a header, ""
// leaves it out, and a name with a "+" is added beside it.
func upgradeLines(target string, changes ...string) string {
	headers := [][2]string{
		{"Host", "gate.example:8080"}, {"Upgrade", "websocket"}, {"Connection", "Upgrade"},
		{"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}, {"Sec-WebSocket-Version", "13"},
	}
	for i := 0; i+1 < len(changes); i += 2 {
		headers = changeHeader(headers, changes[i], changes[i+1])
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\r\n", target)
	for _, h := range headers {
		if h[1] != "" {
			fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
		}
	}
	return b.String() + "\r\n"
}

func changeHeader(headers [][2]string, name, value string) [][2]string {
	if more, ok := strings.CutSuffix(name, "+"); ok {
		return append(headers, [2]string{more, value})
	}
	for i := range headers {
		if headers[i][0] == name {
			headers[i][1] = value
			return headers
		}
	}
	return append(headers, [2]string{name, value})
}
