package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cryptointel/protocol"
)

// check verifies a token and compares the code; "" is for accepted.
func check(t *testing.T, v interface {
	Verify(string, time.Time) (*protocol.Grant, error)
}, token string, want protocol.Code) *protocol.Error {
	t.Helper()
	_, err := v.Verify(token, now)
	var got protocol.Code
	refused := (*protocol.Error)(nil)
	if errors.As(err, &refused) {
		got = refused.Code
	}
	if got != want {
		t.Errorf("got %q (%v); want %q", got, err, want)
	}
	return refused
}

func TestKeysAreFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := keysOnce()
		e := newEndpoint(t, serve(jwk(t, keys["RS256"], "r", nil), jwk(t, keys["ES256"], "e", nil), jwk(t, keys["EdDSA"], "d", nil)), nil)
		for alg, kid := range map[string]string{"RS256": "r", "ES256": "e", "EdDSA": "d"} {
			check(t, e.verifier, named(t, alg, kid), "")
			check(t, e.verifier, signed(t, alg, nil), "") // no kid: every key of its algorithm
		}
		check(t, e.verifier, named(t, "ES256", "r"), protocol.InvalidToken)
		check(t, e.verifier, signed(t, "HS256", nil), protocol.InvalidToken)
		if got, want := e.keys.Status(), (KeyStatus{Current: 3, Fetches: 2, Fetched: time.Now()}); got != want {
			t.Errorf("status: got %+v; want %+v", got, want) // two: the ES256 token named a key of another algorithm
		}
	})
}

func TestKeysRespectAlgorithms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := keysOnce()
		e := newEndpoint(t, serve(jwk(t, keys["RS256"], "r", nil), jwk(t, keys["ES256"], "e", nil)),
			func(c *Config) { c.Algorithms = []string{"ES256"} })
		check(t, e.verifier, named(t, "ES256", "e"), "")
		check(t, e.verifier, named(t, "RS256", "r"), protocol.InvalidToken)
		if n := e.fetched(); n != 1 {
			t.Errorf("%d fetches: one for an algorithm that is not wanted", n)
		}
	})
}

// TestRotation: a new key counts with the first token that names it, an old
// one until the overlap is over, also in front of the cache.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := keysOnce()
		e := newEndpoint(t, serve(jwk(t, keys["ES256"], "a", nil)), nil)
		cache := NewCache(e.verifier)
		before, after := named(t, "ES256", "a"), named(t, "EdDSA", "b")
		check(t, cache, before, "")
		time.Sleep(time.Minute) // of the bubble
		e.give(serve(jwk(t, keys["EdDSA"], "b", nil)))
		check(t, cache, after, "")
		check(t, cache, before, "")
		time.Sleep(time.Hour - time.Nanosecond)
		check(t, cache, before, "")
		if s := e.keys.Status(); s.Current != 1 || s.Retired != 1 {
			t.Errorf("during the overlap: %+v", s)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		check(t, cache, before, protocol.InvalidToken)
		check(t, cache, after, "")
		if s := e.keys.Status(); s.Current != 1 || s.Retired != 0 {
			t.Errorf("after the overlap: %+v", s)
		}
		for _, says := range []string{"token keys fetched", "token keys retired"} {
			if !strings.Contains(e.logged(t), says) {
				t.Errorf("the log does not say %q: %s", says, e.logged(t))
			}
		}
	})
}

// TestRotationUnderOneName: an issuer that gives a new key the old one's id.
func TestRotationUnderOneName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		e := newEndpoint(t, serve(jwk(t, keysOnce()["ES256"], "a", nil)), nil)
		fresh := forge(t, fields{"alg": "ES256", "kid": "a"}, good(), methods["ES256"], other)
		check(t, e.verifier, fresh, protocol.InvalidToken)
		e.give(serve(jwk(t, other, "a", nil)))
		time.Sleep(15 * time.Minute)
		synctest.Wait()
		check(t, e.verifier, fresh, "")
		check(t, e.verifier, named(t, "ES256", "a"), "")
		e.give(serve(jwk(t, keysOnce()["ES256"], "a", nil))) // and back
		time.Sleep(15 * time.Minute)
		synctest.Wait()
		time.Sleep(2 * time.Hour)
		check(t, e.verifier, fresh, protocol.InvalidToken)
		check(t, e.verifier, named(t, "ES256", "a"), "")
	})
}

// TestOverlapEndsWithoutRun: nothing needs to run for an old key to end.
func TestOverlapEndsWithoutRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(t, serve(jwk(t, keysOnce()["ES256"], "a", nil)), nil)
		e.give(serve(jwk(t, keysOnce()["EdDSA"], "b", nil)))
		check(t, e.verifier, named(t, "EdDSA", "b"), "")
		e.stop()
		time.Sleep(time.Hour - 1)
		check(t, e.verifier, named(t, "ES256", "a"), "")
		time.Sleep(time.Nanosecond)
		check(t, e.verifier, named(t, "ES256", "a"), protocol.InvalidToken)
	})
}

func TestNoOverlapDropsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := keysOnce()
		e := newEndpoint(t, serve(jwk(t, keys["ES256"], "a", nil)), func(c *Config) { c.JWKSOverlap = 0 })
		cache := NewCache(e.verifier)
		check(t, cache, named(t, "ES256", "a"), "")
		token := named(t, "ES256", "a")
		check(t, cache, token, "")
		e.give(serve(jwk(t, keys["EdDSA"], "b", nil)))
		check(t, cache, named(t, "EdDSA", "b"), "")
		check(t, cache, token, protocol.InvalidToken)
	})
}

// TestUnknownKidStorm: a thousand invented keys at once cost one fetch, and
// nothing more for 30 s.
func TestUnknownKidStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(t, serve(jwk(t, keysOnce()["ES256"], "a", nil)), nil)
		storm := func(name string) {
			var wg sync.WaitGroup
			for i := range 1000 {
				token := named(t, "ES256", fmt.Sprint(name, i))
				wg.Go(func() { check(t, e.verifier, token, protocol.InvalidToken) })
			}
			wg.Wait()
		}
		for i, wait := range []time.Duration{0, 30*time.Second - 1, 1, 29 * time.Second} {
			time.Sleep(wait)
			storm(fmt.Sprint(i, "-"))
			if got, want := e.fetched(), []int{2, 2, 3, 3}[i]; got != want {
				t.Errorf("storm %d: %d fetches so far; want %d", i, got, want)
			}
		}
		check(t, e.verifier, named(t, "ES256", "a"), "")
	})
}

// TestSlowEndpoint: whoever waits does so at most 2 s, all for the same 2 s,
// and is told to come back.
func TestSlowEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := serve(jwk(t, keysOnce()["ES256"], "a", nil))
		e := newEndpoint(t, good, nil)
		e.give(after(9*time.Second, good))
		start := time.Now()
		for i := range 100 { // one after the other, as a judge does
			refused := check(t, e.verifier, named(t, "ES256", fmt.Sprint("x", i)), protocol.Internal)
			if refused != nil && refused.RetryAfter != protocol.Second {
				t.Errorf("retry after %v", refused.RetryAfter)
			}
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("took %v; want 2s", took)
		}
		if n := e.fetched(); n != 2 {
			t.Errorf("%d fetches; want 2", n)
		}
		check(t, e.verifier, named(t, "ES256", "a"), "") // a known key waits for nothing
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("a known key waited until %v", took)
		}
	})
}

// TestClaimsDecideWhetherToFetch: what would be refused anyway costs nothing.
func TestClaimsDecideWhetherToFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(t, serve(jwk(t, keysOnce()["ES256"], "a", nil)), nil)
		for _, change := range []fields{{"exp": 1}, {"aud": "other"}, {"sub": nil}} {
			token := forge(t, fields{"alg": "ES256", "kid": "x"}, with(good(), change), methods["ES256"], keysOnce()["ES256"])
			check(t, e.verifier, token, protocol.InvalidToken)
		}
		check(t, e.verifier, hs(t, fields{"alg": "none", "kid": "x"}, good()), protocol.InvalidToken)
		check(t, e.verifier, hs(t, fields{"alg": "HS256", "kid": "x"}, good()), protocol.InvalidToken)
		check(t, e.verifier, named(t, "ES256", ""), protocol.InvalidToken)
		if n := e.fetched(); n != 1 {
			t.Errorf("%d fetches; want 1", n)
		}
	})
}

func TestDownAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(t, nil, func(c *Config) { c.Secret = testSecret })
		check(t, e.verifier, signed(t, "HS256", nil), "") // what is configured here works
		token := named(t, "ES256", "a")
		refused := check(t, e.verifier, token, protocol.Internal)
		if refused == nil || refused.RetryAfter < protocol.Second || refused.RetryAfter > protocol.Minute+protocol.Millisecond || !strings.Contains(refused.Message, "try again") {
			t.Fatalf("got %+v; want to hear when to try again", refused)
		}
		if log := e.logged(t); !strings.Contains(log, "tokens that need them are refused") || !strings.Contains(log, "connection refused") {
			t.Errorf("the log does not say so: %s", log)
		}
		e.give(serve(jwk(t, keysOnce()["ES256"], "a", nil)))
		time.Sleep(time.Duration(refused.RetryAfter))
		synctest.Wait()
		check(t, e.verifier, token, "")
	})
}

