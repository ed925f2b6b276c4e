package broker

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"cryptointel/protocol"
)

const (
	// repeatWindow is how long an id is known to have been appended.
	repeatWindow = time.Hour
	// maxIDs bounds the ids known; more within an hour push the oldest out.
	// About 40 MB when full.
	maxIDs = 1 << 18
	// entryOverhead is what an entry takes beside its text, in bytes.
	entryOverhead = 256
)

// Append adds p to the event log, gives it the next offset, and sends it to
// every subscriber, in the order of offsets. The broker owns p when no error
// is returned.
//
// An id that the same issuer appended within the hour is not appended again:
// with the same channel, type and data the offset it has is returned, and p is
// left alone; with others the error is a *protocol.Error with Conflict. An
// empty id is always new. content is what a repeat must have in common when
// its data may differ (a time that was filled in); nil means the data. Other
// errors are ErrClosed, the context's, and a *protocol.Error for an entry that is not acceptable or finds no room.
//
// Other nodes append p to their own logs too, once, unless it is an entry of
// test:log, which every node has its own of.
func (b *Broker) Append(ctx context.Context, issuer string, p *protocol.Publication, content []byte) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := checkEntry(p); err != nil {
		return 0, err
	}
	e := entry{p: p, id: issuedID{issuer, p.Signal.ID}, sum: contentSum(p, content), at: b.cfg.Now()}
	offset, err := b.append(&e, true)
	b.link.kick()
	return offset, err
}

// append adds e, which other nodes get too when share is set.
func (b *Broker) append(e *entry, share bool) (int64, error) {
	p := e.p
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, ErrClosed
	}
	if offset, err := b.events.known(e); offset > 0 || err != nil {
		return offset, err
	}
	if !b.events.makeRoom(sizeOf(p), b.deliveredLocked()) {
		// Nothing that a client of this node has a right to is overwritten.
		return 0, errNoRoom
	}
	p.Offset = b.events.head + 1
	stampTime(p, protocol.Time(e.at.UnixNano()))
	if err := b.sendLocked(logSubject, p); err != nil {
		return 0, fmt.Errorf("append to the event log: %w", err)
	}
	b.events.add(e)
	if b.out != nil && share && p.Channel != protocol.TestLogChannel {
		b.out.entry(e.id.issuer, e.sum, p)
	}
	return p.Offset, nil
}

// errNoRoom is a refusal that may be tried again.
var errNoRoom = &protocol.Error{Code: protocol.Internal, RetryAfter: protocol.Second,
	Message: "the event log is full of entries that are still to be delivered; try again"}

func checkEntry(p *protocol.Publication) error {
	if p.Signal == nil || p.Channel != protocol.LogChannel && p.Channel != protocol.TestLogChannel {
		return refuse(protocol.InvalidMessage, "an entry of the event log needs a signal, and no state channel")
	}
	return check(p)
}

// deliveredLocked is the offset up to which every subscriber has the log.
func (b *Broker) deliveredLocked() int64 {
	offset := b.events.head
	for s := range b.subs {
		offset = min(offset, s.position.Load())
	}
	return offset
}

// Epoch names this incarnation of the event log: offsets of another epoch mean
// nothing here.
func (b *Broker) Epoch() string { return b.epoch }

// Head is the offset of the newest entry, 0 when there never was one.
func (b *Broker) Head() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.events.head
}

// Oldest is the offset of the oldest entry that can still be read, or the next
// one to come when there is none.
func (b *Broker) Oldest() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.events.oldest()
}

// Read appends up to most entries with an offset above after to out, in order.
// When after is below Oldest()-1 some are missing: it begins at the oldest.
func (b *Broker) Read(after int64, most int, out []*protocol.Publication) []*protocol.Publication {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.events.read(after, most, out)
}

// An eventLog is a bounded log of entries with successive offsets. Whoever
// owns it guards it.
type eventLog struct {
	maxEntries int   // 0 for no bound
	maxBytes   int64 // 0 for no bound

	entries fifo[*protocol.Publication]
	bytes   int64
	head    int64 // offset of the newest entry

	ids      map[issuedID]appended
	idsByAge fifo[issuedID] // the keys of ids, oldest first
}

// An entry is on its way into the log.
type entry struct {
	p   *protocol.Publication
	id  issuedID
	sum [sha256.Size]byte
	at  time.Time
}

