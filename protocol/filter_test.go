package protocol

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const (
	tooLong    = "it has more than 512 bytes"
	tooMany    = "it has more than 50 values"
	mustObject = `it must be an object such as {"type":["price_spike"]}`
	mustList   = " must be a list of strings with at least one value"
	mustPart   = "min_confidence must be a number from 0 to 1"
	knownKeys  = "; use type, entity, source, severity, min_confidence"
)

// filterOf is a filter of one list that has the given size in bytes.
func filterOf(size int) string {
	return `{"type":["` + strings.Repeat("x", size-len(`{"type":[""]}`)) + `"]}`
}

// filterCases is what ParseFilter must say; one without why is accepted.
var filterCases = []struct {
	name string
	in   string
	want Filter
	why  string
}{
	{"empty", `{}`, Filter{}, ""},
	{"one type", `{"type":["price_spike"]}`, Filter{Type: []string{"price_spike"}}, ""},
	{"everything", ` {"severity":["high"],"source":["x"],"entity":["bitcoin"],"type":["a"],"min_confidence":0.9} `,
		Filter{Type: []string{"a"}, Entity: []string{"bitcoin"}, Source: []string{"x"}, Severity: []string{"high"}, MinConfidence: 0.9}, ""},
	{"sorted, each once", `{"entity":["b","a","b"]}`, Filter{Entity: []string{"a", "b"}}, ""},
	{"escapes are read", `{"entity":["\u0062tc"],"\u0074ype":["a"]}`, Filter{Type: []string{"a"}, Entity: []string{"btc"}}, ""},
	{"no confidence asked", `{"min_confidence":0}`, Filter{}, ""},
	{"full confidence", `{"min_confidence":1}`, Filter{MinConfidence: 1}, ""},
	{"confidence with an exponent", `{"min_confidence":5e-1}`, Filter{MinConfidence: 0.5}, ""},
	{"512 bytes", filterOf(512), Filter{Type: []string{strings.Repeat("x", 512-13)}}, ""},
	{"50 values", `{"type":[` + list(25, `"t%d"`) + `],"source":[` + list(25, `"s%d"`) + `]}`,
		Filter{Type: sorted(25, "t"), Source: sorted(25, "s")}, ""},
	{"the same value 60 times", `{"type":["a"` + strings.Repeat(`,"a"`, 59) + `]}`, Filter{Type: []string{"a"}}, ""},

	{"nothing", ``, Filter{}, "it is not valid JSON"},
	{"not JSON", `{"type":}`, Filter{}, "it is not valid JSON"},
	{"a key twice", `{"type":["a"],"type":["b"]}`, Filter{}, "it is not valid JSON"},
	{"513 bytes", filterOf(513), Filter{}, tooLong},
	{"51 values", `{"type":[` + list(26, `"t%d"`) + `],"source":[` + list(25, `"s%d"`) + `]}`, Filter{}, tooMany},
	{"a list", `["price_spike"]`, Filter{}, mustObject},
	{"a string", `"price_spike"`, Filter{}, mustObject},
	{"null", `null`, Filter{}, mustObject},
	{"unknown key", `{"color":["red"]}`, Filter{}, "unknown key 'color'" + knownKeys},
	{"long unknown key", `{"` + strings.Repeat("k", 65) + `":1}`, Filter{}, "unknown key '" + strings.Repeat("k", 64) + "...'" + knownKeys},
	{"key in capitals", `{"Type":["a"]}`, Filter{}, "unknown key 'Type'" + knownKeys},
	{"string for a list", `{"type":"price_spike"}`, Filter{}, "type" + mustList},
	{"empty list", `{"entity":[]}`, Filter{}, "entity" + mustList},
	{"numbers in a list", `{"source":[1]}`, Filter{}, "source" + mustList},
	{"null for a list", `{"severity":null}`, Filter{}, "severity" + mustList},
	{"confidence as text", `{"min_confidence":"0.9"}`, Filter{}, mustPart},
	{"confidence below 0", `{"min_confidence":-0.1}`, Filter{}, mustPart},
	{"confidence in percent", `{"min_confidence":90}`, Filter{}, mustPart},
}

// sorted is n values with a prefix, in the order of strings.
func sorted(n int, prefix string) []string {
	all := strings.Split(list(n, prefix+"%d"), ",")
	slices.Sort(all)
	return all
}

func TestParseFilter(t *testing.T) {
	for _, c := range filterCases {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseFilter([]byte(c.in))
			if c.why != "" {
				want := &Error{Code: InvalidFilter, Message: "filter: " + c.why}
				if got != nil || !reflect.DeepEqual(err, want) {
					t.Errorf("%s\n got %+v, %v\nwant %v", c.in, got, err, want)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(*got, c.want) {
				t.Errorf("%s\n got %+v, %v\nwant %+v", c.in, got, err, c.want)
			}
		})
	}
}