// TestDownLater: the last keys hold for days, what is not among them is asked
// for now and then, and the log has a line a minute at most.
func TestDownLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := serve(jwk(t, keysOnce()["ES256"], "a", nil))
		e := newEndpoint(t, good, nil)
		e.give(nil)
		time.Sleep(48 * time.Hour)
		check(t, e.verifier, named(t, "ES256", "a"), "")
		check(t, e.verifier, named(t, "ES256", "b"), protocol.Internal)
		if n, lines := e.fetched(), strings.Count(e.logged(t), "the last ones hold"); n < 48*60 || n > 2*48*60 || lines < 24*60 || lines > 48*60 {
			t.Errorf("%d fetches and %d lines in 48 hours", n, lines)
		}
		e.give(good)
		time.Sleep(time.Minute)
		synctest.Wait()
		check(t, e.verifier, named(t, "ES256", "b"), protocol.InvalidToken)
		if s := e.keys.Status(); s.Current != 1 || time.Since(s.Fetched) > time.Minute || s.Failed == 0 {
			t.Errorf("back again: %+v", s)
		}
	})
}

// TestEnd: when Run is over nobody waits any more, and known keys still hold.
func TestEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(t, serve(jwk(t, keysOnce()["ES256"], "a", nil)), nil)
		e.give(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		unknown := named(t, "ES256", "b")
		start, waited := time.Now(), make(chan time.Duration)
		go func() { check(t, e.verifier, unknown, protocol.Internal); waited <- time.Since(start) }()
		time.Sleep(time.Second)
		e.stop()
		if took := <-waited; took != time.Second {
			t.Errorf("waited %v; want 1s", took)
		}
		check(t, e.verifier, unknown, protocol.Internal)
		check(t, e.verifier, named(t, "ES256", "a"), "")
		if took := time.Since(start); took != time.Second {
			t.Errorf("waited after the end: %v", took)
		}
	})
}

func TestRunWithoutURL(t *testing.T) {
	v, keys, err := Open(DefaultConfig(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Run(t.Context()); err != nil {
		t.Error(err)
	}
	check(t, v, signed(t, "ES256", nil), protocol.InvalidToken)
	if s := keys.Status(); s != (KeyStatus{}) {
		t.Errorf("got %+v", s)
	}
}

// TestUntrustedCertificate is over a real socket: the certificate is checked.
func TestUntrustedCertificate(t *testing.T) {
	server := httptest.NewTLSServer(serve(jwk(t, keysOnce()["ES256"], "a", nil)))
	defer server.Close()
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	cfg := DefaultConfig()
	cfg.JWKSURL = server.URL
	_, keys, err := Open(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := keys.fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("got %v; want a word on the certificate", err)
	}
	keys.client = server.Client()
	if _, _, err := keys.fetch(t.Context()); err != nil {
		t.Errorf("with a trusted certificate: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Config)
		says   string
	}{
		{"plain http", func(c *Config) { c.JWKSURL = "http://issuer.example/keys" }, "use https"},
		{"http to a name like loopback", func(c *Config) { c.JWKSURL = "http://localhost.example/keys" }, "use https"},
		{"http to a private address", func(c *Config) { c.JWKSURL = "http://10.0.0.1/keys" }, "use https"},
		{"file", func(c *Config) { c.JWKSURL = "file:///etc/keys" }, "not a URL such as"},
		{"ftp", func(c *Config) { c.JWKSURL = "ftp://issuer.example/keys" }, `"ftp"`},
		{"no host", func(c *Config) { c.JWKSURL = "https:///keys" }, "not a URL such as"},
		{"no URL", func(c *Config) { c.JWKSURL = "issuer.example" }, "not a URL such as"},
		{"damaged", func(c *Config) { c.JWKSURL = "https://[::1/keys" }, "not a URL such as"},
		{"password", func(c *Config) { c.JWKSURL = "https://u:marker@issuer.example/keys" }, "leave them out"},
		{"refresh 0", func(c *Config) { c.JWKSRefresh = 0 }, "auth.jwks_refresh is 0s"},
		{"refresh over a day", func(c *Config) { c.JWKSRefresh = 25 * time.Hour }, "auth.jwks_refresh is 25h"},
		{"overlap negative", func(c *Config) { c.JWKSOverlap = -1 }, "auth.jwks_overlap is -1ns"},
		{"HS256 only", func(c *Config) {
			c.JWKSURL, c.Secret, c.Algorithms = "https://issuer.example/keys", testSecret, []string{"HS256"}
		}, "of no use"},
		{"HS256 without a secret", func(c *Config) {
			c.JWKSURL, c.Algorithms = "https://issuer.example/keys", []string{"ES256", "HS256"}
		}, "HS256"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := DefaultConfig()
			tt.change(&cfg)
			_, _, err := Open(cfg, slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "marker") {
				t.Errorf("got %v; want an error saying %q", err, tt.says)
			}
		})
	}
	for _, good := range []string{"https://issuer.example/keys", "http://127.0.0.1:80/keys", "http://[::1]/keys", "http://localhost/keys"} {
		cfg := DefaultConfig()
		cfg.JWKSURL = good
		if _, _, err := Open(cfg, slog.New(slog.DiscardHandler)); err != nil {
			t.Errorf("%s: %v", good, err)
		}
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: New took what only Open fetches", good)
		}
	}
}
