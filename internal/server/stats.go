package server

import (
	"context"
	"maps"
	"runtime/debug"
	"strconv"
	"time"

	"cryptointel/internal/gateway"
	"cryptointel/internal/hub"
	"cryptointel/internal/metrics"
	"cryptointel/protocol"
)

// version is the build's, as Go recorded it.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "devel"
}

func (s *Server) assetTable() []gateway.Asset {
	all := s.assets.All()
	out := make([]gateway.Asset, len(all))
	for i, a := range all {
		out[i] = gateway.Asset{Slug: a.Slug, Tickers: []string{}, Name: a.Name}
		// A ticker that collides belongs to the larger asset.
		if slug, ok := s.assets.Slug(a.Ticker); ok && slug == a.Slug {
			out[i].Tickers = []string{a.Ticker}
		}
	}
	return out
}

// statsTime bounds how long a busy loop may take to say its numbers.
const statsTime = 2 * time.Second

// hubStats is the sum over all loops; loops that do not answer in time are
// left out.
func (s *Server) hubStats(ctx context.Context) hub.Stats {
	ctx, cancel := context.WithTimeout(ctx, statsTime)
	defer cancel()
	loops, _ := s.loops.Stats(ctx)
	sum := hub.Stats{Errors: map[protocol.Code]uint64{}, Closes: map[int]uint64{}}
	for _, l := range loops {
		addStats(&sum, l.Shard)
		sum.Conflated += l.Conflated
	}
	return sum
}

func addStats(sum *hub.Stats, x hub.Stats) {
	sum.Connections += x.Connections
	sum.Authenticated += x.Authenticated
	sum.Subscriptions += x.Subscriptions
	sum.Cohorts += x.Cohorts
	sum.Behind += x.Behind
	sum.Slow += x.Slow
	sum.Opened += x.Opened
	sum.Closed += x.Closed
	sum.MessagesIn += x.MessagesIn
	sum.BytesIn += x.BytesIn
	sum.Deliveries += x.Deliveries
	sum.BytesOut += x.BytesOut
	sum.Writes += x.Writes
	sum.Conflated += x.Conflated
	sum.Publications += x.Publications
	sum.HeldBytes += x.HeldBytes
	sum.BacklogFrames += x.BacklogFrames
	for code, n := range x.Errors {
		sum.Errors[code] += n
	}
	for code, n := range x.Closes {
		sum.Closes[code] += n
	}
}

func (s *Server) connections(ctx context.Context) int { return s.hubStats(ctx).Connections }

// snapshot is what /metrics shows.
func (s *Server) snapshot() metrics.Snapshot {
	b, m := s.broker.Stats(), s.market.stats()
	door := s.gateway.Counts()
	door.Pending, door.TurnedAway = s.door.Pending()
	return metrics.Snapshot{
		Hub: s.hubStats(context.Background()), Door: door,
		Extra: map[string]float64{
			"state_channels":           float64(b.StateChannels),
			"log_entries":              float64(b.LogEntries),
			"log_bytes":                float64(b.LogBytes),
			"broker_skipped_total":     float64(b.Skipped),
			"market_ticks_total":       float64(m.Ticks),
			"market_published_total":   float64(m.Published),
			"market_stale_total":       float64(m.Stale),
			"market_assets_with_price": float64(m.Assets),
			"tokens_pending":           float64(s.judge.pending()),
		},
	}
}

// A stats is the answer of GET /ws/stats.
type stats struct {
	Version           string            `json:"version"`
	UptimeSeconds     int64             `json:"uptime_s"`
	Connections       int               `json:"active_connections"`
	Authenticated     int               `json:"authenticated"`
	Subscriptions     int               `json:"subscriptions"`
	Opened            uint64            `json:"connections_opened"`
	Closed            uint64            `json:"connections_closed"`
	MessagesIn        uint64            `json:"messages_in"`
	Deliveries        uint64            `json:"deliveries"`
	MessagesPerSecond float64           `json:"messages_per_second"`
	BytesIn           uint64            `json:"bytes_in"`
	BytesOut          uint64            `json:"bytes_out"`
	Conflated         uint64            `json:"conflated"`
	Behind            int               `json:"behind"`
	Errors            map[string]uint64 `json:"errors"`
	Closes            map[string]uint64 `json:"closes"`
	Epoch             string            `json:"epoch"`
	Oldest            int64             `json:"log_oldest"`
	Head              int64             `json:"log_head"`
	AssetsWithPrice   int               `json:"assets_with_price"`
	Ticks             uint64            `json:"ticks"`
	TicksDropped      map[string]uint64 `json:"ticks_dropped"`
}

func (s *Server) stats() any {
	h, m := s.hubStats(context.Background()), s.market.stats()
	return stats{
		Version: version(), UptimeSeconds: int64((s.clock.Now() - s.started) / protocol.Second),
		Connections: h.Connections, Authenticated: h.Authenticated, Subscriptions: h.Subscriptions,
		Opened: h.Opened, Closed: h.Closed, MessagesIn: h.MessagesIn, Deliveries: h.Deliveries,
		MessagesPerSecond: s.rate.last(), BytesIn: h.BytesIn, BytesOut: h.BytesOut,
		Conflated: h.Conflated, Behind: h.Behind,
		Errors: named(h.Errors, func(c protocol.Code) string { return string(c) }),
		Closes: named(h.Closes, strconv.Itoa),
		Epoch:  s.broker.Epoch(), Oldest: s.broker.Oldest(), Head: s.broker.Head(),
		AssetsWithPrice: m.Assets, Ticks: m.Ticks, TicksDropped: maps.Clone(m.Dropped),
	}
}

func named[K comparable](m map[K]uint64, name func(K) string) map[string]uint64 {
	out := make(map[string]uint64, len(m))
	for k, v := range m {
		out[name(k)] = v
	}
	return out
}
