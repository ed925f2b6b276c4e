// Package market turns ticks of many sources into one price an asset, with
// its change, high, low and volume over 24 hours, and publishes it as
// price:{slug}. It knows the assets' names. It opens nothing: ticks come from
// internal/feed and from the publish API, publications go to its publisher.
package market

import (
	"strings"
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
	maxSources int                  // immutable

	mu     sync.Mutex // guards the fields below
	assets map[string]*asset
	stats  counters
}

// New returns a market without prices. The clock gives the wall time, for
// offsets and for when something was last heard.
func New(cfg Config, registry *Registry, out publisher, now func() protocol.Time) (*Market, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Market{
		registry:   registry,
		out:        out,
		now:        now,
		staleAfter: protocol.Time(cfg.StaleAfter / time.Nanosecond),
		maxSources: cfg.MaxSources,
		assets:     make(map[string]*asset),
	}, nil
}

// Restore tells the market the last publication of an asset that others have
// seen, so that its offsets go on from there after a restart or a takeover.
func (m *Market) Restore(p protocol.Publication) {
	m.mu.Lock()
	defer m.mu.Unlock()
	slug, _ := strings.CutPrefix(p.Channel, "price:")
	if a := m.assetLocked(slug); a != nil && p.Offset > a.offset {
		a.offset, a.newest = p.Offset, p
	}
}

// Observe takes in a tick and publishes the asset's price when it changes or
// is confirmed. The offset is that of the asset's newest publication; it is a
// new one only when the reason is Accepted. 0 means that there was
// none; the reason then says why.
func (m *Market) Observe(t Tick) (offset int64, reason Reason) {
	p, reason := m.observe(&t)
	if reason == Accepted {
		m.out.Publish(p)
	}
	return p.Offset, reason
}

func (m *Market) observe(t *Tick) (p protocol.Publication, reason Reason) {
	now := m.now()
	if t.Received == 0 {
		t.Received = now
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	a, reason := m.takeLocked(t, now)
	m.stats.count(reason)
	if reason == Accepted {
		return a.publish(now, m.staleAfter), reason
	}
	if a != nil {
		p = a.newest
	}
	return p, reason
}

// takeLocked checks a tick and enters it into its asset.
func (m *Market) takeLocked(t *Tick, now protocol.Time) (*asset, Reason) {
	if r := checkTick(t); r != Accepted {
		return nil, r
	}
	a := m.assetLocked(t.Asset)
	if a == nil {
		return nil, UnknownAsset
	}
	src := a.source(t, now, m.staleAfter, m.maxSources)
	if src == nil {
		return nil, TooManySources
	}
	if r := src.check(t); r != Accepted {
		return nil, r
	}
	src.take(t, now)
	if t.Published && a.exchangeFresh(now) {
		return a, Outranked
	}
	if t.Time < a.at-clockSkew {
		return a, Behind
	}
	a.take(t, now, m.staleAfter)
	return a, Accepted
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
	m.assets[slug] = a
	return a
}

// Sweep publishes once more, marked stale, every asset that has heard nothing
// fresh for Config.StaleAfter of wall time. Call it about once a second. What
// counts is when ticks arrive, not what their clocks say, so a replay at any
// speed is judged like a live feed.
func (m *Market) Sweep(now protocol.Time) {
	if m.staleAfter == 0 {
		return
	}
	for _, p := range m.sweep(now) {
		m.out.Publish(p)
	}
}

func (m *Market) sweep(now protocol.Time) (out []protocol.Publication) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.registry.all {
		a, ok := m.assets[m.registry.all[i].Slug]
		if ok && a.price > 0 && !a.stale && now-a.arrived > m.staleAfter {
			a.stale = true
			m.stats.Stale++
			out = append(out, a.publish(now, m.staleAfter))
		}
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
