package server

import (
	"context"
	"maps"
	"math"
	"time"

	"cryptointel/internal/eventloop"
	"cryptointel/internal/feed"
	"cryptointel/internal/market"
	"cryptointel/internal/metrics"
	"cryptointel/protocol"
)

// snapshot is what /metrics shows.
func (s *Server) snapshot() metrics.Snapshot {
	b, m, now := s.broker.Stats(), s.market.stats(), s.clock.Now()
	door := s.gateway.Counts()
	door.Pending, door.TurnedAway = s.door.Pending()
	if s.certificate != nil {
		door.CertificateEnds = s.certificate.NotAfter().Unix()
	}
	outcomes := maps.Clone(m.Dropped)
	outcomes[market.Accepted.String()] = m.Published
	link := metrics.Link(b.Link)
	loops := s.loopStats(context.Background())
	out := metrics.Snapshot{
		Hub: sumHub(loops), Door: door,
		Market: &metrics.Market{Outcomes: outcomes, Stale: m.Stale, Settled: m.Settled, SuspectDays: m.SuspectDays, SuspectBars: m.SuspectBars,
			Assets: m.Assets, StaleAssets: m.StaleAssets, Quarantined: m.Quarantined},
		Broker: &metrics.Broker{StateChannels: b.StateChannels, LogEntries: b.LogEntries, LogBytes: b.LogBytes, Skipped: b.Skipped},
		Link:   &link,
		Keys:   s.keyMetrics(now),
		Tokens: &metrics.Tokens{Pending: s.judge.pending()},
		Loops:  loopMetrics(loops),
	}
	for _, f := range s.live.Status() {
		out.Feeds = append(out.Feeds, feedMetrics(f, now))
	}
	return out
}

// keyMetrics is nil without a key set.
func (s *Server) keyMetrics(now protocol.Time) *metrics.Keys {
	if s.cfg.Auth.JWKSURL == "" {
		return nil
	}
	k := s.keys.Status()
	age := math.NaN()
	if !k.Fetched.IsZero() {
		age = time.Unix(0, int64(now)).Sub(k.Fetched).Seconds()
	}
	return &metrics.Keys{Current: k.Current, Retired: k.Retired, Fetches: k.Fetches, Failed: k.Failed, AgeSeconds: age}
}

func feedMetrics(f feed.FeedStatus, now protocol.Time) metrics.Feed {
	return metrics.Feed{
		Exchange: f.Exchange, State: f.State, Symbols: f.Symbols,
		Frames: f.Stats.Frames, Ticks: f.Stats.Ticks, Malformed: f.Stats.Malformed,
		Duplicates: f.Stats.Duplicates, OutOfOrder: f.Stats.OutOfOrder, Unknown: f.Stats.Unknown,
		Gaps: f.Stats.Gaps, Missing: f.Stats.Missing, Recovered: f.Stats.Recovered,
		Refilled: f.Refilled, Lost: f.RefillFailed, Asking: f.RefillWaiting,
		Reconnects: f.Reconnects, RESTErrors: f.RESTErrors, SilentSeconds: f.Silent(now).Seconds(),
	}
}

func loopMetrics(loops []eventloop.LoopStats) *metrics.Loops {
	out := &metrics.Loops{Count: len(loops)}
	for _, l := range loops {
		out.Wakeups += l.Wakeups
		out.Blocked += l.Blocked
		out.Missed += l.Missed
		out.Rereads += l.Rereads
		out.Lost += l.Lost
	}
	return out
}
