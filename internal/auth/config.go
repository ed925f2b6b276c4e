// Package auth says who someone is: it verifies JSON Web Tokens against the
// configured keys, or those an issuer publishes, and turns their claims into a
// protocol.Grant. It makes tickets that stand for such a grant in a URL. It
// does not know what a grant is used for, keeps no sessions, and connects to
// nothing but the issuer's key set.
package auth

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// Sizes that a token and its claims must keep.
const (
	maxLeeway   = 30 * time.Second
	minSecret   = 32 // bytes: RFC 7518 section 3.2 asks for the hash's length
	minRSABits  = 2048
	maxRSABits  = 8192 // beyond it a verification costs milliseconds
	maxPatterns = 100  // in ch and in pub, each
	maxName     = 128  // bytes: sub, jti, kid, and one pattern
	maxRefresh  = 24 * time.Hour
)

// Config says which tokens are accepted.
type Config struct {
	// Secret verifies and signs HS256 tokens; at least 32 bytes. It comes from
	// CRYPTOINTEL_JWT_SECRET, never from a flag. Unset means no HS256, unless
	// SecretFile is set.
	Secret Secret `kong:"-"`
	// SecretFile is a file that holds the secret instead; a newline at its end
	// is not part of it.
	SecretFile string `name:"secret_file" help:"File that holds the HS256 secret, at least 32 bytes."`
	// PublicKeyFiles are PEM files, one public key each: RSA of at least 2048
	// bits (RS256), P-256 (ES256) or Ed25519 (EdDSA). The file's name without
	// directory and extension is the key's id, which a token may name in kid.
	PublicKeyFiles []string `name:"public_key_files" help:"PEM files of public keys for RS256, ES256 and EdDSA; the file name without extension is the kid."`
	// JWKSURL is where the issuer publishes its public keys, as a JSON Web Key
	// Set. Unset means that there is none. https, or http to this machine.
	JWKSURL string `name:"jwks_url" help:"URL of the issuer's JSON Web Key Set; https, or http on loopback."`
	// JWKSRefresh is how often the key set is fetched, less up to a tenth: 15
	// minutes by default, at least 1. Shorten it when an issuer signs with a
	// new key without naming it (kid); a key that is named is fetched when the
	// first token brings it.
	JWKSRefresh time.Duration `name:"jwks_refresh" default:"15m" help:"How often the key set is fetched, at least 1m."`
	// JWKSOverlap is how long a key holds after it vanished from the key set: 1
	// hour by default. It should cover the life of the issuer's tokens; 0 drops
	// a key at once, also one that had to be withdrawn.
	JWKSOverlap time.Duration `name:"jwks_overlap" default:"1h" help:"How long a key holds after it vanished from the key set; 0 for not at all."`
	// Algorithms narrows what is accepted, from HS256 RS256 ES256 EdDSA. Unset
	// means those that a key is there for.
	Algorithms []string `name:"algorithms" help:"Accepted signature algorithms: HS256 RS256 ES256 EdDSA. Unset: those with a key."`
	// Issuer is what iss must be. Unset means iss is not looked at.
	Issuer string `name:"issuer" help:"Issuer (iss) that tokens must name. Unset: not checked."`
	// Audience is what aud must contain. Change it when one issuer serves
	// several installations, so that a token for one is no good at another.
	Audience string `name:"audience" default:"cryptointel" help:"Audience (aud) that tokens must name."`
	// Leeway is how far the clocks of issuer and server may differ when exp,
	// nbf and iat are checked: 30 s by default and at most, 0 for none.
	Leeway time.Duration `name:"leeway" default:"30s" help:"Clock difference allowed in exp, nbf and iat, at most 30s."`
	// AnonymousChannels are the patterns that clients without a token may
	// follow. An empty list means that everyone needs a token.
	AnonymousChannels []string `name:"anonymous_channels" reload:"" default:"price:*,market:*,system:*,test:*" help:"Channel patterns that clients without a token may follow."`
}

// DefaultConfig accepts no token, having no key, and lets anonymous clients
// follow everything but signals.
func DefaultConfig() Config {
	return Config{
		Audience:          "cryptointel",
		JWKSRefresh:       15 * time.Minute,
		JWKSOverlap:       time.Hour,
		Leeway:            maxLeeway,
		AnonymousChannels: []string{"price:*", "market:*", "system:*", "test:*"},
	}
}

