package gateway

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// These read and write values that the scanner has accepted.

// textOf is the value of a string, false for another kind.
func textOf(v []byte) (string, bool) {
	if len(v) < 2 || v[0] != '"' {
		return "", false
	}
	v = v[1 : len(v)-1]
	for _, c := range v {
		if c == '\\' {
			return string(appendUnescaped(nil, v)), true
		}
	}
	return string(v), true
}

// numberOf is the value of a number, false for another kind.
func numberOf(v []byte) (float64, bool) {
	if len(v) == 0 || v[0] != '-' && (v[0] < '0' || v[0] > '9') {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(v), 64)
	return f, err == nil
}

// textsOf is the value of an array of at most most strings.
func textsOf(v []byte, most int) ([]string, bool) {
	if len(v) == 0 || v[0] != '[' {
		return nil, false
	}
	list := []string{}
	s := scanner{b: v}
	ok := s.array(0, func(int) bool {
		from := s.i
		if s.peek() != '"' || len(list) == most {
			return false
		}
		if _, ok := s.str(); !ok {
			return false
		}
		text, ok := textOf(v[from:s.i])
		list = append(list, text)
		return ok
	})
	return list, ok
}

// appendUnescaped appends the text between the quotes of a string.
func appendUnescaped(dst, v []byte) []byte {
	for i := 0; i < len(v); i++ {
		if v[i] != '\\' {
			dst = append(dst, v[i])
			continue
		}
		i++
		switch v[i] {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, _ := hex4(v[i-1:])
			i += 4
			if utf16.IsSurrogate(r) {
				low, _ := hex4(v[i+1:])
				r = utf16.DecodeRune(r, low)
				i += 6
			}
			dst = utf8.AppendRune(dst, r)
		default:
			dst = append(dst, v[i])
		}
	}
	return dst
}

// appendCompact appends v without the white space between its tokens, which
// would break a line of an event stream.
func appendCompact(dst, v []byte) []byte {
	quoted := false
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case quoted && c == '\\':
			dst = append(dst, c, v[i+1])
			i++
			continue
		case c == '"':
			quoted = !quoted
		case !quoted && c <= ' ':
			continue
		}
		dst = append(dst, v[i])
	}
	return dst
}
