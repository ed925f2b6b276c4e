package server

import (
	"math"
	"sync"
	"time"

	"cryptointel/internal/hub"
	"cryptointel/protocol"
)

// A reading is what has been counted up to a moment.
type reading struct {
	at  protocol.Time
	hub hub.Stats
	cpu time.Duration // of this process
}

// perSecond is what goes on now: the counts between two readings, a second.
type perSecond struct {
	Messages float64 `json:"messages"` // delivered to clients
	Commands float64 `json:"commands"` // messages from clients
	BytesIn  float64 `json:"bytes_in"`
	BytesOut float64 `json:"bytes_out"`
	Opened   float64 `json:"connections_opened"`
	Closed   float64 `json:"connections_closed"`
	CPU      float64 `json:"cpu_seconds"` // 1 is one core
}

// A pulse turns readings, taken about once a second, into rates.
type pulse struct {
	mu   sync.Mutex // guards the fields below
	last reading
	now  perSecond
}

func (p *pulse) take(r reading) perSecond {
	p.mu.Lock()
	defer p.mu.Unlock()
	seconds := float64(r.at-p.last.at) / float64(protocol.Second)
	if p.last.at > 0 && seconds > 0 {
		rate := func(now, before uint64) float64 { return round(float64(now-before)/seconds, 10) }
		h, l := &r.hub, &p.last.hub
		p.now = perSecond{
			Messages: rate(h.Deliveries, l.Deliveries), Commands: rate(h.MessagesIn, l.MessagesIn),
			BytesIn: rate(h.BytesIn, l.BytesIn), BytesOut: rate(h.BytesOut, l.BytesOut),
			Opened: rate(h.Opened, l.Opened), Closed: rate(h.Closed, l.Closed),
			CPU: round((r.cpu-p.last.cpu).Seconds()/seconds, 1000),
		}
	}
	p.last = r
	return p.now
}

func (p *pulse) rates() perSecond {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

func round(v, unit float64) float64 { return math.Round(v*unit) / unit }