func TestAppendFilter(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"empty", `{}`, `{}`},
		{"keys in one order", `{"min_confidence":0.90,"severity":["d"],"source":["c"],"entity":["b"],"type":["a"]}`,
			`{"type":["a"],"entity":["b"],"source":["c"],"severity":["d"],"min_confidence":0.9}`},
		{"values in order, each once", `{"type":["b","a","b"]}`, `{"type":["a","b"]}`},
		{"a confidence that asks nothing", `{"min_confidence":-0}`, `{}`},
		{"only a confidence", `{"min_confidence":1e-1}`, `{"min_confidence":0.1}`},
		{"a value that ends like an object opens", `{"entity":["{"],"min_confidence":1}`, `{"entity":["{"],"min_confidence":1}`},
		{"text that needs quoting", `{"entity":["\"\\\u003c"]}`, `{"entity":["\"\\\u003c"]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := ParseFilter([]byte(c.in))
			if err != nil {
				t.Fatal(err)
			}
			if got := string(AppendFilter([]byte("x"), f)); got != "x"+c.want {
				t.Errorf("got %s, want x%s", got, c.want)
			}
		})
	}
}

// TestFilterOrder holds that filters which ask the same have the same bytes,
// and so one cohort, in whatever order they were written.
func TestFilterOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	values := []string{"a", "b", "c", "price_spike", "é", "\"", "10", "9"}
	for range 500 {
		one := map[string][]string{}
		for _, key := range []string{"type", "entity", "source", "severity"} {
			if n := r.IntN(len(values)); n > 0 {
				r.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
				one[key] = append([]string(nil), values[:n]...)
			}
		}
		first, second := written(t, r, one), written(t, r, one)
		if a, b := canonical(t, first), canonical(t, second); a != b {
			t.Fatalf("%s and %s\nare %s and %s", first, second, a, b)
		}
	}
}

// written is the lists as JSON, keys and values in some order and some values
// twice.
func written(t *testing.T, r *rand.Rand, lists map[string][]string) string {
	t.Helper()
	var parts []string
	for key, values := range lists {
		v := append([]string{values[r.IntN(len(values))]}, values...)
		r.Shuffle(len(v), func(i, j int) { v[i], v[j] = v[j], v[i] })
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, `"`+key+`":`+string(b))
	}
	r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	return `{` + strings.Join(parts, ", ") + `}`
}

func canonical(t *testing.T, in string) string {
	t.Helper()
	f, err := ParseFilter([]byte(in))
	if err != nil {
		t.Fatalf("%s: %v", in, err)
	}
	return string(AppendFilter(nil, f))
}

// FuzzFilter holds that an accepted filter means the same in its canonical
// form, and that this form is its own.
func FuzzFilter(f *testing.F) {
	for _, c := range filterCases {
		f.Add([]byte(c.in))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ParseFilter(b)
		if err != nil {
			if got != nil || err.Code != InvalidFilter {
				t.Fatalf("%q is refused with %+v, %v", b, got, err)
			}
			return
		}
		form := AppendFilter(nil, got)
		if len(b) > MaxFilterBytes || !json.Valid(form) {
			t.Fatalf("%q has the form %q", b, form)
		}
		if CheckJSON(form) != nil {
			t.Fatalf("%q: the form %q is not accepted", b, form)
		}
		again, err := parseFilter(Value(form))
		if len(form) > MaxFilterBytes { // escapes can be longer than what they stand for
			return
		}
		if err != nil || string(AppendFilter(nil, again)) != string(form) {
			t.Fatalf("%q: the form %q reads as %+v, %v", b, form, again, err)
		}
	})
}

// letsCases is which signals a filter lets through.
var letsCases = []struct {
	name   string
	filter string
	signal Signal
	want   bool
}{
	{"empty filter", `{}`, Signal{}, true},
	{"type", `{"type":["a","b"]}`, Signal{Type: "b"}, true},
	{"other type", `{"type":["a","b"]}`, Signal{Type: "c"}, false},
	{"no type", `{"type":["a"]}`, Signal{}, false},
	{"severity", `{"severity":["high"]}`, Signal{Severity: "high"}, true},
	{"other severity", `{"severity":["high"]}`, Signal{Severity: "low"}, false},
	{"one of several entities", `{"entity":["bitcoin"]}`, Signal{Entities: []string{"ethereum", "bitcoin"}}, true},
	{"other entities", `{"entity":["bitcoin"]}`, Signal{Entities: []string{"ethereum"}}, false},
	{"no entities", `{"entity":["bitcoin"]}`, Signal{}, false},
	{"one of several sources", `{"source":["a","b"]}`, Signal{Sources: []string{"x", "b"}}, true},
	{"other sources", `{"source":["a","b"]}`, Signal{Sources: []string{"x"}}, false},
	{"values are compared whole", `{"entity":["bit"]}`, Signal{Entities: []string{"bitcoin"}}, false},
	{"values are compared by case", `{"entity":["BTC"]}`, Signal{Entities: []string{"btc"}}, false},
	{"confident enough", `{"min_confidence":0.8}`, Signal{Confidence: 0.8, HasConfidence: true}, true},
	{"not confident enough", `{"min_confidence":0.8}`, Signal{Confidence: 0.79, HasConfidence: true}, false},
	{"never scored", `{"min_confidence":0.8}`, Signal{Confidence: 0.9}, false},
	{"never scored and nothing asked", `{"min_confidence":0}`, Signal{}, true},
	{"all keys hold", `{"type":["a"],"entity":["b"],"source":["c"],"severity":["d"],"min_confidence":0.5}`,
		Signal{Type: "a", Entities: []string{"b"}, Sources: []string{"c"}, Severity: "d", Confidence: 1, HasConfidence: true}, true},
	{"all keys but one hold", `{"type":["a"],"entity":["b"],"source":["c"],"severity":["d"]}`,
		Signal{Type: "a", Entities: []string{"b"}, Sources: []string{"x"}, Severity: "d"}, false},
}

func TestFilterLets(t *testing.T) {
	for _, c := range letsCases {
		t.Run(c.name, func(t *testing.T) {
			f, err := ParseFilter([]byte(c.filter))
			if err != nil {
				t.Fatal(err)
			}
			if got := f.Lets(&c.signal); got != c.want {
				t.Errorf("%s lets %+v: got %v, want %v", c.filter, c.signal, got, c.want)
			}
		})
	}
	if none := (*Filter)(nil); !none.Lets(&Signal{Type: "a"}) {
		t.Error("no filter must let everything through")
	}
}
