package eventloop

import (
	"context"

	"cryptointel/internal/session"
)

// settable is what a shard may also be: its sessions take other settings while
// they run.
type settable interface{ SetSession(cfg *session.Config) }

// SetSession has the shards' sessions go on with other settings, each from its
// next message on. It returns when all have them, or ctx ends; then some may
// take them later. cfg must not change afterwards.
func (g *Group) SetSession(ctx context.Context, cfg *session.Config) {
	taken := make(chan struct{}, len(g.loops))
	waiting := 0
	for _, l := range g.loops {
		s, ok := l.shard.(settable)
		if ok && l.in.post(func() { s.SetSession(cfg); taken <- struct{}{} }) {
			waiting++
		}
	}
	for range waiting {
		select {
		case <-taken:
		case <-ctx.Done():
			return
		}
	}
}
