package auth

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cryptointel/protocol"
)

// maxToken bounds a token in bytes, before anything of it is decoded.
const maxToken = 8 << 10

// errExpired is told apart from the other refusals: the client's answer to it
// is a fresh token.
var errExpired = errors.New("has expired: fetch a new one")

// A Verifier checks tokens. It is immutable after New and safe for concurrent
// use.
type Verifier struct {
	cfg       Config
	keys      []key
	anonymous *protocol.Grant
}

// New reads the configured keys. Without any key it still works and refuses
// every token.
func New(cfg Config) (*Verifier, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	keys, err := loadKeys(cfg)
	if err != nil {
		return nil, err
	}
	cfg.Secret = "" // the keys have it
	return &Verifier{
		cfg:       cfg,
		keys:      keys,
		anonymous: &protocol.Grant{Channels: slices.Clone(cfg.AnonymousChannels)},
	}, nil
}

// Anonymous is the grant of clients without a token. It is shared and must not
// be changed.
func (v *Verifier) Anonymous() *protocol.Grant { return v.anonymous }

// Verify returns what the token grants at this time. The error is a
// *protocol.Error with InvalidToken or ExpiredToken; its message is for whoever
// sent the token: it says what is wrong and nothing of keys and signatures.
func (v *Verifier) Verify(token string, now time.Time) (*protocol.Grant, error) {
	g, err := v.verify(token, now)
	switch {
	case err == nil:
		return g, nil
	case errors.Is(err, errExpired):
		return nil, &protocol.Error{Code: protocol.ExpiredToken, Message: "the token " + err.Error()}
	default:
		return nil, &protocol.Error{Code: protocol.InvalidToken, Message: "the token " + err.Error()}
	}
}

// verify trusts nothing of the token before its signature holds, save the
// header, which only says which of the known keys to try.
func (v *Verifier) verify(token string, now time.Time) (*protocol.Grant, error) {
	header, payload, signature, err := split(token)
	if err != nil {
		return nil, err
	}
	h, err := parseHeader(header)
	if err != nil {
		return nil, err
	}
	text := token[:strings.LastIndexByte(token, '.')]
	if err := v.checkSignature(h, text, signature); err != nil {
		return nil, err
	}
	c, err := parseClaims(payload)
	if err != nil {
		return nil, err
	}
	if err := v.checkClaims(c, now); err != nil {
		return nil, err
	}
	return &c.grant, nil
}

// checkSignature tries the keys of the token's algorithm, or the one it names.
func (v *Verifier) checkSignature(h header, text string, signature []byte) error {
	var sameAlg, tried bool
	for _, k := range v.keys {
		if k.alg != h.alg {
			continue
		}
		sameAlg = true
		if h.hasKid && (k.id == "" || k.id != h.kid) {
			continue
		}
		tried = true
		if k.verifies(text, signature) {
			return nil
		}
	}
	switch {
	case len(v.keys) == 0:
		return errors.New("cannot be verified: this server has no key configured")
	case !sameAlg:
		return errors.New("has a signature algorithm (alg) that this server does not accept")
	case !tried:
		return errors.New("names a key (kid) that this server does not know for its algorithm")
	}
	return errors.New("has a signature that none of this server's keys made")
}

// checkClaims looks at time and addressee. Expiry comes last, so that a client
// is sent for a fresh token only when that would help.
func (v *Verifier) checkClaims(c *claims, now time.Time) error {
	t, leeway := protocol.Time(now.UnixNano()), protocol.Time(v.cfg.Leeway)
	switch {
	case !slices.Contains(c.audience, v.cfg.Audience):
		return fmt.Errorf("is not for this audience: aud must contain %q", v.cfg.Audience)
	case v.cfg.Issuer != "" && c.issuer != v.cfg.Issuer:
		return errors.New("is from another issuer (iss) than this server trusts")
	case t < c.notBefore-leeway:
		return errors.New("is not valid yet (nbf): check the issuer's clock")
	case t < c.grant.Issued-leeway:
		return errors.New("was issued in the future (iat): check the issuer's clock")
	case t >= c.grant.Expires+leeway:
		return errExpired
	}
	return nil
}

// split cuts a compact token into its decoded parts.
func split(token string) (header, payload, signature []byte, err error) {
	if len(token) > maxToken {
		return nil, nil, nil, fmt.Errorf("is too large: at most %d bytes", maxToken)
	}
	parts := strings.SplitN(token, ".", 4)
	if len(parts) != 3 {
		return nil, nil, nil, errors.New("is not a JWT: three parts joined by dots are expected")
	}
	var decoded [3][]byte
	for i, part := range parts {
		// The decoder skips line breaks even when strict, so that a token
		// would have more than one spelling.
		if strings.ContainsAny(part, "\r\n") {
			err = errors.New("has a line break in it")
		} else {
			decoded[i], err = base64.RawURLEncoding.Strict().DecodeString(part)
		}
		if err != nil {
			return nil, nil, nil, errors.New("is not a JWT: its parts are not base64url without padding")
		}
	}
	return decoded[0], decoded[1], decoded[2], nil
}
