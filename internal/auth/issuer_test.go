package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const testSecret = "0123456789abcdef0123456789abcdef"

// now is when these tests happen; tokens of good() expire an hour later.
var now = time.Unix(1764678600, 0)

// keysOnce: an RSA key takes long to make under the race detector.
var keysOnce = sync.OnceValue(func() map[string]any {
	rs, _ := rsa.GenerateKey(rand.Reader, 2048)
	es, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	return map[string]any{"HS256": []byte(testSecret), "RS256": rs, "ES256": es, "EdDSA": ed}
})

func publicPEM(tb testing.TB, public any) []byte {
	tb.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// publicFiles writes the public halves as rs.pem, es.pem and ed.pem.
func publicFiles(tb testing.TB) []string {
	tb.Helper()
	keys, dir := keysOnce(), tb.TempDir()
	public := map[string]any{
		"rs.pem": keys["RS256"].(*rsa.PrivateKey).Public(),
		"es.pem": keys["ES256"].(*ecdsa.PrivateKey).Public(),
		"ed.pem": keys["EdDSA"].(ed25519.PrivateKey).Public(),
	}
	var files []string
	for name, k := range public {
		files = append(files, writeFile(tb, dir, name, publicPEM(tb, k)))
	}
	return files
}

func writeFile(tb testing.TB, dir, name string, b []byte) string {
	tb.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// newVerifier knows the secret and one public key of each kind.
func newVerifier(tb testing.TB, change func(*Config)) *Verifier {
	tb.Helper()
	cfg := DefaultConfig()
	cfg.Secret, cfg.PublicKeyFiles = testSecret, publicFiles(tb)
	if change != nil {
		change(&cfg)
	}
	v, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

type fields = map[string]any

// good are claims that every verifier of these tests accepts.
func good() fields {
	return fields{"sub": "u1", "aud": "cryptointel", "exp": now.Unix() + 3600}
}

// with changes m's members; a nil value removes one.
func with(m, changes fields) fields {
	m = maps.Clone(m)
	for k, v := range changes {
		if m[k] = v; v == nil {
			delete(m, k)
		}
	}
	return m
}

// forge signs anything with anything.
func forge(tb testing.TB, header, claims any, method jwt.SigningMethod, key any) string {
	tb.Helper()
	text := segment(tb, header) + "." + segment(tb, claims)
	sig, err := method.Sign(text, key)
	if err != nil {
		tb.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}

// segment encodes JSON, given as a value or as text.
func segment(tb testing.TB, v any) string {
	tb.Helper()
	b, isText := v.(string)
	if !isText {
		encoded, err := json.Marshal(v)
		if err != nil {
			tb.Fatal(err)
		}
		b = string(encoded)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(b))
}

// hs is a token signed with the secret.
func hs(tb testing.TB, header, claims any) string {
	tb.Helper()
	return forge(tb, header, claims, jwt.SigningMethodHS256, []byte(testSecret))
}

var hsHeader = fields{"alg": "HS256", "typ": "JWT"}

// signed is a good token of an algorithm.
func signed(tb testing.TB, alg string, header fields) string {
	tb.Helper()
	return forge(tb, with(fields{"alg": alg, "typ": "JWT"}, header), good(), methods[alg], keysOnce()[alg])
}

func repeat(s string, n int) []string { return strings.Fields(strings.Repeat(s+" ", n)) }

func numbers(n int) (list []string) {
	for i := range n {
		list = append(list, strconv.Itoa(i))
	}
	return list
}
