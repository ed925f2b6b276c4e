package server

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"cryptointel/internal/feed"
	"cryptointel/protocol"
)

// maxMissed bounds the seconds that are made up for after a pause. A longer
// one, such as a laptop's sleep, stays a gap.
const maxMissed = 60

// everySecond does what is due once a second of the server's clock, on the
// second. Seconds that a busy machine slept over are made up for, so that
// test:log has one entry for each.
func (s *Server) everySecond(ctx context.Context) error {
	done, status := s.clock.Now()/protocol.Second, protocol.Time(0)
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		now := s.clock.Now()
		second := now / protocol.Second
		if second > done {
			s.sweep(now)
			s.publishTests(ctx, max(done+1, second-maxMissed), second)
			status = s.publishStatus(ctx, now, status)
		}
		done = second // also when the clock was set back
		t.Reset(time.Duration((done+1)*protocol.Second - s.clock.Now()))
	}
}

// publishStatus publishes system:status when it is due, and tells when it is
// due next.
func (s *Server) publishStatus(ctx context.Context, now, due protocol.Time) (next protocol.Time) {
	h := s.hubStats(ctx)
	perSecond := s.pulse.take(reading{now, h, processTime()})
	every := protocol.Time(s.cfg.StatusEvery)
	if every == 0 || now < due {
		return due
	}
	status := systemStatus{
		Status: "ok", Connections: h.Connections, MessagesPerSecond: perSecond.Messages,
		Latency: s.latency.since(h.Latency), Feeds: s.feedStatus(now), Timestamp: stamp(s.clock.Now()),
	}
	for _, f := range status.Feeds {
		if f.Status != feed.FeedLive {
			status.Status = "degraded"
		}
	}
	data, err := json.Marshal(status)
	if err == nil {
		err = s.broker.PublishLocal(&protocol.Publication{Channel: "system:status", Type: protocol.TypeStatus, Data: data})
	}
	s.warn(ctx, "publish status", err)
	return now - now%protocol.Second + every
}

// publishTests drives test:state and test:log for the seconds from first to
// last: what they say follows from the second alone, so that whoever writes a
// client can check every value.
func (s *Server) publishTests(ctx context.Context, first, last protocol.Time) {
	for n := int64(first); s.cfg.TestChannels && n <= int64(last); n++ {
		err := s.broker.PublishLocal(testState(n))
		if err == nil {
			_, err = s.broker.Append(ctx, "system", testEntry(n), nil)
		}
		s.warn(ctx, "publish test channels", err)
	}
}

func testState(n int64) *protocol.Publication {
	data := fmt.Sprintf(`{"symbol":"TEST","asset":"test","price":%d.5,"change_24h":0,"timestamp":%q,"n":%d}`, 100+n%60, stamp(protocol.Time(n)*protocol.Second), n)
	return &protocol.Publication{Channel: "test:state", Type: protocol.TypePrice, Data: []byte(data), Price: float64(100+n%60) + 0.5}
}

func testEntry(n int64) *protocol.Publication {
	data := fmt.Sprintf(`{"id":"test-%d","type":"test","symbol":"TEST","entities":["test"],"confidence":0.%d,"severity":"low","title":"test entry","description":"one a second; n counts the seconds since 1970","timestamp":%q,"status":"active","metadata":{"n":%d}}`, n, n%10, stamp(protocol.Time(n)*protocol.Second), n)
	return &protocol.Publication{
		Channel: protocol.TestLogChannel, Type: protocol.TypeSignal, Data: []byte(data),
		Signal: &protocol.Signal{ID: fmt.Sprint("test-", n), Type: "test", Entities: []string{"test"}, Severity: "low", Confidence: float64(n%10) / 10, HasConfidence: true},
	}
}

// warn logs what went wrong, unless it is the server's end.
func (s *Server) warn(ctx context.Context, doing string, err error) {
	if err != nil && ctx.Err() == nil {
		s.log.Warn(doing, "err", err)
	}
}

func stamp(t protocol.Time) string { return string(protocol.AppendTime(nil, t)) }
