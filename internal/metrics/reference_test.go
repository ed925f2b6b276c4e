package metrics

import (
	"cmp"
	"flag"
	"fmt"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"cryptointel/internal/hub"
	"cryptointel/protocol"
)

var update = flag.Bool("update", false, "rewrite the table in docs/operations.md")

const operations = "../../docs/operations.md"

// filled is a snapshot in which every number is another one.
func filled(t *testing.T) (s Snapshot, numbers map[float64]string) {
	t.Helper()
	numbers = make(map[float64]string)
	s = Snapshot{Feeds: make([]Feed, 1), Market: &Market{}, Broker: &Broker{}, Link: &Link{}, Keys: &Keys{}, Loops: &Loops{}, Tokens: &Tokens{}}
	fill(t, reflect.ValueOf(&s).Elem(), "Snapshot", numbers)
	return s, numbers
}

func fill(t *testing.T, v reflect.Value, path string, numbers map[float64]string) {
	next := uint64(len(numbers) + 1000)
	switch x := v.Addr().Interface().(type) {
	case *map[protocol.Code]uint64:
		*x = map[protocol.Code]uint64{protocol.InvalidMessage: next}
	case *map[string]uint64:
		*x = map[string]uint64{"x": next}
	case *map[int]uint64:
		*x = map[int]uint64{1000: next}
	case *map[string]float64, *hub.Histogram: // tested apart
		return
	case *uint64:
		*x = next
	case *int:
		*x = int(next)
	case *int64:
		*x = int64(next)
	case *float64:
		*x = float64(next)
	case *string:
		*x = "live"
		return
	case *bool:
		*x = true
		return
	default:
		fillInside(t, v, path, numbers)
		return
	}
	numbers[float64(next)] = path
}

func fillInside(t *testing.T, v reflect.Value, path string, numbers map[float64]string) {
	switch v.Kind() {
	case reflect.Pointer:
		fill(t, v.Elem(), path, numbers)
	case reflect.Slice:
		for i := range v.Len() {
			fill(t, v.Index(i), path, numbers)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), path+"."+v.Type().Field(i).Name, numbers)
		}
	default:
		t.Fatalf("%s is a %v, which this test cannot fill", path, v.Type())
	}
}

// families are our metrics as a scrape shows them.
func families(t *testing.T, s Snapshot) []*dto.MetricFamily {
	t.Helper()
	all, err := NewRegistry("v1", func() Snapshot { return s }).Gather()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(f *dto.MetricFamily) bool { return !strings.HasPrefix(f.GetName(), prefix) })
}

// TestEveryField: each number of a snapshot is shown, once.
func TestEveryField(t *testing.T) {
	s, numbers := filled(t)
	shown := make(map[string]string) // field to metric
	for _, f := range families(t, s) {
		for _, m := range f.Metric {
			field, ok := numbers[value(m)]
			if !ok {
				continue
			}
			if other := shown[field]; other != "" {
				t.Errorf("%s is shown as %s and as %s", field, other, f.GetName())
			}
			shown[field] = f.GetName()
		}
	}
	for _, field := range numbers {
		if shown[field] == "" {
			t.Errorf("%s is not shown", field)
		}
	}
}

// TestMissingParts: what is not there is not shown, rather than as 0.
func TestMissingParts(t *testing.T) {
	for _, s := range []Snapshot{{}, {Link: &Link{Configured: false, Nodes: 1}}} {
		for _, f := range families(t, s) {
			for _, part := range []string{"feed_", "market_", "ticks_", "nats_", "keyset_", "loop", "log_"} {
				if strings.HasPrefix(strings.TrimPrefix(f.GetName(), prefix), part) {
					t.Errorf("%s is shown by %+v", f.GetName(), s)
				}
			}
		}
	}
}

func TestFeedState(t *testing.T) {
	r := NewRegistry("v1", func() Snapshot {
		return Snapshot{Feeds: []Feed{{Exchange: "kraken", State: "down"}, {Exchange: "binance", State: "live"}}}
	})
	got := gathered(t, r)
	for name, want := range map[string]float64{
		"kraken/connecting": 0, "kraken/down": 1, "kraken/live": 0, "binance/down": 0, "binance/live": 1,
	} {
		if v, ok := got["cryptointel_feed_state/"+name]; !ok || v != want {
			t.Errorf("%s: got %v (there: %v), want %v", name, v, ok, want)
		}
	}
}

