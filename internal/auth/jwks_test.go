package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"cryptointel/protocol"
)

// setOf is the JSON of a key set.
func setOf(tb testing.TB, keys ...any) []byte {
	tb.Helper()
	b, err := json.Marshal(fields{"keys": keys})
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// TestKeyRules: one key that is not to be used is named, with the reason, and
// does not spoil the one beside it.
func TestKeyRules(t *testing.T) {
	keys := keysOnce()
	rs, es, ed := keys["RS256"], keys["ES256"], keys["EdDSA"]
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	short := func(bits int) string {
		return base64.RawURLEncoding.EncodeToString(new(big.Int).SetBit(big.NewInt(1), bits-1, 1).Bytes())
	}
	zero := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	tests := []struct {
		name string
		key  any
		says string // "" for a key that is used
	}{
		{"RSA", jwk(t, rs, "k", nil), ""},
		{"P-256", jwk(t, es, "k", nil), ""},
		{"Ed25519", jwk(t, ed, "k", nil), ""},
		{"no use", jwk(t, es, "k", fields{"use": nil}), ""},
		{"alg that fits", jwk(t, rs, "k", fields{"alg": "RS256"}), ""},
		{"key_ops with verify", jwk(t, es, "k", fields{"key_ops": []string{"verify"}}), ""},
		{"no kid", jwk(t, es, "k", fields{"kid": nil}), ""},
		{"certificates, whatever they are", jwk(t, es, "k", fields{"x5c": []string{"AAAA"}, "x5t": "x", "x5u": "https://evil.example"}), ""},
		{"unknown members", jwk(t, es, "k", fields{"nbf": 1, "issuer": "x"}), ""},

		{"symmetric", fields{"kty": "oct", "kid": "k", "k": base64.RawURLEncoding.EncodeToString([]byte(testSecret))}, "symmetric"},
		{"symmetric for HS256", fields{"kty": "oct", "kid": "k", "k": "AAAA", "alg": "HS256"}, "symmetric"},
		{"EC with a secret in it", jwk(t, es, "k", fields{"k": "AAAA"}), "symmetric"},
		{"private EC", jwk(t, es, "k", fields{"d": "AAAA"}), "private"},
		{"private RSA", jwk(t, rs, "k", fields{"d": "AAAA", "p": "AAAA", "q": "AAAA"}), "private"},
		{"use enc", jwk(t, es, "k", fields{"use": "enc"}), "use is not sig"},
		{"use SIG", jwk(t, es, "k", fields{"use": "SIG"}), "use is not sig"},
		{"key_ops without verify", jwk(t, es, "k", fields{"key_ops": []string{"encrypt", "wrapKey"}}), "key_ops"},
		{"kid long", jwk(t, es, strings.Repeat("k", 129), nil), "kid has more"},
		{"kid a number", jwk(t, es, "k", fields{"kid": 7}), "not a JSON Web Key"},
		{"RSA for PS256", jwk(t, rs, "k", fields{"alg": "PS256"}), "PS256"},
		{"RSA for RS512", jwk(t, rs, "k", fields{"alg": "RS512"}), "RS512"},
		{"RSA for HS256", jwk(t, rs, "k", fields{"alg": "HS256"}), "HS256"},
		{"EC for ES384", jwk(t, es, "k", fields{"alg": "ES384"}), "ES384"},
		{"RSA of 1024 bits", jwk(t, rs, "k", fields{"n": short(1024)}), "1024 bits"},
		{"RSA of 2047 bits", jwk(t, rs, "k", fields{"n": short(2047)}), "2047 bits"},
		{"RSA of 16384 bits", jwk(t, rs, "k", fields{"n": short(16384)}), "16384 bits"},
		{"RSA without e", jwk(t, rs, "k", fields{"e": nil}), "requires"},
		{"RSA with e of 1", jwk(t, rs, "k", fields{"e": "AQ"}), "e"},
		{"RSA with e of 65 bits", jwk(t, rs, "k", fields{"e": "AQAAAAAAAQAB"}), "e"},
		{"P-384", jwk(t, p384, "k", nil), "P-384"},
		{"secp256k1", jwk(t, es, "k", fields{"crv": "secp256k1"}), "curve"},
		{"point not on the curve", jwk(t, es, "k", fields{"x": zero, "y": zero}), "curve"},
		{"point too long", jwk(t, es, "k", fields{"x": strings.Repeat("A", 4000)}), "curve"},
		{"Ed25519 of 3 bytes", jwk(t, ed, "k", fields{"x": "AAAA"}), "32 bytes"},
		{"X25519", jwk(t, ed, "k", fields{"crv": "X25519"}), "ecdh"},
		{"not base64", jwk(t, ed, "k", fields{"x": "?"}), "x"},
		{"unknown kty of 1 MB", fields{"kty": strings.Repeat("a", 1<<20), "kid": "k"}, "..."},
		{"not an object", "key", "not a JSON Web Key"},
		{"null", nil, "unsupported"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, rest, err := parseKeySet(setOf(t, jwk(t, es, "other", nil), tt.key), remoteAlgorithms)
			if err != nil || len(got)+len(rest) != 2 {
				t.Fatalf("got %v, %v, %v", got, rest, err)
			}
			if tt.says == "" {
				if len(rest) != 0 {
					t.Errorf("not used: %v", rest)
				}
				return
			}
			if len(rest) != 1 || !strings.Contains(rest[0].why, tt.says) || len(rest[0].why) > 210 || len(rest[0].kid) > 70 {
				t.Errorf("got %v; want one reason saying %q", rest, tt.says)
			}
		})
	}
}

