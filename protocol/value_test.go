package protocol

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// decodeValue makes of v what encoding/json makes of it, with the readers of Value.
func decodeValue(t *testing.T, v Value) any {
	t.Helper()
	switch v.Kind() {
	case '{':
		m := map[string]any{}
		for key, val := range v.Fields() {
			m[string(key)] = decodeValue(t, val)
		}
		return m
	case '[':
		list := []any{}
		for e := range v.Elements() {
			list = append(list, decodeValue(t, e))
		}
		return list
	case '"':
		s, _ := v.Text()
		return s
	case 'n':
		return nil
	}
	if b, ok := v.Bool(); ok {
		return b
	}
	checkInteger(t, v)
	f, ok := v.Float()
	if !ok {
		t.Fatalf("%q is read as no value at all", v)
	}
	return f
}

// checkInteger holds that a number is an integer exactly when encoding/json
// finds one and a float64 holds it.
func checkInteger(t *testing.T, v Value) {
	t.Helper()
	var want int64
	whole := json.Unmarshal(v, &want) == nil && want <= 1<<53 && want >= -1<<53
	if got, ok := v.Integer(); ok != whole || ok && got != want {
		t.Fatalf("integer of %q is %d, %v; want %d, %v", v, got, ok, want, whole)
	}
}

func TestValueReaders(t *testing.T) {
	type readings struct {
		Text    string
		IsText  bool
		Integer int64
		IsInt   bool
		Float   float64
		IsFloat bool
		Bool    bool
		IsBool  bool
		Texts   []string
		IsTexts bool
	}
	read := func(v Value) (r readings) {
		r.Text, r.IsText = v.Text()
		r.Integer, r.IsInt = v.Integer()
		r.Float, r.IsFloat = v.Float()
		r.Bool, r.IsBool = v.Bool()
		r.Texts, r.IsTexts = v.Texts()
		return r
	}
	for _, c := range []struct {
		name string
		in   string
		want readings
	}{
		{"nothing", ``, readings{}},
		{"null", `null`, readings{}},
		{"true", `true`, readings{Bool: true, IsBool: true}},
		{"false", `false`, readings{IsBool: true}},
		{"text", `"a\n\u00e9\ud83d\ude00\/"`, readings{Text: "a\né😀/", IsText: true}},
		{"text of digits", `"12"`, readings{Text: "12", IsText: true}},
		{"text that looks like a literal", `"true"`, readings{Text: "true", IsText: true}},
		{"whole number", `-12`, readings{Integer: -12, IsInt: true, Float: -12, IsFloat: true}},
		{"2^53", `9007199254740992`, readings{Integer: 1 << 53, IsInt: true, Float: 1 << 53, IsFloat: true}},
		{"2^53 and 1", `9007199254740993`, readings{Float: 1 << 53, IsFloat: true}},
		{"fraction", `1.5`, readings{Float: 1.5, IsFloat: true}},
		{"whole value with a point", `1.0`, readings{Float: 1, IsFloat: true}},
		{"whole value with an exponent", `1e3`, readings{Float: 1000, IsFloat: true}},
		{"object", `{"a":1}`, readings{}},
		{"empty array", `[ ]`, readings{IsTexts: true}},
		{"texts", `[ "a" , "" ]`, readings{Texts: []string{"a", ""}, IsTexts: true}},
		{"texts and a number", `["a",1]`, readings{}},
		{"texts and null", `["a",null]`, readings{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := read(Value(c.in)); !reflect.DeepEqual(got, c.want) {
				t.Errorf("%s\n got %+v\nwant %+v", c.in, got, c.want)
			}
		})
	}
}

