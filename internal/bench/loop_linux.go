package bench

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"cryptointel/internal/frame"
)

// A dialer says how connections are made; it does not change during a run.
type dialer struct {
	to        endpoint
	sources   int
	window    int // handshakes under way at once in one loop
	patience  time.Duration
	heartbeat time.Duration
	upgrade   []byte // the upgrade request
	channels  []string
	subs      int                         // channels a connection follows
	token     func(i int) (string, error) // nil: connections are anonymous
	deflate   bool                        // they offer compression
	bare      bool                        // the server only upgrades and sends
}

// follows is the j-th channel of connection i: all connections together spread
// evenly over all channels.
func (d *dialer) follows(i, j int) int32 { return int32((i*d.subs + j) % len(d.channels)) }

// A stretch is what all loops do until they are told that it is over. It is
// immutable but for over.
type stretch struct {
	upTo  int     // connections are opened until so many were, all loops together
	rate  float64 // so many a second; 0: as fast as they settle
	drop  bool    // connections close once they are ready
	base  int64   // number of the last publication before this run; 0: none are made
	first int64   // number, from 1, of the first publication of the stretch

	over atomic.Bool // it ends once the connections being opened are settled
}

// A loop is one epoll loop of the generator with its connections. During a
// stretch the goroutine in run owns it; between two stretches the one who
// starts them does. received may be read at any time.
type loop struct {
	d      *dialer
	ep     int
	number int              // of this loop
	of     int              // so many loops
	index  map[string]int32 // channels by name
	events []unix.EpollEvent
	buf    []byte
	stamps stampReader
	unpack *unpacker
	conns  []*conn // by epoll user data; closed ones stay
	ready  int     // connections that are open and subscribed

	received atomic.Uint64 // publications since the loop was made

	s        *stretch
	t        *tally
	settling settling
	pinged   int   // connections pinged in this round of heartbeats
	round    int64 // when the round began, ns
}

// settling is how the connections of a stretch come about.
type settling struct {
	began    int64 // ns
	open     int   // connections to open
	dialed   int
	underway int
	oldest   int // connections before this one are settled
	upgrades hist
	frames   hist // to the first frame
	readies  hist // to the last acknowledgement
	lag      hist // how late connects were
	done     uint64
	failures map[string]uint64
}

func newLoop(d *dialer, number, of int) (*loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("bench: epoll: %w", err)
	}
	l := &loop{d: d, ep: ep, number: number, of: of, index: map[string]int32{},
		events: make([]unix.EpollEvent, 512), buf: make([]byte, 256<<10), unpack: newUnpacker(), round: nanos(), t: new(tally)}
	for i, name := range d.channels {
		l.index[name] = int32(i)
	}
	return l, nil
}

// run serves the connections until the stretch is over or ctx is done.
func (l *loop) run(ctx context.Context, s *stretch) error {
	l.begin(s)
	for {
		now := nanos()
		l.dialDue(now)
		l.expire(now)
		l.beat(now)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if s.over.Load() && l.settled() {
			return nil
		}
		n, err := unix.EpollWait(l.ep, l.events, l.timeout(now))
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("bench: epoll: %w", err)
		}
		for i := range max(n, 0) {
			l.handle(l.conns[l.events[i].Fd])
		}
	}
}

func (l *loop) begin(s *stretch) {
	l.s, l.t = s, new(tally)
	share := (s.upTo - l.number + l.of - 1) / l.of
	l.settling = settling{began: nanos(), open: max(share-len(l.conns), 0),
		oldest: len(l.conns), failures: map[string]uint64{}}
}

func (l *loop) handle(c *conn) {
	switch c.state {
	case closed:
	case connecting:
		l.connected(c)
	default:
		l.readable(c)
	}
}

func (l *loop) settled() bool {
	return l.settling.dialed == l.settling.open && l.settling.underway == 0
}

// due is when the loop's next connection is to be opened at the stretch's rate.
// The loops take turns.
func (l *loop) due() int64 {
	turn := l.settling.dialed*l.of + l.number
	return l.settling.began + int64(float64(turn)/l.s.rate*1e9)
}

// dialDue opens the connections whose time has come.
func (l *loop) dialDue(now int64) {
	g := &l.settling
	for g.dialed < g.open {
		if l.s.rate > 0 {
			due := l.due()
			if due > now {
				return
			}
			g.lag.add(now - due)
		} else if g.underway >= l.d.window {
			return
		}
		g.dialed++
		l.dial()
	}
}

// expire gives up connections that have not become ready in time. They are in
// the order of their beginning, so only the oldest have to be looked at.
func (l *loop) expire(now int64) {
	g := &l.settling
	for ; g.oldest < len(l.conns); g.oldest++ {
		c := l.conns[g.oldest]
		if c.state == ready || c.state == closed {
			continue
		}
		if now-c.began < int64(l.d.patience) {
			return
		}
		l.fail(c, fmt.Sprintf("%s: nothing after %s", c.state, l.d.patience))
	}
}

// beat pings the share of the connections that is due: each once in a
// heartbeat, spread evenly over it.
func (l *loop) beat(now int64) {
	if l.d.heartbeat == 0 || l.d.bare {
		return
	}
	share := float64(now-l.round) / float64(l.d.heartbeat)
	for l.pinged < len(l.conns) && float64(l.pinged+1) <= share*float64(len(l.conns)) {
		if c := l.conns[l.pinged]; c.state == ready {
			l.send(c, frame.Text, pingMessage)
		}
		l.pinged++
	}
	if share >= 1 {
		l.pinged, l.round = 0, now
	}
}

// timeout is how long epoll may wait, in ms.
func (l *loop) timeout(now int64) int {
	const most = 20 // keeps heartbeats, expiry and the end going
	if l.settling.dialed == l.settling.open || l.s.rate == 0 {
		return most
	}
	return int(min(max(l.due()-now, 0)/1e6, most))
}

// close ends every connection and the loop itself.
func (l *loop) close() {
	for _, c := range l.conns {
		l.shut(c)
	}
	unix.Close(l.ep)
}
