package protocol

import (
	"math"
	"strconv"
	"unicode/utf8"
)

// A raw is one JSON value inside a message that CheckJSON has accepted, so its
// readers need not check again. It shares the message's bytes.
type raw []byte

func (v raw) kind() byte {
	if len(v) == 0 {
		return 0
	}
	return v[0]
}

// text is the value of a string.
func (v raw) text() (string, bool) {
	if v.kind() != '"' {
		return "", false
	}
	return rawText(v), true
}

// rawText unquotes a string that is known to be one.
func rawText(v []byte) string {
	v = v[1 : len(v)-1]
	for _, c := range v {
		if c == '\\' {
			return string(unescape(v))
		}
	}
	return string(v)
}

func unescape(v []byte) []byte {
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

// integer is the value of a number that is a whole one, up to 2^53 either way.
func (v raw) integer() (int64, bool) {
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || n > 1<<53 || n < -1<<53 {
		return 0, false
	}
	return n, true
}

// whole reports whether v is a number of digits only, of any size.
func (v raw) whole() bool {
	d := v
	if d.kind() == '-' {
		d = d[1:]
	}
	return len(d) > 0 && digits(d) == len(d)
}

func (v raw) float() (float64, bool) {
	if k := v.kind(); k != '-' && (k < '0' || k > '9') {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(v), 64)
	return f, err == nil && !math.IsInf(f, 0)
}

func (v raw) boolean() (value, ok bool) {
	return string(v) == "true", string(v) == "true" || string(v) == "false"
}

// texts is the value of an array of strings.
func (v raw) texts() ([]string, bool) {
	if v.kind() != '[' {
		return nil, false
	}
	var out []string
	for it := elements(v); ; {
		e, ok := it.next()
		if !ok {
			return out, true
		}
		s, ok := e.text()
		if !ok {
			return nil, false
		}
		out = append(out, s)
	}
}

// An iterator walks the elements of an array or the fields of an object.
type iterator struct{ rest []byte }

func elements(v raw) iterator { return iterator{v[1:]} }

// next is the array's next element.
func (it *iterator) next() (raw, bool) {
	b := skipSpace(it.rest)
	if len(b) > 0 && b[0] == ',' {
		b = skipSpace(b[1:])
	}
	if len(b) == 0 || b[0] == ']' || b[0] == '}' {
		return nil, false
	}
	rest, err := skipValue(b, 0)
	if err != nil {
		return nil, false
	}
	it.rest = rest
	return raw(b[:len(b)-len(rest)]), true
}

// field is the object's next field.
func (it *iterator) field() (key string, v raw, ok bool) {
	k, ok := it.next()
	if !ok {
		return "", nil, false
	}
	b := skipSpace(it.rest) // at the colon
	it.rest = b[1:]
	v, ok = it.next()
	return rawText(k), v, ok
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
