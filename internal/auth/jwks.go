package auth

import (
	"cmp"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/MicahParks/jwkset"

	"cryptointel/protocol"
)

// maxKeys bounds a key set: a token without kid is tried with all of them.
const maxKeys = 64

// remoteAlgorithms are those that a key set may hold keys for. A secret is not
// something to publish, so HS256 is not among them.
var remoteAlgorithms = []string{"RS256", "ES256", "EdDSA"}

// A keySet is what the endpoint gave, and what it gave before and is still
// accepted. It is immutable.
type keySet struct {
	keys []key // those given now, by id; then those that vanished, latest first
}

// next is the set after the endpoint gave these keys. Those that are no longer
// given hold for the overlap, so that tokens signed shortly before a rotation
// can be used up. It is s itself when nothing has changed.
func (s *keySet) next(given []key, now time.Time, overlap time.Duration) *keySet {
	keys := slices.Clone(given)
	for _, k := range s.all() {
		if slices.ContainsFunc(given, k.equal) {
			continue
		}
		if k.until.IsZero() {
			k.until = now.Add(overlap)
		}
		if now.Before(k.until) && len(keys) < 2*maxKeys {
			keys = append(keys, k)
		}
	}
	if s != nil && slices.EqualFunc(keys, s.keys, func(a, b key) bool { return a.equal(b) && a.until.Equal(b.until) }) {
		return s
	}
	return &keySet{keys}
}

// all is every key of the set; none of a nil one.
func (s *keySet) all() []key {
	if s == nil {
		return nil
	}
	return s.keys
}

// current are the keys that the endpoint still gives.
func (s *keySet) current() []key {
	keys := s.all()
	if i := slices.IndexFunc(keys, func(k key) bool { return !k.until.IsZero() }); i >= 0 {
		return keys[:i]
	}
	return keys
}

// ends is when the next key ceases to hold, zero when none will.
func (s *keySet) ends() (first time.Time) {
	for _, k := range s.all() {
		if !k.until.IsZero() && (first.IsZero() || k.until.Before(first)) {
			first = k.until
		}
	}
	return first
}

// equal reports whether both are the same key under the same name.
func (k key) equal(o key) bool {
	p, ok := k.public.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.id == o.id && k.alg == o.alg && p.Equal(o.public)
}

// A skipped key is one of a key set that is not used.
type skipped struct {
	kid, why string
}

// parseKeySet reads a JSON Web Key Set (RFC 7517) and keeps the keys that
// verify signatures of the given algorithms and are strong enough. Others are
// told of but spoil nothing, as section 5 of the RFC has it. A set without any
// usable key is an error, so that a broken endpoint does not lock everyone out.
func parseKeySet(b []byte, algorithms []string) (keys []key, rest []skipped, err error) {
	m, err := members(b)
	if err != nil {
		return nil, nil, errors.New("the answer is not a JSON Web Key Set: it is not a JSON object")
	}
	var list []json.RawMessage
	if json.Unmarshal(m["keys"], &list) != nil {
		return nil, nil, errors.New(`the answer is not a JSON Web Key Set: it has no list "keys"`)
	}
	if len(list) > maxKeys {
		return nil, nil, fmt.Errorf("the key set has %d keys: at most %d are accepted", len(list), maxKeys)
	}
	for _, raw := range list {
		k, kid, err := parseJWK(raw)
		if err != nil {
			rest = append(rest, skipped{protocol.Clip(kid), shorten(err.Error())})
		} else if slices.Contains(algorithms, k.alg) {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, rest, fmt.Errorf("none of the %d keys of the set can be used for %s", len(list), strings.Join(algorithms, " "))
	}
	slices.SortStableFunc(keys, func(a, b key) int { return cmp.Or(strings.Compare(a.id, b.id), strings.Compare(a.alg, b.alg)) })
	return keys, rest, nil
}

// shorten bounds a log line: the library quotes what the key says.
func shorten(s string) string {
	if len(s) > 200 {
		return strings.ToValidUTF8(s[:200], "") + "..."
	}
	return s
}

// parseJWK reads one public key, to the rules that a key from a file must
// keep, and to what it says about its own use.
func parseJWK(raw []byte) (k key, kid string, err error) {
	var m jwkset.JWKMarshal
	if json.Unmarshal(raw, &m) != nil {
		return key{}, "", errors.New("it is not a JSON Web Key")
	}
	switch {
	case m.KTY == jwkset.KtyOct || m.K != "":
		return key{}, m.KID, errors.New("it is a symmetric key, which must never be published: replace it at the issuer")
	case m.D != "" || m.P != "" || m.Q != "":
		return key{}, m.KID, errors.New("it is a private key, which must never be published: replace it at the issuer")
	case m.USE != "" && m.USE != jwkset.UseSig:
		return key{}, m.KID, errors.New("its use is not sig")
	case len(m.KEYOPS) > 0 && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify):
		return key{}, m.KID, errors.New("its key_ops do not have verify")
	case len(m.KID) > maxName:
		return key{}, m.KID, fmt.Errorf("its kid has more than %d bytes", maxName)
	}
	// Certificates are not looked at: the key is trusted for where it is from.
	m.X5U, m.X5C, m.X5T, m.X5TS256 = "", nil, "", ""
	jwk, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{SkipKeyOps: true})
	if err != nil {
		return key{}, m.KID, err
	}
	if k, err = keyOf(jwk.Key()); err != nil {
		return key{}, m.KID, err
	}
	if alg := string(m.ALG); alg != "" && alg != k.alg {
		return key{}, m.KID, fmt.Errorf("it is for %s: a key of its kind is used for %s only", protocol.Clip(alg), k.alg)
	}
	k.id = m.KID
	return k, m.KID, nil
}
