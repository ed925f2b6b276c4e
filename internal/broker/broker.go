// Package broker carries publications from whoever makes them to whoever
// shows them, through an embedded NATS server, and keeps the newest value of
// each state channel and the event log. It decides nothing about clients.
//
// With an external NATS, nodes share what they publish: see link. This node's
// own subscribers are served through the embedded server all the same, so
// they go on when the external one is away.
//
// The event log is held in this process's memory: it is bounded, has a new
// epoch at each start, and is not durable. Nodes pass their entries on to each
// other, and each has them at offsets of its own: a cursor is good on one node
// and one run of it, and a client that moves to another is told epoch_changed.
package broker

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"cryptointel/protocol"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// ErrClosed is returned after Close. Whoever sees it is outliving the broker.
var ErrClosed = errors.New("broker: closed")

// ErrStale is returned for a publication whose offset is not above the
// channel's last: the channel has another writer, or the caller's clock went
// back. The newer value stays.
var ErrStale = errors.New("broker: offset is not above the channel's last")

// A Broker is safe for concurrent use.
type Broker struct {
	cfg    Config // immutable, like the three below
	log    *slog.Logger
	server *server.Server
	nc     *nats.Conn
	epoch  string    // immutable
	link   *link     // to the other nodes; nil without; set before Open returns
	served *services // immutable

	// mu guards the fields below. It is held across nc.Publish, which appends
	// to a buffer that the connection's own goroutine writes out: offsets and
	// what travels must have one order.
	mu     sync.Mutex
	last   lastValues
	events eventLog
	subs   map[*subscription]bool
	out    *outbox // for the other nodes; nil without
	buf    []byte  // the encoding in progress; nc.Publish copies it
	left   uint64  // skipped by subscriptions that have ended
	closed bool
}

// Open starts the embedded server and connects to it; nothing listens on the
// network. With URLs it also connects to the external NATS, which must answer,
// and asks the other nodes for their newest values, for half a second at most.
func Open(cfg Config, log *slog.Logger) (*Broker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := cfg.NATS.Validate(); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	b := &Broker{
		cfg:    cfg,
		log:    log,
		epoch:  cmp.Or(cfg.Epoch, newEpoch()),
		last:   newLastValues(cfg.TestChannels),
		events: newEventLog(cfg.LogEntries, cfg.LogBytes),
		subs:   map[*subscription]bool{},
		served: newServices(),
	}
	var err error
	if b.server, err = startServer(log); err != nil {
		return nil, err
	}
	if b.nc, err = b.connect(); err != nil {
		stopServer(b.server)
		return nil, err
	}
	if len(cfg.NATS.URLs) > 0 {
		b.out = &outbox{max: cfg.NATS.Outbox}
		if b.link, err = openLink(b); err != nil {
			b.Close()
			return nil, err
		}
	}
	return b, nil
}

// Close ends every subscription and service, waiting for the calls in
// progress, and stops the server. What waits for the other nodes is sent
// first, if that takes no longer than a second. A second call does nothing.
// Not to be called from a subscriber or a service.
func (b *Broker) Close() {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return
	}
	b.closed = true
	subs := b.subs
	b.subs = map[*subscription]bool{}
	b.mu.Unlock()

	for s := range subs {
		s.stop()
	}
	b.served.close()
	b.link.close()
	b.nc.Close()
	stopServer(b.server)
}

// Publish sends p, of a state channel, to every subscriber and keeps it as
// the channel's last value. It does not wait for anyone. The broker owns p
// from here on.
//
// A publication without an offset gets the channel's next, the later of the
// clock's microseconds and the last one plus one, before Publish returns; one
// without TS gets the clock's. The error is ErrStale, ErrClosed, or a
// *protocol.Error for a publication that is not acceptable.
//
// Other nodes get p too. Each channel should have one writer among all nodes:
// see ErrStale.
func (b *Broker) Publish(p *protocol.Publication) error {
	err := b.publish(p, false)
	b.link.kick()
	return err
}

