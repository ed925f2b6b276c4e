package server

import (
	"sync"

	"cryptointel/internal/hub"
	"cryptointel/protocol"
)

// A systemStatus is the data of system:status.
type systemStatus struct {
	// Status is ok, or degraded while a feed is not live.
	Status            string       `json:"status"`
	Connections       int          `json:"active_connections"`
	MessagesPerSecond float64      `json:"messages_per_second"`
	Latency           *latency     `json:"latency_ms,omitempty"`
	Feeds             []feedStatus `json:"feeds,omitempty"`
	Timestamp         string       `json:"timestamp"`
}

// A latency is how long publications took from entering the system to their
// sockets, in milliseconds.
type latency struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

func latencyOf(h hub.Histogram) *latency {
	var n uint64
	for _, c := range h.Counts {
		n += c
	}
	if n == 0 {
		return nil
	}
	ms := func(q float64) float64 { return round(float64(h.Quantile(q))/float64(protocol.Millisecond), 100) }
	return &latency{ms(0.5), ms(0.99)}
}

// recent is the latency between two readings of a histogram that only grows.
type recent struct {
	mu   sync.Mutex // guards the fields below
	last hub.Histogram
	now  *latency
}

// since is the latency since the call before, nil when nothing was delivered.
func (r *recent) since(h hub.Histogram) *latency {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := h
	for i := range d.Counts {
		d.Counts[i] -= r.last.Counts[i]
	}
	d.Sum -= r.last.Sum
	r.last, r.now = h, latencyOf(d)
	return r.now
}

// value is what since last said.
func (r *recent) value() *latency {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// A feedStatus is how an exchange's feed is doing, for everyone to see: why it
// is not live is for the operator, in the log and the statistics.
type feedStatus struct {
	Name   string `json:"name"`
	Status string `json:"status"` // live, connecting or down
	// SilentMS is how long nothing has come from it.
	SilentMS int64 `json:"silent_ms,omitempty"`
}

func (s *Server) feedStatus(now protocol.Time) []feedStatus {
	var out []feedStatus
	for _, f := range s.live.Status() {
		out = append(out, feedStatus{f.Exchange, f.State, f.Silent(now).Milliseconds()})
	}
	return out
}