// An issuedID is an event id within the names of its issuer, so that nobody
// can take another's.
type issuedID struct{ issuer, id string }

// An appended is what is known of an id.
type appended struct {
	offset int64
	sum    [sha256.Size]byte
	at     time.Time
}

func newEventLog(maxEntries int, maxBytes int64) eventLog {
	return eventLog{maxEntries: maxEntries, maxBytes: maxBytes, ids: map[issuedID]appended{}}
}

// known returns the offset under which e is in the log already, 0 for a new
// one.
func (l *eventLog) known(e *entry) (int64, error) {
	a, ok := l.ids[e.id]
	if !ok || e.id.id == "" || e.at.Sub(a.at) >= repeatWindow {
		return 0, nil
	}
	if a.sum != e.sum {
		return 0, refuse(protocol.Conflict, "this id was published within the hour with other content")
	}
	return a.offset, nil
}

// makeRoom drops the oldest entries until one of this size fits. It drops
// nothing above the offset delivered, and reports whether that was enough.
func (l *eventLog) makeRoom(size, delivered int64) bool {
	for l.entries.len() > 0 && l.full(size) {
		if l.entries.at(0).Offset > delivered {
			return false
		}
		l.bytes -= sizeOf(l.entries.pop())
	}
	return true
}

func (l *eventLog) full(size int64) bool {
	return l.maxEntries > 0 && l.entries.len() >= l.maxEntries ||
		l.maxBytes > 0 && l.bytes+size > l.maxBytes
}

// add takes e, which has the offset after the head.
func (l *eventLog) add(e *entry) {
	l.head = e.p.Offset
	l.entries.push(e.p)
	l.bytes += sizeOf(e.p)
	l.forget(e.at)
	if e.id.id != "" {
		l.ids[e.id] = appended{e.p.Offset, e.sum, e.at}
		l.idsByAge.push(e.id)
	}
}

// forget drops the ids that are over an hour old, or too many.
func (l *eventLog) forget(now time.Time) {
	for l.idsByAge.len() > 0 {
		oldest := l.idsByAge.at(0)
		if l.idsByAge.len() < maxIDs && now.Sub(l.ids[oldest].at) < repeatWindow {
			return
		}
		delete(l.ids, oldest)
		l.idsByAge.pop()
	}
}

func (l *eventLog) oldest() int64 { return l.head + 1 - int64(l.entries.len()) }

func (l *eventLog) read(after int64, most int, out []*protocol.Publication) []*protocol.Publication {
	if after >= l.head {
		return out
	}
	first := int(max(after+1, l.oldest()) - l.oldest())
	for i := first; i < l.entries.len() && i-first < most; i++ {
		out = append(out, l.entries.at(i))
	}
	return out
}

// contentSum is what two publications with the same id must share.
func contentSum(p *protocol.Publication, content []byte) [sha256.Size]byte {
	if content == nil {
		content = p.Data
	}
	h := sha256.New()
	fmt.Fprintf(h, "%q %q ", p.Channel, p.Type)
	h.Write(content)
	return [sha256.Size]byte(h.Sum(nil))
}

// sizeOf estimates what an entry takes in memory, in bytes.
func sizeOf(p *protocol.Publication) int64 {
	n := entryOverhead + len(p.Data) + len(p.Signal.ID)
	for _, list := range [][]string{p.Signal.Entities, p.Signal.Sources} {
		for _, s := range list {
			n += 16 + len(s)
		}
	}
	return int64(n)
}

// A fifo is a queue whose elements can be looked at by position.
type fifo[T any] struct {
	items []T
	first int
}

func (q *fifo[T]) len() int    { return len(q.items) - q.first }
func (q *fifo[T]) at(i int) T  { return q.items[q.first+i] }
func (q *fifo[T]) push(item T) { q.items = append(q.items, item) }

// pop removes the first element. The room it leaves is used again once half
// of the slice is empty, which makes a pop cheap on average.
func (q *fifo[T]) pop() T {
	var none T
	item := q.items[q.first]
	q.items[q.first] = none
	if q.first++; q.first > len(q.items)/2 {
		n := copy(q.items, q.items[q.first:])
		clear(q.items[n:])
		q.items, q.first = q.items[:n], 0
	}
	return item
}
