package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// childFloor in the environment makes the test binary a floor process.
const childFloor = "BENCH_TEST_FLOOR"

func TestMain(m *testing.M) {
	if os.Getenv(childFloor) != "" {
		if err := DefaultFloor().Run(context.Background(), os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// figures runs a command with its report in a file and gives its counts,
// section by section: what has no unit and is no ratio.
func figures(t *testing.T, run func(file string) error) ([]map[string]float64, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.json")
	err := run(file)
	b, readErr := os.ReadFile(file)
	if readErr != nil {
		t.Fatalf("no report: %v; run: %v", readErr, err)
	}
	var r report
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	var all []map[string]float64
	for _, s := range r.Sections {
		m := map[string]float64{}
		for _, f := range s.Figures {
			if f.Unit == "" && !strings.Contains(f.Name, "cores") && !strings.HasSuffix(f.Name, "server/floor") && f.Name != "deliveries a read" {
				m[f.Name] = f.Value
			}
		}
		all = append(all, m)
	}
	return all, err
}

// small is a short load of ten publications.
func small(l Load) Load {
	l.Warm, l.Duration = 0, 50*time.Millisecond
	return l
}

func TestFanoutCounts(t *testing.T) {
	clean := map[string]float64{"published": 10, "deliveries expected": 50, "deliveries received": 50,
		"lost or skipped": 0, "duplicates": 0, "out of order": 0}
	with := func(change map[string]float64) map[string]float64 {
		m := maps.Clone(clean)
		maps.Copy(m, change)
		return m
	}
	tests := []struct {
		name    string
		deliver func(n int, history []string, frame string) []string
		publish func(n int, w http.ResponseWriter) bool
		want    map[string]float64
	}{
		{name: "clean", want: clean},
		{name: "one connection misses the fourth", deliver: func(n int, history []string, frame string) []string {
			if n == 2 && len(history) == 3 {
				return nil
			}
			return []string{frame}
		}, want: with(map[string]float64{"deliveries received": 49, "lost or skipped": 1})},
		{name: "the last is lost for all", deliver: func(_ int, history []string, frame string) []string {
			if len(history) == 9 {
				return nil
			}
			return []string{frame}
		}, want: with(map[string]float64{"deliveries received": 45, "lost or skipped": 5})},
		{name: "the second comes twice", deliver: func(n int, history []string, frame string) []string {
			if n == 1 && len(history) == 1 {
				return []string{frame, frame}
			}
			return []string{frame}
		}, want: with(map[string]float64{"deliveries received": 51, "duplicates": 1})},
		{name: "an old one comes again", deliver: func(n int, history []string, frame string) []string {
			if n == 1 && len(history) == 6 {
				return []string{frame, history[2]}
			}
			return []string{frame}
		}, want: with(map[string]float64{"deliveries received": 51, "duplicates": 1})},
		{name: "two are swapped", deliver: func(n int, history []string, frame string) []string {
			switch {
			case n == 3 && len(history) == 4:
				return nil
			case n == 3 && len(history) == 5:
				return []string{frame, history[4]}
			}
			return []string{frame}
		}, want: with(map[string]float64{"out of order": 1})},
		{name: "another publisher's", deliver: func(n int, history []string, frame string) []string {
			if n == 0 && len(history) == 4 {
				return []string{frame, `{"type":"price_update","channel":"test:bench","data":{"metadata":{"sent_ns":1,"seq":99}}}`}
			}
			return []string{frame}
		}, want: with(map[string]float64{"of another publisher": 1})},
		{name: "three are refused", publish: func(n int, w http.ResponseWriter) bool {
			if n < 3 {
				w.WriteHeader(http.StatusTooManyRequests)
			}
			return n < 3
		}, want: with(map[string]float64{"published": 7, "publications refused": 3, "refused: 429 Too Many Requests ": 3,
			"deliveries expected": 35, "deliveries received": 35})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t, &fakeServer{deliver: tt.deliver, publish: tt.publish})
			got, err := figures(t, func(file string) error {
				c := DefaultFanout()
				c.Target, c.Load, c.N, c.PublishRate = f.target(), small(c.Load), 5, []float64{200}
				c.JSON = file
				return c.Run(t.Context(), io.Discard)
			})
			want := []map[string]float64{{"connections": 5}, tt.want}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, %v\nwant %v", got, err, want)
			}
			if len(f.bearers) != 1 || f.bearers["Bearer secret"] != 10 {
				t.Errorf("got publish tokens %v, want 10 times Bearer secret", f.bearers)
			}
		})
	}
}

