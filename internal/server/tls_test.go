package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cryptointel/internal/eventloop"
	"cryptointel/internal/gateway"
)

// A wss is a server that ends TLS, and what its clients need to trust it.
type wss struct {
	*Server
	files  gateway.TLS
	client *tls.Config
}

// tlsName is the host that the first certificate is for.
const tlsName = "stream.test"

// tlsKinds are the event loops that take TLS.
var tlsKinds = []string{eventloop.KindAuto, eventloop.KindPortable}

// tlsWrite makes a certificate for name, signed by itself, and writes it with
// its key.
func tlsWrite(t testing.TB, files gateway.TLS, name string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	tlsFile(t, files.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	tlsFile(t, files.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func tlsFile(t testing.TB, file string, b []byte) {
	t.Helper()
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// tlsBegin runs a server with a certificate until the test ends.
func tlsBegin(t testing.TB, kind string, log *slog.Logger, change func(*Config)) *wss {
	t.Helper()
	dir := t.TempDir()
	w := &wss{files: gateway.TLS{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}}
	roots := x509.NewCertPool()
	roots.AddCert(tlsWrite(t, w.files, tlsName))
	w.client = &tls.Config{RootCAs: roots, ServerName: tlsName}
	cfg := testConfig(kind)
	cfg.TLS = w.files
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	w.Server = s
	launch(t, s)
	if code, _, body := w.call(t, "GET", "/healthz", "", ""); code != http.StatusOK {
		t.Fatalf("GET /healthz: %d %s", code, body)
	}
	return w
}

// call makes one request over TLS.
func (w *wss) call(t testing.TB, method, path, token, body string) (code int, header http.Header, answer string) {
	t.Helper()
	req, err := http.NewRequest(method, "https://"+w.Addr()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: w.client, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

func (w *wss) connect(t testing.TB) *socket {
	t.Helper()
	return knock{secure: w.client}.in(t, w.Server)
}

// shakes is the state of one handshake, as the client sees it.
func (w *wss) shakes(t testing.TB, cfg *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: patience}, Config: cfg}
	c, err := d.DialContext(t.Context(), "tcp", w.Addr())
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer c.Close()
	return c.(*tls.Conn).ConnectionState(), nil
}

// TestTLS streams over wss, and refuses whom it must in words.
func TestTLS(t *testing.T) {
	for _, kind := range tlsKinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := tlsBegin(t, kind, quiet, nil)
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				cfg := w.client.Clone()
				cfg.MinVersion, cfg.MaxVersion = version, version
				c := knock{secure: cfg}.in(t, w.Server)
				c.subscribe(t, `"test:tls"`)
				hears(t, w.Server, c, "test:tls", fmt.Sprintf(`{"version":%d}`, version))
				c.send(t, `{"type":"ping"}`)
				if m := c.next(t); m.text != `{"type":"pong"}` {
					t.Errorf("TLS %x: got %s, want a pong", version, m.text)
				}
			}
			if _, header, _ := w.call(t, "GET", "/api/v1/assets", "", ""); !strings.HasPrefix(header.Get("Strict-Transport-Security"), "max-age=") {
				t.Errorf("HSTS is %q", header.Get("Strict-Transport-Security"))
			}
			tlsRefusals(t, w)
		})
	}
}

func tlsRefusals(t *testing.T, w *wss) {
	t.Helper()
	old := w.client.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if _, err := w.shakes(t, old); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.1: %v, want to be told of the version", err)
	}
	other := w.client.Clone()
	other.ServerName = "elsewhere.test"
	if _, err := w.shakes(t, other); err == nil || !strings.Contains(err.Error(), tlsName) {
		t.Errorf("another name: %v, want the client to refuse the certificate", err)
	}
	for _, path := range []string{"/ws", "/api/v1/prices"} {
		_, body := knock{path: path}.refused(t, w.Server, http.StatusBadRequest)
		if !strings.Contains(body, "HTTP request to an HTTPS server") {
			t.Errorf("plain %s: %q, want words that a person understands", path, body)
		}
	}
}

