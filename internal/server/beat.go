package server

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"sync"
	"time"

	"cryptointel/protocol"
)

// A rate is messages a second, from two readings of a counter.
type rate struct {
	mu    sync.Mutex // guards the fields below
	count uint64
	at    protocol.Time
	value float64
}

func (r *rate) update(count uint64, now protocol.Time) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now > r.at && r.at > 0 {
		r.value = float64(count-r.count) / (float64(now-r.at) / float64(protocol.Second))
		r.value = math.Round(r.value*10) / 10
	}
	r.count, r.at = count, now
	return r.value
}

func (r *rate) last() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.value
}

// statusEvery is how many seconds lie between two publications of
// system:status.
const statusEvery = 5

// beat publishes what the server itself has to say, once a second.
func (s *Server) beat(ctx context.Context, n int) {
	if n%statusEvery == 0 {
		s.publishStatus(ctx)
	}
	if s.cfg.TestChannels {
		s.publishTests(ctx)
	}
}

func (s *Server) publishStatus(ctx context.Context) {
	h, now := s.hubStats(ctx), s.time().UTC()
	data, err := json.Marshal(struct {
		Status            string  `json:"status"`
		Connections       int     `json:"active_connections"`
		MessagesPerSecond float64 `json:"messages_per_second"`
		Timestamp         string  `json:"timestamp"`
	}{"ok", h.Connections, s.rate.update(h.Deliveries, s.clock.Now()), stamp(now)})
	if err == nil {
		err = s.broker.Publish(&protocol.Publication{Channel: "system:status", Type: protocol.TypeStatus, Data: data})
	}
	if err != nil && ctx.Err() == nil {
		s.log.Warn("publish status", "err", err)
	}
}

// publishTests drives test:state and test:log: what they say follows from the
// second alone, so that whoever writes a client can check every value.
func (s *Server) publishTests(ctx context.Context) {
	now := s.time().UTC().Truncate(time.Second)
	n := now.Unix()
	state := fmt.Sprintf(`{"symbol":"TEST","asset":"test","price":%d.5,"change_24h":0,"timestamp":%q,"n":%d}`, 100+n%60, stamp(now), n)
	entry := fmt.Sprintf(`{"id":"test-%d","type":"test","symbol":"TEST","entities":["test"],"confidence":0.%d,"severity":"low","title":"test entry","description":"one a second; n counts the seconds since 1970","timestamp":%q,"status":"active","metadata":{"n":%d}}`, n, n%10, stamp(now), n)
	err := s.broker.Publish(&protocol.Publication{Channel: "test:state", Type: protocol.TypePrice, Data: []byte(state), Price: float64(100+n%60) + 0.5})
	if err == nil {
		_, err = s.broker.Append(ctx, "system", &protocol.Publication{
			Channel: protocol.TestLogChannel, Type: protocol.TypeSignal, Data: []byte(entry),
			Signal: &protocol.Signal{ID: fmt.Sprint("test-", n), Type: "test", Entities: []string{"test"}, Severity: "low", Confidence: float64(n%10) / 10, HasConfidence: true},
		}, nil)
	}
	if err != nil && ctx.Err() == nil {
		s.log.Warn("publish test channels", "err", err)
	}
}

func stamp(t time.Time) string { return t.Format("2006-01-02T15:04:05.000Z") }
