package gateway

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"cryptointel/protocol"
)

// blank is an http.ResponseWriter that keeps nothing.
type blank struct{ h http.Header }

func (b *blank) Header() http.Header         { return b.h }
func (b *blank) Write(p []byte) (int, error) { return len(p), nil }
func (b *blank) WriteHeader(int)             {}

// BenchmarkPublish is the handler alone: what a request costs on top of
// net/http.
func BenchmarkPublish(b *testing.B) {
	h := newHarness(b, func(_ *Config, p *Parts) { p.Tokens = oneGrant{}; p.States = nowhere{} })
	body := strings.NewReader("")
	r := httptest.NewRequest(http.MethodPost, "/api/v1/publish", body)
	r.Header.Set("Authorization", "Bearer x")
	w := &blank{h: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		body.Reset(floodMessage)
		clear(w.h)
		r.Body = io.NopCloser(body)
		h.ServeHTTP(w, r)
	}
}

const floodMessage = `{"type":"price_update","channel":"test:c1","data":{"price":1.5,"metadata":{"_fb":"000000000000000000000000000000000","symbol":"test:c1","price":97123.45,"change":-1.25,"pad":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}}}`

type oneGrant struct{}

func (oneGrant) Verify(string, time.Time) (*protocol.Grant, error) {
	return &protocol.Grant{Subject: "bench", Publish: []string{"*"}}, nil
}

type nowhere struct{}

func (nowhere) Publish(context.Context, *protocol.Publication) (int64, error) {
	return 1764678600123456, nil
}

// BenchmarkPublishPipelined is a flood over one socket, net/http included,
// with the client on the same machine.
func BenchmarkPublishPipelined(b *testing.B) {
	h := newHarness(b, func(_ *Config, p *Parts) { p.Tokens = oneGrant{}; p.States = nowhere{} })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := h.Server()
	go srv.Serve(h.Listen(l))
	defer srv.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	request := []byte("POST /api/v1/publish HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\nContent-Type: application/json\r\nContent-Length: " +
		strconv.Itoa(len(floodMessage)) + "\r\n\r\n" + floodMessage)
	answers := bufio.NewReaderSize(c, 64<<10)
	const window = 64
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if _, err := c.Write(request); err != nil {
			b.Fatal(err)
		}
		if n >= window {
			readAnswer(b, answers)
		}
	}
}

func readAnswer(b *testing.B, r *bufio.Reader) {
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			b.Fatal(err)
		}
		if len(line) == 2 {
			break
		}
	}
	if line, err := r.ReadSlice('}'); err != nil || !bytes.HasPrefix(line, []byte(`{"id":`)) {
		b.Fatalf("got %q, %v", line, err)
	}
}

// BenchmarkRegistry10k reports what a connection costs with 10,000 users that
// have an instance each, all within the minute.
func BenchmarkRegistry10k(b *testing.B) {
	users := make([]string, 10_000)
	for i := range users {
		users[i] = "user-" + strconv.Itoa(i)
	}
	b.ReportAllocs()
	for b.Loop() {
		before := heap()
		r := NewRegistry(DefaultConfig().Limits)
		for i, u := range users {
			r.Claim(ClaimRequest{User: u, Instance: "phone", Conn: ConnID(i)}, second)
		}
		b.ReportMetric(float64(heap()-before)/float64(len(users)), "heap-B/conn")
		runtime.KeepAlive(r)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func BenchmarkClaimRelease(b *testing.B) {
	r := NewRegistry(Limits{ConnectionsPerUser: 20})
	req := ClaimRequest{User: "user-123456", Instance: "7b1c-phone", Conn: 7}
	b.ReportAllocs()
	for b.Loop() {
		owner, _, _, _ := r.Claim(req, second)
		r.Release(owner)
	}
}
