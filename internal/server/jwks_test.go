package server

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"cryptointel/internal/eventloop"
	"cryptointel/protocol"
)

// An issuer publishes its keys, as identity providers do.
type issuer struct {
	*httptest.Server
	fetches atomic.Int64

	mu     sync.Mutex // guards answer
	answer http.HandlerFunc
}

func newIssuer(t testing.TB, keys ...issuerKey) *issuer {
	t.Helper()
	i := &issuer{}
	i.gives(keys...)
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.fetches.Add(1)
		i.mu.Lock()
		answer := i.answer
		i.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) answers(f http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answer = f
}

// gives replaces the key set.
func (i *issuer) gives(keys ...issuerKey) {
	set := map[string]any{"keys": []any{}}
	for _, k := range keys {
		set["keys"] = append(set["keys"].([]any), k.public)
	}
	body, _ := json.Marshal(set) // maps of strings
	i.answers(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
}

func (i *issuer) fails(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "down", http.StatusInternalServerError)
}

// begin runs a server that trusts the issuer, and has fetched once.
func (i *issuer) begin(t testing.TB, change func(*Config)) *Server {
	t.Helper()
	cfg := testConfig(eventloop.KindAuto)
	cfg.Auth.JWKSURL = i.URL + "/jwks.json"
	if change != nil {
		change(&cfg)
	}
	s, _ := begin(t, cfg)
	eventually(t, "a first fetch", func() bool { return s.keys.Status().Fetches > 0 })
	return s
}

// An issuerKey signs tokens that name it.
type issuerKey struct {
	id      string
	method  jwt.SigningMethod
	private crypto.Signer
	public  map[string]string
}

func base64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func es256(t testing.TB, id string) issuerKey {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := private.PublicKey.Bytes() // 4, x, y
	if err != nil {
		t.Fatal(err)
	}
	return issuerKey{id, jwt.SigningMethodES256, private, map[string]string{
		"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": id, "x": base64url(point[1:33]), "y": base64url(point[33:]),
	}}
}

func edDSA(t testing.TB, id string) issuerKey {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return issuerKey{id, jwt.SigningMethodEdDSA, private, map[string]string{
		"kty": "OKP", "crv": "Ed25519", "kid": id, "x": base64url(public),
	}}
}

