package protocol

import (
	"strings"
	"testing"
)

// cursorCases is what ParseCursor must say.
var cursorCases = []struct {
	name string
	in   string
	want Cursor
	ok   bool
}{
	{"of the documentation", "k3f9-184401", Cursor{"k3f9", 184401}, true},
	{"the beginning", "k3f9-0", Cursor{"k3f9", 0}, true},
	{"the largest", "k3f9-9007199254740991", Cursor{"k3f9", 1<<53 - 1}, true},
	{"the longest epoch", "0123456789abcdef-1", Cursor{"0123456789abcdef", 1}, true},
	{"with a state part", "k3f9-184467.1764678600123456", Cursor{"k3f9", 184467}, true},
	{"with an empty state part", "k3f9-184467.", Cursor{"k3f9", 184467}, true},
	{"with a state part that is none", "k3f9-184467.x-y.z", Cursor{"k3f9", 184467}, true},

	{"nothing", "", Cursor{}, false},
	{"no offset", "k3f9", Cursor{}, false},
	{"empty offset", "k3f9-", Cursor{}, false},
	{"only a state part", "k3f9-.1", Cursor{}, false},
	{"no epoch", "-184401", Cursor{}, false},
	{"only a number", "184401", Cursor{}, false},
	{"short epoch", "k3f-1", Cursor{}, false},
	{"long epoch", "0123456789abcdefg-1", Cursor{}, false},
	{"epoch in capitals", "K3F9-1", Cursor{}, false},
	{"epoch that is not ASCII", "k3fé-1", Cursor{}, false},
	{"negative offset", "k3f9--1", Cursor{}, false},
	{"offset with a plus", "k3f9-+1", Cursor{}, false},
	{"2^53", "k3f9-9007199254740992", Cursor{}, false},
	{"far too large", "k3f9-" + strings.Repeat("9", 100), Cursor{}, false},
	{"hexadecimal", "k3f9-0x10", Cursor{}, false},
	{"underscores", "k3f9-1_0", Cursor{}, false},
	{"space before", " k3f9-1", Cursor{}, false},
	{"space behind", "k3f9-1 ", Cursor{}, false},
}

func TestParseCursor(t *testing.T) {
	for _, c := range cursorCases {
		t.Run(c.name, func(t *testing.T) {
			got, ok := ParseCursor(c.in)
			if ok != c.ok || got != c.want {
				t.Errorf("%q\n got %+v, %v\nwant %+v, %v", c.in, got, ok, c.want, c.ok)
			}
		})
	}
}

// FuzzCursor holds that what is read is written the same, but for zeros in
// front and the state part.
func FuzzCursor(f *testing.F) {
	for _, c := range cursorCases {
		f.Add(c.in)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, ok := ParseCursor(s)
		if !ok {
			return
		}
		again, ok := ParseCursor(c.String())
		if again != c || !ok || c.Offset < 0 || c.Offset >= 1<<53 {
			t.Fatalf("%q is %+v, written %q, which is %+v, %v", s, c, c, again, ok)
		}
		log, _, _ := strings.Cut(s, ".")
		epoch, digits, _ := strings.Cut(log, "-")
		digits = strings.TrimLeft(digits[:len(digits)-1], "0") + digits[len(digits)-1:]
		if got, want := c.String(), epoch+"-"+digits; got != want {
			t.Fatalf("%q is written %q, want %q", s, got, want)
		}
	})
}
