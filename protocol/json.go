package protocol

import (
	"bytes"
	"errors"
	"math"
	"strconv"
	"unicode/utf8"
)

// JSON by hand: encoding/json would make the WebAssembly core half as large
// again and three times slower a message (docs/architecture.md). Fuzz tests
// hold this to what encoding/json says.

// maxDepth bounds nesting, so that no message can exhaust the stack.
const maxDepth = 32

var (
	errSyntax    = errors.New("not valid JSON")
	errDepth     = errors.New("nested more than 32 deep")
	errDuplicate = errors.New("an object has the same key twice")
	errText      = errors.New("a string holds a lone surrogate or bytes that are not UTF-8")
	errNUL       = errors.New("a string holds the character NUL")
	errNumber    = errors.New("a number is out of range")
)

// CheckJSON reports why b is not exactly one JSON value that is accepted here.
// It is stricter than the JSON grammar where parsers disagree: no key twice in
// an object, no lone surrogates, no number beyond a float64.
func CheckJSON(b []byte) error {
	_, err := ParseValue(b)
	return err
}

func skipSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\n' || b[0] == '\t' || b[0] == '\r') {
		b = b[1:]
	}
	return b
}

// skipValue checks the value at the start of b and returns what follows.
func skipValue(b []byte, depth int) ([]byte, error) {
	if len(b) == 0 {
		return nil, errSyntax
	}
	switch b[0] {
	case '{':
		return skipObject(b[1:], depth+1)
	case '[':
		return skipArray(b[1:], depth+1)
	case '"':
		return skipString(b[1:])
	case 't':
		return skipLiteral(b, "true")
	case 'f':
		return skipLiteral(b, "false")
	case 'n':
		return skipLiteral(b, "null")
	}
	return skipNumber(b)
}

func skipLiteral(b []byte, word string) ([]byte, error) {
	if len(b) < len(word) || string(b[:len(word)]) != word {
		return nil, errSyntax
	}
	return b[len(word):], nil
}

func skipArray(b []byte, depth int) (_ []byte, err error) {
	if depth > maxDepth {
		return nil, errDepth
	}
	if b = skipSpace(b); len(b) > 0 && b[0] == ']' {
		return b[1:], nil
	}
	for {
		if b, err = skipValue(skipSpace(b), depth); err != nil {
			return nil, err
		}
		var more bool
		if b, more, err = skipComma(b, ']'); !more || err != nil {
			return b, err
		}
	}
}

func skipObject(b []byte, depth int) (_ []byte, err error) {
	if depth > maxDepth {
		return nil, errDepth
	}
	if b = skipSpace(b); len(b) > 0 && b[0] == '}' {
		return b[1:], nil
	}
	var seen keySet
	for {
		if b, err = skipKey(skipSpace(b), &seen); err != nil {
			return nil, err
		}
		if b, err = skipValue(skipSpace(b), depth); err != nil {
			return nil, err
		}
		var more bool
		if b, more, err = skipComma(b, '}'); !more || err != nil {
			return b, err
		}
	}
}

// skipComma passes over what stands between two elements; more is false after
// the closing bracket.
func skipComma(b []byte, closing byte) (rest []byte, more bool, err error) {
	b = skipSpace(b)
	if len(b) == 0 || b[0] != ',' && b[0] != closing {
		return nil, false, errSyntax
	}
	return b[1:], b[0] == ',', nil
}

func skipKey(b []byte, seen *keySet) ([]byte, error) {
	if len(b) == 0 || b[0] != '"' {
		return nil, errSyntax
	}
	rest, err := skipString(b[1:])
	if err != nil {
		return nil, err
	}
	if !seen.add(b[1 : len(b)-len(rest)-1]) {
		return nil, errDuplicate
	}
	if rest = skipSpace(rest); len(rest) == 0 || rest[0] != ':' {
		return nil, errSyntax
	}
	return rest[1:], nil
}

// A keySet finds a key that comes twice. Most objects have few keys, which a
// short scan handles without allocation; a large one gets a map, so that time
// stays linear.
type keySet struct {
	few  [12][]byte
	n    int
	many map[string]struct{}
}

