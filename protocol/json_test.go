package protocol

import (
	"strings"
	"testing"
	"time"
)

// checkCases is what CheckJSON must say; FuzzCheckJSON starts from it too.
var checkCases = []struct {
	name string
	in   string
	want error
}{
	{"empty object", `{}`, nil},
	{"empty array", `[]`, nil},
	{"empty string", `""`, nil},
	{"literals", `[true,false,null]`, nil},
	{"space everywhere", " \t\r\n{ \"a\" : [ 1 , { } , [ ] ] } \n", nil},
	{"escapes", `"\"\\\/\b\f\n\r\t\u0041\u00e9\uFFFF"`, nil},
	{"surrogate pair", `"\ud83d\ude00"`, nil},
	{"surrogate pair in capitals", `"\uD83D\uDE00"`, nil},
	{"UTF-8", `"é € 😀"`, nil},
	{"the replacement character itself", "\"\uFFFD\"", nil},
	{"DEL needs no escape", "\"\x7f\"", nil},
	{"numbers", `[0,-0,1,-1,10,0.5,-0.5,1e5,1E+5,1e-5,1.25e10,9007199254740993]`, nil},
	{"largest number", `1.7976931348623157e308`, nil},
	{"a number that underflows is 0", `1e-999`, nil},
	{"a long fraction", `0.` + strings.Repeat("3", 400), nil},
	{"same key in two objects", `[{"a":1},{"a":1}]`, nil},
	{"same key at two depths", `{"a":{"a":1}}`, nil},
	{"keys that differ in case", `{"a":1,"A":2}`, nil},
	{"empty key", `{"":1}`, nil},
	{"thirteen keys", `{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1,"l":1,"m":1}`, nil},
	{"32 deep", strings.Repeat("[", 32) + strings.Repeat("]", 32), nil},
	{"32 deep, mixed", strings.Repeat(`{"a":[`, 16) + strings.Repeat(`]}`, 16), nil},

	{"nothing", ``, errSyntax},
	{"only space", " \n", errSyntax},
	{"two values", `{}{}`, errSyntax},
	{"text behind", `{} x`, errSyntax},
	{"byte order mark", "\uFEFF{}", errSyntax},
	{"form feed is no space", "\f{}", errSyntax},
	{"open object", `{`, errSyntax},
	{"open array", `[1`, errSyntax},
	{"open string", `"a`, errSyntax},
	{"open escape", `"\`, errSyntax},
	{"brackets that do not match", `[1}`, errSyntax},
	{"comma at the end of an array", `[1,]`, errSyntax},
	{"comma at the end of an object", `{"a":1,}`, errSyntax},
	{"comma at the start", `[,1]`, errSyntax},
	{"no comma", `[1 2]`, errSyntax},
	{"no colon", `{"a" 1}`, errSyntax},
	{"no value", `{"a":}`, errSyntax},
	{"key without quotes", `{a:1}`, errSyntax},
	{"number as a key", `{1:1}`, errSyntax},
	{"single quotes", `'a'`, errSyntax},
	{"comment", `{}//`, errSyntax},
	{"half a literal", `tru`, errSyntax},
	{"literal in capitals", `True`, errSyntax},
	{"NaN", `NaN`, errSyntax},
	{"Infinity", `-Infinity`, errSyntax},
	{"plus", `+1`, errSyntax},
	{"leading zero", `01`, errSyntax},
	{"no digit before the point", `.5`, errSyntax},
	{"no digit after the point", `1.`, errSyntax},
	{"no digit in the exponent", `1e+`, errSyntax},
	{"only a minus", `-`, errSyntax},
	{"hexadecimal", `0x10`, errSyntax},
	{"digits with underscores", `1_000`, errSyntax},
	{"line break in a string", "\"a\nb\"", errSyntax},
	{"NUL in a string", "\"a\x00b\"", errSyntax},
	{"unknown escape", `"\a"`, errSyntax},
	{"short unicode escape", `"\u12"`, errSyntax},
	{"unicode escape with a sign", `"\u+123"`, errSyntax},
	{"unicode escape beyond hexadecimal", `"\u00g0"`, errSyntax},

	{"key twice", `{"a":1,"a":2}`, errDuplicate},
	{"key twice, once escaped", `{"a":1,"\u0061":2}`, errDuplicate},
	{"empty key twice", `{"":1,"":1}`, errDuplicate},
	{"key twice, deep", `[{"x":{"a":1,"b":2,"a":3}}]`, errDuplicate},
	{"thirteenth key twice", `{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1,"l":1,"m":1,"m":1}`, errDuplicate},
	{"first of many keys twice", `{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1,"l":1,"m":1,"a":1}`, errDuplicate},
	{"33 deep", strings.Repeat("[", 33) + strings.Repeat("]", 33), errDepth},
	{"33 deep in objects", strings.Repeat(`{"a":`, 33) + `1` + strings.Repeat(`}`, 33), errDepth},
	{"NUL", `"a\u0000"`, errNUL},
	{"high surrogate alone", `"\ud83d"`, errText},
	{"high surrogate before text", `"\ud83dx"`, errText},
	{"low surrogate alone", `"\ude00"`, errText},
	{"two high surrogates", `"\ud83d\ud83d\ude00"`, errText},
	{"lone surrogate in a key", `{"\udead":1}`, errText},
	{"byte that is no UTF-8", "\"\xff\"", errText},
	{"half a rune", "\"\xe2\x82\"", errText},
	{"overlong UTF-8", "\"\xc0\xaf\"", errText},
	{"surrogate in UTF-8", "\"\xed\xa0\x80\"", errText},
	{"beyond Unicode", "\"\xf5\x80\x80\x80\"", errText},
	{"number too large", `1e309`, errNumber},
	{"number too small", `-1e309`, errNumber},
	{"exponent without end", `1e99999999999999999999`, errNumber},
	{"400 digits", strings.Repeat("9", 400), errNumber},
}

func TestCheckJSON(t *testing.T) {
	for _, c := range checkCases {
		t.Run(c.name, func(t *testing.T) {
			if got := CheckJSON([]byte(c.in)); got != c.want {
				t.Errorf("CheckJSON(%.80q)\n got %v\nwant %v", c.in, got, c.want)
			}
		})
	}
}

// TestCheckJSONTime holds that eight times the bytes take about eight times
// as long, whatever they are; what is quadratic would take 64 times.
func TestCheckJSONTime(t *testing.T) {
	const small, large = 8 << 10, 64 << 10
	for _, c := range []struct {
		name string
		make func(size int) string
	}{
		{"keys", func(n int) string { return `{` + list(n/12, `"%07d":1`) + `}` }},
		{"keys with an escape", func(n int) string { return `{` + list(n/16, `"\n%07d":1`) + `}` }},
		{"objects", func(n int) string { return `[` + strings.Repeat(`{"a":{}},`, n/9) + `0]` }},
		{"arrays side by side", func(n int) string { return `[` + strings.Repeat(`[[]],`, n/5) + `0]` }},
		{"nested to the limit", func(n int) string {
			deep := strings.Repeat("[", 30) + strings.Repeat("]", 30)
			return `[` + strings.Repeat(deep+",", n/61) + `0]`
		}},
		{"digits", func(n int) string { return strings.Repeat("9", n) }},
		{"digits of a fraction", func(n int) string { return "0." + strings.Repeat("9", n) }},
		{"numbers", func(n int) string { return `[` + strings.Repeat("1e308,", n/6) + `0]` }},
		{"space", func(n int) string { return strings.Repeat(" ", n) + `1` }},
		{"escapes", func(n int) string { return `"` + strings.Repeat(`\ud83d\ude00`, n/12) + `"` }},
		{"array without end", func(n int) string { return strings.Repeat("[", n) }},
		{"object without end", func(n int) string { return strings.Repeat(`{"a":`, n/5) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			short, long := shortest(c.make(small)), shortest(c.make(large))
			// Below 100 µs a pause of the machine weighs more than the work.
			if long > 24*short && long > 100*time.Microsecond {
				t.Errorf("%d bytes take %v, %d take %v: not linear", small, short, large, long)
			}
			if long > time.Second {
				t.Errorf("%d bytes take %v", large, long)
			}
		})
	}
}

// shortest is the time of one CheckJSON when nothing disturbs it.
func shortest(in string) time.Duration {
	b, best := []byte(in), time.Hour
	for range 10 {
		start := time.Now()
		_ = CheckJSON(b)
		best = min(best, time.Since(start))
	}
	return best
}
