package feed

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// dataFile is the path of a recording. Without the recordings the test is
// skipped, in CI it fails.
func dataFile(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("CRYPTOINTEL_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		missing := fmt.Sprintf("no recording %s: set CRYPTOINTEL_DATA; not tested: what depends on it", path)
		if os.Getenv("CI") == "true" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	return path
}

func registry(t testing.TB) *market.Registry {
	t.Helper()
	r, err := market.NewRegistry(nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// ticks is a sink that keeps what it gets.
type ticks struct{ all []market.Tick }

func (s *ticks) Deliver(_ context.Context, t []market.Tick) error {
	s.all = append(s.all, t...)
	return nil
}

// marketSink hands ticks to a market.
type marketSink struct{ m *market.Market }

func (s marketSink) Deliver(_ context.Context, t []market.Tick) error {
	for _, k := range t {
		s.m.Observe(k)
	}
	return nil
}

// fakeClock jumps to whatever is waited for.
type fakeClock struct {
	now   protocol.Time
	waits []protocol.Time
	after func() // called at each wait
}

func (c *fakeClock) Now() protocol.Time { return c.now }

func (c *fakeClock) Wait(ctx context.Context, until protocol.Time) error {
	c.waits = append(c.waits, until-now0)
	c.now = max(c.now, until)
	if c.after != nil {
		c.after()
	}
	return ctx.Err()
}

// now0 is where fake clocks begin, 2026-01-12T09:00:00Z.
const now0 = 1768208400 * protocol.Second

var quiet = slog.New(slog.DiscardHandler)

// tickText is a tick in one line, with times in ns.
func tickText(t market.Tick) string {
	s := fmt.Sprintf("%s %s/%s %s=%v", t.Exchange, t.Asset, t.Quote, t.PriceText, t.Price)
	if t.Size != 0 {
		s += fmt.Sprintf(" size %v", t.Size)
	}
	s += fmt.Sprintf(" at %d", t.Time)
	if t.TradeID != 0 {
		s += fmt.Sprintf(" id %d", t.TradeID)
	}
	if t.Kind == market.Bar {
		s += fmt.Sprintf(" bar %v %v", t.High, t.Low)
	}
	if d := t.Day; d.Has {
		s += fmt.Sprintf(" day %.4f %v %v %v %v", d.Open, d.High, d.Low, d.Volume, d.QuoteVolume)
	}
	return s
}

func tickTexts(ticks []market.Tick) (out []string) {
	for _, t := range ticks {
		out = append(out, tickText(t))
	}
	return out
}

func equalLines(t testing.TB, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		g, w := "nothing", "nothing"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Fatalf("line %d of %d (want %d):\ngot  %s\nwant %s", i+1, len(got), len(want), g, w)
		}
	}
}
