package protocol

import (
	"bytes"
	"iter"
	"math"
	"strconv"
	"unicode/utf8"
)

// A Value is one JSON value of bytes that CheckJSON accepts, without the space
// around it: from ParseValue, or from inside another Value. Its readers do not
// check again: of other bytes they make nonsense or panic. It shares the bytes.
// The empty Value is none: it has no kind, no readings and nothing inside.
type Value []byte

// ParseValue is the value in b. It refuses what CheckJSON refuses.
func ParseValue(b []byte) (Value, error) {
	b = skipSpace(b)
	rest, err := skipValue(b, 0)
	if err != nil {
		return nil, err
	}
	if len(skipSpace(rest)) > 0 {
		return nil, errSyntax
	}
	return b[:len(b)-len(rest)], nil
}

// Kind is the first byte, which tells what the value is: one of { [ " t f n, a
// minus or a digit; 0 when there is none.
func (v Value) Kind() byte {
	if len(v) == 0 {
		return 0
	}
	return v[0]
}

// Text is a copy of a string's text; false for another kind.
func (v Value) Text() (string, bool) {
	if v.Kind() != '"' {
		return "", false
	}
	return string(unquote(v)), true
}

// unquote is the text of a string, in the same bytes when it has no escapes.
func unquote(v []byte) []byte { return unescape(v[1 : len(v)-1]) }

// unescape undoes the escapes in v, in a copy when there are any.
func unescape(v []byte) []byte {
	if bytes.IndexByte(v, '\\') < 0 {
		return v
	}
	out := make([]byte, 0, len(v))
	for i := 0; i < len(v); {
		if v[i] != '\\' {
			out = append(out, v[i])
			i++
			continue
		}
		if v[i+1] == 'u' {
			r, n, _ := unicodeEscape(v[i:])
			out = utf8.AppendRune(out, r)
			i += n
			continue
		}
		out = append(out, unescaped(v[i+1]))
		i += 2
	}
	return out
}

func unescaped(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}

// Integer is a whole number without point or exponent, up to 2^53 either way;
// false for all else.
func (v Value) Integer() (int64, bool) {
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || n > 1<<53 || n < -1<<53 {
		return 0, false
	}
	return n, true
}

// whole reports whether v is a number of digits only, of any size.
func (v Value) whole() bool {
	d := v
	if d.Kind() == '-' {
		d = d[1:]
	}
	return len(d) > 0 && digits(d) == len(d)
}

// Float is the float64 nearest to a number; false for another kind.
func (v Value) Float() (float64, bool) {
	if k := v.Kind(); k != '-' && (k < '0' || k > '9') {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(v), 64)
	return f, err == nil && !math.IsInf(f, 0)
}

// Bool is what true or false says; ok is false for another kind.
func (v Value) Bool() (value, ok bool) {
	return string(v) == "true", string(v) == "true" || string(v) == "false"
}

// Texts is a copy of an array of strings, nil when it is empty; false when it
// is no array or holds something else.
func (v Value) Texts() ([]string, bool) {
	if v.Kind() != '[' {
		return nil, false
	}
	var out []string
	for e := range v.Elements() {
		s, ok := e.Text()
		if !ok {
			return nil, false
		}
		out = append(out, s)
	}
	return out, true
}

// Elements yields what is in an array; nothing for another kind.
func (v Value) Elements() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if v.Kind() != '[' {
			return
		}
		for e, rest := next(v[1:]); len(e) > 0 && yield(e); {
			e, rest = next(rest)
		}
	}
}

// Fields yields the keys of an object, unquoted, with their values, in the
// order they were written; nothing for another kind. A key may share v's bytes.
func (v Value) Fields() iter.Seq2[[]byte, Value] {
	return func(yield func(key []byte, field Value) bool) {
		if v.Kind() != '{' {
			return
		}
		for key, rest := next(v[1:]); len(key) > 0; key, rest = next(rest) {
			var field Value
			if field, rest = next(rest); !yield(unquote(key), field) {
				return
			}
		}
	}
}

// Compact is a copy of v without the white space between its tokens, which
// would break a line of an event stream.
func (v Value) Compact() []byte {
	out, from := make([]byte, 0, len(v)), 0
	for i := 0; i < len(v); {
		switch c := v[i]; {
		case c == '"':
			i += stringLen(v[i:])
		case c <= ' ':
			out = append(out, v[from:i]...)
			i++
			from = i
		default:
			i++
		}
	}
	return append(out, v[from:]...)
}

// next is the value that follows in b, past what stands between two, and what
// is behind it. After the last it is empty.
func next(b []byte) (v Value, rest []byte) {
	i := 0
	for i < len(b) && (b[i] <= ' ' || b[i] == ',' || b[i] == ':') {
		i++
	}
	n := valueLen(b[i:])
	return b[i : i+n], b[i+n:]
}

// valueLen is the length of the value at the start of b, 0 at a closing
// bracket. It knows that b was checked and looks for its end only.
func valueLen(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	switch b[0] {
	case '"':
		return stringLen(b)
	case '{', '[':
		return bracketLen(b)
	}
	i := 0
	for i < len(b) && b[i] > ' ' && b[i] != ',' && b[i]|0x20 != '}' {
		i++
	}
	return i
}

// bracketLen is the length of the object or array at the start of b.
func bracketLen(b []byte) int {
	depth := 0
	for i := 0; ; i++ {
		switch b[i] | 0x20 { // the bit makes square brackets curly ones
		case '"':
			i += stringLen(b[i:]) - 1
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
}

// stringLen is the length of the string at the start of b, with its quotes.
func stringLen(b []byte) int {
	for i := 1; ; i++ {
		i += bytes.IndexByte(b[i:], '"')
		n := i
		for b[n-1] == '\\' {
			n--
		}
		if (i-n)%2 == 0 { // an odd backslash would escape the quote
			return i + 1
		}
	}
}

// AppendString appends s as a JSON string. Bytes that are not UTF-8 become
// U+FFFD; characters that end a line in JavaScript or open a tag in HTML are
// escaped, so that a frame can be pasted anywhere.
func AppendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ' || c == '<' || c == '>' || c == '&' || c == 0x7f:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			dst = append(dst, c)
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == 0x2028 || r == 0x2029 {
				dst = append(append(dst, `\u202`...), hex[r&15])
			} else {
				dst = utf8.AppendRune(dst, r)
			}
			i += n
			continue
		}
		i++
	}
	return append(dst, '"')
}

// AppendFloat appends f in its shortest form that reads back the same, without
// an exponent where a person would write none.
func AppendFloat(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...) // JSON has no such number
	}
	if a := math.Abs(f); a != 0 && (a < 1e-9 || a >= 1e21) {
		return strconv.AppendFloat(dst, f, 'e', -1, 64)
	}
	return strconv.AppendFloat(dst, f, 'f', -1, 64)
}
