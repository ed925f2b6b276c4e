package bench

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// A pool is the generator's loops with all their connections. One goroutine
// owns it; the loops run only inside run.
type pool struct {
	d     *dialer
	loops []*loop
}

// spareDescriptors is what a run needs beside its connections: the loops, the
// publishers, files, the runtime.
const spareDescriptors = 128

// newPool checks that n connections fit into the descriptor limit; held are
// descriptors that others need at the same time.
func newPool(d *dialer, loops, n, held int) (*pool, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return nil, fmt.Errorf("bench: descriptor limit: %w", err)
	}
	if need := n + held + spareDescriptors; uint64(need) > limit.Cur {
		return nil, fmt.Errorf("bench: %d connections need %d descriptors, this process may have %d: raise `ulimit -n` or run several generators", n, need, limit.Cur)
	}
	p := &pool{d: d}
	for i := range loops {
		l, err := newLoop(d, i, loops)
		if err != nil {
			p.close()
			return nil, err
		}
		p.loops = append(p.loops, l)
	}
	return p, nil
}

func (p *pool) close() {
	for _, l := range p.loops {
		l.close()
	}
	p.loops = nil
}

// received is the number of publications that came since the pool was made.
// It may be called from any goroutine.
func (p *pool) received() (n uint64) {
	for _, l := range p.loops {
		n += l.received.Load()
	}
	return n
}

func (p *pool) ready() (n int) {
	for _, l := range p.loops {
		n += l.ready
	}
	return n
}

// fan is how many connections that are ready follow each channel.
func (p *pool) fan() []int {
	fan := make([]int, len(p.d.channels))
	for _, l := range p.loops {
		for _, c := range l.conns {
			for _, s := range c.subs {
				if c.state == ready {
					fan[s.channel]++
				}
			}
		}
	}
	return fan
}

// run lets the loops work on s while work runs. It returns when work has
// returned and the connections of s are settled, or when ctx is done. A nil
// work ends at once.
func (p *pool) run(ctx context.Context, s *stretch, work func(context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range p.loops {
		g.Go(func() error { return l.run(ctx, s) })
	}
	g.Go(func() error {
		defer s.over.Store(true)
		if work == nil {
			return nil
		}
		return work(ctx)
	})
	return g.Wait()
}

// tally is what came in during the last stretch.
func (p *pool) tally() *tally {
	t := new(tally)
	for _, l := range p.loops {
		t.merge(l.t)
	}
	return t
}

// settled is how the last stretch's connections came about.
func (p *pool) settled() *settling {
	all := &settling{failures: map[string]uint64{}}
	for _, l := range p.loops {
		g := &l.settling
		all.upgrades.merge(&g.upgrades)
		all.frames.merge(&g.frames)
		all.readies.merge(&g.readies)
		all.lag.merge(&g.lag)
		all.done += g.done
		for why, n := range g.failures {
			all.failures[why] += n
		}
	}
	return all
}

// open opens connections until n were, as fast as they are answered.
func (p *pool) open(ctx context.Context, n int) (*settling, error) {
	if err := p.run(ctx, &stretch{upTo: n}, nil); err != nil {
		return nil, err
	}
	return p.settled(), nil
}
