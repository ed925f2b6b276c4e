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

// A Verifier checks tokens. It is immutable, but for the keys that its Keys
// fetch, and safe for concurrent use.
type Verifier struct {
	cfg       Config
	keys      []key // configured here
	remote    *Keys // nil without a key set's URL
	anonymous *protocol.Grant
}

// New reads the configured keys. Without any key it still works and refuses
// every token. A configuration with jwks_url is for Open.
func New(cfg Config) (*Verifier, error) {
	if cfg.JWKSURL != "" {
		return nil, errors.New("auth.jwks_url is set, and nothing here fetches it: use auth.Open")
	}
	return verifierOf(cfg)
}

func verifierOf(cfg Config) (*Verifier, error) {
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
// *protocol.Error; its message is for whoever sent the token: it says what is
// wrong and nothing of keys and signatures. INVALID_TOKEN and EXPIRED_TOKEN are
// final, INTERNAL means that the key set could not be fetched and that the same
// token may be accepted later.
//
// With a key set, a token that names an unknown key waits up to 2 s for a
// fetch, which Keys.Run does: never call Verify from an event loop.
func (v *Verifier) Verify(token string, now time.Time) (*protocol.Grant, error) {
	g, err := v.verify(token, now)
	refused := (*protocol.Error)(nil)
	switch {
	case err == nil:
		return g, nil
	case errors.As(err, &refused):
		return nil, refused
	case errors.Is(err, errExpired):
		return nil, &protocol.Error{Code: protocol.ExpiredToken, Message: "the token " + err.Error()}
	default:
		return nil, &protocol.Error{Code: protocol.InvalidToken, Message: "the token " + err.Error()}
	}
}

// A parsed token is what its signature is checked by.
type parsed struct {
	header
	text      string // what was signed
	payload   []byte
	signature []byte
}

// verify trusts nothing of the token before its signature holds, save the
// header, which only says which of the known keys to try.
func (v *Verifier) verify(token string, now time.Time) (*protocol.Grant, error) {
	t, err := parse(token)
	if err != nil {
		return nil, err
	}
	if err := v.checkSignature(t, now); err != nil {
		return nil, err
	}
	return v.grant(t.payload, now)
}

// grant reads what the token says.
func (v *Verifier) grant(payload []byte, now time.Time) (*protocol.Grant, error) {
	c, err := parseClaims(payload)
	if err != nil {
		return nil, err
	}
	if err := v.checkClaims(c, now); err != nil {
		return nil, err
	}
	return &c.grant, nil
}

func parse(token string) (t parsed, err error) {
	header, payload, signature, err := split(token)
	if err != nil {
		return t, err
	}
	t = parsed{text: token[:strings.LastIndexByte(token, '.')], payload: payload, signature: signature}
	t.header, err = parseHeader(header)
	return t, err
}

// What trying the keys on a token came to.
type outcome int

const (
	unknownAlg outcome = iota // no key is of its algorithm
	unknownKid                // none of those has the name it gives
	forged                    // those that have did not sign it
	genuine
)

// checkSignature tries the keys of the token's algorithm, or the one it names.
func (v *Verifier) checkSignature(t parsed, now time.Time) error {
	found := v.try(t)
	if found < forged && v.remote != nil && v.remote.mayHave(t.header) {
		found = v.fetchAndTry(t, now, found)
		if wait, unsure := v.remote.unsure(); unsure && found < forged {
			return &protocol.Error{Code: protocol.Internal, RetryAfter: wait,
				Message: "the token cannot be verified now: its issuer's keys could not be fetched; try again"}
		}
	}
	switch {
	case found == genuine:
		return nil
	case found == forged:
		return errors.New("has a signature that none of this server's keys made")
	case len(v.keys) == 0 && v.remote == nil:
		return errors.New("cannot be verified: this server has no key configured")
	case found == unknownAlg:
		return errors.New("has a signature algorithm (alg) that this server does not accept")
	}
	return errors.New("names a key (kid) that this server does not know for its algorithm")
}

// fetchAndTry tries again with the issuer's newest keys. A token that would be
// refused anyway is not worth a fetch; that its claims are not to be trusted
// yet does not matter for that.
func (v *Verifier) fetchAndTry(t parsed, now time.Time, found outcome) outcome {
	if _, err := v.grant(t.payload, now); err != nil {
		return found
	}
	v.remote.await()
	return v.try(t)
}

// try is the best that any key makes of the token.
func (v *Verifier) try(t parsed) (best outcome) {
	at := time.Now() // of the machine: it is the keys' clock, not the token's
	for _, keys := range [][]key{v.keys, v.fetched().all()} {
		for _, k := range keys {
			if k.holds(at) {
				best = max(best, k.try(t))
			}
			if best == genuine {
				return genuine
			}
		}
	}
	return best
}

func (k key) try(t parsed) outcome {
	switch {
	case k.alg != t.alg:
		return unknownAlg
	case t.hasKid && (k.id == "" || k.id != t.kid):
		return unknownKid
	case !k.verifies(t.text, t.signature):
		return forged
	}
	return genuine
}

// fetched is the newest key set, nil without one.
func (v *Verifier) fetched() *keySet {
	if v.remote == nil {
		return nil
	}
	return v.remote.newest.Load()
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
