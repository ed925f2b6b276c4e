package gateway

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
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
	"testing/synctest"
	"time"
)

// writePair writes a certificate for name, signed by itself, and its key.
func writePair(t testing.TB, files TLS, name string, life time.Duration) {
	t.Helper()
	cert, key := makePair(t, name, life)
	writeFile(t, files.Cert, cert)
	writeFile(t, files.Key, key)
}

func writeFile(t testing.TB, file string, b []byte) {
	t.Helper()
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func makePair(t testing.TB, name string, life time.Duration) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

func pairFiles(t testing.TB) TLS {
	dir := t.TempDir()
	return TLS{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
}

func testLog() (*slog.Logger, *lockedBuffer) {
	logs := new(lockedBuffer)
	return slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug})), logs
}

// served is the name in the certificate that a handshake gets now.
func servedName(t *testing.T, c *Certificate) string {
	t.Helper()
	pair, err := c.current(nil)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf.DNSNames[0]
}

func TestCertificateChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logs := testLog()
		files := pairFiles(t)
		writePair(t, files, "first.example", time.Hour)
		c, err := OpenCertificate(files, log)
		if err != nil {
			t.Fatal(err)
		}
		expect := func(name string, lines int) {
			t.Helper()
			if got := servedName(t, c); got != name {
				t.Errorf("serves %s, want %s", got, name)
			}
			if got := strings.Count(logs.String(), "\n"); got != lines {
				t.Errorf("%d lines in the log, want %d:\n%s", got, lines, logs)
			}
		}
		expect("first.example", 1)
		cert, key := makePair(t, "second.example", 2*time.Hour)
		writeFile(t, files.Cert, cert)
		expect("first.example", 1) // not looked at yet
		time.Sleep(certificateCheck)
		expect("first.example", 2) // half a renewal: the pair does not match
		time.Sleep(certificateCheck)
		expect("first.example", 2) // told once
		writeFile(t, files.Key, key)
		time.Sleep(certificateCheck)
		expect("second.example", 3)
		writeFile(t, files.Key, []byte("nonsense"))
		time.Sleep(certificateCheck)
		expect("second.example", 4)
		os.Remove(files.Key)
		time.Sleep(certificateCheck)
		expect("second.example", 5)
		if err := c.Reload(); err == nil || !strings.Contains(err.Error(), "tls-key") {
			t.Errorf("got %v, want an error about tls-key", err)
		}
		time.Sleep(time.Hour)
		expect("second.example", 5)
		writePair(t, files, "third.example", 24*time.Hour)
		if err := c.Reload(); err != nil {
			t.Error(err)
		}
		expect("third.example", 6)
		if left := time.Until(c.NotAfter()); left < 23*time.Hour || left > 24*time.Hour {
			t.Errorf("expires in %v", left)
		}
	})
}

// On demand the same error is told as often as somebody asks.
func TestReloadKeepsTelling(t *testing.T) {
	log, logs := testLog()
	files := pairFiles(t)
	writePair(t, files, "a.example", -time.Minute)
	c, err := OpenCertificate(files, log)
	if err != nil || !strings.Contains(logs.String(), "has expired") {
		t.Fatalf("got %v, %s, want a warning", err, logs)
	}
	writeFile(t, files.Cert, []byte("nonsense"))
	for range 2 {
		if err := c.Reload(); err == nil || !strings.Contains(err.Error(), files.Cert) {
			t.Errorf("got %v, want an error that names the file", err)
		}
	}
}

func TestOpenCertificate(t *testing.T) {
	log, _ := testLog()
	good, other := pairFiles(t), pairFiles(t)
	writePair(t, good, "a.example", time.Hour)
	writePair(t, other, "b.example", time.Hour)
	swapped := TLS{good.Key, good.Cert}
	for _, tt := range []struct {
		name  string
		files TLS
		says  string
	}{
		{"no key", TLS{Cert: good.Cert}, "tls-key is missing"},
		{"no certificate", TLS{Key: good.Key}, "tls-cert is missing"},
		{"a file that is not there", TLS{good.Cert, "/nowhere/key.pem"}, "tls-key: open /nowhere/key.pem"},
		{"another's key", TLS{good.Cert, other.Key}, "private key"},
		{"swapped", swapped, "PEM"},
	} {
		if c, err := OpenCertificate(tt.files, log); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, %v, want %q", tt.name, c, err, tt.says)
		}
	}
	if !good.On() || (TLS{}).On() || !(TLS{Key: "x"}).On() {
		t.Error("On is wrong")
	}
}

// Many handshakes during a renewal each get one of the two certificates.
func TestCertificateUnderLoad(t *testing.T) {
	log, _ := testLog()
	files := pairFiles(t)
	writePair(t, files, "a.example", time.Hour)
	c, err := OpenCertificate(files, log)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				if pair, err := c.current(nil); err != nil || pair == nil {
					t.Errorf("got %v, %v", pair, err)
				}
			}
		})
	}
	for range 5 {
		writePair(t, files, "b.example", time.Hour)
		if err := c.Reload(); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if got := servedName(t, c); got != "b.example" {
		t.Errorf("serves %s", got)
	}
}