// TestNextIsBounded: an issuer that gives 64 new keys each time does not make
// verification ever slower.
func TestNextIsBounded(t *testing.T) {
	var set *keySet
	public := keysOnce()["ES256"].(*ecdsa.PrivateKey).Public()
	at := now
	for round := range 5 {
		var given []key
		for i := range maxKeys {
			given = append(given, key{id: fmt.Sprint(round, "-", i), alg: "ES256", public: public})
		}
		set = set.next(given, at, time.Hour)
		at = at.Add(time.Minute)
		if n := len(set.current()); n != maxKeys {
			t.Fatalf("round %d: %d current keys", round, n)
		}
	}
	if len(set.keys) != 2*maxKeys || !strings.HasPrefix(set.keys[maxKeys].id, "3-") {
		t.Errorf("%d keys, the first retired %s; want %d, those that vanished last", len(set.keys), set.keys[maxKeys].id, 2*maxKeys)
	}
	if again := set.next(set.current(), at, time.Hour); again != set {
		t.Error("the same keys make another set")
	}
}

// FuzzKeySet: whatever an endpoint answers, what is kept is strong, public,
// of an asked algorithm, and refuses a token that it did not sign.
func FuzzKeySet(f *testing.F) {
	keys := keysOnce()
	all := setOf(f, jwk(f, keys["RS256"], "r", nil), jwk(f, keys["ES256"], "e", nil), jwk(f, keys["EdDSA"], "d", nil))
	f.Add(all)
	f.Add(setOf(f, jwk(f, keys["ES256"], "e", fields{"use": "sig", "alg": "ES256", "x5c": []string{"AA"}})))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AAAA"},{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"OKP","crv":"Ed25519","x":""}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, rest, err := parseKeySet(b, remoteAlgorithms)
		if (len(got) == 0) != (err != nil) || len(got)+len(rest) > maxKeys {
			t.Fatalf("%d keys, %d not used, error %v", len(got), len(rest), err)
		}
		for _, k := range got {
			if p, ok := k.public.(*rsa.PublicKey); ok && (p.N.BitLen() < minRSABits || p.N.BitLen() > maxRSABits) {
				t.Errorf("an RSA key of %d bits", p.N.BitLen())
			}
			if len(k.id) > maxName || !k.until.IsZero() || !k.equal(k) {
				t.Errorf("got %+v", k)
			}
			if k.verifies("text", make([]byte, 64)) || k.verifies("text", make([]byte, 256)) || k.verifies("text", nil) {
				t.Errorf("%+v takes a signature of zeros", k)
			}
		}
	})
}

// TestTokensOfFetchedKeysKeepTheRules: the attacks on alg and kid again, with
// keys that were fetched and not configured.
func TestTokensOfFetchedKeysKeepTheRules(t *testing.T) {
	v := fixedVerifier(t, "r", "e")
	keys := keysOnce()
	rsaPublic := publicPEM(t, keys["RS256"].(*rsa.PrivateKey).Public())
	block, _ := pem.Decode(rsaPublic)
	rsaDER := block.Bytes
	es := named(t, "ES256", "e")
	check(t, v, es, "")
	tests := map[string]string{
		"none":                       segment(t, fields{"alg": "none", "kid": "r"}) + "." + segment(t, good()) + ".",
		"HS256 keyed with RSA's PEM": forge(t, fields{"alg": "HS256", "kid": "r"}, good(), methods["HS256"], rsaPublic),
		"HS256 keyed with RSA's DER": forge(t, hsHeader, good(), methods["HS256"], rsaDER),
		"ES256 r=s=0":                es[:strings.LastIndexByte(es, '.')+1] + strings.Repeat("A", 86),
		"kid of another key":         named(t, "ES256", "r"),
		"kid a path":                 named(t, "ES256", "../e"),
		"another key, same kid":      forge(t, fields{"alg": "EdDSA", "kid": "e"}, good(), methods["EdDSA"], keys["EdDSA"]),
		"jku":                        signed(t, "ES256", fields{"kid": "e", "jku": "https://evil.example"}),
		"jwk":                        signed(t, "ES256", fields{"kid": "e", "jwk": jwk(t, keys["ES256"], "e", nil)}),
		"x5u":                        signed(t, "ES256", fields{"kid": "e", "x5u": "https://evil.example"}),
		"crit":                       signed(t, "ES256", fields{"kid": "e", "crit": []string{"x"}}),
	}
	for name, token := range tests {
		t.Run(name, func(t *testing.T) { check(t, v, token, protocol.InvalidToken) })
	}
}

// fixedVerifier has the RSA and the EC key of these tests as if just fetched,
// and may not ask again.
func fixedVerifier(tb testing.TB, rs, es string) *Verifier {
	tb.Helper()
	keys := keysOnce()
	given, _, err := parseKeySet(setOf(tb, jwk(tb, keys["RS256"], rs, nil), jwk(tb, keys["ES256"], es, nil)), remoteAlgorithms)
	if err != nil {
		tb.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.JWKSURL = "https://issuer.invalid/keys"
	v, fetcher, err := Open(cfg, nil)
	if err != nil {
		tb.Fatal(err)
	}
	over := &round{done: make(chan struct{})}
	close(over.done)
	fetcher.newest.Store((*keySet)(nil).next(given, time.Now(), time.Hour))
	fetcher.round, fetcher.ended = over, true
	return v
}
