package eventloop

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"cryptointel/internal/hub"
	"cryptointel/protocol"
)

// A Group is all loops of the node. Its methods are safe from any goroutine.
type Group struct {
	cfg   Config  // immutable
	loops []*loop // immutable
	turn  atomic.Uint32

	mu   sync.Mutex  // guards the field below
	last []LoopStats // what each loop said of itself last
}

// New makes the loops and their shards. Nothing is started or opened before
// Run; publications and connections given earlier wait.
func New(cfg Config, parts Parts) (*Group, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if parts.Shard == nil || parts.Clock == nil || parts.Handler == nil || parts.Log == nil {
		return nil, fmt.Errorf("eventloop: shard, clock, handler and log are all needed")
	}
	if cfg.Loops == 0 {
		cfg.Loops = runtime.GOMAXPROCS(0)
	}
	g := &Group{cfg: cfg, last: make([]LoopStats, cfg.Loops)}
	for i := range cfg.Loops {
		g.loops = append(g.loops, newLoop(i, cfg, parts))
	}
	return g, nil
}

// Loops is the number of loops; they are numbered from 0.
func (g *Group) Loops() int { return len(g.loops) }

// Run runs the loops until ctx is done or one of them fails. Then it closes
// every socket, tells the shards and waits for all it started. A Group runs
// once.
func (g *Group) Run(ctx context.Context) error {
	for i, l := range g.loops {
		if err := l.open(g.cfg.epoll()); err != nil {
			g.stop()
			for _, opened := range g.loops[:i] {
				opened.finish()
			}
			return err
		}
	}
	tasks, ctx := errgroup.WithContext(ctx)
	for _, l := range g.loops {
		tasks.Go(l.run)
	}
	tasks.Go(func() error {
		<-ctx.Done()
		g.stop()
		return nil
	})
	return tasks.Wait()
}

// stop tells every loop to end; what is posted afterwards is refused.
func (g *Group) stop() {
	for _, l := range g.loops {
		l.in.close()
	}
}

// Adopt gives a connection, with the bytes already read from it, to the loop
// that has the fewest. It takes both over: c is closed when it fails, rest is
// written to. An epoll group duplicates the descriptor and closes c, so c must
// be a TCP or Unix connection; TLS needs the portable kind. After ErrClosed or
// any other error the shard has never heard of h.Owner.
func (g *Group) Adopt(c net.Conn, rest []byte, h hub.Hello) error {
	s, err := takeOver(c, g.cfg)
	if err != nil {
		return fmt.Errorf("eventloop: adopt %s: %w", c.RemoteAddr(), err)
	}
	l := g.leastLoaded()
	l.conns.Add(1)
	if !l.in.post(func() { l.adopt(s, rest, h) }) {
		l.conns.Add(-1)
		s.close()
		return ErrClosed
	}
	return nil
}

// leastLoaded is the loop with the fewest connections, in turn among equals.
func (g *Group) leastLoaded() *loop {
	start := int(g.turn.Add(1)) % len(g.loops)
	best := g.loops[start]
	for i := range g.loops {
		if l := g.loops[(start+i)%len(g.loops)]; l.conns.Load() < best.conns.Load() {
			best = l
		}
	}
	return best
}

// Publish shows p to every loop. It does not wait: a loop that is too busy
// keeps the newest of each state channel and reads the log later. Entries of
// the log must come in offset order.
func (g *Group) Publish(p *protocol.Publication) {
	for _, l := range g.loops {
		l.in.publish(p)
	}
}

// Verdict answers a Verify request of that loop.
func (g *Group) Verdict(loop int, r hub.Ref, v hub.Verdict) {
	l := g.loops[loop]
	l.in.post(func() { l.shard.Verdict(r, v, l.now) })
}

// Displace asks a connection of that loop to make room for a newer one.
func (g *Group) Displace(loop int, r hub.Ref, v hub.Displace) {
	l := g.loops[loop]
	l.in.post(func() { l.shard.Displace(r, v, l.now) })
}

// Drain has the shards say goodbye to their connections over the window. Run
// goes on until its context is done.
func (g *Group) Drain(window protocol.Time) {
	for _, l := range g.loops {
		l.in.post(func() { l.shard.Drain(window, l.now) })
	}
}

// Wake makes every loop look at its clock. Needed only by those who move a
// clock by hand.
func (g *Group) Wake() {
	for _, l := range g.loops {
		l.in.post(func() {})
	}
}
