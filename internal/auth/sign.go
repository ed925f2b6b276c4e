package auth

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"cryptointel/protocol"
	"github.com/golang-jwt/jwt/v5"
)

// A TokenRequest says what a token of our own shall grant.
type TokenRequest struct {
	Subject  string
	Channels []string // patterns it may follow
	Publish  []string // patterns it may publish to
	Filter   *protocol.Filter
	Admin    string        // "", "read" or "write"
	TTL      time.Duration // how long it is valid, whole seconds
	Audience string        // "" means cryptointel
	Issuer   string        // "" means none
}

// Sign makes an HS256 token with a fresh id, issued now. It refuses what
// Verify would refuse, so that a mistake is seen by whoever makes the token
// and not by whoever uses it.
func Sign(secret []byte, r TokenRequest, now time.Time) (string, error) {
	if r.TTL < time.Second {
		return "", fmt.Errorf("sign a token: the time to live is %v, at least 1s is needed", r.TTL)
	}
	cfg := DefaultConfig()
	cfg.Secret = Secret(secret)
	if r.Audience != "" {
		cfg.Audience = r.Audience
	}
	v, err := New(cfg)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claimsOf(r, cfg.Audience, now)).SignedString(secret)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	var refused *protocol.Error
	if _, err := v.Verify(token, now); errors.As(err, &refused) {
		return "", fmt.Errorf("sign a token: %s", refused.Message)
	}
	return token, nil
}

func claimsOf(r TokenRequest, audience string, now time.Time) jwt.MapClaims {
	c := jwt.MapClaims{
		"sub": r.Subject,
		"aud": audience,
		"jti": rand.Text(),
		"iat": now.Unix(),
		"exp": now.Add(r.TTL).Unix(),
	}
	if r.Issuer != "" {
		c["iss"] = r.Issuer
	}
	if len(r.Channels) > 0 {
		c["ch"] = r.Channels
	}
	if len(r.Publish) > 0 {
		c["pub"] = r.Publish
	}
	if r.Admin != "" {
		c["adm"] = r.Admin
	}
	if r.Filter != nil {
		c["flt"] = json.RawMessage(protocol.AppendFilter(nil, r.Filter))
	}
	return c
}