// TestTLSRenewal replaces the certificate on disk while clients are connected.
// That the files are looked at with the handshakes, too, is tested beside the
// loader.
func TestTLSRenewal(t *testing.T) {
	t.Parallel()
	w := tlsBegin(t, eventloop.KindAuto, quiet, nil)
	anyone := &tls.Config{InsecureSkipVerify: true}
	shows := func(name string) {
		t.Helper()
		state, err := w.shakes(t, anyone)
		if err != nil || state.PeerCertificates[0].DNSNames[0] != name {
			t.Errorf("a new client sees %v, %v, want %s", state.PeerCertificates, err, name)
		}
	}
	c := w.connect(t)
	c.subscribe(t, `"test:renewal"`)
	shows(tlsName)
	tlsWrite(t, w.files, "renewed.test")
	reloaded(t, w.Server, w.cfg, nil, nil)
	shows("renewed.test")
	hears(t, w.Server, c, "test:renewal", `{"n":1}`)

	tlsFile(t, w.files.Cert, []byte("half a file"))
	next := w.cfg
	next.Limits.Session.Channels = 7
	reloaded(t, w.Server, next, []string{"limits.channels"}, nil) // a pair that is half there stops nothing else
	shows("renewed.test")
	if err := os.Remove(w.files.Key); err != nil {
		t.Fatal(err)
	}
	reloaded(t, w.Server, next, nil, nil)
	shows("renewed.test")
	hears(t, w.Server, c, "test:renewal", `{"n":2}`)
}

// TestTLSFanOut has two hundred clients over TLS follow one channel.
func TestTLSFanOut(t *testing.T) {
	const clients, messages = 200, 20
	t.Parallel()
	w := tlsBegin(t, eventloop.KindPortable, quiet, func(c *Config) { c.Loops = 2 })
	var readers sync.WaitGroup
	for range clients {
		c := w.connect(t)
		c.subscribe(t, `"test:crowd"`)
		readers.Go(func() {
			for n := range messages {
				m, err := c.message()
				if want := fmt.Sprintf(`{"n":%d}`, n); err != nil || string(m.Data) != want {
					t.Errorf("got %s, %v, want %s", m.text, err, want)
					return
				}
			}
		})
	}
	for n := range messages {
		w.say(t, "test:crowd", fmt.Sprintf(`{"n":%d}`, n))
	}
	readers.Wait()
}

// TestTLSDeaf has a client that reads nothing beside one that reads all: what
// is kept for the silent one is bounded, and it is closed in the end.
func TestTLSDeaf(t *testing.T) {
	t.Parallel()
	clock := newHandClock(time.Now())
	w := tlsBegin(t, eventloop.KindPortable, quiet, func(c *Config) { c.Clock = clock })
	deaf, reader := w.connect(t), w.connect(t)
	for _, c := range []*socket{deaf, reader} {
		c.subscribe(t, `"test:deaf"`)
	}
	pad := rfcRepeat("x", 32<<10)
	for n := range 400 { // 12 MiB: more than sockets hold
		data := fmt.Sprintf(`{"n":%d,"pad":%q}`, n, pad)
		hears(t, w.Server, reader, "test:deaf", data)
		if held := tlsStats(t, w).Shard.HeldBytes; held > 256<<10 {
			t.Fatalf("%d bytes are held", held)
		}
	}
	for range 60 {
		clock.now.Add(int64(time.Second))
		w.loops.Wake()
		reader.send(t, `{"type":"ping"}`)
		reader.until(t, func(m said) bool { return m.Type == "pong" })
		if tlsStats(t, w).Shard.Connections == 1 {
			return
		}
	}
	eventually(t, "the silent one gone", func() bool { return tlsStats(t, w).Shard.Connections == 1 })
}

func tlsStats(t testing.TB, w *wss) eventloop.LoopStats {
	t.Helper()
	all, err := w.loops.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all[0]
}

// TestTLSHalfOpen begins handshakes and does not get on: an address has only
// so many, the others of the server go on, and time ends them.
func TestTLSHalfOpen(t *testing.T) {
	const most = 8
	t.Parallel()
	w := tlsBegin(t, eventloop.KindAuto, quiet, func(c *Config) { c.Gateway.PendingPerIP = most })
	c := w.connect(t)
	c.subscribe(t, `"test:half"`)
	pending := func(n int) func() bool {
		return func() bool { open, _ := w.door.Pending(); return open == n }
	}
	eventually(t, "nothing pending", pending(0))
	for i := range most {
		half := rfcTCP(t, w.Addr())
		half.send(t, []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")[:i+1])
		defer half.Close()
	}
	eventually(t, "all that may be pending", pending(most))
	if _, err := w.shakes(t, w.client); err == nil {
		t.Error("one more handshake: no error")
	}
	hears(t, w.Server, c, "test:half", `{}`)
	// The handshake's time ends, five seconds by default; shorter here.
	quick := tlsBegin(t, eventloop.KindAuto, quiet, func(c *Config) { c.Limits.Door.HandshakeTimeout = time.Second })
	half := rfcTCP(t, quick.Addr())
	half.send(t, []byte("\x16\x03\x01\x02\x00\x01"))
	if b, _ := io.ReadAll(half); len(b) > 7 { // an alert at most
		t.Errorf("got %q, want the end", b)
	}
	eventually(t, "nothing pending", func() bool { open, _ := quick.door.Pending(); return open == 0 })
}