// add takes a key between its quotes; escapes are undone, so that two
// spellings of one key are the same.
func (s *keySet) add(key []byte) bool {
	if bytes.IndexByte(key, '\\') >= 0 {
		key = unescape(key)
	}
	for _, k := range s.few[:s.n] {
		if bytes.Equal(k, key) {
			return false
		}
	}
	if s.n < len(s.few) {
		s.few[s.n] = key
		s.n++
		return true
	}
	if s.many == nil {
		s.many = make(map[string]struct{})
	}
	_, twice := s.many[string(key)]
	s.many[string(key)] = struct{}{}
	return !twice
}

// skipString takes b after the opening quote.
func skipString(b []byte) ([]byte, error) {
	for i := 0; i < len(b); {
		switch c := b[i]; {
		case c == '"':
			return b[i+1:], nil
		case c < ' ':
			return nil, errSyntax
		case c == '\\':
			n, err := escapeLen(b[i:])
			if err != nil {
				return nil, err
			}
			i += n
		case c < utf8.RuneSelf:
			i++
		default:
			r, n := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && n == 1 {
				return nil, errText
			}
			i += n
		}
	}
	return nil, errSyntax
}

// escapeLen checks the escape at the start of b; a surrogate pair is one.
func escapeLen(b []byte) (int, error) {
	if len(b) < 2 {
		return 0, errSyntax
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2, nil
	case 'u':
		r, n, err := unicodeEscape(b)
		if err == nil && r == 0 {
			err = errNUL
		}
		return n, err
	}
	return 0, errSyntax
}

// unicodeEscape reads \uXXXX, or the two of them that make one rune.
func unicodeEscape(b []byte) (rune, int, error) {
	hi, ok := hex4(b)
	switch {
	case !ok:
		return 0, 0, errSyntax
	case hi < 0xD800 || hi > 0xDFFF:
		return hi, 6, nil
	case hi > 0xDBFF:
		return 0, 0, errText
	}
	lo, ok := hex4(b[6:])
	if !ok || lo < 0xDC00 || lo > 0xDFFF {
		return 0, 0, errText
	}
	return 0x10000 + (hi-0xD800)<<10 + (lo - 0xDC00), 12, nil
}

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	for _, c := range b[2:6] {
		d := rune(0)
		switch {
		case '0' <= c && c <= '9':
			d = rune(c - '0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			d = rune(c|0x20-'a') + 10
		default:
			return 0, false
		}
		r = r<<4 | d
	}
	return r, true
}

func skipNumber(b []byte) ([]byte, error) {
	n := numberLen(b)
	if n == 0 {
		return nil, errSyntax
	}
	// Short numbers cannot overflow; only long or exponential ones are parsed.
	if n > 17 {
		if v, err := strconv.ParseFloat(string(b[:n]), 64); err != nil || math.IsInf(v, 0) {
			return nil, errNumber
		}
	} else if hasExponent(b[:n]) {
		if _, err := strconv.ParseFloat(string(b[:n]), 64); err != nil {
			return nil, errNumber
		}
	}
	return b[n:], nil
}

func hasExponent(b []byte) bool {
	for _, c := range b {
		if c|0x20 == 'e' {
			return true
		}
	}
	return false
}

// numberLen is the length of the number at the start of b, 0 when there is
// none.
func numberLen(b []byte) int {
	i := 0
	if i < len(b) && b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if n := digits(b[i:]); n > 0 {
		i += n
	} else {
		return 0
	}
	if i < len(b) && b[i] == '.' {
		n := digits(b[i+1:])
		if n == 0 {
			return 0
		}
		i += 1 + n
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		j := i + 1
		if j < len(b) && (b[j] == '+' || b[j] == '-') {
			j++
		}
		n := digits(b[j:])
		if n == 0 {
			return 0
		}
		i = j + n
	}
	return i
}

func digits(b []byte) int {
	n := 0
	for n < len(b) && '0' <= b[n] && b[n] <= '9' {
		n++
	}
	return n
}
