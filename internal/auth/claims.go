package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"cryptointel/protocol"
)

// endOfTime is the latest exp kept, the year 2200 in seconds: later ones are
// moved to it, so that adding to a time never overflows.
const endOfTime = 7258118400

// A header is what a token says about its own signature.
type header struct {
	alg    string
	kid    string
	hasKid bool
}

// parseHeader reads the header and refuses everything in it that asks to
// fetch or trust a key, or to read the token in another way.
func parseHeader(b []byte) (header, error) {
	m, err := members(b)
	if err != nil {
		return header{}, fmt.Errorf("has header fields that %w", err)
	}
	for _, name := range []string{"jku", "jwk", "x5u", "x5c", "crit", "b64", "zip", "enc"} {
		if _, ok := m[name]; ok {
			return header{}, fmt.Errorf("has %q in its header, which is never accepted", name)
		}
	}
	var h header
	if h.alg, err = m.text("alg"); err != nil || h.alg == "" {
		return header{}, errors.New("does not name its signature algorithm (alg)")
	}
	_, h.hasKid = m["kid"]
	if h.kid, err = m.text("kid"); err != nil || len(h.kid) > maxName {
		return header{}, fmt.Errorf("has a key id (kid) that is not a string of at most %d bytes", maxName)
	}
	typ, err := m.text("typ")
	typ = strings.TrimPrefix(strings.ToLower(typ), "application/")
	if err != nil || typ != "" && typ != "jwt" && typ != "at+jwt" {
		return header{}, errors.New("is of another kind (typ) than JWT")
	}
	return h, nil
}

// claims are what a token says, read and bounded but not yet compared with
// the clock and the configuration.
type claims struct {
	grant     protocol.Grant
	audience  []string
	issuer    string
	notBefore protocol.Time
}

// parseClaims reads the payload. Names are matched exactly, unlike
// encoding/json's, and claims nobody here knows are ignored.
func parseClaims(b []byte) (*claims, error) {
	m, err := members(b)
	if err != nil {
		return nil, fmt.Errorf("has claims that %w", err)
	}
	var c claims
	for _, read := range []func(object, *claims) error{readTimes, readNames, readGrants} {
		if err := read(m, &c); err != nil {
			return nil, err
		}
	}
	return &c, nil
}

func readTimes(m object, c *claims) (err error) {
	if _, ok := m["exp"]; !ok {
		return errors.New("has no expiry (exp)")
	}
	if c.grant.Expires, err = m.time("exp"); err != nil {
		return err
	}
	if c.grant.Issued, err = m.time("iat"); err != nil {
		return err
	}
	c.notBefore, err = m.time("nbf")
	return err
}

func readNames(m object, c *claims) (err error) {
	if c.grant.Subject, err = m.text("sub"); err != nil || !printable(c.grant.Subject) || c.grant.Subject == "" {
		return fmt.Errorf("has no subject (sub) of 1 to %d printable ASCII bytes", maxName)
	}
	if c.grant.ID, err = m.text("jti"); err != nil || !printable(c.grant.ID) {
		return fmt.Errorf("has an id (jti) that is not at most %d printable ASCII bytes", maxName)
	}
	if c.issuer, err = m.text("iss"); err != nil {
		return errors.New("has an issuer (iss) that is not a string")
	}
	if one, err := m.text("aud"); err == nil {
		c.audience = []string{one}
		return nil
	}
	if c.audience, err = m.texts("aud"); err != nil {
		return errors.New("has an audience (aud) that is neither a string nor a list of strings")
	}
	return nil
}

func readGrants(m object, c *claims) (err error) {
	if c.grant.Channels, err = m.patterns("ch"); err != nil {
		return err
	}
	if c.grant.Publish, err = m.patterns("pub"); err != nil {
		return err
	}
	c.grant.Admin, err = m.text("adm")
	if err != nil || c.grant.Admin != "" && c.grant.Admin != "read" && c.grant.Admin != "write" {
		return errors.New(`has an adm claim that is neither "read" nor "write"`)
	}
	c.grant.Filter, err = m.filter("flt")
	return err
}

// printable reports whether s is short, plain ASCII, fit for logs and keys.
func printable(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return len(s) <= maxName
}

// An object is a JSON object whose members are still text.
type object map[string]json.RawMessage

// members reads one JSON object. A member that comes twice is an error, since
// two readers may disagree on which counts; null is the same as absent.
func members(b []byte) (object, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("are not a JSON object")
	}
	m, seen := object{}, map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, errors.New("are not a JSON object")
		}
		if seen[name] {
			return nil, errors.New("name a member twice")
		}
		seen[name] = true
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, errors.New("are not a JSON object")
		}
		if string(raw) != "null" {
			m[name] = raw
		}
	}
	if _, err := dec.Token(); err != nil {
		return nil, errors.New("are not a JSON object")
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("have something after the JSON object")
	}
	return m, nil
}

// text is a string member, "" when absent.
func (m object) text(name string) (s string, err error) {
	if raw, ok := m[name]; ok {
		err = json.Unmarshal(raw, &s)
	}
	return s, err
}

// texts is a list of strings, nil when absent.
func (m object) texts(name string) (list []string, err error) {
	raw, ok := m[name]
	if !ok {
		return nil, nil
	}
	var elements []*string // null inside a list is not a string
	if err := json.Unmarshal(raw, &elements); err != nil {
		return nil, err
	}
	for _, s := range elements {
		if s == nil {
			return nil, errors.New("null in a list of strings")
		}
		list = append(list, *s)
	}
	return list, nil
}

// patterns is a list of channel patterns.
func (m object) patterns(name string) ([]string, error) {
	list, err := m.texts(name)
	if err != nil {
		return nil, fmt.Errorf("has a %s claim that is not a list of strings", name)
	}
	if err := checkPatterns(list); err != nil {
		return nil, fmt.Errorf("has a %s claim that is not accepted: it %w", name, err)
	}
	return list, nil
}

// filter is a filter that narrows what the grant's holder sees, nil when
// absent.
func (m object) filter(name string) (*protocol.Filter, error) {
	raw, ok := m[name]
	if !ok {
		return nil, nil
	}
	if _, err := members(raw); err != nil { // a repeated key could widen it
		return nil, fmt.Errorf("has a filter (%s) whose keys %w", name, err)
	}
	f, refused := protocol.ParseFilter(raw)
	if refused != nil {
		return nil, fmt.Errorf("has a claim (%s) that is not accepted: %s", name, refused.Message)
	}
	return f, nil
}

// time is a NumericDate, 0 when absent.
func (m object) time(name string) (protocol.Time, error) {
	raw, ok := m[name]
	if !ok {
		return 0, nil
	}
	var seconds float64
	if err := json.Unmarshal(raw, &seconds); err != nil || seconds <= 0 {
		return 0, fmt.Errorf("has a time (%s) that is not seconds since 1970", name)
	}
	// Whole seconds and fraction apart: together they exceed a float's 53 bits.
	whole := int64(min(seconds, endOfTime))
	fraction := min(seconds, endOfTime) - float64(whole)
	return protocol.Time(whole)*protocol.Second + protocol.Time(fraction*float64(protocol.Second)), nil
}
