package auth

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cryptointel/protocol"
)

// zeros is a body of n MiB, one write a MiB.
func zeros(w io.Writer, n int) {
	b := make([]byte, 1<<20)
	for range n {
		if _, err := w.Write(b); err != nil {
			return
		}
	}
}

func text(contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		io.WriteString(w, body)
	}
}

// after answers late, unless the client has gone.
func after(wait time.Duration, answer http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(wait):
			answer(w, r)
		}
	}
}

// TestBadAnswers is the JWKS row of the attack list: whatever the endpoint
// answers, the last good keys hold, the log says what was wrong, and a fetch
// ends in time.
func TestBadAnswers(t *testing.T) {
	key := jwk(t, keysOnce()["EdDSA"], "evil", nil)
	tests := []struct {
		name   string
		answer http.HandlerFunc
		says   string
	}{
		{"status 500", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "oh", http.StatusInternalServerError) }, "is 500, not 200"},
		{"status 429", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "oh", http.StatusTooManyRequests) }, "is 429, not 200"},
		{"huge body", func(w http.ResponseWriter, _ *http.Request) { zeros(w, 64) }, "over 1 MiB"},
		{"compressed bomb", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			zeros(z, 64)
			z.Close()
		}, "over 1 MiB"},
		{"slow headers", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "no full answer in 10s"},
		{"slow body", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				io.WriteString(w, " ")
				w.(http.Flusher).Flush()
				time.Sleep(100 * time.Millisecond)
			}
		}, "no full answer in 10s"},
		{"cut body", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, `{"keys":[`)
		}, "unexpected EOF"},
		{"endless headers", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("a", 128<<10))
		}, "exceeded"},
		{"HTML", text("text/html; charset=utf-8", "<html><body>Sign in</body></html>"), "an HTML page"},
		{"HTML called JSON", text("application/json", "<html></html>"), "not a JSON object"},
		{"empty", text("application/json", ""), "not a JSON object"},
		{"no keys", text("application/json", "{}"), "it has no list"},
		{"keys not a list", text("application/json", `{"keys":{}}`), "it has no list"},
		{"keys twice", text("application/json", `{"keys":[],"keys":[]}`), "not a JSON object"},
		{"an empty list", serve(), "none of the 0 keys"},
		{"nested without end", text("application/json", `{"keys":`+strings.Repeat("[", 20_000)), "not a JSON object"},
		{"65 keys", serve(make([]any, 65)...), "65 keys"},
		{"a secret only", serve(fields{"kty": "oct", "k": "AAAA", "kid": "a"}), "none of the 1 keys"},
		{"elsewhere", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://evil.example/keys", http.StatusFound)
		}, "redirects to evil.example"},
		{"another port", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://localhost:81/keys", http.StatusFound)
		}, "redirects to localhost:81"},
		{"round and round", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/again", http.StatusFound)
		}, "more than 3 times"},
		{"redirect to a file", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}, "another place"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEndpoint(t, serve(jwk(t, keysOnce()["ES256"], "a", nil)), nil)
				e.give(tt.answer)
				time.Sleep(15*time.Minute + fetchTimeout)
				synctest.Wait()
				check(t, e.verifier, named(t, "ES256", "a"), "")
				check(t, e.verifier, named(t, "EdDSA", "evil"), protocol.Internal)
				if s := e.keys.Status(); s.Failed == 0 || s.Current != 1 {
					t.Errorf("status: %+v", s)
				}
				if log := e.logged(t); !strings.Contains(log, tt.says) || !strings.Contains(log, "the last ones hold") {
					t.Errorf("the log does not say %q: %s", tt.says, log)
				}
				e.give(serve(key)) // and it recovers
				time.Sleep(lastRetry + fetchTimeout)
				synctest.Wait()
				check(t, e.verifier, named(t, "EdDSA", "evil"), "")
			})
		})
	}
}

// TestGoodAnswers are those that look odd and are fine.
func TestGoodAnswers(t *testing.T) {
	good := serve(jwk(t, keysOnce()["ES256"], "a", nil))
	tests := map[string]http.HandlerFunc{
		"redirect on the host": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/other" {
				http.Redirect(w, r, "/other", http.StatusMovedPermanently)
				return
			}
			good(w, r)
		},
		"compressed": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			defer z.Close()
			good(zipped{w, z}, r)
		},
		"slow": after(9*time.Second, good),
		"no content type": func(w http.ResponseWriter, r *http.Request) {
			good(w, r)
			w.Header()["Content-Type"] = nil
		},
	}
	for name, answer := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEndpoint(t, answer, nil)
				time.Sleep(10 * time.Second)
				synctest.Wait()
				check(t, e.verifier, named(t, "ES256", "a"), "")
			})
		})
	}
}

type zipped struct {
	http.ResponseWriter
	io.Writer
}

func (z zipped) Write(b []byte) (int, error) { return z.Writer.Write(b) }

// TestRefreshIsSpread: a thousand nodes that start together do not fetch
// together later, and none fetches less often than configured.
func TestRefreshIsSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := map[time.Duration]bool{}
		e := newEndpoint(t, serve(jwk(t, keysOnce()["ES256"], "a", nil)), nil)
		for range 50 {
			wait := time.Until(e.keys.fetchRound(context.Background()))
			if wait <= 13*time.Minute+30*time.Second-1 || wait > 15*time.Minute {
				t.Errorf("the next fetch is in %v", wait)
			}
			at[wait] = true
		}
		if len(at) < 40 {
			t.Errorf("50 waits have %d values: %v", len(at), fmt.Sprint(at))
		}
	})
}