// slowQuote writes s as AppendString must, rune by rune.
func slowQuote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s { // a byte that is no UTF-8 comes as U+FFFD
		switch {
		case r == '"' || r == '\\':
			b.WriteString("\\" + string(r))
		case r < ' ' || strings.ContainsRune("<>&\x7f\u2028\u2029", r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func TestAppendString(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"empty", "", `""`},
		{"plain", "price:bitcoin", `"price:bitcoin"`},
		{"quote and backslash", `a"b\c`, `"a\"b\\c"`},
		{"apostrophe and slash stay", "it's a/b", `"it's a/b"`},
		{"control characters", "\x00\t\n\r\x1f\x7f", `"\u0000\u0009\u000a\u000d\u001f\u007f"`},
		{"safe in HTML", "</script>&", `"\u003c/script\u003e\u0026"`},
		{"line ends of JavaScript", "a\u2028b\u2029c", `"a\u2028b\u2029c"`},
		{"UTF-8 stays", "é€😀", `"é€😀"`},
		{"bytes that are not UTF-8", "a\xffb\xe2\x82", "\"a\uFFFDb\uFFFD\uFFFD\""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := string(AppendString([]byte("x"), c.in)); got != "x"+c.want {
				t.Errorf("got %s, want x%s", got, c.want)
			}
		})
	}
}

func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "price:bitcoin", "</script>&\u2028\u2029\x00\x7f\"\\", "\xff\xed\xa0\x80é😀"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := AppendString(nil, s)
		if want := slowQuote(s); string(got) != want {
			t.Fatalf("got %s, want %s", got, want)
		}
		var back string
		if err := json.Unmarshal(got, &back); err != nil || back != string([]rune(s)) {
			t.Fatalf("%s reads back as %q (%v), want %q", got, back, err, string([]rune(s)))
		}
		if err := CheckJSON(got); err != nil && !strings.ContainsRune(s, 0) {
			t.Fatalf("%s: %v", got, err)
		}
		if text, ok := Value(got).Text(); !ok || text != back {
			t.Fatalf("%s: text is %q, %v; want %q", got, text, ok, back)
		}
	})
}

func TestAppendFloat(t *testing.T) {
	for _, c := range []struct {
		in   float64
		want string
	}{
		{0, "0"}, {math.Copysign(0, -1), "-0"}, {1, "1"}, {-2.5, "-2.5"}, {43250.75, "43250.75"},
		{0.30000000000000004, "0.30000000000000004"}, {1250000000, "1250000000"},
		{0.00000123, "0.00000123"}, {1e-9, "0.000000001"}, {9.9e-10, "9.9e-10"},
		{1e20, "100000000000000000000"}, {1e21, "1e+21"}, {-1e21, "-1e+21"},
		{math.MaxFloat64, "1.7976931348623157e+308"}, {math.SmallestNonzeroFloat64, "5e-324"},
	} {
		if got := string(AppendFloat([]byte("x"), c.in)); got != "x"+c.want {
			t.Errorf("AppendFloat(%g) is %s, want x%s", c.in, got, c.want)
		}
	}
}

func FuzzAppendFloat(f *testing.F) {
	for _, v := range []float64{0, 1, -2.5, 43250.75, 0.1, 1e-9, 1e21, math.MaxFloat64, math.SmallestNonzeroFloat64} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v float64) {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			t.Skip("JSON has no such number")
		}
		got := AppendFloat(nil, v)
		var back float64
		if err := json.Unmarshal(got, &back); err != nil || math.Float64bits(back) != math.Float64bits(v) {
			t.Fatalf("%s reads back as %g (%v), want %g", got, back, err, v)
		}
		if err := CheckJSON(got); err != nil {
			t.Fatalf("%s: %v", got, err)
		}
		if g, w := significant(string(got)), significant(strconv.FormatFloat(v, 'e', -1, 64)); g != w {
			t.Fatalf("%s has the digits %s, the shortest are %s", got, g, w)
		}
		if a := math.Abs(v); a >= 1e-9 && a < 1e21 && bytes.ContainsAny(got, "eE") {
			t.Fatalf("%s has an exponent", got)
		}
	})
}

// significant is a number's digits without sign, point, exponent and the
// zeros at both ends.
func significant(s string) string {
	s, _, _ = strings.Cut(s, "e")
	return strings.Trim(strings.NewReplacer("-", "", ".", "").Replace(s), "0")
}
