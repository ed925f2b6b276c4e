package eventloop

import "cryptointel/internal/session"

// settable is what a shard may also be: its sessions take other settings while
// they run.
type settable interface{ SetSession(cfg *session.Config) }

// SetSession has the shards' sessions go on with other settings, each from its
// next message on. cfg must not change afterwards.
func (g *Group) SetSession(cfg *session.Config) {
	for _, l := range g.loops {
		if s, ok := l.shard.(settable); ok {
			l.in.post(func() { s.SetSession(cfg) })
		}
	}
}