func (c Config) validate() error {
	if c.Audience == "" {
		return errors.New("auth.audience is empty: name what aud must contain")
	}
	if c.Leeway < 0 || c.Leeway > maxLeeway {
		return fmt.Errorf("auth.leeway is %v: it may be 0 to %v", c.Leeway, maxLeeway)
	}
	for _, alg := range c.Algorithms {
		if _, ok := methods[alg]; !ok {
			return fmt.Errorf("auth.algorithms has %q: choose from HS256 RS256 ES256 EdDSA", alg)
		}
	}
	if err := checkPatterns(c.AnonymousChannels); err != nil {
		return fmt.Errorf("auth.anonymous_channels: %w", err)
	}
	return c.validateJWKS()
}

func (c Config) validateJWKS() error {
	switch {
	case c.JWKSRefresh < time.Minute || c.JWKSRefresh > maxRefresh:
		return fmt.Errorf("auth.jwks_refresh is %v: it may be 1m to %v", c.JWKSRefresh, maxRefresh)
	case c.JWKSOverlap < 0:
		return fmt.Errorf("auth.jwks_overlap is %v: it may be 0 or more", c.JWKSOverlap)
	case c.JWKSURL == "":
		return nil
	case len(c.Algorithms) > 0 && !slices.ContainsFunc(c.Algorithms, func(a string) bool { return slices.Contains(remoteAlgorithms, a) }):
		return errors.New("auth.jwks_url is set and auth.algorithms has none of RS256 ES256 EdDSA: a key set is of no use then")
	}
	u, err := url.Parse(c.JWKSURL)
	switch { // the URL itself is not shown: it may hold a password
	case err != nil || u.Hostname() == "":
		return errors.New("auth.jwks_url is not a URL such as https://issuer.example/.well-known/jwks.json")
	case u.User != nil:
		return errors.New("auth.jwks_url has a user name or password in it: a key set is public, leave them out")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return fmt.Errorf("auth.jwks_url is plain http to %s: whoever is on the way could give keys of their own, use https", u.Hostname())
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("auth.jwks_url has the scheme %q: use https", u.Scheme)
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// HMACSecret returns the secret from wherever it is configured, nil when it is
// not, and an error when it is too weak to be used.
func (c Config) HMACSecret() ([]byte, error) {
	secret := []byte(c.Secret)
	if c.SecretFile != "" {
		if len(secret) > 0 {
			return nil, errors.New("auth.secret and auth.secret_file are both set: remove one")
		}
		b, err := os.ReadFile(c.SecretFile)
		if err != nil {
			return nil, fmt.Errorf("read auth.secret_file: %w", err)
		}
		secret = []byte(strings.TrimRight(string(b), "\r\n"))
		if len(secret) == 0 {
			return nil, fmt.Errorf("auth.secret_file %s is empty", c.SecretFile)
		}
	}
	if len(secret) == 0 {
		return nil, nil
	}
	return secret, checkSecret(secret)
}

func checkSecret(secret []byte) error {
	if len(secret) < minSecret {
		return fmt.Errorf("the JWT secret has %d bytes: HS256 needs at least %d random ones, as from `openssl rand -hex 32`", len(secret), minSecret)
	}
	// A public key is no secret: with it as HMAC key anyone could sign.
	if strings.Contains(string(secret), "-----BEGIN ") {
		return errors.New("the JWT secret is a PEM block: public keys belong in auth.public_key_files")
	}
	return nil
}

// A Secret is text that no print or log shows.
type Secret string

// String hides the secret.
func (Secret) String() string { return "[secret]" }

// GoString hides the secret.
func (Secret) GoString() string { return "[secret]" }

// LogValue hides the secret.
func (Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }

// MarshalText hides the secret.
func (Secret) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// checkPatterns refuses what MatchAny would not understand as it looks.
func checkPatterns(patterns []string) error {
	if len(patterns) > maxPatterns {
		return fmt.Errorf("has %d patterns, at most %d are allowed", len(patterns), maxPatterns)
	}
	if i := slices.IndexFunc(patterns, func(p string) bool { return !validPattern(p) }); i >= 0 {
		return fmt.Errorf("pattern %d is not 1 to %d of a-z 0-9 - _ . : with * only at the end", i+1, maxName)
	}
	return nil
}

func validPattern(p string) bool {
	if len(p) == 0 || len(p) > maxName {
		return false
	}
	for _, c := range []byte(strings.TrimSuffix(p, "*")) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("-_.:", c) >= 0) {
			return false
		}
	}
	return true
}
