package auth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// An endpoint is an issuer's key set behind an HTTP server in memory, so that
// all of it runs on the time of a synctest bubble.
type endpoint struct {
	verifier *Verifier
	keys     *Keys
	stop     func() // ends Run and the server

	mu      sync.Mutex // guards the fields below
	answer  http.HandlerFunc
	down    bool
	fetches int
	log     bytes.Buffer
}

// pipes is a listener of in-memory connections.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

// newEndpoint serves answer to a verifier that knows nothing else, whose Keys
// run. It must be called inside a bubble.
func newEndpoint(t *testing.T, answer http.HandlerFunc, change func(*Config)) *endpoint {
	t.Helper()
	e := &endpoint{answer: answer, down: answer == nil}
	cfg := DefaultConfig()
	cfg.JWKSURL = "http://localhost/keys?secret=marker"
	if change != nil {
		change(&cfg)
	}
	var err error
	if e.verifier, e.keys, err = Open(cfg, slog.New(slog.NewTextHandler(e, nil))); err != nil {
		t.Fatal(err)
	}
	l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	e.keys.client = newClient(func(context.Context, string, string) (net.Conn, error) { return e.dial(l) })
	server := &http.Server{Handler: e, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { server.Serve(l) })
	wg.Go(func() {
		if err := e.keys.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	e.stop = func() { cancel(); server.Close(); wg.Wait() }
	t.Cleanup(e.stop)
	synctest.Wait()
	return e
}

func (e *endpoint) dial(l *pipes) (net.Conn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down {
		e.fetches++
		return nil, errors.New("connection refused")
	}
	ours, theirs := net.Pipe()
	l.conns <- theirs
	return ours, nil
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	e.fetches++
	answer := e.answer
	e.mu.Unlock()
	answer(w, r)
}

// give changes what is served; nil refuses connections.
func (e *endpoint) give(answer http.HandlerFunc) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer, e.down = answer, answer == nil
}

// fetched is how often the endpoint was asked so far.
func (e *endpoint) fetched() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.fetches
}

// Write takes the log.
func (e *endpoint) Write(b []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.log.Write(b)
}

// logged is the log so far; it never has the URL's query.
func (e *endpoint) logged(t *testing.T) string {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.log.String(); strings.Contains(s, "marker") {
		t.Errorf("the log shows the URL's query: %s", s)
	}
	return e.log.String()
}

// serve answers with a key set.
func serve(keys ...any) http.HandlerFunc {
	b, err := json.Marshal(fields{"keys": append([]any{}, keys...)})
	return func(w http.ResponseWriter, _ *http.Request) {
		if err != nil {
			panic(err)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(b)
	}
}

// jwk is the public half of a private key as a JSON Web Key.
func jwk(tb testing.TB, private any, kid string, changes fields) fields {
	tb.Helper()
	text := base64.RawURLEncoding.EncodeToString
	m := fields{"kid": kid, "use": "sig"}
	switch k := private.(type) {
	case *rsa.PrivateKey:
		m["kty"], m["n"], m["e"] = "RSA", text(k.N.Bytes()), text(big.NewInt(int64(k.E)).Bytes())
	case *ecdsa.PrivateKey:
		b, err := k.PublicKey.Bytes()
		if err != nil {
			tb.Fatal(err)
		}
		half := (len(b) - 1) / 2
		m["kty"], m["crv"] = "EC", k.Params().Name
		m["x"], m["y"] = text(b[1:1+half]), text(b[1+half:])
	case ed25519.PrivateKey:
		m["kty"], m["crv"], m["x"] = "OKP", "Ed25519", text(k.Public().(ed25519.PublicKey))
	default:
		tb.Fatalf("no JWK of a %T", private)
	}
	return with(m, changes)
}

// named is a good token of an algorithm's key of these tests.
func named(tb testing.TB, alg, kid string) string {
	tb.Helper()
	return signed(tb, alg, fields{"kid": kid})
}
