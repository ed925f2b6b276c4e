package broker

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// askTime bounds an answer: what Ask waits when its context has no
	// earlier end, and what a service has to find one.
	askTime = 5 * time.Second
	// maxServing bounds the questions that one service works on at once.
	maxServing = 64
)

// ErrNobody is returned by Ask when no node serves the name, or none can be
// reached. The caller goes without, or tries again later.
var ErrNobody = errors.New("broker: no node serves this")

var serviceShape = regexp.MustCompile(`^[a-z0-9_-]{1,64}$`)

// services are what this node answers. They are safe for concurrent use.
type services struct {
	mu    sync.Mutex // guards the field below
	named map[string]*service
}

// A service is one function that answers questions of this node and others.
type service struct {
	name string // immutable, like the four below
	fn   func(ctx context.Context, request []byte) ([]byte, error)
	ctx  context.Context // over when the service ends
	end  context.CancelFunc
	slot chan struct{} // a place for each question in progress

	mu      sync.Mutex         // guards the fields below; of calls, the adding
	sub     *nats.Subscription // nil without other nodes
	stopped bool
	calls   sync.WaitGroup
}

func newServices() *services { return &services{named: map[string]*service{}} }

// Serve has fn answer what this node and others ask under a name of 1 to 64 of
// a-z 0-9 _ -. Of several nodes that serve a name, one answers a question,
// this node its own. fn runs in several goroutines at once, at most 64; its
// context ends when the asker's patience or the service does. A
// *protocol.Error from fn reaches the asker as such, any other as its text.
// The request must not be kept or changed. Answers are at most 1 MiB, or what
// the NATS server takes.
//
// stop waits for the calls in progress, so fn must not call it.
func (b *Broker) Serve(name string, fn func(ctx context.Context, request []byte) ([]byte, error)) (stop func(), err error) {
	if !serviceShape.MatchString(name) {
		return nil, fmt.Errorf("serve %q: the name is not 1 to 64 of a-z 0-9 _ -", name)
	}
	s := &service{name: name, fn: fn, slot: make(chan struct{}, maxServing)}
	s.ctx, s.end = context.WithCancel(context.Background()) // until stop
	if err := b.served.add(s); err != nil {
		s.end()
		return nil, err
	}
	stop = func() { b.served.remove(s) }
	if b.link == nil {
		return stop, nil
	}
	if err := b.link.offer(s); err != nil {
		stop()
		return nil, fmt.Errorf("serve %s at NATS: %w", name, err)
	}
	return stop, nil
}

// Ask has a node answer: this one if it serves the name, else any other. It
// waits for 5 seconds at most. The error is ErrNobody, the context's, a
// *protocol.Error, or what else the service said.
func (b *Broker) Ask(ctx context.Context, name string, request []byte) ([]byte, error) {
	if !serviceShape.MatchString(name) {
		return nil, fmt.Errorf("ask %q: the name is not 1 to 64 of a-z 0-9 _ -", name)
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	if s := b.served.find(name); s != nil && s.begin() {
		defer s.calls.Done()
		return s.call(ctx, request)
	}
	if b.link == nil {
		return nil, fmt.Errorf("%w: %s", ErrNobody, name)
	}
	return b.link.ask(ctx, name, request)
}

func (s *services) find(name string) *service {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.named[name]
}

// add makes a service known. After close there are none: named is nil.
func (s *services) add(added *service) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.named == nil {
		return ErrClosed
	}
	if s.named[added.name] != nil {
		return fmt.Errorf("serve %s: this node serves it already", added.name)
	}
	s.named[added.name] = added
	return nil
}

func (s *services) remove(old *service) {
	s.mu.Lock()
	if s.named[old.name] == old {
		delete(s.named, old.name)
	}
	s.mu.Unlock()
	old.stop()
}

func (s *services) close() {
	s.mu.Lock()
	named := s.named
	s.named = nil
	s.mu.Unlock()
	for _, old := range named {
		old.stop()
	}
}

// stop ends the calls in progress and waits for them.
func (s *service) stop() {
	s.mu.Lock()
	s.stopped = true
	sub := s.sub
	s.mu.Unlock()
	if sub != nil {
		// Fails when the connection is gone, and with it the subscription.
		_ = sub.Unsubscribe()
	}
	s.end()
	s.calls.Wait()
}

// begin counts a call, unless the service has ended.
func (s *service) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	s.calls.Add(1)
	return true
}

// call asks fn, when one of its places is free in time.
func (s *service) call(ctx context.Context, request []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	select {
	case s.slot <- struct{}{}:
		defer func() { <-s.slot }()
		return s.fn(ctx, request)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// offer has a service answer other nodes.
func (l *link) offer(s *service) error {
	sub, err := l.nc.QueueSubscribe(l.serviceSubject(s.name), "serve", func(m *nats.Msg) { l.serve(s, m) })
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.sub = sub
	stopped := s.stopped
	s.mu.Unlock()
	if stopped { // the broker was closed meanwhile, and did not see sub
		_ = sub.Unsubscribe() // the connection may be gone: it ends all the same
		return ErrClosed
	}
	if err := sub.SetPendingLimits(4*maxServing, outboxBytes); err != nil {
		return err
	}
	// Others may ask from now on. While NATS is away it is told later.
	if err := l.nc.FlushTimeout(writeTime); err != nil {
		l.log.Warn("a service is not offered to the other nodes yet", "name", s.name, "err", err)
	}
	return nil
}

func (l *link) serviceSubject(name string) string { return l.prefix + "serve." + name }

// serve answers one question, beside others.
func (l *link) serve(s *service, m *nats.Msg) {
	if m.Reply == "" || !s.begin() {
		return
	}
	select {
	case s.slot <- struct{}{}:
	default:
		l.respond(m, nil, errBusy)
		s.calls.Done()
		return
	}
	go func() {
		defer s.calls.Done()
		defer func() { <-s.slot }()
		ctx, cancel := context.WithTimeout(s.ctx, askTime)
		defer cancel()
		body, err := s.fn(ctx, m.Data)
		l.respond(m, body, err)
	}()
}

// respond sends an answer; one that does not arrive is waited for in vain.
func (l *link) respond(m *nats.Msg, body []byte, err error) {
	b := appendAnswer(nil, body, err)
	if int64(len(b)) > min(maxEncoded, l.nc.MaxPayload()) {
		b = appendAnswer(nil, nil, errAnswerSize)
	}
	if err := m.Respond(b); err != nil && !l.closing.Load() {
		l.log.Warn("an answer does not reach the node that asked", "subject", m.Subject, "err", err)
	}
}

// ask has another node answer.
func (l *link) ask(ctx context.Context, name string, request []byte) ([]byte, error) {
	if int64(len(request)) > min(maxEncoded, l.nc.MaxPayload()) {
		return nil, errRequestSize
	}
	m, err := l.nc.RequestWithContext(ctx, l.serviceSubject(name), request)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, fmt.Errorf("%w: %s", ErrNobody, name)
	case errors.Is(err, nats.ErrConnectionClosed):
		return nil, ErrClosed
	case err != nil && !l.nc.IsConnected():
		return nil, fmt.Errorf("%w: %s: NATS cannot be reached", ErrNobody, name)
	case err != nil:
		return nil, fmt.Errorf("ask for %s: %w", name, err)
	}
	return parseAnswer(m.Data)
}
