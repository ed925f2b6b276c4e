package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// methods are the algorithms there can be a key for.
var methods = map[string]jwt.SigningMethod{
	"HS256": jwt.SigningMethodHS256,
	"RS256": jwt.SigningMethodRS256,
	"ES256": jwt.SigningMethodES256,
	"EdDSA": jwt.SigningMethodEdDSA,
}

// A key verifies tokens of one algorithm. That the algorithm belongs to the
// key, and not to the token, is what stops algorithm confusion.
type key struct {
	id     string // what kid must be when the token has one; "" is never matched
	alg    string
	public any // as the alg's method wants it
	// until is when it ceases to hold; zero for a key that is configured, or
	// that its endpoint still gives.
	until time.Time
}

// holds reports whether the key still counts.
func (k key) holds(at time.Time) bool { return k.until.IsZero() || at.Before(k.until) }

// verifies reports whether sig is this key's signature of text.
func (k key) verifies(text string, sig []byte) bool {
	return methods[k.alg].Verify(text, sig, k.public) == nil
}

// loadKeys reads every configured key and leaves out those whose algorithm is
// not wanted.
func loadKeys(c Config) ([]key, error) {
	var keys []key
	secret, err := c.HMACSecret()
	if err != nil {
		return nil, err
	}
	if secret != nil {
		keys = append(keys, key{alg: "HS256", public: secret})
	}
	for _, name := range c.PublicKeyFiles {
		k, err := readKey(name)
		if err != nil {
			return nil, fmt.Errorf("read public key %s: %w", name, err)
		}
		if slices.ContainsFunc(keys, func(o key) bool { return o.id == k.id }) {
			return nil, fmt.Errorf("read public key %s: another file gives the key id %q", name, k.id)
		}
		keys = append(keys, k)
	}
	return wanted(keys, c)
}

// wanted keeps the keys of the configured algorithms; none given means all.
func wanted(keys []key, c Config) ([]key, error) {
	algorithms := c.Algorithms
	if len(algorithms) == 0 {
		return keys, nil
	}
	for _, alg := range algorithms {
		if c.JWKSURL != "" && slices.Contains(remoteAlgorithms, alg) {
			continue // its key may be there one day
		}
		if !slices.ContainsFunc(keys, func(k key) bool { return k.alg == alg }) {
			return nil, fmt.Errorf("auth.algorithms has %s and no key for it is configured", alg)
		}
	}
	return slices.DeleteFunc(keys, func(k key) bool { return !slices.Contains(algorithms, k.alg) }), nil
}

func readKey(name string) (key, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return key{}, err
	}
	k, err := parseKey(b)
	base := filepath.Base(name)
	k.id = strings.TrimSuffix(base, filepath.Ext(base))
	if err == nil && k.id == "" {
		err = errors.New("the file name gives no key id")
	}
	return k, err
}

// parseKey reads one PEM block that holds a public key.
func parseKey(b []byte) (key, error) {
	block, rest := pem.Decode(b)
	if block == nil {
		return key{}, errors.New("it is not PEM")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return key{}, errors.New("it holds more than one PEM block: use one file a key")
	}
	var public any
	var err error
	switch {
	case block.Type == "PUBLIC KEY":
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	case block.Type == "RSA PUBLIC KEY":
		public, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case strings.Contains(block.Type, "PRIVATE"):
		err = errors.New("it is a private key: only the issuer may have that, give its public half")
	default:
		err = fmt.Errorf("it is a %s: a PUBLIC KEY is expected", block.Type)
	}
	if err != nil {
		return key{}, err
	}
	return keyOf(public)
}

// keyOf ties a public key to the one algorithm it may be used with.
func keyOf(public any) (key, error) {
	switch p := public.(type) {
	case *rsa.PublicKey:
		if n := p.N.BitLen(); n < minRSABits || n > maxRSABits {
			return key{}, fmt.Errorf("the RSA key has %d bits: %d to %d are accepted", n, minRSABits, maxRSABits)
		}
		return key{alg: "RS256", public: p}, nil
	case *ecdsa.PublicKey:
		if p.Curve != elliptic.P256() {
			return key{}, fmt.Errorf("the curve is %s: ES256 needs P-256", p.Curve.Params().Name)
		}
		return key{alg: "ES256", public: p}, nil
	case ed25519.PublicKey:
		return key{alg: "EdDSA", public: p}, nil
	}
	return key{}, fmt.Errorf("%T is not RSA, P-256 or Ed25519", public)
}
