// Package market turns ticks of many sources into one price an asset, with
// its change, high, low and volume over 24 hours, publishes it as price:{slug}
// and keeps its bars. It knows the assets' names. Ticks come from
// internal/feed and from the publish API, publications go to its publisher.
//
// The price is the volume-weighted median of the exchanges' newest prices in
// dollars, of those not older than Config.StaleAfter. A coin that stands for
// a dollar counts as what it is worth where it is traded for dollars. A source
// that is off the others is quarantined: see asset.judge.
package market

import (
	"cmp"
	"sync"
	"time"

	"cryptointel/protocol"
)

// publisher is where publications go. Publish must not call back into the
// Market and should not wait; the publication is immutable.
type publisher interface {
	Publish(p protocol.Publication)
}

// clockSkew is by how much exchanges' clocks differ in practice. A tick that
// is older than the current price by no more is the newer one by arrival.
const clockSkew = 2 * protocol.Second

// A Market makes one price an asset. Observe, Sweep and Restore are for one
// goroutine at a time, which owns the Market and in which Publish is called,
// so an asset's offsets leave in order. Prices and Stats are safe from
// anywhere.
type Market struct {
	registry   *Registry            // immutable
	out        publisher            // immutable
	now        func() protocol.Time // immutable; the wall clock
	staleAfter protocol.Time        // immutable
	counted    protocol.Time        // immutable; how long a source counts
	confirm    protocol.Time        // immutable; Config.ConfirmEvery
	outlier    float64              // immutable; a share
	maxSources int                  // immutable
	history    *History             // set before the first tick; nil keeps no bars

	mu     sync.Mutex // guards the fields below
	assets map[string]*asset
	stats  counters
}

// New returns a market without prices. The clock gives the wall time, for
// offsets and for when something was last heard.
func New(cfg Config, registry *Registry, out publisher, now func() protocol.Time) (*Market, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m := &Market{
		registry:   registry,
		out:        out,
		now:        now,
		staleAfter: protocol.Time(cfg.StaleAfter / time.Nanosecond),
		confirm:    protocol.Time(cfg.ConfirmEvery / time.Nanosecond),
		outlier:    cfg.Outlier / 100,
		maxSources: cfg.MaxSources,
		assets:     make(map[string]*asset),
	}
	// Without a limit too, a source that has died must not hold the price.
	m.counted = cmp.Or(m.staleAfter, protocol.Minute)
	return m, nil
}

// Keep makes the market keep bars in h. Call it before the first tick.
func (m *Market) Keep(h *History) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.history = h
	for slug, a := range m.assets {
		a.series = h.series(slug)
	}
}

// Observe takes in a tick and publishes the asset's price when it changes, or
// is confirmed and was not published for Config.ConfirmEvery. The offset is
// that of the asset's newest publication: a new one when the reason is
// Accepted, and when the tick made its source an Outlier. 0 means that there
// was none; the reason then says why.
func (m *Market) Observe(t Tick) (offset int64, reason Reason) {
	o := m.observe(&t)
	if o.seen.series != nil {
		m.history.add(&o.seen)
	}
	if o.publish {
		m.out.Publish(o.newest)
	}
	return o.newest.Offset, o.reason
}

// An outcome is what a tick leads to.
type outcome struct {
	reason  Reason
	publish bool
	newest  protocol.Publication // of the asset
	seen    sample               // for the bars
}

