package market

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"cryptointel/protocol"
)

// A barKey names a bar.
type barKey struct {
	span  int
	slug  string
	start protocol.Time
}

// A store is where finished bars go. scan may run beside write.
type store interface {
	// write puts all bars or none, with the time of the newest sample in them,
	// and forgets what is older than cut (0 keeps everything).
	write(bars map[barKey]bar, last protocol.Time, cut [4]protocol.Time) error
	// scan returns a copy of the bars with from <= Start < to, oldest first:
	// of more than limit the first, or the last when newest.
	scan(span int, slug string, from, to protocol.Time, limit int, newest bool) ([]Candle, error)
	close() error
}

// A History keeps the bars of all assets. The ticks' path only touches memory;
// Flush writes what has changed in one batch. A crash loses what was not
// flushed, a minute by default. Candles may be called from anywhere; Flush,
// Run and Close are for one goroutine at a time.
type History struct {
	cfg   HistoryConfig // immutable
	log   *slog.Logger  // immutable
	store store         // immutable
	// covered is up to when the runs before have counted: a late trade of
	// before is in the bars already, or was refused. Immutable.
	covered protocol.Time

	mu      sync.Mutex // guards the fields below and all series
	assets  map[string]*series
	last    protocol.Time  // the newest sample: what retention counts from
	dirty   map[barKey]bar // to be written
	writing map[barKey]bar // being written: dirty of a moment ago
	dropped uint64
}

// A series is the newest bars of an asset, one of each span. Its History's
// mutex guards it.
type series struct {
	slug    string
	live    [4]Candle // Start 0: none
	touched [4]bool   // since the last flush
}

// maxDirty bounds what waits for a disk that cannot be written: about an hour
// of all assets. Beyond, new bars are dropped until the disk is back; the
// running ones go on.
const maxDirty = 100_000

// OpenHistory opens the bars in dir, which is made when it is missing; an
// empty dir keeps the newest in memory only. One process at a time has them
// open.
func OpenHistory(cfg HistoryConfig, dir string, log *slog.Logger) (*History, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	h := &History{cfg: cfg, log: log, assets: make(map[string]*series), dirty: make(map[barKey]bar)}
	if dir == "" {
		h.store = newMemoryStore()
		return h, nil
	}
	s, err := openBoltStore(dir)
	if err != nil {
		return nil, err
	}
	// What was running when the last process stopped goes on.
	err = s.newest(func(k barKey, c Candle) {
		h.series(k.slug).live[k.span] = c
		if k.span == spanMinute { // for a file that has no time of its own
			h.covered = max(h.covered, c.Start+protocol.Minute-1)
		}
	})
	if last, ok := s.last(); ok {
		h.covered = last
	}
	if err != nil {
		s.close()
		return nil, err
	}
	h.store = s
	return h, nil
}

func (h *History) series(slug string) *series {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.assets[slug]
	if s == nil {
		s = &series{slug: slug}
		h.assets[slug] = s
	}
	return s
}

// add enters a sample. It is on the ticks' path: no I/O, and no allocation but
// when a bar ends. Exchanges send their last trades again after a restart:
// what a run before has covered is not counted twice.
func (h *History) add(s *sample) {
	if s.late && s.at <= h.covered {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = max(h.last, s.at)
	for k := range spans {
		live := &s.series.live[k]
		switch start := spans[k].start(s.at); {
		case start == live.Start:
			live.take(s)
		case s.late && start < live.Start:
			h.partLocked(barKey{k, s.series.slug, start}, s.begin(start))
			continue
		default:
			// A clock that was put back begins its bars anew, too.
			if s.series.touched[k] {
				h.putLocked(barKey{k, s.series.slug, live.Start}, bar{Candle: *live})
			}
			*live = s.begin(start)
		}
		s.series.touched[k] = true
	}
}

// partLocked adds what was learnt late of a finished bar to what waits.
func (h *History) partLocked(k barKey, c Candle) {
	b := bar{c, true}
	if old, ok := h.dirty[k]; ok {
		b = b.over(old)
	}
	h.putLocked(k, b)
}

func (h *History) putLocked(k barKey, b bar) {
	if _, ok := h.dirty[k]; !ok && len(h.dirty) >= maxDirty {
		h.dropped++
		return
	}
	h.dirty[k] = b
}

// Run flushes until ctx is done, and once more then.
func (h *History) Run(ctx context.Context) error {
	tick := time.NewTicker(h.cfg.FlushEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return h.Flush()
		}
		switch err := h.Flush(); {
		case err != nil:
			h.log.Error("bars not written, trying again", "err", err, "waiting", h.waiting(), "dropped", h.lost())
			failing = true
		case failing:
			h.log.Info("bars are written again", "dropped", h.lost())
			failing = false
		}
	}
}