func TestChannelsSpread(t *testing.T) {
	f := startFake(t, &fakeServer{})
	got, err := figures(t, func(file string) error {
		c := DefaultChannels()
		c.Target, c.Load, c.N, c.Subs, c.Channels = f.target(), small(c.Load), 10, 2, 5
		c.PublishRate, c.Publishers = []float64{100, 200}, 2
		c.JSON = file
		return c.Run(t.Context(), io.Discard)
	})
	load := func(n float64) map[string]float64 { // each channel has 4 of the 10 connections
		return map[string]float64{"published": n, "deliveries expected": 4 * n, "deliveries received": 4 * n,
			"lost or skipped": 0, "duplicates": 0, "out of order": 0}
	}
	want := []map[string]float64{{"connections": 10}, load(5), load(10)}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v\nwant %v", got, err, want)
	}
}

func TestFlood(t *testing.T) {
	f := startFake(t, &fakeServer{})
	got, err := figures(t, func(file string) error {
		c := DefaultFanout()
		c.Target, c.Load, c.N, c.PublishRate = f.target(), small(c.Load), 20, nil
		c.Flood, c.Pipeline = 8, 4
		c.JSON = file
		return c.Run(t.Context(), io.Discard)
	})
	n := float64(f.published)
	want := []map[string]float64{{"connections": 20}, {"stalls": 0, "published": n, "deliveries expected": 20 * n,
		"deliveries received": 20 * n, "lost or skipped": 0, "duplicates": 0, "out of order": 0}}
	if err != nil || n == 0 || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v\nwant %v", got, err, want)
	}
}

func TestFloor(t *testing.T) {
	t.Setenv(childFloor, "1") // for the process below
	for _, tt := range []struct {
		name    string
		command []string
	}{
		{"thread", nil},
		{"process", []string{os.Args[0]}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := startFake(t, &fakeServer{})
			got, err := figures(t, func(file string) error {
				c := DefaultFanout()
				c.Target, c.Load, c.N, c.PublishRate = f.target(), small(c.Load), 20, []float64{200}
				c.Floor, c.FloorCommand, c.PID = true, tt.command, os.Getpid()
				c.JSON = file
				return c.Run(t.Context(), io.Discard)
			})
			load := map[string]float64{"published": 10, "deliveries expected": 200, "deliveries received": 200,
				"lost or skipped": 0, "duplicates": 0, "out of order": 0}
			want := []map[string]float64{{"connections": 20}, load, {"connections": 20}, load}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, %v\nwant %v", got, err, want)
			}
		})
	}
}

func TestConnect(t *testing.T) {
	tests := []struct {
		name string
		fake *fakeServer
		want []map[string]float64
		err  error
	}{
		{"clean", &fakeServer{}, []map[string]float64{{"connections": 5}, {"connections": 10}}, nil},
		{"some are refused", &fakeServer{refuse: func(n int) bool { return n == 1 || n == 7 || n == 9 }},
			[]map[string]float64{
				{"connections": 4, `failed: upgrade: "HTTP/1.1 503 Service Unavailable"`: 1},
				{"connections": 8, `failed: upgrade: "HTTP/1.1 503 Service Unavailable"`: 2}}, nil},
		{"none may subscribe", &fakeServer{deny: "FORBIDDEN"},
			[]map[string]float64{{"connections": 0, "failed: subscribe: FORBIDDEN": 5}}, ErrNoConnection},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t, tt.fake)
			got, err := figures(t, func(file string) error {
				c := DefaultConnect()
				c.Target, c.Base, c.Rate, c.Duration = f.target(), 5, 100, 100*time.Millisecond
				c.JSON = file
				return c.Run(t.Context(), io.Discard)
			})
			if !errors.Is(err, tt.err) || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v, %v\nwant %v, %v", got, err, tt.want, tt.err)
			}
		})
	}
}