func (m *Market) observe(t *Tick) (o outcome) {
	now := m.now()
	if t.Received == 0 {
		t.Received = now
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	a, i, reason := m.findLocked(t, now)
	o.reason = reason
	if reason == Accepted {
		m.takeLocked(a, i, t, now, &o)
	}
	m.stats.count(o.reason)
	if a != nil {
		if o.publish {
			a.publish(now, m.staleAfter)
		}
		o.newest = a.newest
	}
	return o
}

// findLocked checks what a tick is by itself and finds its source.
func (m *Market) findLocked(t *Tick, now protocol.Time) (*asset, int, Reason) {
	if r := checkTick(t); r != Accepted {
		return nil, 0, r
	}
	a := m.assetLocked(t.Asset)
	if a == nil {
		return nil, 0, UnknownAsset
	}
	i, isNew := a.place(t, now, m.staleAfter, m.maxSources)
	if i < 0 {
		return nil, 0, TooManySources
	}
	if coin := coinOf(t.Quote); isNew && coin != "" && coin != t.Asset {
		if c := m.assetLocked(coin); c != nil {
			c.peg.used, a.sources[i].coin = true, c
		}
	}
	return a, i, Accepted
}

// takeLocked enters a tick into its asset.
func (m *Market) takeLocked(a *asset, i int, t *Tick, now protocol.Time, o *outcome) {
	s := &a.sources[i]
	if t.Late {
		o.reason = m.lateLocked(a, s, t, o)
		return
	}
	if o.reason = s.check(t); o.reason != Accepted {
		// A ticker may overtake its trade: that is old, but was made.
		if o.reason == Old && t.Kind == Trade && t.Time >= s.time-protocol.Minute {
			m.lateLocked(a, s, t, o)
		}
		return
	}
	s.take(t, now)
	if t.Published && a.exchangeFresh(now) {
		o.reason = Outranked
		return
	}
	if !t.Published && t.Time >= a.at-clockSkew {
		a.exchanged = now // before the vote, which it is for
	}
	a.judge(i, now, m.counted, m.outlier)
	if a.peg.used && t.Quote == "USD" && !t.Published && !t.Demo {
		a.repeg(t.Time, now, m.outlier)
	}
	switch {
	case s.outlier:
		o.reason = Outlier
		if o.publish = a.changed && a.price > 0; o.publish {
			a.resettle()
		}
	case t.Time < a.at-clockSkew:
		o.reason = Behind
		if t.Kind == Trade {
			o.seen, _ = a.late(t, s, m.outlier)
		}
	default:
		m.acceptLocked(a, s, t, now, o)
	}
}

func (m *Market) acceptLocked(a *asset, s *source, t *Tick, now protocol.Time, o *outcome) {
	var suspect bool
	if o.seen, suspect = a.take(t, s, now, m.staleAfter); suspect {
		m.stats.SuspectDay++
	}
	// Publishers get an answer with their own price's offset.
	if o.publish = t.Published || a.due(now, m.confirm); !o.publish {
		o.reason = Confirmed
	}
}

// lateLocked enters a trade that was made before what is known by now.
func (m *Market) lateLocked(a *asset, s *source, t *Tick, o *outcome) Reason {
	s.convert()
	switch {
	case s.outlier:
		return Outlier
	case t.Time < a.at-dayLength:
		return Old
	}
	seen, r := a.late(t, s, m.outlier)
	o.seen = seen // nothing, unless it is Late
	return r
}

// assetLocked returns the state of an asset, nil when no such asset is known.
func (m *Market) assetLocked(slug string) *asset {
	if a, ok := m.assets[slug]; ok {
		return a
	}
	known, ok := m.registry.Resolve(slug)
	if !ok || known.Slug != slug {
		return nil
	}
	a := &asset{Asset: known, channel: "price:" + known.Slug}
	if m.history != nil {
		a.series = m.history.series(slug)
	}
	m.assets[slug] = a
	return a
}

// Sweep publishes once more, marked stale, every asset that has heard nothing
// fresh for Config.StaleAfter of wall time, and makes prices anew of which a
// source has fallen silent. Call it about once a second. What counts is when
// ticks arrive, not what their clocks say, so a replay at any speed is judged
// like a live feed.
func (m *Market) Sweep(now protocol.Time) {
	for _, p := range m.sweep(now) {
		m.out.Publish(p)
	}
}

func (m *Market) sweep(now protocol.Time) (out []protocol.Publication) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.registry.all {
		a, ok := m.assets[m.registry.all[i].Slug]
		if !ok || a.price == 0 || a.stale {
			continue
		}
		switch {
		case m.staleAfter > 0 && now-a.arrived > m.staleAfter:
			a.setStale(true)
			m.stats.Stale++
		case len(a.sources) > 1 && a.fellSilent(now, m.counted):
			m.stats.Settled++
		default:
			continue
		}
		out = append(out, a.publish(now, m.staleAfter))
	}
	return out
}

// Prices returns the newest publication of each asset that has one, the
// largest asset first.
func (m *Market) Prices() []protocol.Publication {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []protocol.Publication
	for i := range m.registry.all {
		if a, ok := m.assets[m.registry.all[i].Slug]; ok && a.newest.Data != nil {
			out = append(out, a.newest)
		}
	}
	return out
}
