package auth

import (
	"crypto/rsa"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"cryptointel/protocol"
	"github.com/golang-jwt/jwt/v5"
)

// TestAttacks is the JWT row of the attack list, and what else can be wrong.
func TestAttacks(t *testing.T) {
	v := newVerifier(t, func(c *Config) { c.Issuer = "https://issuer" })
	claims := with(good(), fields{"iss": "https://issuer"})
	keys := keysOnce()
	header := func(changes fields) string { return hs(t, with(hsHeader, changes), claims) }
	claim := func(changes fields) string { return hs(t, hsHeader, with(claims, changes)) }
	rsaPublic := publicPEM(t, keys["RS256"].(*rsa.PrivateKey).Public())
	es := signed(t, "ES256", nil)
	long := strings.Repeat("a", 129)

	if _, err := v.Verify(header(nil), now); err != nil {
		t.Fatalf("the unchanged token: %v", err)
	}
	tests := []struct {
		name, token string
		says        string // part of the message
	}{
		{"empty", "", "not a JWT"},
		{"two parts", "e30.e30", "not a JWT"},
		{"four parts", header(nil) + ".e30", "not a JWT"},
		{"over 8 KiB", strings.Repeat("a", 8193), "too large"},
		{"padding", header(nil) + "=", "base64url"},
		{"line break in the signature", header(nil) + "\n", "base64url"},
		{"Bearer prefix", "Bearer " + header(nil), "base64url"},

		{"alg none, no signature", segment(t, fields{"alg": "none"}) + "." + segment(t, claims) + ".", "algorithm (alg)"},
		{"alg none, signed", header(fields{"alg": "none"}), "algorithm (alg)"},
		{"alg nOnE", header(fields{"alg": "nOnE"}), "algorithm (alg)"},
		{"alg missing", header(fields{"alg": nil}), "algorithm (alg)"},
		{"alg is a list", header(fields{"alg": []string{"HS256"}}), "algorithm (alg)"},
		{"alg of lower case", header(fields{"alg": "hs256"}), "algorithm (alg)"},
		{"HS384 with the secret", forge(t, fields{"alg": "HS384"}, claims, jwt.SigningMethodHS384, keys["HS256"]), "algorithm (alg)"},
		{"PS256 with the RSA key", forge(t, fields{"alg": "PS256"}, claims, jwt.SigningMethodPS256, keys["RS256"]), "algorithm (alg)"},
		{"HS256 keyed with the RSA public key", forge(t, hsHeader, claims, jwt.SigningMethodHS256, rsaPublic), "signature"},
		{"the same with the RSA key's kid", forge(t, with(hsHeader, fields{"kid": "rs"}), claims, jwt.SigningMethodHS256, rsaPublic), "kid"},
		{"RS256 named on an HS256 signature", header(fields{"alg": "RS256"}), "signature"},
		{"ES256 named on an EdDSA signature", forge(t, fields{"alg": "ES256"}, claims, methods["EdDSA"], keys["EdDSA"]), "signature"},
		{"ES256 r=s=0", es[:strings.LastIndexByte(es, '.')+1] + strings.Repeat("A", 86), "signature"},
		{"ES256 empty signature", es[:strings.LastIndexByte(es, '.')+1], "signature"},
		{"another secret", forge(t, hsHeader, claims, jwt.SigningMethodHS256, []byte(strings.Repeat("x", 32))), "signature"},

		{"kid unknown", header(fields{"kid": "nobody"}), "kid"},
		{"kid empty", header(fields{"kid": ""}), "kid"},
		{"kid a path", header(fields{"kid": "../../../../dev/null"}), "kid"},
		{"kid a URL", header(fields{"kid": "https://evil.example/key"}), "kid"},
		{"kid SQL", header(fields{"kid": "x' UNION SELECT 'k"}), "kid"},
		{"kid a number", header(fields{"kid": 1}), "kid"},
		{"kid of another algorithm", header(fields{"kid": "es"}), "kid"},
		{"kid long", header(fields{"kid": long}), "kid"},
		{"jku", header(fields{"jku": "https://evil.example/jwks"}), `"jku"`},
		{"x5u", header(fields{"x5u": "https://evil.example/cert"}), `"x5u"`},
		{"jwk", header(fields{"jwk": fields{"kty": "oct", "k": "AAAA"}}), `"jwk"`},
		{"x5c", header(fields{"x5c": []string{"MIIB"}}), `"x5c"`},
		{"crit unknown", header(fields{"crit": []string{"exp2"}, "exp2": 1}), `"crit"`},
		{"crit empty", header(fields{"crit": []string{}}), `"crit"`},
		{"b64 false", header(fields{"b64": false}), `"b64"`},
		{"typ of something else", header(fields{"typ": "ticket+jwt"}), "typ"},
		{"header not an object", hs(t, `["alg"]`, claims), "JSON object"},
		{"header with two algs", hs(t, `{"alg":"HS256","alg":"none"}`, claims), "twice"},

		{"aud wrong", claim(fields{"aud": "other"}), "audience"},
		{"aud a prefix", claim(fields{"aud": "cryptointel2"}), "audience"},
		{"aud a list without us", claim(fields{"aud": []string{"a", "b"}}), "audience"},
		{"aud missing", claim(fields{"aud": nil}), "audience"},
		{"aud a number", claim(fields{"aud": 7}), "audience"},
		{"iss wrong", claim(fields{"iss": "https://evil"}), "issuer"},
		{"iss missing", claim(fields{"iss": nil}), "issuer"},
		{"exp missing", claim(fields{"exp": nil}), "expiry"},
		{"exp null", hs(t, hsHeader, `{"sub":"u","aud":"cryptointel","iss":"https://issuer","exp":null}`), "expiry"},
		{"exp a string", claim(fields{"exp": "1764682200"}), "exp"},
		{"exp negative", claim(fields{"exp": -1}), "exp"},
		{"exp beyond float", hs(t, hsHeader, `{"sub":"u","aud":"cryptointel","exp":1e999}`), "exp"},
		{"exp in another case", hs(t, hsHeader, `{"sub":"u","aud":"cryptointel","EXP":1764682200}`), "expiry"},
		{"exp twice", hs(t, hsHeader, `{"sub":"u","aud":"cryptointel","exp":1,"exp":1764682200}`), "twice"},
		{"nbf in the future", claim(fields{"nbf": now.Unix() + 31}), "nbf"},
		{"iat in the future", claim(fields{"iat": now.Unix() + 31}), "iat"},
		{"expired and for someone else", claim(fields{"exp": 1, "aud": "other"}), "audience"},
		{"claims not an object", hs(t, hsHeader, `"x"`), "JSON object"},
		{"claims with a tail", hs(t, hsHeader, `{} {}`), "after"},
		{"claims nested without end", hs(t, hsHeader, `{"a":`+strings.Repeat("[", 5000)), "JSON object"},

		{"sub missing", claim(fields{"sub": nil}), "sub"},
		{"sub empty", claim(fields{"sub": ""}), "sub"},
		{"sub long", claim(fields{"sub": long}), "sub"},
		{"sub with NUL", claim(fields{"sub": "u\x00"}), "sub"},
		{"sub not ASCII", claim(fields{"sub": "ü1"}), "sub"},
		{"sub a number", claim(fields{"sub": 1}), "sub"},
		{"jti long", claim(fields{"jti": long}), "jti"},
		{"ch a string", claim(fields{"ch": "price:*"}), "ch"},
		{"ch with null", hs(t, hsHeader, `{"sub":"u","exp":1764682200,"ch":[null]}`), "ch"},
		{"ch with a star inside", claim(fields{"ch": []string{"price:*:x"}}), "ch"},
		{"ch empty pattern", claim(fields{"ch": []string{""}}), "ch"},
		{"ch upper case", claim(fields{"ch": []string{"price:BTC"}}), "ch"},
		{"ch confusable", claim(fields{"ch": []string{"рrice:*"}}), "ch"},
		{"ch long", claim(fields{"ch": []string{long}}), "ch"},
		{"ch of 101", claim(fields{"ch": repeat("a", 101)}), "ch"},
		{"pub of 101", claim(fields{"pub": repeat("a", 101)}), "pub"},
		{"adm root", claim(fields{"adm": "root"}), "adm"},
		{"adm true", claim(fields{"adm": true}), "adm"},
		{"flt unknown key", claim(fields{"flt": fields{"color": []string{"red"}}}), "flt"},
		{"flt empty list", claim(fields{"flt": fields{"type": []string{}}}), "flt"},
		{"flt key twice", hs(t, hsHeader, `{"sub":"u","exp":1764682200,"flt":{"type":["a"],"type":["b"]}}`), "flt"},
		{"flt of 51 values", claim(fields{"flt": fields{"type": numbers(51)}}), "flt"},
		{"flt over 512 bytes", claim(fields{"flt": fields{"type": []string{strings.Repeat("a", 512)}}}), "flt"},
		{"flt confidence 2", claim(fields{"flt": fields{"min_confidence": 2}}), "flt"},
		{"flt a string", claim(fields{"flt": "type"}), "flt"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := v.Verify(tt.token, now)
			var refused *protocol.Error
			if got != nil || !errors.As(err, &refused) {
				t.Fatalf("got grant %v, error %v; want a refusal", got, err)
			}
			if refused.Code != protocol.InvalidToken || !strings.Contains(refused.Message, tt.says) {
				t.Errorf("got %v; want %s saying %q", refused, protocol.InvalidToken, tt.says)
			}
		})
	}
}