func TestConnectNobodyListens(t *testing.T) {
	f := startFake(t, &fakeServer{})
	target := f.target()
	f.Close()
	got, err := figures(t, func(file string) error {
		c := DefaultConnect()
		c.Target, c.Base, c.JSON = target, 3, file
		return c.Run(t.Context(), io.Discard)
	})
	want := []map[string]float64{{"connections": 0, "failed: connect: connection refused": 3}}
	if !errors.Is(err, ErrNoConnection) || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v\nwant %v, %v", got, err, want, ErrNoConnection)
	}
}

func TestMemory(t *testing.T) {
	f := startFake(t, &fakeServer{})
	c := DefaultMemory()
	c.Target, c.Steps, c.Subs, c.Channels, c.Settle, c.Runs = f.target(), []int{4, 8}, 2, 4, 0, 2
	c.PID, c.Admin = os.Getpid(), f.URL
	c.TokenFor = func(i int) (string, error) { return fmt.Sprintf("token-%d", i), nil }
	var out strings.Builder
	if err := c.Run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 8 {
		who := fmt.Sprintf("token-%d bench-%d", i, i)
		want = append(want, who, who) // two runs
	}
	slices.Sort(f.tokens)
	if !slices.Equal(f.tokens, want) {
		t.Errorf("got tokens %v, want %v", f.tokens, want)
	}
	if f.freed != 4 {
		t.Errorf("got %d collections, want 4", f.freed)
	}
	for _, line := range []string{"RssAnon at 4 connections", "RssAnon at 8 connections", "median of 2 runs"} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("got %s, want a line with %q", &out, line)
		}
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := startFake(t, &fakeServer{publish: func(int, http.ResponseWriter) bool {
		cancel()
		return false
	}})
	c := DefaultFanout()
	c.Target, c.N, c.Duration = f.target(), 5, time.Hour
	if err := c.Run(ctx, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestHeartbeat(t *testing.T) {
	f := startFake(t, &fakeServer{pinged: make(chan struct{}, 100)})
	d, err := f.target().dialer(false, []string{"test:bench"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPool(d, 1, 10, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if _, err := p.open(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	l := p.loops[0]
	start := l.round
	for _, part := range []struct {
		share float64
		pings int
	}{{.05, 0}, {.35, 3}, {1, 7}, {1.05, 0}, {2, 10}} {
		l.beat(start + int64(part.share*float64(d.heartbeat)))
		for range part.pings {
			<-f.pinged
		}
	}
	if f.mu.Lock(); f.pings != 20 {
		t.Errorf("got %d pings, want 20", f.pings)
	}
	f.mu.Unlock()
}

func TestTooManyDescriptors(t *testing.T) {
	f := startFake(t, &fakeServer{})
	c := DefaultFanout()
	c.Target, c.N = f.target(), 1<<30
	err := c.Run(t.Context(), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "descriptors") {
		t.Errorf("got %v, want an error that speaks of descriptors", err)
	}
}

func TestSlope(t *testing.T) {
	readings := []reading{{n: 4000, user: 1e6}, {n: 8000, user: 2.2e6}, {n: 12000, user: 2.8e6}, {n: 16000, user: 4e6}}
	if got, want := slope(readings, func(m reading) float64 { return m.user }), 240.0; got < want-1e-9 || got > want+1e-9 {
		t.Errorf("got %v, want %v", got, want)
	}
}
