package protocol

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzCheckJSON holds CheckJSON to encoding/json: it accepts exactly what that
// finds valid, less what slowReasons finds wrong with it.
func FuzzCheckJSON(f *testing.F) {
	for _, c := range checkCases {
		f.Add([]byte(c.in))
	}
	for _, line := range exampleLines(f) {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got := CheckJSON(b)
		if !json.Valid(b) {
			if got == nil {
				t.Fatalf("accepted %q, which is not JSON", b)
			}
			return
		}
		why := slowReasons(t, b)
		if got == nil && len(why) > 0 {
			t.Fatalf("accepted %q in spite of %v", b, why)
		}
		if got != nil && !slices.Contains(why, got) {
			t.Fatalf("refused %q as %v, want one of %v", b, got, why)
		}
		if got == nil {
			compareDecoded(t, b)
		}
	})
}

// compareDecoded reads b with the readers of Value and with encoding/json.
func compareDecoded(t *testing.T, b []byte) {
	t.Helper()
	var want any
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatalf("encoding/json cannot decode %q: %v", b, err)
	}
	v, err := ParseValue(b)
	if err != nil || !bytes.Equal(v, bytes.TrimSpace(b)) {
		t.Fatalf("the value in %q is %q (%v)", b, v, err)
	}
	got := decodeValue(t, v)
	if g, w := fmt.Sprintf("%#v", got), fmt.Sprintf("%#v", want); g != w {
		t.Fatalf("%q\n got %s\nwant %s", b, g, w)
	}
}

// slowReasons is every reason why b, which is valid JSON, is not accepted.
func slowReasons(t *testing.T, b []byte) []error {
	t.Helper()
	s := slowScan{dec: json.NewDecoder(bytes.NewReader(b))}
	s.dec.UseNumber()
	for {
		from := s.dec.InputOffset()
		tok, err := s.dec.Token()
		if err == io.EOF {
			return s.why
		}
		if err != nil {
			t.Fatalf("encoding/json finds %q valid and then says: %v", b, err)
		}
		text := bytes.TrimLeft(b[from:s.dec.InputOffset()], " \t\r\n,:")
		s.token(tok, text)
	}
}

// A slowScan walks JSON token by token and notes what we refuse.
type slowScan struct {
	dec  *json.Decoder
	open []map[string]bool // an object's keys; nil for an array
	key  bool              // a key comes next
	why  []error
}

func (s *slowScan) token(tok json.Token, text []byte) {
	switch v := tok.(type) {
	case json.Delim:
		s.delim(v)
		return
	case json.Number:
		if json.Unmarshal([]byte(v), new(float64)) != nil {
			s.why = append(s.why, errNumber)
		}
	case string:
		if !utf8.Valid(text) || loneSurrogate(text) {
			s.why = append(s.why, errText)
		}
		if strings.ContainsRune(v, 0) {
			s.why = append(s.why, errNUL)
		}
		if s.key {
			keys := s.open[len(s.open)-1]
			if keys[v] {
				s.why = append(s.why, errDuplicate)
			}
			keys[v], s.key = true, false
			return
		}
	}
	s.ended()
}

func (s *slowScan) delim(d json.Delim) {
	switch d {
	case '{':
		s.open, s.key = append(s.open, map[string]bool{}), true
	case '[':
		s.open, s.key = append(s.open, nil), false
	default:
		s.open = s.open[:len(s.open)-1]
		s.ended()
	}
	if len(s.open) > 32 {
		s.why = append(s.why, errDepth)
	}
}

// ended notes that a value is complete: in an object a key follows.
func (s *slowScan) ended() {
	s.key = len(s.open) > 0 && s.open[len(s.open)-1] != nil
}

var (
	escapedBackslash = regexp.MustCompile(`\\\\`)
	pairEscape       = regexp.MustCompile(`\\u[dD][89abAB]..\\u[dD][c-fC-F]..`)
	surrogateEscape  = regexp.MustCompile(`\\u[dD][89a-fA-F]`)
)

func loneSurrogate(text []byte) bool {
	text = escapedBackslash.ReplaceAll(text, []byte("-"))
	return surrogateEscape.Match(pairEscape.ReplaceAll(text, []byte("-")))
}

func TestSlowReasons(t *testing.T) {
	for _, c := range checkCases {
		if !json.Valid([]byte(c.in)) {
			if c.want != errSyntax {
				t.Errorf("%s: %.80q is not JSON, so %v is no reason", c.name, c.in, c.want)
			}
			continue
		}
		why := slowReasons(t, []byte(c.in))
		if c.want == nil && len(why) > 0 || c.want != nil && !slices.Contains(why, c.want) {
			t.Errorf("%s: the slow check says %v, want %v", c.name, why, c.want)
		}
	}
}

// list is n elements of a format that takes a number, with commas between.
func list(n int, format string) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(format, i)
	}
	return strings.Join(all, ",")
}
