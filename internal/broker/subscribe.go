package broker

import (
	"fmt"
	"sync/atomic"

	"cryptointel/protocol"
	"github.com/nats-io/nats.go"
)

const (
	minPending = 16
	// pendingBytes bounds what waits for a subscriber beside Config.Pending.
	pendingBytes = 64 << 20
	// readBatch is how many entries of the log are read in one go.
	readBatch = 256
	// maxHeard bounds the offsets a subscription remembers.
	maxHeard = 1 << 17
)

// Subscribe calls fn for everything the node hears: first the last value of
// each state channel, then every publication and every entry appended to the
// event log from now on. Calls come one at a time, from one goroutine. Entries
// come in the order of their offsets, each once and none left out; offsets of
// a state channel only rise. fn must not block for long and must not change
// what it is given.
//
// unsubscribe waits for a call in progress, so fn must not call it; after it
// fn is not called again.
func (b *Broker) Subscribe(fn func(*protocol.Publication)) (unsubscribe func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	s := &subscription{b: b, fn: fn, heard: map[string]int64{}, ended: make(chan struct{})}
	// Nothing is published while mu is held, so these are what comes before
	// the first message.
	s.first = b.last.appendAll(nil)
	s.position.Store(b.events.head)
	if err := s.start(); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	b.subs[s] = true
	return func() { b.unsubscribe(s) }, nil
}

func (b *Broker) unsubscribe(s *subscription) {
	b.mu.Lock()
	known := b.subs[s]
	delete(b.subs, s)
	b.mu.Unlock()
	if known {
		s.stop()
	}
}

// A subscription hands what NATS delivers to one subscriber.
//
// When the subscriber is slow, NATS drops messages. That is noticed once the
// queue has run empty, and what matters of them is taken from where it is
// kept: the newest values from the last values, entries from the log.
type subscription struct {
	b     *Broker // immutable, like the three below
	fn    func(*protocol.Publication)
	nats  *nats.Subscription // not for take, which may run before it is set
	ended chan struct{}      // closed when take is not called any more

	position atomic.Int64 // offset of the log up to which fn has it; written by take only

	// The goroutine that calls take owns the fields below.
	first   []*protocol.Publication // to be given before anything else
	heard   map[string]int64        // offset that fn has of each state channel
	dropped int                     // of nats.Dropped: made up for
	batch   []*protocol.Publication
}

// start begins the calls, with one that gives the last values.
func (s *subscription) start() (err error) {
	if s.nats, err = s.b.nc.Subscribe(everything, s.take); err != nil {
		return err
	}
	s.nats.SetClosedHandler(func(string) { close(s.ended) })
	if err = s.nats.SetPendingLimits(s.b.cfg.Pending, pendingBytes); err == nil {
		err = s.b.nc.Publish(startSubject, nil)
	}
	if err != nil {
		s.nats.Unsubscribe() // fails for the same reason
	}
	return err
}

// stop ends the subscription and waits for the call in progress.
func (s *subscription) stop() {
	skipped := s.skipped()
	if err := s.nats.Unsubscribe(); err != nil { // the connection is gone: it ends all the same
		s.b.log.Warn("end a subscription", "err", err)
	}
	<-s.ended
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.left += skipped
}

func (s *subscription) skipped() uint64 {
	n, err := s.nats.Dropped()
	if err != nil {
		return 0
	}
	return uint64(n)
}

// take is called by NATS for each message, from one goroutine.
func (s *subscription) take(m *nats.Msg) {
	for _, p := range s.first {
		s.state(p)
	}
	s.first = nil
	switch m.Subject {
	case startSubject:
	case wakeSubject:
		s.makeUp()
	default:
		s.publication(m)
	}
	s.settle(m.Sub)
}

func (s *subscription) publication(m *nats.Msg) {
	p, err := parsePublication(m.Data)
	switch {
	case err != nil:
		s.b.log.Error("read a message from NATS", "subject", m.Subject, "err", err)
	case p.Signal != nil:
		s.entry(p)
	default:
		s.state(p)
	}
}

// settle makes up for what was dropped once nothing waits any more. Only a
// full queue drops, so a call of take follows every drop.
func (s *subscription) settle(sub *nats.Subscription) {
	if waiting, _, err := sub.Pending(); err != nil || waiting > 1 { // 1: this one
		return
	}
	if n, err := sub.Dropped(); err == nil && n != s.dropped {
		s.dropped = n
		s.makeUp()
	}
}

// makeUp gives the subscriber what it has not got.
func (s *subscription) makeUp() {
	s.readLog(s.b.Head())
	s.batch = s.b.LastAll(s.batch[:0])
	for _, p := range s.batch {
		s.state(p)
	}
	clear(s.batch)
}

// state gives a state publication, unless a newer one was given already.
func (s *subscription) state(p *protocol.Publication) {
	if p.Offset <= s.heard[p.Channel] {
		return
	}
	if len(s.heard) >= maxHeard { // only made-up test channels are that many
		clear(s.heard)
	}
	s.heard[p.Channel] = p.Offset
	s.fn(p)
}

// entry gives an entry of the log, and before it those that were dropped.
func (s *subscription) entry(p *protocol.Publication) {
	s.readLog(p.Offset - 1)
	if p.Offset > s.position.Load() {
		s.fn(p)
		s.position.Store(p.Offset)
	}
}

// readLog gives the entries up to this offset from the log itself.
func (s *subscription) readLog(upTo int64) {
	for s.position.Load() < upTo {
		s.batch = s.b.Read(s.position.Load(), readBatch, s.batch[:0])
		if len(s.batch) == 0 {
			return
		}
		for _, p := range s.batch {
			s.fn(p)
			s.position.Store(p.Offset)
		}
		clear(s.batch)
	}
}
