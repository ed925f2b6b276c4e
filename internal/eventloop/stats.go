package eventloop

import (
	"context"
	"maps"

	"cryptointel/internal/hub"
)

// LoopStats are one loop's counters since it was made, and its present
// numbers.
type LoopStats struct {
	Connections  int    // open now
	Wakeups      uint64 // times the loop came back from waiting
	Publications uint64 // given to the shard
	Conflated    uint64 // state publications a newer one replaced in the inbox
	Missed       uint64 // log entries that found the inbox full
	Rereads      uint64 // pages read from the log because of that
	Lost         uint64 // times missed entries could not be read: no Reread
	Writes       uint64 // system calls, or blocks given to a writer
	Blocked      uint64 // of them, those that filled the socket
	BytesIn      uint64
	BytesOut     uint64
	Stale        uint64 // socket events for a connection that had gone
	Shard        hub.Stats
}

// Stats asks each loop in turn, so the numbers of one loop belong together.
// It fails when ctx ends first or the group has ended.
func (g *Group) Stats(ctx context.Context) ([]LoopStats, error) {
	all := make([]LoopStats, len(g.loops))
	answered := make(chan struct{}, len(g.loops))
	for i, l := range g.loops {
		asked := l.in.post(func() {
			all[i] = l.snapshot()
			answered <- struct{}{}
		})
		if !asked {
			return nil, ErrClosed
		}
	}
	for range g.loops {
		select {
		case <-answered:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return all, nil
}

// snapshot copies the counters; the maps inside would else be shared.
func (l *loop) snapshot() LoopStats {
	s := l.stats
	s.Connections = int(l.conns.Load())
	s.Conflated, s.Missed = l.in.counts()
	s.Shard = l.shard.Stats()
	s.Shard.Errors = maps.Clone(s.Shard.Errors)
	s.Shard.Closes = maps.Clone(s.Shard.Closes)
	return s
}