func TestRefusedTokens(t *testing.T) {
	s := Snapshot{
		Hub:  hub.Stats{Errors: map[protocol.Code]uint64{protocol.InvalidToken: 3, protocol.RateLimited: 9}},
		Door: Door{Refused: map[protocol.Code]uint64{protocol.InvalidToken: 4, protocol.ExpiredToken: 5}},
	}
	got := gathered(t, NewRegistry("v1", func() Snapshot { return s }))
	if a, b := got["cryptointel_tokens_refused_total/INVALID_TOKEN"], got["cryptointel_tokens_refused_total/EXPIRED_TOKEN"]; a != 7 || b != 5 {
		t.Errorf("got %v and %v, want 7 and 5", a, b)
	}
	if _, ok := got["cryptointel_tokens_refused_total/RATE_LIMITED"]; ok {
		t.Error("a refusal for another reason counts as a token's")
	}
}

func TestLatency(t *testing.T) {
	var h hub.Histogram
	h.Counts[0], h.Counts[2], h.Counts[15] = 2, 3, 4 // to 0.25 ms, 1 ms, over 10 s
	h.Sum = 90 * protocol.Second / 2
	var got *dto.Histogram
	for _, f := range families(t, Snapshot{Hub: hub.Stats{Latency: h}}) {
		if f.GetName() == "cryptointel_delivery_latency_seconds" {
			got = f.Metric[0].Histogram
		}
	}
	if got == nil || got.GetSampleCount() != 9 || got.GetSampleSum() != 45 {
		t.Fatalf("got %v, want 9 of 45 s together", got)
	}
	for i, want := range map[int]struct {
		bound float64
		n     uint64
	}{0: {0.00025, 2}, 1: {0.0005, 2}, 2: {0.001, 5}, 14: {10, 5}} {
		b := got.Bucket[i]
		if math.Abs(b.GetUpperBound()-want.bound) > 1e-12 || b.GetCumulativeCount() != want.n {
			t.Errorf("bucket %d: got %v to %v, want %v to %v", i, b.GetCumulativeCount(), b.GetUpperBound(), want.n, want.bound)
		}
	}
}

// A label that Prometheus refuses makes that scrape fail, not the process.
func TestBadLabel(t *testing.T) {
	r := NewRegistry("v1", func() Snapshot { return Snapshot{Feeds: []Feed{{Exchange: "\xff"}}} })
	if _, err := r.Gather(); err == nil {
		t.Error("no error")
	}
}

// TestReference compares the table in docs/operations.md with what a scrape of
// a busy server shows.
func TestReference(t *testing.T) {
	s, _ := filled(t)
	var b strings.Builder
	b.WriteString("| metric | kind | labels | meaning |\n|---|---|---|---|\n")
	all := families(t, s)
	slices.SortFunc(all, func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
	for _, f := range all {
		if f.GetHelp() == "" || !strings.HasSuffix(f.GetHelp(), ".") {
			t.Errorf("%s: the help is %q, want a sentence", f.GetName(), f.GetHelp())
		}
		var labels []string
		for _, l := range f.Metric[0].Label {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		kind := strings.ToLower(f.GetType().String())
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.GetName(), kind, strings.Join(labels, " "), f.GetHelp())
	}
	compareSection(t, "metrics", b.String())
}

// compareSection compares what stands between <!-- name --> and <!-- /name -->
// with want, or puts it there.
func compareSection(t *testing.T, name, want string) {
	t.Helper()
	page, err := os.ReadFile(operations)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
	before, rest, ok := strings.Cut(string(page), begin)
	got, after, ok2 := strings.Cut(rest, end)
	switch {
	case !ok || !ok2:
		t.Fatalf("%s has no section %s...%s", operations, begin, end)
	case got == want:
	case *update:
		if err := os.WriteFile(operations, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s: the %s differ from the code; run go test ./internal/metrics -run TestReference -update\ngot\n%s\nwant\n%s", operations, name, got, want)
	}
}
