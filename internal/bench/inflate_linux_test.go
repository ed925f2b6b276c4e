package bench

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// pack compresses a message as a server does.
func pack(t testing.TB, message []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, 6)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(message)
	w.Flush()
	return bytes.TrimSuffix(b.Bytes(), []byte("\x00\x00\xff\xff"))
}

// TestUnpacker: what is kept is what would be inflated, also when another
// message has taken its place meanwhile.
func TestUnpacker(t *testing.T) {
	u := newUnpacker()
	packed := map[string][]byte{}
	for i := range 2 * len(u.kept) {
		m := fmt.Sprintf(`{"seq":%d,"pad":"%s"}`, i, padding(i))
		packed[m] = pack(t, []byte(m))
	}
	for range 3 {
		for m, p := range packed {
			for range 2 {
				before := bytes.Clone(p)
				got, err := u.read(p)
				if err != nil || string(got) != m || !bytes.Equal(p, before) {
					t.Fatalf("got %.60q, %v, want %.60q", got, err, m)
				}
			}
		}
	}
	if all := uint64(3 * 2 * len(packed)); u.fresh > all/2 || u.fresh < uint64(len(packed)) {
		t.Errorf("%d of %d inflated", u.fresh, all)
	}
	for _, bad := range [][]byte{{0xff}, []byte("plain text"), pack(t, []byte("cut off"))[:4]} {
		if got, err := u.read(bad); err == nil {
			t.Errorf("%q was read as %q", bad, got)
		}
	}
	if _, err := u.read(pack(t, make([]byte, maxUnpacked+1))); err == nil {
		t.Error("a bomb was read")
	}
}

// TestPadding compresses as prices do, neither like one letter nor like noise.
func TestPadding(t *testing.T) {
	for _, n := range []int{0, 1, 100} {
		if got := len(padding(n)); got != n {
			t.Errorf("got %d bytes, want %d", got, n)
		}
	}
	ratio := 2000 / float64(len(pack(t, []byte(padding(2000)))))
	if ratio < 2 || ratio > 5 {
		t.Errorf("2,000 bytes become %.1f times smaller, want 2 to 5", ratio)
	}
}

func TestCompress(t *testing.T) {
	clean := map[string]float64{"published": 10, "deliveries expected": 50, "deliveries received": 50,
		"lost or skipped": 0, "duplicates": 0, "out of order": 0}
	for _, c := range []struct {
		name   string
		agrees bool
		want   []map[string]float64
		err    error
	}{
		{"agreed", true, []map[string]float64{{"connections": 5}, clean}, nil},
		{"declined", false, []map[string]float64{{"connections": 0,
			"failed: upgrade: the server declined permessage-deflate": 5}}, ErrNoConnection},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := startFake(t, &fakeServer{compress: c.agrees})
			got, err := figures(t, func(file string) error {
				cfg := DefaultFanout()
				cfg.Target, cfg.Load, cfg.N, cfg.PublishRate = f.target(), small(cfg.Load), 5, []float64{200}
				cfg.Compress, cfg.Pad, cfg.JSON = true, 2000, file
				return cfg.Run(t.Context(), io.Discard)
			})
			if !errors.Is(err, c.err) || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %v, %v\nwant %v", got, err, c.want)
			}
		})
	}
}

// TestAgainstPlain: each kind twice in turn, then the ratios.
func TestAgainstPlain(t *testing.T) {
	f := startFake(t, &fakeServer{compress: true})
	cfg := DefaultFanout()
	cfg.Target, cfg.Load, cfg.N, cfg.PublishRate = f.target(), small(cfg.Load), 5, []float64{200}
	cfg.PID, cfg.Pad, cfg.AgainstPlain = os.Getpid(), 2000, 2
	cfg.JSON = filepath.Join(t.TempDir(), "report.json")
	if err := cfg.Run(t.Context(), io.Discard); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(cfg.JSON)
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	var titles []string
	for _, s := range r.Sections {
		titles = append(titles, s.Title)
	}
	turn := []string{"plain, 5 connections", "plain, 200 publications/s for 50ms",
		"compressed, 5 connections", "compressed, 200 publications/s for 50ms"}
	want := append(append(turn[:4:4], turn...), "compressed over plain, medians of 2: plain, 200 publications/s for 50ms")
	if !reflect.DeepEqual(titles, want) {
		t.Fatalf("got %q\nwant %q", titles, want)
	}
	last := r.Sections[8]
	if v, ok := last.value("bytes a delivery, compressed/plain"); !ok || v <= 0 || v > 0.6 {
		t.Errorf("the bytes' ratio is %v, %v", v, ok)
	}
	for _, bad := range []func(*FanoutConfig){
		func(c *FanoutConfig) { c.PID = 0 },
		func(c *FanoutConfig) { c.Floor = true },
		func(c *FanoutConfig) { c.AgainstPlain = -1 },
	} {
		cfg := cfg
		bad(&cfg)
		if err := cfg.Run(t.Context(), io.Discard); err == nil || !strings.Contains(err.Error(), "against-plain") {
			t.Errorf("got %v for %+v", err, cfg)
		}
	}
}
