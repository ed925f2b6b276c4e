package broker

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"cryptointel/protocol"
	"github.com/nats-io/nats.go"
)

const (
	// gatherTime bounds how long a node that starts waits for the others'
	// values; they may still come later. gatherQuiet is how long it listens on
	// once a node has answered.
	gatherTime  = 500 * time.Millisecond
	gatherQuiet = 100 * time.Millisecond
	// dialTime bounds connecting to one server, writeTime one write to it.
	dialTime  = 5 * time.Second
	writeTime = 3 * time.Second
	// pingEvery finds a server that is gone without a word, after two.
	pingEvery = 10 * time.Second
	// lastFlush bounds what Close spends on telling the other nodes.
	lastFlush = time.Second
	// maxInbox bounds the messages of other nodes that wait to be read.
	maxInbox = 1 << 14
	// sendBatch is how many publications are taken from the outbox at once.
	sendBatch = 256
)

// A link is this node's connection to the others, through an external NATS.
//
// What this node publishes waits in the broker's outbox and is sent by one
// goroutine, so no publisher ever waits for the network. Another goroutine
// hears the other nodes: their state publications become last values here and
// go to this node's subscribers, their entries are appended to this node's
// log. A node that starts, or comes back, asks the others for what it lacks.
type link struct {
	b      *Broker // immutable, like the five below
	log    *slog.Logger
	id     nodeID
	nc     *nats.Conn
	prefix string
	in     chan *nats.Msg // all that NATS delivers, in its order

	subs []*nats.Subscription // immutable after openLink
	wake chan struct{}        // the outbox has something
	back chan struct{}        // the connection is back
	done chan struct{}        // closed by close
	wg   sync.WaitGroup       // run and pump

	closing  atomic.Bool
	overflow atomic.Bool // in was full
	n        linkCounts

	troubles quiet     // of the connection; NATS's callbacks, one at a time
	tooLarge quiet     // pump's
	hearing  listening // run's, and openLink's before
}

type linkCounts struct {
	sent, received, refused, quarrels, lost, tooLarge, reconnects atomic.Uint64
	nodes                                                         atomic.Int64
}

// LinkStats is what the link to the other nodes counts. All is zero without
// an external NATS.
type LinkStats struct {
	Configured bool // there is an external NATS
	Connected  bool // it can be reached now
	Nodes      int  // other nodes heard in the last half minute
	Waiting    int  // publications and entries that are to be sent

	Sent     uint64 // messages sent to the other nodes
	Received uint64 // messages of other nodes
	Refused  uint64 // messages that were none of a node of this version
	Skipped  uint64 // messages that found the queue full; made up for by asking
	Quarrels uint64 // publications to a channel that another node writes too
	Lost     uint64 // other nodes' entries that could not be had
	Unsent   uint64 // own entries that the outbox gave up unsent
	Dropped  uint64 // state publications that the outbox gave up; repeated later
	TooLarge uint64 // publications over the NATS server's max_payload
	Returns  uint64 // times the connection came back
}

// openLink connects, and gathers what the other nodes have.
func openLink(b *Broker) (*link, error) {
	l := &link{
		b: b, log: b.log, prefix: b.cfg.NATS.Prefix + ".v1.", in: make(chan *nats.Msg, maxInbox),
		wake: make(chan struct{}, 1), back: make(chan struct{}, 1), done: make(chan struct{}),
	}
	rand.Read(l.id[:]) // never fails
	l.hearing = newListening(l, time.Now())
	var err error
	if l.nc, err = nats.Connect(joinURLs(b.cfg.NATS.URLs), l.options()...); err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w; check nats-url, and that the server runs and lets this node in", allShown(b.cfg.NATS.URLs), err)
	}
	if err := l.subscribe(); err != nil {
		l.closing.Store(true)
		l.nc.Close()
		return nil, fmt.Errorf("subscribe to %s> at NATS: %w", l.prefix, err)
	}
	l.log.Info("NATS connected", "url", shown(l.nc.ConnectedUrl()), "prefix", b.cfg.NATS.Prefix, "node", l.id.String())
	l.hearing.gather()
	l.wg.Go(l.run)
	l.wg.Go(l.pump)
	return l, nil
}

func (l *link) options() []nats.Option {
	opts := []nats.Option{
		nats.Name(l.b.cfg.NATS.Name),
		nats.NoEcho(),
		nats.Timeout(dialTime),
		nats.FlusherTimeout(writeTime),
		nats.PingInterval(pingEvery),
		nats.CustomInboxPrefix(l.prefix + "inbox"),
		// For ever, also when the account is refused for a while.
		nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(),
		nats.ReconnectWait(200 * time.Millisecond),
		nats.ReconnectJitter(300*time.Millisecond, 800*time.Millisecond),
		// What cannot be sent stays in the outbox, which knows what is newest.
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(l.lost),
		nats.ReconnectHandler(l.returned),
		nats.ErrorHandler(l.trouble),
	}
	if l.b.cfg.NATS.Credentials != "" {
		opts = append(opts, nats.UserCredentials(l.b.cfg.NATS.Credentials))
	}
	if l.b.cfg.NATS.CA != "" {
		opts = append(opts, nats.RootCAs(l.b.cfg.NATS.CA))
	}
	return opts
}

