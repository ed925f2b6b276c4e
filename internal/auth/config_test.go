package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
)

func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string { return writeFile(t, dir, name, []byte(text)) }
	weak := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 1023, 1), E: 65537}
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	private, _ := x509.MarshalPKCS8PrivateKey(keysOnce()["ES256"])
	es := publicPEM(t, keysOnce()["ES256"].(*ecdsa.PrivateKey).Public())

	tests := []struct {
		name   string
		change func(*Config)
		says   string
	}{
		{"secret of 31 bytes", func(c *Config) { c.Secret = Secret(testSecret[1:]) }, "31 bytes"},
		{"secret is a public key", func(c *Config) { c.Secret = Secret(es) }, "public_key_files"},
		{"secret twice", func(c *Config) { c.Secret, c.SecretFile = testSecret, file("s", testSecret) }, "both"},
		{"secret file short", func(c *Config) { c.SecretFile = file("short", testSecret[1:]+"\n") }, "31 bytes"},
		{"secret file empty", func(c *Config) { c.SecretFile = file("empty", "\n") }, "empty"},
		{"secret file missing", func(c *Config) { c.SecretFile = dir + "/none" }, "secret_file"},
		{"key file missing", func(c *Config) { c.PublicKeyFiles = []string{dir + "/none.pem"} }, "none.pem"},
		{"key not PEM", func(c *Config) { c.PublicKeyFiles = []string{file("x.pem", "hello")} }, "not PEM"},
		{"key damaged", func(c *Config) {
			b := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte{1, 2}})
			c.PublicKeyFiles = []string{file("y.pem", string(b))}
		}, "y.pem"},
		{"two keys in a file", func(c *Config) {
			c.PublicKeyFiles = []string{file("two.pem", string(es)+string(es))}
		}, "more than one"},
		{"private key", func(c *Config) {
			b := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
			c.PublicKeyFiles = []string{file("p.pem", string(b))}
		}, "private key"},
		{"certificate", func(c *Config) {
			b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}})
			c.PublicKeyFiles = []string{file("c.pem", string(b))}
		}, "CERTIFICATE"},
		{"RSA of 1024 bits", func(c *Config) {
			c.PublicKeyFiles = []string{file("weak.pem", string(publicPEM(t, weak)))}
		}, "1024 bits"},
		{"P-384", func(c *Config) {
			c.PublicKeyFiles = []string{file("p384.pem", string(publicPEM(t, p384.Public())))}
		}, "P-384"},
		{"one id twice", func(c *Config) {
			c.PublicKeyFiles = []string{file("k.pem", string(es)), file("k.pub", string(es))}
		}, `"k"`},
		{"algorithm none", func(c *Config) { c.Algorithms = []string{"none"} }, `"none"`},
		{"algorithm without a key", func(c *Config) { c.Secret, c.Algorithms = testSecret, []string{"ES256"} }, "ES256"},
		{"leeway over 30 s", func(c *Config) { c.Leeway = 31 * time.Second }, "31s"},
		{"leeway negative", func(c *Config) { c.Leeway = -1 }, "leeway"},
		{"audience empty", func(c *Config) { c.Audience = "" }, "audience"},
		{"anonymous pattern", func(c *Config) { c.AnonymousChannels = []string{"price:*", "A"} }, "pattern 2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := DefaultConfig()
			tt.change(&cfg)
			_, err := New(cfg)
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("got %v; want an error saying %q", err, tt.says)
			}
			if strings.Contains(err.Error(), testSecret[1:]) {
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
}

func TestSecretFile(t *testing.T) {
	v := newVerifier(t, func(c *Config) {
		c.Secret, c.SecretFile = "", writeFile(t, t.TempDir(), "secret", []byte(testSecret+"\n"))
	})
	if _, err := v.Verify(signed(t, "HS256", nil), now); err != nil {
		t.Error(err)
	}
}

func TestSecretIsNotShown(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Secret = testSecret
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("start", "config", cfg, "secret", cfg.Secret)
	encoded, _ := json.Marshal(cfg)
	for _, shown := range []string{fmt.Sprintf("%v %+v %#v %s %q", cfg, cfg, cfg, cfg.Secret, cfg), log.String(), string(encoded)} {
		if strings.Contains(shown, testSecret) {
			t.Errorf("shown in %s", shown)
		}
	}
}

// TestFlagDefaults: the tags and DefaultConfig say the same.
func TestFlagDefaults(t *testing.T) {
	var cli struct {
		Auth Config `embed:"" prefix:"auth."`
	}
	p, err := kong.New(&cli)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Parse(nil); err != nil {
		t.Fatal(err)
	}
	if want := DefaultConfig(); !reflect.DeepEqual(cli.Auth, want) {
		t.Errorf("got %+v; want %+v", cli.Auth, want)
	}
	if _, err := p.Parse([]string{"--auth.secret=x"}); err == nil {
		t.Error("the secret is a flag")
	}
}
