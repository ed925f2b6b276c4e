package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// A reading is what memory was at a number of connections, in bytes.
type reading struct {
	n       float64
	user    float64 // RssAnon of the server
	slab    float64 // of the whole machine
	sockets float64 // of the whole machine
}

// runMemory is MemoryConfig.Run.
func runMemory(ctx context.Context, c MemoryConfig, w io.Writer) error {
	r := &report{Command: "memory"}
	var slopes []float64
	var err error
	for i := range c.Runs {
		var readings []reading
		if readings, err = c.climb(ctx, r, i); err != nil {
			break
		}
		slopes = append(slopes, c.reportRun(r, i, readings))
	}
	if err == nil && c.Runs > 1 {
		r.section("median of %d runs", c.Runs).add("user memory a connection", median(slopes), "B")
	}
	return finish(r, w, c.JSON, err)
}

// median sorts v, which is not empty.
func median(v []float64) float64 {
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// climb opens connections step by step and reads memory at each.
func (c MemoryConfig) climb(ctx context.Context, r *report, run int) ([]reading, error) {
	d, err := c.dialer(!c.Anonymous, channelNames(c.Channels), c.Subs)
	if err != nil {
		return nil, err
	}
	p, err := newPool(d, c.Loops, c.Steps[len(c.Steps)-1], 0)
	if err != nil {
		return nil, err
	}
	var readings []reading
	for _, n := range c.Steps {
		var g *settling
		if g, err = p.open(ctx, n); err != nil {
			break
		}
		if len(g.failures) > 0 {
			r.section("run %d, up to %d connections", run+1, n).failures("failed", g.failures)
		}
		if p.ready() == 0 {
			err = ErrNoConnection
			break
		}
		m := reading{n: float64(p.ready())}
		if err = p.run(ctx, &stretch{}, func(ctx context.Context) error { return c.read(ctx, &m) }); err != nil {
			break
		}
		readings = append(readings, m)
	}
	p.close()
	if err == nil && run+1 < c.Runs {
		err = pause(ctx, c.Settle)
	}
	return readings, err
}

// read waits, has the server collect its garbage, and reads memory.
func (c MemoryConfig) read(ctx context.Context, m *reading) (err error) {
	if err := pause(ctx, c.Settle); err != nil {
		return err
	}
	if c.Admin != "" {
		if err := c.free(ctx); err != nil {
			return err
		}
	}
	if m.user, err = rssAnon(c.PID); err != nil {
		return err
	}
	if m.slab, err = slab(); err != nil {
		return err
	}
	m.sockets, err = socketMemory()
	return err
}

// free asks the admin listener for a collection and for unused memory to go
// back to the system.
func (t Target) free(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "POST", strings.TrimSuffix(t.Admin, "/")+"/debug/free", nil)
	if err != nil {
		return fmt.Errorf("bench: admin: %w", err)
	}
	token, err := t.publisherToken()
	if err != nil {
		return err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	tr := &http.Transport{DisableKeepAlives: true}
	res, err := tr.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("bench: admin: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 {
		b, _ := io.ReadAll(io.LimitReader(res.Body, 200))
		return fmt.Errorf("bench: admin: POST /debug/free: %s %s", res.Status, b)
	}
	return nil
}

// reportRun adds a run's figures and returns the slope of the server's memory.
func (c MemoryConfig) reportRun(r *report, run int, readings []reading) float64 {
	s := r.section("run %d", run+1)
	for _, m := range readings {
		s.add(fmt.Sprintf("RssAnon at %.0f connections", m.n), m.user/1024, "KiB")
	}
	user := slope(readings, func(m reading) float64 { return m.user })
	s.add("user memory a connection", user, "B")
	s.add("kernel slab a connection, both ends", slope(readings, func(m reading) float64 { return m.slab }), "B")
	s.add("kernel socket memory a connection, both ends", slope(readings, func(m reading) float64 { return m.sockets }), "B")
	return user
}

// slope is that of the straight line with the least squares through the
// readings: bytes for one more connection.
func slope(readings []reading, of func(reading) float64) float64 {
	var n, mean float64
	for _, m := range readings {
		n += m.n / float64(len(readings))
		mean += of(m) / float64(len(readings))
	}
	var above, below float64
	for _, m := range readings {
		above += (m.n - n) * (of(m) - mean)
		below += (m.n - n) * (m.n - n)
	}
	if below == 0 {
		return 0
	}
	return above / below
}