// serveTLS starts the gateway's server with a certificate.
func (h *harness) serveTLS(t testing.TB) (addr string, pool *x509.CertPool, door *Listener) {
	t.Helper()
	files := pairFiles(t)
	writePair(t, files, "gate.example", time.Hour)
	c, err := OpenCertificate(files, h.parts.Log)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	door = h.Listen(inner)
	srv := h.Server()
	done := make(chan error, 1)
	go func() { done <- srv.Serve(c.Listener(door)) }()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	pool = x509.NewCertPool()
	pool.AddCert(c.pair.Load().Leaf)
	return inner.Addr().String(), pool, door
}

func TestServeTLS(t *testing.T) {
	h := newHarness(t, unlimited)
	addr, pool, door := h.serveTLS(t)
	client := tls.Client(dial(t, addr), &tls.Config{RootCAs: pool, ServerName: "gate.example", NextProtos: []string{"h2", "http/1.1"}})
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if got := client.ConnectionState(); got.NegotiatedProtocol != "http/1.1" || got.Version != tls.VersionTLS13 {
		t.Errorf("negotiated %q, %x", got.NegotiatedProtocol, got.Version)
	}
	r := bufio.NewReader(client)
	io.WriteString(client, "GET /healthz HTTP/1.1\r\nHost: gate.example\r\n\r\n")
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 200 || resp.Header.Get("Strict-Transport-Security") == "" {
		t.Fatalf("got %v, %v, want 200 with HSTS", resp, err)
	}
	if body, _ := io.ReadAll(resp.Body); string(body) != `{"status":"ok"}` {
		t.Errorf("got %s", body)
	}
	io.WriteString(client, upgradeLines(getWS, "Host", "gate.example", "Origin", "https://gate.example")+"frames")
	if resp, err = http.ReadResponse(r, nil); err != nil || resp.StatusCode != 101 {
		t.Fatalf("got %v, %v, want 101", resp, err)
	}
	a := <-h.conns.got
	defer a.conn.Close()
	if _, ok := a.conn.(*tls.Conn); !ok {
		t.Errorf("adopted a %T", a.conn)
	}
	if open, _ := door.Pending(); open != 0 {
		t.Errorf("%d pending after the upgrade", open)
	}
	io.WriteString(client, " and more")
	client.CloseWrite()
	more, err := io.ReadAll(a.conn)
	if got := string(a.rest) + string(more); err != nil || got != "frames and more" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestTLSRefusals(t *testing.T) {
	h := newHarness(t, func(c *Config, p *Parts) { unlimited(c, p); c.Limits.HandshakeTimeout = 100 * time.Millisecond })
	addr, pool, door := h.serveTLS(t)
	for _, tt := range []struct {
		name string
		cfg  *tls.Config
		says string
	}{
		{"TLS 1.1", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "protocol version"},
		{"only HTTP/2", &tls.Config{NextProtos: []string{"h2"}}, "no application protocol"},
	} {
		tt.cfg.RootCAs, tt.cfg.ServerName = pool, "gate.example"
		if err := tls.Client(dial(t, addr), tt.cfg).Handshake(); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.says)
		}
	}
	for _, tt := range []struct{ name, sent, answer string }{
		{"plain HTTP", "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.0 400"},
		{"nothing", "", ""},
		{"half a hello", "\x16\x03\x01\x02\x00\x01", ""},
	} {
		c := dial(t, addr)
		io.WriteString(c, tt.sent)
		got, _ := io.ReadAll(c) // ends by a close or a reset
		if !strings.HasPrefix(string(got), tt.answer) || tt.answer == "" && bytes.Contains(got, []byte("HTTP/")) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.answer)
		}
	}
	for end := time.Now().Add(10 * time.Second); h.Counts().HandshakeFailures < 5; {
		if time.Now().After(end) {
			t.Fatalf("counted %+v\n%s", h.Counts(), h.logs)
		}
	}
	if open, _ := door.Pending(); open != 0 {
		t.Errorf("%d are still pending", open)
	}
	if strings.Contains(h.logs.String(), "level=WARN") {
		t.Errorf("strangers fill the log:\n%s", h.logs)
	}
}

// What net/http says is told once, as one line, at the level it deserves.
func TestComplaints(t *testing.T) {
	log, logs := testLog()
	var counts counters
	c := complaints{log, &counts}
	for _, line := range []string{
		"http: TLS handshake error from 192.0.2.1:5: EOF\n", "http: Accept error: too many open files; retrying in 5ms\n",
		"http: panic serving 192.0.2.1:5: oh\ngoroutine 7 [running]:\n",
	} {
		if n, err := c.Write([]byte(line)); n != len(line) || err != nil {
			t.Errorf("got %d, %v", n, err)
		}
	}
	complaints{log: log}.Write([]byte("http: TLS handshake error from 192.0.2.1:5: EOF\n"))
	var levels []string
	for _, line := range strings.Split(strings.TrimSpace(logs.String()), "\n") {
		_, rest, _ := strings.Cut(line, "level=")
		level, _, _ := strings.Cut(rest, " ")
		levels = append(levels, level)
	}
	if got := strings.Join(levels, " "); got != "DEBUG WARN ERROR DEBUG" || counts.d.HandshakeFailures != 1 {
		t.Errorf("got %s, counted %d:\n%s", got, counts.d.HandshakeFailures, logs)
	}
}
