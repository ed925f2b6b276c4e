package market

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cryptointel/protocol"
)

var quiet = slog.New(slog.DiscardHandler)

func openMemory(t testing.TB) *History {
	t.Helper()
	h, err := OpenHistory(DefaultHistoryConfig(), "", quiet)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func openDisk(t testing.TB, dir string, change ...func(*HistoryConfig)) *History {
	t.Helper()
	cfg := DefaultHistoryConfig()
	for _, c := range change {
		c(&cfg)
	}
	h, err := OpenHistory(cfg, dir, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// bars are a span's, with starts in minutes after the fixtures' start.
func bars(t testing.TB, h *History, interval string) (out []Candle) {
	t.Helper()
	out, err := h.Candles("bitcoin", interval, 0, 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	for i := range out {
		out[i].Start = (out[i].Start - start) / protocol.Minute
	}
	return out
}

func same(t testing.TB, what string, got, want []Candle) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %+v, want %+v", what, got, want)
	}
}

// story plays seven minutes into a history.
func story(t testing.TB, h *History) *fixture {
	f := newFixture(t)
	f.Keep(h)
	for _, k := range []Tick{tick("a", 100, 0), tick("a", 103, 20_000), tick("a", 99, 40_000), tick("a", 101, 59_999),
		tick("a", 102, 60_000), tick("a", 104, 301_000), tick("a", 105, 420_000)} {
		f.observe(k)
	}
	return f
}

var (
	storyMinutes = []Candle{{0, 100, 103, 99, 101, 403}, {1, 102, 102, 102, 102, 102}, {5, 104, 104, 104, 104, 104}, {7, 105, 105, 105, 105, 105}}
	storyFives   = []Candle{{0, 100, 103, 99, 102, 505}, {5, 104, 105, 104, 105, 209}}
	storyHour    = []Candle{{0, 100, 105, 99, 105, 714}}
	storyDay     = []Candle{{-9 * 60, 100, 105, 99, 105, 714}}
)

func sameStory(t testing.TB, h *History) {
	t.Helper()
	same(t, "1m", bars(t, h, "1m"), storyMinutes)
	same(t, "5m", bars(t, h, "5m"), storyFives)
	same(t, "1h", bars(t, h, "1h"), storyHour)
	same(t, "1d", bars(t, h, "1d"), storyDay)
}

func TestBars(t *testing.T) {
	for name, h := range map[string]*History{"memory": openMemory(t), "disk": openDisk(t, t.TempDir())} {
		t.Run(name, func(t *testing.T) {
			defer h.Close()
			story(t, h)
			sameStory(t, h)
			if err := h.Flush(); err != nil {
				t.Fatal(err)
			}
			sameStory(t, h)
		})
	}
}

func TestBarsOutliveTheProcess(t *testing.T) {
	dir := t.TempDir()
	h := openDisk(t, dir)
	f := story(t, h)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	h = openDisk(t, dir)
	defer h.Close()
	sameStory(t, h)
	// The running bars go on where they were.
	f.Keep(h)
	f.observe(tick("a", 110, 430_000))
	want := slices.Clone(storyMinutes)
	want[3].High, want[3].Close, want[3].Volume = 110, 110, 215
	same(t, "1m", bars(t, h, "1m"), want)
	same(t, "1d", bars(t, h, "1d"), []Candle{{-9 * 60, 100, 110, 99, 110, 824}})
}

// TestCrash opens what a process that was killed after its last flush leaves:
// a copy of the file, without what came after.
func TestCrash(t *testing.T) {
	dir, after := t.TempDir(), t.TempDir()
	h := openDisk(t, dir)
	defer h.Close()
	f := story(t, h)
	if err := h.Flush(); err != nil {
		t.Fatal(err)
	}
	f.observe(tick("a", 120, 430_000))
	file, err := os.ReadFile(filepath.Join(dir, boltFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(after, boltFile), file, 0o600); err != nil {
		t.Fatal(err)
	}
	crashed := openDisk(t, after)
	defer crashed.Close()
	sameStory(t, crashed)
}

func TestLateBars(t *testing.T) {
	for name, h := range map[string]*History{"memory": openMemory(t), "disk": openDisk(t, t.TempDir())} {
		t.Run(name, func(t *testing.T) {
			defer h.Close()
			f := story(t, h)
			for _, flush := range []bool{true, false} { // into the store, and before it
				f.observe(lateTick(104, 30_000))
				f.observe(lateTick(98, 180_000)) // a minute of which nothing was known
				f.observe(lateTick(60, 61_000))  // far outside of its minute
				if flush {
					if err := h.Flush(); err != nil {
						t.Fatal(err)
					}
				}
			}
			same(t, "1m", bars(t, h, "1m"), []Candle{{0, 100, 104, 99, 101, 611}, {1, 102, 102, 102, 102, 102},
				{3, 98, 98, 98, 98, 196}, {5, 104, 104, 104, 104, 104}, {7, 105, 105, 105, 105, 105}})
			same(t, "5m", bars(t, h, "5m"), []Candle{{0, 100, 104, 98, 102, 909}, {5, 104, 105, 104, 105, 209}})
			same(t, "1h", bars(t, h, "1h"), []Candle{{0, 100, 105, 98, 105, 1118}})
		})
	}
}

func TestCandlesRange(t *testing.T) {
	at := func(minute int) protocol.Time { return start + protocol.Time(minute)*protocol.Minute }
	for name, h := range map[string]*History{"memory": openMemory(t), "disk": openDisk(t, t.TempDir())} {
		t.Run(name, func(t *testing.T) {
			defer h.Close()
			f := newFixture(t)
			f.Keep(h)
			for i := range 20 {
				f.observe(tick("a", 100+float64(i), int64(i)*60_000))
				if i == 9 || i == 15 {
					if err := h.Flush(); err != nil {
						t.Fatal(err)
					}
				}
			}
			tests := []struct {
				from, to protocol.Time
				limit    int
				want     [2]int // first and last minute
			}{
				{0, 0, 0, [2]int{0, 19}},
				{0, 0, 3, [2]int{17, 19}},
				{0, at(12), 3, [2]int{9, 11}},
				{at(8), 0, 4, [2]int{8, 11}},
				{at(8), at(10), 4, [2]int{8, 9}},
				{at(8) + 1, at(10) + 1, 4, [2]int{9, 10}},
				{at(14), at(100), 100, [2]int{14, 19}},
			}
			for _, tt := range tests {
				got, err := h.Candles("bitcoin", "1m", tt.from, tt.to, tt.limit)
				if err != nil {
					t.Fatal(err)
				}
				var minutes []int
				for _, c := range got {
					minutes = append(minutes, int((c.Start-start)/protocol.Minute))
				}
				var want []int
				for i := tt.want[0]; i <= tt.want[1]; i++ {
					want = append(want, i)
				}
				if !slices.Equal(minutes, want) {
					t.Errorf("%v to %v, %d: got %v, want %v", tt.from, tt.to, tt.limit, minutes, want)
				}
			}
			for _, no := range []func() ([]Candle, error){
				func() ([]Candle, error) { return h.Candles("bitcoin", "1m", at(50), 0, 0) },
				func() ([]Candle, error) { return h.Candles("bitcoin", "1m", at(10), at(5), 0) },
				func() ([]Candle, error) { return h.Candles("nothing", "1m", 0, 0, 0) },
			} {
				if got, err := no(); len(got) != 0 || err != nil {
					t.Errorf("got %v, %v, want nothing", got, err)
				}
			}
			if _, err := h.Candles("bitcoin", "2m", 0, 0, 0); err == nil || !strings.Contains(err.Error(), "1m, 5m, 1h or 1d") {
				t.Errorf("2m: %v, want the four there are", err)
			}
		})
	}
}

func TestRetention(t *testing.T) {
	short := func(c *HistoryConfig) { c.Keep1m, c.Keep5m = 10*time.Minute, 30*time.Minute }
	h := openDisk(t, t.TempDir(), short)
	defer h.Close()
	f := newFixture(t)
	f.Keep(h)
	for i := range 60 {
		f.observe(tick("a", 100, int64(i)*60_000))
	}
	if err := h.Flush(); err != nil {
		t.Fatal(err)
	}
	for interval, want := range map[string]int{"1m": 11, "5m": 6, "1h": 1, "1d": 1} {
		if got := bars(t, h, interval); len(got) != want {
			t.Errorf("%s: %d bars are left, want %d", interval, len(got), want)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	h := openMemory(t)
	f := newFixture(t)
	f.Keep(h)
	for i := range 3000 {
		f.observe(tick("a", 100, int64(i)*60_000))
		if i%60 == 0 {
			if err := h.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := len(bars(t, h, "1m")); n < memoryBars || n > memoryBars+61 {
		t.Errorf("got %d bars of a minute, want about %d", n, memoryBars)
	}
}

func TestSecondProcess(t *testing.T) {
	dir := t.TempDir()
	h := openDisk(t, dir)
	defer h.Close()
	_, err := OpenHistory(DefaultHistoryConfig(), dir, quiet)
	if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, boltFile)+" is in use") {
		t.Errorf("got %v, want that the file is in use", err)
	}
}

// failing is a store whose disk is full.
type failing struct {
	*memoryStore
	full atomic.Bool
}

var errFull = errors.New("no space left on device")

func (f *failing) write(bars map[barKey]bar, last protocol.Time, cut [4]protocol.Time) error {
	if f.full.Load() {
		return errFull
	}
	return f.memoryStore.write(bars, last, cut)
}

func TestFullDisk(t *testing.T) {
	h := openMemory(t)
	disk := &failing{memoryStore: newMemoryStore()}
	disk.full.Store(true)
	h.store = disk
	f := story(t, h)
	f.observe(lateTick(104, 30_000))
	for range 3 {
		if err := h.Flush(); !errors.Is(err, errFull) {
			t.Fatalf("got %v, want that the disk is full", err)
		}
		f.observe(lateTick(104, 31_000))
	}
	disk.full.Store(false)
	if err := h.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := bars(t, h, "1m")[0]; got != (Candle{0, 100, 104, 99, 101, 819}) {
		t.Errorf("got %+v, want all four late trades in it", got)
	}
}

// TestRun shows that bars are written each minute, at the end, and that a
// disk that fails is told of and tried again.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		h := openMemory(t)
		h.log = slog.New(slog.NewTextHandler(&out, nil))
		disk := &failing{memoryStore: newMemoryStore()}
		disk.full.Store(true)
		h.store = disk
		story(t, h)
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() {
			if err := h.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
		time.Sleep(61 * time.Second) // the bubble's clock
		disk.full.Store(false)
		time.Sleep(60 * time.Second)
		sameStory(t, &History{store: disk})
		cancel()
		group.Wait()
		if log := out.String(); strings.Count(log, "bars not written") != 1 || strings.Count(log, "bars are written again") != 1 {
			t.Errorf("got log %s", log)
		}
	})
}

// TestReadersBesideWriter looks for bars that vanish while they move from
// memory to the store.
func TestReadersBesideWriter(t *testing.T) {
	h := openDisk(t, t.TempDir())
	defer h.Close()
	f := newFixture(t)
	f.Keep(h)
	var group sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	group.Go(func() {
		for ctx.Err() == nil {
			if err := h.Flush(); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for i := range 300 {
		f.observe(tick("a", 100, int64(i)*60_000))
		got, err := h.Candles("bitcoin", "1m", start, 0, 1000)
		if err != nil || len(got) != i+1 {
			t.Errorf("after %d minutes: %d bars, %v", i+1, len(got), err)
			break
		}
	}
	cancel()
	group.Wait()
}

// TestBarsOfManyTicks compares the bars of random ticks, flushed and reopened
// at random, with bars made from the list of ticks.
func TestBarsOfManyTicks(t *testing.T) {
	dir := t.TempDir()
	h := openDisk(t, dir)
	f := newFixture(t)
	f.Keep(h)
	r := rand.New(rand.NewPCG(1, 2))
	want := make(map[string][]Candle)
	ms := int64(0)
	price := 100.0
	for range 2000 {
		ms += r.Int64N(100_000)
		price *= 1 + 0.01*r.NormFloat64()
		f.observe(tick("a", price, ms))
		for _, s := range spans {
			want[s.name] = slowly(want[s.name], s, start+protocol.Time(ms)*protocol.Millisecond, price)
		}
		switch r.IntN(200) {
		case 0:
			if err := h.Close(); err != nil {
				t.Fatal(err)
			}
			h = openDisk(t, dir)
			f.Keep(h)
		case 1, 2, 3:
			if err := h.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	defer h.Close()
	for _, s := range spans {
		same(t, s.name, bars(t, h, s.name), want[s.name])
	}
}

func slowly(list []Candle, s span, at protocol.Time, price float64) []Candle {
	begin := (at - at%s.of - start) / protocol.Minute
	if n := len(list); n == 0 || list[n-1].Start != begin {
		return append(list, Candle{begin, price, price, price, price, price})
	}
	c := &list[len(list)-1]
	c.High, c.Low, c.Close, c.Volume = max(c.High, price), min(c.Low, price), price, c.Volume+price
	return list
}

func TestHistoryConfig(t *testing.T) {
	for key, change := range map[string]func(*HistoryConfig){
		"history.keep_1m":     func(c *HistoryConfig) { c.Keep1m = -1 },
		"history.keep_5m":     func(c *HistoryConfig) { c.Keep5m = time.Minute },
		"history.keep_1h":     func(c *HistoryConfig) { c.Keep1h = time.Second },
		"history.keep_1d":     func(c *HistoryConfig) { c.Keep1d = time.Hour },
		"history.flush_every": func(c *HistoryConfig) { c.FlushEvery = 0 },
	} {
		cfg := DefaultHistoryConfig()
		change(&cfg)
		if _, err := OpenHistory(cfg, "", quiet); err == nil || !strings.HasPrefix(err.Error(), key+" is ") {
			t.Errorf("%s: got %v", key, err)
		}
	}
}
