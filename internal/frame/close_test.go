package frame

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

func TestAppendClose(t *testing.T) {
	long := strings.Repeat("x", 122)
	cases := []struct {
		name   string
		code   int
		reason string
		want   string
	}{
		{"code and reason", 4509, "IDLE_TIMEOUT", "\x88\x0e\x11\x9dIDLE_TIMEOUT"},
		{"code only", 1000, "", "\x88\x02\x03\xe8"},
		{"no status", NoStatus, "dropped", "\x88\x00"},
		{"zero", 0, "", "\x88\x00"},
		{"123 bytes fit", 1000, long + "y", "\x88\x7d\x03\xe8" + long + "y"},
		{"124 bytes are cut", 1000, long + "yz", "\x88\x7d\x03\xe8" + long + "y"},
		{"no rune is split", 1000, long + "é", "\x88\x7c\x03\xe8" + long},
		{"four bytes, none left over", 1000, long[:120] + "𝄞", "\x88\x7a\x03\xe8" + long[:120]},
		{"not UTF-8", 1000, "a\xffb", "\x88\x07\x03\xe8a\uFFFDb"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := string(AppendClose(nil, c.code, c.reason)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestParseClose(t *testing.T) {
	type result struct {
		code   int
		reason string
		fail   int
	}
	cases := []struct {
		name    string
		payload string
		want    result
	}{
		{"empty", "", result{code: NoStatus}},
		{"half a code", "\x03", result{fail: ProtocolError}},
		{"code", "\x03\xe8", result{code: 1000}},
		{"code and reason", "\x0f\xa0bye κ", result{code: 4000, reason: "bye κ"}},
		{"longest", "\x03\xe8" + strings.Repeat("x", 123), result{code: 1000, reason: strings.Repeat("x", 123)}},
		{"bad UTF-8", "\x03\xe8\xce\xba\xed\xa0\x80", result{fail: InvalidUTF8}},
		{"cut rune", "\x03\xe8\xce", result{fail: InvalidUTF8}},
		{"bad code before bad UTF-8", "\x03\xed\xff", result{fail: ProtocolError}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var got result
			var err error
			got.code, got.reason, err = ParseClose([]byte(c.payload))
			if fail := (*Error)(nil); errors.As(err, &fail) {
				got.fail = fail.Code
			}
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// TestCloseCodes asks gobwas/ws about every code. It does not know the codes
// registered after the RFC, and lets those pass that no range covers.
func TestCloseCodes(t *testing.T) {
	for n := range 1 << 16 {
		want := ws.CheckCloseFrameData(ws.StatusCode(n), "") == nil
		switch {
		case n >= 1012 && n <= 1014:
			want = true
		case n >= 5000:
			want = false
		}
		_, _, err := ParseClose([]byte{byte(n >> 8), byte(n)})
		if (err == nil) != want {
			t.Errorf("code %d: got %v, want legal=%v", n, err, want)
		}
	}
}

// TestCloseRoundTrip: what AppendClose writes ParseClose reads, reason cut.
func TestCloseRoundTrip(t *testing.T) {
	reason := strings.Repeat("𝄞é", 40)
	for n := range len(reason) {
		b := AppendClose(nil, 1000, reason[:n])
		code, got, err := ParseClose(b[2:])
		want := strings.ToValidUTF8(reason[:n], "\uFFFD")
		if err != nil || code != 1000 || len(b) > 127 || !utf8.ValidString(got) ||
			!strings.HasPrefix(want, got) || len(want)-len(got) > max(0, len(want)-120) {
			t.Errorf("%d bytes: got %d %q %v", n, code, got, err)
		}
	}
}
