package eventloop

import (
	"context"
	"maps"
	"slices"

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
// Of a loop that has not answered when ctx ends, it is what it said last: its
// counters then stand still for a moment and never go back. The error says
// that there is such a loop, or that the group has ended.
func (g *Group) Stats(ctx context.Context) ([]LoopStats, error) {
	type answer struct {
		loop  int
		stats LoopStats
	}
	answers := make(chan answer, len(g.loops)) // room for those that come too late
	for i, l := range g.loops {
		if !l.in.post(func() { answers <- answer{i, l.snapshot()} }) {
			return g.told(nil, 0), ErrClosed
		}
	}
	for range g.loops {
		select {
		case a := <-answers:
			g.told(&a.stats, a.loop)
		case <-ctx.Done():
			return g.told(nil, 0), ctx.Err()
		}
	}
	return g.told(nil, 0), nil
}

// told keeps what a loop says, and returns what all have said last.
func (g *Group) told(s *LoopStats, loop int) []LoopStats {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s != nil {
		g.last[loop] = *s
	}
	return slices.Clone(g.last)
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
