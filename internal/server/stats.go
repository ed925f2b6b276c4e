package server

import (
	"context"
	"maps"
	"runtime"
	"runtime/debug"
	rtmetrics "runtime/metrics"
	"strconv"
	"time"

	"cryptointel/internal/eventloop"
	"cryptointel/internal/gateway"
	"cryptointel/internal/hub"
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

// loopStats asks all loops; one that does not answer in time is as it was.
func (s *Server) loopStats(ctx context.Context) []eventloop.LoopStats {
	ctx, cancel := context.WithTimeout(ctx, statsTime)
	defer cancel()
	loops, _ := s.loops.Stats(ctx)
	return loops
}

// hubStats is the sum over all loops.
func (s *Server) hubStats(ctx context.Context) hub.Stats { return sumHub(s.loopStats(ctx)) }

func sumHub(loops []eventloop.LoopStats) hub.Stats {
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
	sum.Latency.Add(x.Latency)
	sum.Compressing += x.Compressing
	sum.Deflated += x.Deflated
	sum.DeflateIn += x.DeflateIn
	sum.DeflateOut += x.DeflateOut
	sum.Inflated += x.Inflated
	for code, n := range x.Errors {
		sum.Errors[code] += n
	}
	for code, n := range x.Closes {
		sum.Closes[code] += n
	}
}

func (s *Server) connections(ctx context.Context) int { return s.hubStats(ctx).Connections }

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

	PerSecond   perSecond   `json:"per_second"`
	Latency     *latency    `json:"latency_ms,omitempty"` // of the last period of system:status
	Delivery    []bucket    `json:"delivery_latency"`
	Compression compression `json:"compression"`
	Feeds       []feedStats `json:"feeds"`
	StaleAssets int         `json:"assets_stale"`
	Quarantined int         `json:"sources_quarantined"`
	CPUSeconds  float64     `json:"cpu_seconds"` // since the start
	MemoryBytes uint64      `json:"memory_bytes"`
	Goroutines  int         `json:"goroutines"`
}

// A bucket counts the deliveries that took at most so long, and longer than
// the bucket before says.
type bucket struct {
	AtMostMS float64 `json:"le_ms,omitempty"` // none for the last
	Count    uint64  `json:"count"`
}

// compression is what was saved on frames that several got.
type compression struct {
	Connections int    `json:"connections"`
	Frames      uint64 `json:"frames"`
	BytesBefore uint64 `json:"bytes_before"`
	BytesAfter  uint64 `json:"bytes_after"`
}

// feedStats are the numbers of one exchange's feed.
type feedStats struct {
	feedStatus
	Symbols      int    `json:"symbols"`
	Frames       uint64 `json:"frames"`
	Ticks        uint64 `json:"ticks"`
	Gaps         uint64 `json:"gaps"`
	Missing      uint64 `json:"missing"`
	Refilled     uint64 `json:"refilled"`
	RefillFailed uint64 `json:"refill_failed"`
	Duplicates   uint64 `json:"duplicates"`
	OutOfOrder   uint64 `json:"out_of_order"`
	Malformed    uint64 `json:"malformed"`
	Reconnects   uint64 `json:"reconnects"`
	RESTErrors   uint64 `json:"rest_errors"`
}

func (s *Server) stats() any {
	h, m := s.hubStats(context.Background()), s.market.stats()
	return stats{
		Version: version(), UptimeSeconds: int64((s.clock.Now() - s.started) / protocol.Second),
		Connections: h.Connections, Authenticated: h.Authenticated, Subscriptions: h.Subscriptions,
		Opened: h.Opened, Closed: h.Closed, MessagesIn: h.MessagesIn, Deliveries: h.Deliveries,
		MessagesPerSecond: s.pulse.rates().Messages, BytesIn: h.BytesIn, BytesOut: h.BytesOut,
		Conflated: h.Conflated, Behind: h.Behind,
		Errors: named(h.Errors, func(c protocol.Code) string { return string(c) }),
		Closes: named(h.Closes, strconv.Itoa),
		Epoch:  s.broker.Epoch(), Oldest: s.broker.Oldest(), Head: s.broker.Head(),
		AssetsWithPrice: m.Assets, Ticks: m.Ticks, TicksDropped: maps.Clone(m.Dropped),
		PerSecond: s.pulse.rates(), Latency: s.latency.value(), Delivery: buckets(h.Latency),
		Compression: compression{h.Compressing, h.Deflated, h.DeflateIn, h.DeflateOut},
		Feeds:       s.feedStats(), StaleAssets: m.StaleAssets, Quarantined: m.Quarantined,
		CPUSeconds: round(processTime().Seconds(), 1000), MemoryBytes: memoryBytes(), Goroutines: runtime.NumGoroutine(),
	}
}

func buckets(h hub.Histogram) []bucket {
	out := make([]bucket, len(h.Counts))
	for i, n := range h.Counts {
		out[i].Count = n
		if i < len(hub.LatencyBounds) {
			out[i].AtMostMS = float64(hub.LatencyBounds[i]) / float64(protocol.Millisecond)
		}
	}
	return out
}

func (s *Server) feedStats() []feedStats {
	out := []feedStats{}
	now := s.clock.Now()
	for _, f := range s.live.Status() {
		out = append(out, feedStats{
			feedStatus: feedStatus{f.Exchange, f.State, f.Silent(now).Milliseconds()},
			Symbols:    f.Symbols, Frames: f.Stats.Frames, Ticks: f.Stats.Ticks,
			Gaps: f.Stats.Gaps, Missing: f.Stats.Missing, Refilled: f.Refilled, RefillFailed: f.RefillFailed,
			Duplicates: f.Stats.Duplicates, OutOfOrder: f.Stats.OutOfOrder, Malformed: f.Stats.Malformed,
			Reconnects: f.Reconnects, RESTErrors: f.RESTErrors,
		})
	}
	return out
}

// memoryBytes is what the Go runtime holds of the system's memory.
func memoryBytes() uint64 {
	samples := []rtmetrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	rtmetrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}

func named[K comparable](m map[K]uint64, name func(K) string) map[string]uint64 {
	out := make(map[string]uint64, len(m))
	for k, v := range m {
		out[name(k)] = v
	}
	return out
}