// subscribe hears what is said to all nodes and to this one, both in the one
// order in which it was said.
func (l *link) subscribe() error {
	for _, subject := range []string{l.prefix + "all", l.nodeSubject(l.id)} {
		s, err := l.nc.ChanSubscribe(subject, l.in)
		if err != nil {
			return err
		}
		l.subs = append(l.subs, s)
	}
	return l.nc.FlushTimeout(dialTime)
}

func (l *link) nodeSubject(id nodeID) string { return l.prefix + "node." + id.String() }

func (l *link) lost(nc *nats.Conn, err error) {
	if !l.closing.Load() {
		l.log.Warn("NATS connection lost: this node goes on alone and keeps trying", "url", allShown(l.b.cfg.NATS.URLs), "err", err)
	}
}

func (l *link) returned(nc *nats.Conn) {
	l.n.reconnects.Add(1)
	l.log.Info("NATS connection is back", "url", shown(nc.ConnectedUrl()))
	signalTo(l.back)
}

// trouble hears what NATS complains of: a full queue, a missing permission.
func (l *link) trouble(_ *nats.Conn, _ *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrSlowConsumer) {
		l.overflow.Store(true)
	}
	if n, due := l.troubles.due(time.Now()); due && !l.closing.Load() {
		l.log.Warn("NATS connection is in trouble", "err", err, "times", n)
	}
}

// kick has the outbox sent. Nil is a node that is alone.
func (l *link) kick() {
	if l != nil {
		signalTo(l.wake)
	}
}

func signalTo(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is waiting already
	}
}

// pump sends the outbox whenever there is something in it.
func (l *link) pump() {
	for {
		select {
		case <-l.wake:
			l.sendWaiting()
		case <-l.done:
			l.sendWaiting()
			if l.nc.IsConnected() {
				if err := l.nc.FlushTimeout(lastFlush); err != nil {
					l.log.Warn("the last publications may not have reached the other nodes", "err", err)
				}
			}
			return
		}
	}
}

func (l *link) sendWaiting() {
	var states []*protocol.Publication
	var entries []sharedEntry
	var buf []byte
	for l.nc.IsConnected() {
		states, entries = l.b.takeWaiting(sendBatch, states[:0], entries[:0])
		if len(states)+len(entries) == 0 {
			return
		}
		for i, p := range states {
			buf = appendPublication(appendHeader(buf[:0], l.id, kindState), p)
			if !l.send(buf) {
				l.b.putBack(states[i:])
				return
			}
		}
		for i := range entries {
			buf = appendEntry(appendHeader(buf[:0], l.id, kindEntry), &entries[i])
			if !l.send(buf) {
				return
			}
			l.b.sentEntry(entries[i].seq)
		}
	}
}

// send says b to all nodes. What is too large for the server is left out and
// counted; false means that the connection is gone.
func (l *link) send(b []byte) bool {
	err := l.nc.Publish(l.prefix+"all", b)
	if errors.Is(err, nats.ErrMaxPayload) {
		l.n.tooLarge.Add(1)
		if n, due := l.tooLarge.due(time.Now()); due {
			l.log.Warn("a publication is too large for the NATS server and stays on this node: raise its max_payload", "bytes", len(b), "times", n)
		}
		return true
	}
	if err == nil {
		l.n.sent.Add(1)
	}
	return err == nil
}

// close sends what waits, ends both goroutines and the connection.
func (l *link) close() {
	if l == nil {
		return
	}
	l.closing.Store(true)
	close(l.done)
	l.wg.Wait()
	l.nc.Close()
}

func (l *link) stats() LinkStats {
	if l == nil {
		return LinkStats{}
	}
	st := LinkStats{
		Configured: true, Connected: l.nc.IsConnected(), Nodes: int(l.n.nodes.Load()),
		Sent: l.n.sent.Load(), Received: l.n.received.Load(), Refused: l.n.refused.Load(),
		Quarrels: l.n.quarrels.Load(), Lost: l.n.lost.Load(),
		TooLarge: l.n.tooLarge.Load(), Returns: l.n.reconnects.Load(),
	}
	for _, s := range l.subs {
		if n, err := s.Dropped(); err == nil {
			st.Skipped += uint64(n)
		}
	}
	return st
}

// A quiet lets one of many equal complaints through a minute. Whoever owns it
// guards it.
type quiet struct {
	next time.Time
	n    int
}

// due counts one more, and reports how many there were when it is time to say
// so.
func (q *quiet) due(now time.Time) (n int, due bool) {
	q.n++
	if now.Before(q.next) {
		return 0, false
	}
	n, q.n, q.next = q.n, 0, now.Add(time.Minute)
	return n, true
}