func TestGrant(t *testing.T) {
	v := newVerifier(t, nil)
	token := hs(t, hsHeader, with(good(), fields{
		"jti": "t1", "iat": now.Unix() - 5, "iss": "anyone", "aud": []string{"other", "cryptointel"},
		"ch": []string{"price:*", "signals:all", "*"}, "pub": []string{"test:x"}, "adm": "read",
		"flt": fields{"type": []string{"price_spike"}, "entity": []string{"bitcoin"}, "min_confidence": 0.5},
		"EXP": 1, "extra": fields{"a": nil},
	}))
	want := &protocol.Grant{
		Subject: "u1", ID: "t1",
		Expires: protocol.Time(now.Add(time.Hour).UnixNano()), Issued: protocol.Time(now.Add(-5 * time.Second).UnixNano()),
		Channels: []string{"price:*", "signals:all", "*"}, Publish: []string{"test:x"}, Admin: "read",
		Filter: &protocol.Filter{Type: []string{"price_spike"}, Entity: []string{"bitcoin"}, MinConfidence: 0.5},
	}
	if got, err := v.Verify(token, now); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestAlgorithms(t *testing.T) {
	v := newVerifier(t, nil)
	kids := map[string]string{"RS256": "rs", "ES256": "es", "EdDSA": "ed"}
	for alg := range methods {
		t.Run(alg, func(t *testing.T) {
			if _, err := v.Verify(signed(t, alg, nil), now); err != nil {
				t.Errorf("without kid: %v", err)
			}
			if kid := kids[alg]; kid != "" {
				if _, err := v.Verify(signed(t, alg, fields{"kid": kid}), now); err != nil {
					t.Errorf("with kid: %v", err)
				}
			}
			only := newVerifier(t, func(c *Config) { c.Algorithms = []string{alg} })
			for other := range methods {
				_, err := only.Verify(signed(t, other, nil), now)
				if accepted := err == nil; accepted != (other == alg) {
					t.Errorf("verifier of %s only, token of %s: %v", alg, other, err)
				}
			}
		})
	}
}

func TestNoKeyRefusesAll(t *testing.T) {
	v, err := New(DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	if g, err := v.Verify(signed(t, "HS256", nil), now); err == nil {
		t.Errorf("got %+v; want a refusal", g)
	}
	want := &protocol.Grant{Channels: []string{"price:*", "market:*", "system:*", "test:*"}}
	if got := v.Anonymous(); !reflect.DeepEqual(got, want) {
		t.Errorf("anonymous: got %+v; want %+v", got, want)
	}
}

func TestClock(t *testing.T) {
	tests := []struct {
		name   string
		leeway time.Duration
		claims fields
		at     time.Duration // after now
		code   protocol.Code // "" for accepted
	}{
		{"exp, last moment", 30 * time.Second, fields{"exp": now.Unix()}, 30*time.Second - 1, ""},
		{"exp, over", 30 * time.Second, fields{"exp": now.Unix()}, 30 * time.Second, protocol.ExpiredToken},
		{"exp without leeway, last moment", 0, fields{"exp": now.Unix()}, -1, ""},
		{"exp without leeway, over", 0, fields{"exp": now.Unix()}, 0, protocol.ExpiredToken},
		{"exp with a fraction", 0, fields{"exp": 1764678600.5}, 500*time.Millisecond - 1, ""},
		{"exp with a fraction, over", 0, fields{"exp": 1764678600.5}, 500 * time.Millisecond, protocol.ExpiredToken},
		{"exp at the end of time", 0, fields{"exp": 253402300799}, 100 * 365 * 24 * time.Hour, ""},
		{"exp absurd", 30 * time.Second, fields{"exp": 1e300}, 0, ""},
		{"nbf, first moment", 30 * time.Second, fields{"nbf": now.Unix() + 30}, 0, ""},
		{"nbf, a moment early", 30 * time.Second, fields{"nbf": now.Unix() + 30}, -1, protocol.InvalidToken},
		{"iat, first moment", 30 * time.Second, fields{"iat": now.Unix() + 30}, 0, ""},
		{"iat, a moment early", 30 * time.Second, fields{"iat": now.Unix() + 30}, -1, protocol.InvalidToken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := newVerifier(t, func(c *Config) { c.Leeway = tt.leeway })
			_, err := v.Verify(hs(t, hsHeader, with(good(), tt.claims)), now.Add(tt.at))
			var got protocol.Code
			if refused := (*protocol.Error)(nil); errors.As(err, &refused) {
				got = refused.Code
			}
			if got != tt.code {
				t.Errorf("got %q (%v); want %q", got, err, tt.code)
			}
		})
	}
}

// TestMutations changes a good token at every byte: none of the results may
// be accepted, so that a token has one spelling only.
func TestMutations(t *testing.T) {
	v := newVerifier(t, nil)
	for alg := range methods {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			token := signed(t, alg, nil)
			for i := range len(token) {
				next := "A"
				if token[i] == 'A' {
					next = "B"
				}
				for _, m := range []string{
					token[:i] + next + token[i+1:],
					token[:i] + string(token[i]^1) + token[i+1:],
					token[:i] + token[i+1:],
					token[:i] + "\n" + token[i:],
					token[:i] + "=" + token[i:],
				} {
					if g, err := v.Verify(m, now); err == nil {
						t.Fatalf("accepted with byte %d changed: %s grants %+v", i, m, g)
					}
				}
			}
		})
	}
}