// token is one for a user, for an hour.
func (k issuerKey) token(t testing.TB, user string) string {
	t.Helper()
	token := jwt.NewWithClaims(k.method, jwt.MapClaims{
		"sub": user, "aud": "cryptointel", "exp": time.Now().Add(time.Hour).Unix(), "ch": []string{"signals:*"},
	})
	token.Header["kid"] = k.id
	text, err := token.SignedString(k.private)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestJWKSRotation changes an issuer's key while clients are connected: tokens
// of the next key are accepted at once, those of the last one still, and no
// connection ends.
func TestJWKSRotation(t *testing.T) {
	t.Parallel()
	first, second := es256(t, "2025"), edDSA(t, "2026")
	i := newIssuer(t, first)
	s := i.begin(t, nil)
	old := connect(t, s)
	wantAuth(t, authenticate(t, old, first.token(t, "u1"), ""))
	old.subscribe(t, `"test:rotation","signals:all"`)
	old.until(t, func(m said) bool { return m.Type == "caught_up" })

	i.gives(second)
	next := connect(t, s)
	wantAuth(t, authenticate(t, next, second.token(t, "u2"), ""))
	connectWith(t, s, bearing(second.token(t, "u2")))
	connectWith(t, s, bearing(first.token(t, "u3")))
	hears(t, s, old, "test:rotation", `{"n":1}`)
	wantAuth(t, authenticate(t, old, first.token(t, "u1"), "")) // a refresh
	if got := s.keys.Status(); got.Current != 1 || got.Retired != 1 || i.fetches.Load() != 2 {
		t.Errorf("after %d fetches: %+v, want one key and one retired after 2", i.fetches.Load(), got)
	}
	hears(t, s, old, "test:rotation", `{"n":2}`)
	// Another's key under a known name is no key.
	wantRefused(t, s, es256(t, "2025").token(t, "u1"), "4401 INVALID_TOKEN")
	wantRefused(t, s, edDSA(t, "2026").token(t, "u1"), "4401 INVALID_TOKEN")
}

// TestJWKSWithdrawnKey has no overlap: a key that is not given any more is no
// good for new connections. Those that are open live until their token ends.
func TestJWKSWithdrawnKey(t *testing.T) {
	t.Parallel()
	first, second := edDSA(t, "a"), es256(t, "b")
	i := newIssuer(t, first)
	s := i.begin(t, func(c *Config) { c.Auth.JWKSOverlap = 0 })
	old := connectWith(t, s, bearing(first.token(t, "u1")))
	old.subscribe(t, `"test:withdrawn"`)
	i.gives(second)
	connectWith(t, s, bearing(second.token(t, "u2")))
	wantRefused(t, s, first.token(t, "u1"), "4401 INVALID_TOKEN")
	hears(t, s, old, "test:withdrawn", `{}`)
}

// wantRefused gives a token in both ways and expects this end.
func wantRefused(t *testing.T, s *Server, token, closed string) {
	t.Helper()
	refused(t, s, bearing(token), closed)
	c := connect(t, s)
	c.send(t, `{"type":"auth","token":%q}`, token)
	if _, got := c.end(t); got != closed {
		t.Errorf("auth: closed with %s, want %s", got, closed)
	}
}

// TestJWKSStorm sends tokens with invented keys: they cost the issuer one
// fetch, and those who are connected nothing.
func TestJWKSStorm(t *testing.T) {
	t.Parallel()
	const clients = 100
	good := es256(t, "good")
	i := newIssuer(t, good)
	s := i.begin(t, nil)
	witness := connectWith(t, s, bearing(good.token(t, "witness")))
	witness.subscribe(t, `"test:storm"`)
	var wg sync.WaitGroup
	for n := range clients {
		c := connect(t, s)
		token := edDSA(t, fmt.Sprint("invented-", n)).token(t, "u")
		wg.Go(func() {
			text := fmt.Appendf(nil, `{"type":"auth","token":%q}`, token)
			if err := c.write(1, text); err != nil {
				t.Error(err)
			}
			for {
				if _, err := c.message(); err == io.EOF {
					break
				} else if err != nil {
					t.Error(err)
					return
				}
			}
			if c.closed != "4401 INVALID_TOKEN" {
				t.Errorf("closed with %q, want 4401 INVALID_TOKEN", c.closed)
			}
		})
	}
	for n := range 20 {
		hears(t, s, witness, "test:storm", fmt.Sprintf(`{"n":%d}`, n))
	}
	wg.Wait()
	if n := i.fetches.Load(); n > 2 {
		t.Errorf("%d fetches, want one at the start and one for the storm", n)
	}
	connectWith(t, s, bearing(good.token(t, "u")))
}

// TestJWKSDown starts with an issuer that does not answer: the server serves,
// tells clients with tokens to come back, and takes the keys when they are
// there. When the issuer fails later, the last keys hold.
func TestJWKSDown(t *testing.T) {
	t.Parallel()
	key, unknown := es256(t, "a"), es256(t, "b")
	i := newIssuer(t)
	i.answers(i.fails)
	s := i.begin(t, nil)
	connectWith(t, s, bearing(signedUser(t, "by-secret")))
	c := connect(t, s)
	c.subscribe(t, `"price:bitcoin"`)
	i.gives(key)
	connectWith(t, s, bearing(key.token(t, "u1"))) // asks once more
	i.answers(i.fails)
	wantRefused(t, s, unknown.token(t, "u1"), "4401 INVALID_TOKEN")
	connectWith(t, s, bearing(key.token(t, "u2")))

	down := newIssuer(t)
	down.answers(down.fails)
	s = down.begin(t, nil)
	last := retryable(t, s, key.token(t, "u1"))
	if last.Error.Code != string(protocol.Internal) {
		t.Errorf("without keys: %s", last.text)
	}
}

// retryable is what a token is told that is refused for now.
func retryable(t *testing.T, s *Server, token string) said {
	t.Helper()
	last, closed := knock{header: bearing(token).header}.upgraded(t, s).end(t)
	if closed != "1011 INTERNAL" || !strings.Contains(last.text, `"retryable":true`) || !strings.Contains(last.text, `"retry_after_ms":`) {
		t.Errorf("closed with %s after %s, want 1011 and when to come back", closed, last.text)
	}
	return last
}

// TestJWKSBadAnswers has an issuer answer with what must not be taken for a key
// set, when a token of an unknown key makes the server ask again: the key stays
// unknown, the last ones hold.
func TestJWKSBadAnswers(t *testing.T) {
	t.Parallel()
	good, unknown := edDSA(t, "good"), es256(t, "unknown")
	symmetric := map[string]string{"kty": "oct", "kid": "unknown", "k": base64url([]byte(testSecret))}
	elsewhere := newIssuer(t, good, unknown)
	set := func(more any, keys ...any) http.HandlerFunc {
		body, err := json.Marshal(map[string]any{"keys": keys, "more": more})
		if err != nil {
			t.Fatal(err)
		}
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) } // cut off, where it is too long
	}
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
	}{
		{"a set of 2 MiB", set(strings.Repeat("x", 2<<20), good.public, unknown.public)},
		{"64 MiB", set(strings.Repeat("x", 64<<20))},
		{"a page", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>sign in</html>")) }},
		{"no keys", set(nil)},
		{"a secret", set(nil, symmetric)},
		{"not found", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			set(nil, unknown.public)(w, r)
		}},
		{"elsewhere", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i := newIssuer(t, good)
			s := i.begin(t, nil)
			i.answers(tt.answer)
			// The fetch that this token asks for fails, so its key may exist.
			retryable(t, s, unknown.token(t, "u1"))
			if got := s.keys.Status(); got.Current != 1 || got.Failed != 1 || got.Fetches != 2 {
				t.Errorf("the keys are %+v, want the one from before", got)
			}
			connectWith(t, s, bearing(good.token(t, "u1")))
		})
	}
	if n := elsewhere.fetches.Load(); n > 0 {
		t.Errorf("the other place was asked %d times", n)
	}
}
