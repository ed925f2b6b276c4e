// Package broker carries publications from whoever makes them to whoever
// shows them, through an embedded NATS server, and keeps the newest value of
// each state channel and the event log. It decides nothing about clients.
//
// The event log is held in this process's memory: it is bounded, has a new
// epoch at each start, and is not durable.
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

// Config sets what the broker keeps.
type Config struct {
	// LogEntries and LogBytes bound the event log in memory: 100,000 entries
	// and 64 MiB by default, whichever is reached first; the oldest go. 0
	// lifts one of the two. Raise them when clients are away for longer.
	LogEntries int   `name:"log_entries" default:"100000" help:"Entries the event log keeps; 0: bounded by bytes only."`
	LogBytes   int64 `name:"log_bytes" default:"67108864" help:"Bytes the event log keeps; 0: bounded by entries only."`
	// TestChannels bounds how many test:{name} channels have a last value,
	// 10,000 by default; the one published to longest ago goes. 0 means no
	// bound.
	TestChannels int `name:"test_channels" default:"10000" help:"Number of test:{name} channels whose last value is kept; 0: all."`
	// Pending bounds the messages that wait for a subscriber, 65,536 by
	// default and at least 16. What is over it is skipped: of state channels
	// the newest value follows, entries of the log are read from the log.
	Pending int `name:"pending" default:"65536" help:"Messages that may wait for a subscriber of the broker, at least 16."`
	// Now is the clock; nil means time.Now.
	Now func() time.Time `kong:"-" yaml:"-"`
	// Epoch names the event log; empty means a new name at each start, which
	// is right for a log that lives in memory.
	Epoch string `kong:"-" yaml:"-"`
}

// DefaultConfig returns the defaults named at the fields.
func DefaultConfig() Config {
	return Config{LogEntries: 100_000, LogBytes: 64 << 20, TestChannels: 10_000, Pending: 1 << 16}
}

func (c Config) validate() error {
	switch {
	case c.LogEntries < 0:
		return fmt.Errorf("broker.log_entries is %d: it may not be negative", c.LogEntries)
	case c.LogBytes < 0:
		return fmt.Errorf("broker.log_bytes is %d: it may not be negative", c.LogBytes)
	case c.LogEntries == 0 && c.LogBytes == 0:
		return errors.New("broker.log_entries and broker.log_bytes are both 0: one must bound the log")
	case c.TestChannels < 0:
		return fmt.Errorf("broker.test_channels is %d: it may not be negative", c.TestChannels)
	case c.Pending < minPending:
		return fmt.Errorf("broker.pending is %d: at least %d are needed", c.Pending, minPending)
	}
	return nil
}

// A Broker is safe for concurrent use.
type Broker struct {
	cfg    Config // immutable, like the three below
	log    *slog.Logger
	server *server.Server
	nc     *nats.Conn
	epoch  string // immutable

	// mu guards the fields below. It is held across nc.Publish, which appends
	// to a buffer that the connection's own goroutine writes out: offsets and
	// what travels must have one order.
	mu     sync.Mutex
	last   lastValues
	events eventLog
	subs   map[*subscription]bool
	buf    []byte // the encoding in progress; nc.Publish copies it
	left   uint64 // skipped by subscriptions that have ended
	closed bool
}

// Open starts the embedded server and connects to it. Nothing listens on the
// network.
func Open(cfg Config, log *slog.Logger) (*Broker, error) {
	if err := cfg.validate(); err != nil {
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
	}
	var err error
	if b.server, err = startServer(log); err != nil {
		return nil, err
	}
	if b.nc, err = b.connect(); err != nil {
		stopServer(b.server)
		return nil, err
	}
	return b, nil
}

// Close ends every subscription, waiting for the calls in progress, and stops
// the server. A second call does nothing. Not to be called from a subscriber.
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
func (b *Broker) Publish(p *protocol.Publication) error {
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
	b.last.put(p, v)
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
}

// Stats counts now.
func (b *Broker) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	st := Stats{
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