func TestConcurrent(t *testing.T) {
	v := newVerifier(t, nil)
	c := NewCache(v)
	var wg sync.WaitGroup
	for alg := range methods {
		token := signed(t, alg, nil)
		for range 4 {
			wg.Go(func() {
				for range 20 {
					if _, err := v.Verify(token, now); err != nil {
						t.Error(err)
					}
					if _, err := c.Verify(token, now); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
}

// FuzzVerify: whatever is sent, a grant comes only for a token that our own
// signers made, byte for byte.
func FuzzVerify(f *testing.F) {
	v := newVerifier(f, nil)
	ours := map[string]bool{}
	for alg := range methods {
		ours[signed(f, alg, nil)] = true
	}
	for token := range ours {
		f.Add(token)
		f.Add(token[:len(token)-1])
		f.Add("." + token)
	}
	f.Add(segment(f, fields{"alg": "none"}) + "." + segment(f, good()) + ".")
	f.Fuzz(func(t *testing.T, token string) {
		g, err := v.Verify(token, now)
		if (g == nil) == (err == nil) {
			t.Fatalf("got grant %v and error %v", g, err)
		}
		if g != nil && !ours[token] {
			t.Fatalf("%q was granted %+v", token, g)
		}
		if refused := (*protocol.Error)(nil); err != nil && !errors.As(err, &refused) {
			t.Fatalf("error %v is not a protocol.Error", err)
		}
	})
}

// FuzzClaims: what parses keeps the bounds that the rest of the house relies
// on.
func FuzzClaims(f *testing.F) {
	f.Add(`{"sub":"u1","aud":"cryptointel","exp":1764682200,"ch":["price:*"],"flt":{"type":["a"]}}`)
	f.Add(`{"sub":"u1","aud":["a","b"],"exp":1e300,"nbf":1.5,"iat":2,"adm":"write","pub":["*"],"jti":"x"}`)
	f.Fuzz(func(t *testing.T, payload string) {
		c, err := parseClaims([]byte(payload))
		if err != nil {
			return
		}
		g := c.grant
		if g.Subject == "" || len(g.Subject) > maxName || len(g.ID) > maxName {
			t.Errorf("names out of bounds: %+v", g)
		}
		if end := protocol.Time(endOfTime) * protocol.Second; g.Expires < 0 || g.Expires > end || g.Issued > end || c.notBefore > end {
			t.Errorf("times out of bounds: %+v", g)
		}
		for _, p := range append(g.Channels, g.Publish...) {
			if !validPattern(p) {
				t.Errorf("pattern %q", p)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	v := newVerifier(b, nil)
	for alg := range methods {
		token := signed(b, alg, nil)
		b.Run(alg, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(token, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	c, token := NewCache(v), signed(b, "RS256", nil)
	b.Run("cached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Verify(token, now); err != nil {
				b.Fatal(err)
			}
		}
	})
}