// PublishLocal is Publish for this node's subscribers only: what each node
// says of itself.
func (b *Broker) PublishLocal(p *protocol.Publication) error { return b.publish(p, true) }

func (b *Broker) publish(p *protocol.Publication, local bool) error {
	if p.Signal != nil {
		return refuse(protocol.InvalidMessage, "an entry of the event log is appended, not published")
	}
	if err := check(p); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	now := protocol.Time(b.cfg.Now().UnixNano())
	v := b.last.find(p.Channel)
	if p.Offset == 0 {
		p.Offset = max(now.Micros(), v.offset()+1)
	} else if p.Offset <= v.offset() {
		return ErrStale
	}
	stampTime(p, now)
	if err := b.sendLocked(v.subjectOr(p.Channel), p); err != nil {
		return fmt.Errorf("publish to %s: %w", p.Channel, err)
	}
	v = b.last.put(p, v)
	v.local = local
	if b.out != nil && !local {
		v.wroteBy(nodeID{}, b.cfg.Now())
		b.out.state(p)
	}
	return nil
}

// Annotate shows this node's subscribers a channel's newest value with other
// data, made here of what another node has sent. It is no publication of this
// node: its offset is the next there is, and whatever the writer sends then
// takes its place. A channel without a value is left alone.
func (b *Broker) Annotate(channel string, data []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	v := b.last.find(channel)
	if v == nil {
		return nil
	}
	p := *v.p
	p.Data = data
	p.Offset++
	if err := b.sendLocked(v.subject, &p); err != nil {
		return fmt.Errorf("annotate %s: %w", channel, err)
	}
	v.p = &p
	return nil
}

// sendLocked gives p to NATS.
func (b *Broker) sendLocked(subject string, p *protocol.Publication) error {
	b.buf = appendPublication(b.buf[:0], p)
	if len(b.buf) > maxEncoded {
		b.buf = nil // do not keep an oversized buffer
		return refuse(protocol.MessageTooLarge, "the publication is over 1 MiB")
	}
	return b.nc.Publish(subject, b.buf)
}

func stampTime(p *protocol.Publication, now protocol.Time) {
	if p.TS == 0 {
		p.TS = now.Millis()
	}
}

// Last is the newest publication of a state channel, nil when there is none.
func (b *Broker) Last(channel string) *protocol.Publication {
	b.mu.Lock()
	defer b.mu.Unlock()
	if v := b.last.find(channel); v != nil {
		return v.p
	}
	return nil
}

// LastAll appends the newest publication of every state channel to out, in no
// order.
func (b *Broker) LastAll(out []*protocol.Publication) []*protocol.Publication {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last.appendAll(out)
}

// Stats is what the broker counts.
type Stats struct {
	StateChannels int   // channels with a last value
	LogEntries    int   // entries the event log holds
	LogBytes      int64 // their size
	// Skipped counts messages that found a subscriber's queue full. Entries of
	// the log among them were delivered all the same.
	Skipped uint64
	Link    LinkStats
}

// Stats counts now.
func (b *Broker) Stats() Stats {
	shared := b.link.stats()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.out != nil {
		shared.Waiting = b.out.states.len() + int(b.out.head-b.out.sent)
		shared.Dropped, shared.Unsent = b.out.dropped, b.out.unsent
	}
	st := Stats{
		Link:          shared,
		StateChannels: len(b.last.values),
		LogEntries:    b.events.entries.len(),
		LogBytes:      b.events.bytes,
		Skipped:       b.left,
	}
	for s := range b.subs {
		st.Skipped += s.skipped()
	}
	return st
}

// newEpoch is a random name for this incarnation of the log.
func newEpoch() string {
	const letters = "abcdefghijklmnopqrstuvwxyz012345" // 32, so that a byte's 5 bits choose evenly
	b := make([]byte, 8)
	rand.Read(b) // never fails
	for i := range b {
		b[i] = letters[b[i]&31]
	}
	return string(b)
}

func refuse(code protocol.Code, message string) *protocol.Error {
	return &protocol.Error{Code: code, Message: message}
}
