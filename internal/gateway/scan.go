package gateway

import (
	"hash/maphash"
	"math"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds nesting, so that no message can exhaust the stack.
const maxDepth = 32

// maxNumber bounds the text of one number: nothing that means something to a
// float64 is longer.
const maxNumber = 64

// Faults. Only faultSyntax is not JSON; the others are JSON that parsers
// disagree about, which nobody should pass on.
const (
	faultSyntax    = "it is not valid JSON"
	faultDepth     = "it is nested more than 32 deep"
	faultDuplicate = "an object has the same key twice"
	faultText      = "a string holds a lone surrogate or bytes that are not UTF-8"
	faultNUL       = "a string holds a NUL"
	faultNumber    = "a number is too long or out of range"
)

// A span is a part of the scanned bytes. The zero span is nothing.
type span struct{ from, to int }

func (s span) of(b []byte) []byte { return b[s.from:s.to] }

func (s span) present() bool { return s.to > s.from }

// A scanner reads one JSON text strictly, once, in time linear to its length
// (times log n for an object's n keys), and tells where things are instead of
// building them. protocol.CheckJSON agrees with it, save for NUL and the length
// of numbers; this one also answers what is where without a second pass.
type scanner struct {
	b     []byte
	i     int
	loose int      // insignificant white space passed so far
	keys  []uint64 // hashes of the keys of the objects that are open
	text  []byte   // the last key, when it had to be unescaped
	seed  maphash.Seed
	fault string // the first fault; then everything answers false
}

func (s *scanner) reset(b []byte) {
	s.b, s.i, s.loose, s.keys, s.fault = b, 0, 0, s.keys[:0], ""
}

func (s *scanner) fail(fault string) bool {
	if s.fault == "" {
		s.fault = fault
	}
	return false
}

// peek passes white space and returns the byte that follows, 0 at the end.
func (s *scanner) peek() byte {
	for s.i < len(s.b) {
		switch c := s.b[s.i]; c {
		case ' ', '\n', '\t', '\r':
			s.i++
			s.loose++
		default:
			return c
		}
	}
	return 0
}

// end reports whether nothing follows.
func (s *scanner) end() bool {
	return s.peek() == 0 && s.i == len(s.b) || s.fail(faultSyntax)
}

// value passes one value inside depth containers.
func (s *scanner) value(depth int) bool {
	switch c := s.peek(); c {
	case '{':
		return s.object(depth, s.skip)
	case '[':
		return s.array(depth, s.skip1)
	case '"':
		_, ok := s.str()
		return ok
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	default:
		return s.number()
	}
}

func (s *scanner) skip(_ []byte, depth int) bool { return s.value(depth) }

func (s *scanner) skip1(depth int) bool { return s.value(depth) }

func (s *scanner) literal(word string) bool {
	if len(s.b)-s.i < len(word) || string(s.b[s.i:s.i+len(word)]) != word {
		return s.fail(faultSyntax)
	}
	s.i += len(word)
	return true
}

// object passes an object inside depth containers. field is called at each
// value and must pass it; its key is valid during the call.
func (s *scanner) object(depth int, field func(key []byte, depth int) bool) bool {
	if depth >= maxDepth {
		return s.fail(faultDepth)
	}
	first := len(s.keys)
	s.i++
	if s.peek() == '}' {
		s.i++
		return true
	}
	for {
		key, ok := s.key()
		if !ok || !field(key, depth+1) {
			return false
		}
		if more, ok := s.comma('}'); !more {
			return ok && s.distinct(first)
		}
	}
}

// array passes an array inside depth containers; element is called at each
// element and must pass it.
func (s *scanner) array(depth int, element func(depth int) bool) bool {
	if depth >= maxDepth {
		return s.fail(faultDepth)
	}
	s.i++
	if s.peek() == ']' {
		s.i++
		return true
	}
	for {
		if s.peek(); !element(depth + 1) {
			return false
		}
		if more, ok := s.comma(']'); !more {
			return ok
		}
	}
}

// comma passes what stands between two elements; more is false after the
// closing bracket.
func (s *scanner) comma(closing byte) (more, ok bool) {
	c := s.peek()
	if c != ',' && c != closing {
		return false, s.fail(faultSyntax)
	}
	s.i++
	return c == ',', true
}

// key passes a key and its colon and stands at the value.
func (s *scanner) key() ([]byte, bool) {
	if s.peek() != '"' {
		return nil, s.fail(faultSyntax)
	}
	from := s.i
	escaped, ok := s.str()
	if !ok {
		return nil, false
	}
	key := s.b[from+1 : s.i-1]
	if escaped {
		s.text = appendUnescaped(s.text[:0], key)
		key = s.text
	}
	if s.peek() != ':' {
		return nil, s.fail(faultSyntax)
	}
	s.i++
	s.peek()
	s.keys = append(s.keys, maphash.Bytes(s.seed, key))
	return key, true
}

// distinct closes an object whose keys begin at first. Hashes are compared:
// their key is secret, so nobody can make two that meet.
func (s *scanner) distinct(first int) bool {
	keys := s.keys[first:]
	s.keys = s.keys[:first]
	if len(keys) > 12 {
		slices.Sort(keys)
		for i := 1; i < len(keys); i++ {
			if keys[i] == keys[i-1] {
				return s.fail(faultDuplicate)
			}
		}
		return true
	}
	for i, k := range keys {
		if slices.Contains(keys[:i], k) {
			return s.fail(faultDuplicate)
		}
	}
	return true
}

// str passes a string.
func (s *scanner) str() (escaped, ok bool) {
	from, ascii := s.i+1, true
	for i := from; i < len(s.b); {
		switch c := s.b[i]; {
		case c == '"':
			if !ascii && !utf8.Valid(s.b[from:i]) {
				return false, s.fail(faultText)
			}
			s.i = i + 1
			return escaped, true
		case c == '\\':
			n, fault := escape(s.b[i:])
			if fault != "" {
				return false, s.fail(fault)
			}
			escaped = true
			i += n
		case c < ' ':
			return false, s.fail(faultSyntax)
		default:
			ascii = ascii && c < utf8.RuneSelf
			i++
		}
	}
	return false, s.fail(faultSyntax)
}

// escape is the length of the escape at the start of b; a surrogate pair is
// one.
func escape(b []byte) (n int, fault string) {
	if len(b) < 2 {
		return 0, faultSyntax
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2, ""
	case 'u':
		return unicodeEscape(b)
	}
	return 0, faultSyntax
}

func unicodeEscape(b []byte) (n int, fault string) {
	r, ok := hex4(b)
	switch {
	case !ok:
		return 0, faultSyntax
	case r == 0:
		return 0, faultNUL
	case !utf16.IsSurrogate(r):
		return 6, ""
	}
	low, ok := hex4(b[6:])
	if !ok || utf16.DecodeRune(r, low) == utf8.RuneError {
		return 0, faultText
	}
	return 12, ""
}

// hex4 reads \uXXXX.
func hex4(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range b[2:6] {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// number passes a number.
func (s *scanner) number() bool {
	b := s.b[s.i:]
	n := numberLen(b)
	if n == 0 {
		return s.fail(faultSyntax)
	}
	if n > maxNumber {
		return s.fail(faultNumber)
	}
	for _, c := range b[:n] {
		if c|0x20 == 'e' { // without an exponent 64 digits are finite
			if f, err := strconv.ParseFloat(string(b[:n]), 64); err != nil || math.IsInf(f, 0) {
				return s.fail(faultNumber)
			}
			break
		}
	}
	s.i += n
	return true
}

// numberLen is the length of the number at the start of b, 0 for none.
func numberLen(b []byte) int {
	i := 0
	if i < len(b) && b[i] == '-' {
		i++
	}
	whole := digits(b[i:])
	if whole == 0 || whole > 1 && b[i] == '0' {
		return 0
	}
	i += whole
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