func (h *History) waiting() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.dirty)
}

func (h *History) lost() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dropped
}

// Flush writes all bars that have changed. What could not be written stays
// for the next time.
func (h *History) Flush() error {
	last, cut := h.collect()
	if len(h.writing) == 0 { // only this goroutine changes it
		return nil
	}
	err := h.store.write(h.writing, last, cut)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		for k, b := range h.writing {
			if newer, ok := h.dirty[k]; ok {
				b = newer.over(b)
			}
			h.putLocked(k, b)
		}
		err = fmt.Errorf("write bars: %w", err)
	}
	h.writing = nil
	return err
}

// collect moves what is dirty to writing.
func (h *History) collect() (last protocol.Time, cut [4]protocol.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.assets {
		for k := range spans {
			if s.touched[k] {
				h.putLocked(barKey{k, s.slug, s.live[k].Start}, bar{Candle: s.live[k]})
				s.touched[k] = false
			}
		}
	}
	h.writing, h.dirty = h.dirty, make(map[barKey]bar, len(h.dirty))
	for k, keep := range h.cfg.keep() {
		if keep > 0 && h.last > protocol.Time(keep) {
			cut[k] = h.last - protocol.Time(keep)
		}
	}
	// Past bars alone must not put back what was covered.
	return max(h.last, h.covered), cut
}

// Close flushes and closes the file. Candles fails from then on.
func (h *History) Close() error {
	err := h.Flush()
	if e := h.store.close(); err == nil {
		err = e
	}
	return err
}

// defaultBars is how many bars Candles returns when not told.
const defaultBars = 500

// Candles returns an asset's bars with from <= Start < to, oldest first, with
// the running one. A zero to is the end of time. Of more than limit (0 is 500)
// they are the first ones from a given from, else the newest. An asset without
// bars has none; the error for an unknown interval names the four there are.
func (h *History) Candles(asset, interval string, from, to protocol.Time, limit int) ([]Candle, error) {
	k, err := spanOf(interval)
	if err != nil {
		return nil, err
	}
	return h.candles(k, asset, from, cmp.Or(to, 1<<62), cmp.Or(max(0, limit), defaultBars))
}

func (h *History) candles(k int, asset string, from, to protocol.Time, limit int) ([]Candle, error) {
	// Memory before the store: a flush in between shows a bar twice, and
	// never not at all.
	fresh := h.unwritten(k, asset, from, to)
	newest := from <= 0
	out, err := h.store.scan(k, asset, from, to, limit, newest)
	if err != nil {
		return nil, fmt.Errorf("read bars of %s: %w", asset, err)
	}
	for _, b := range fresh {
		i, found := slices.BinarySearchFunc(out, b.Start, func(c Candle, t protocol.Time) int { return cmp.Compare(c.Start, t) })
		if found {
			out[i] = b.over(bar{Candle: out[i]}).Candle
		} else {
			out = slices.Insert(out, i, b.Candle)
		}
	}
	if n := len(out); n > limit && newest {
		return out[n-limit:], nil
	}
	return out[:min(len(out), limit)], nil
}

// unwritten lists the bars that the store does not have yet or not up to date.
func (h *History) unwritten(k int, asset string, from, to protocol.Time) (out []bar) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, bars := range []map[barKey]bar{h.writing, h.dirty} {
		for key, b := range bars {
			if key.span == k && key.slug == asset && b.Start >= from && b.Start < to {
				out = append(out, b)
			}
		}
	}
	if s := h.assets[asset]; s != nil && s.live[k].Start > 0 && s.live[k].Start >= from && s.live[k].Start < to {
		out = append(out, bar{Candle: s.live[k]})
	}
	return out
}
