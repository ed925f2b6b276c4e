package eventloop

import (
	"log/slog"
	"math"
	"runtime"
	"sync/atomic"
	"time"

	"cryptointel/internal/hub"
	"cryptointel/protocol"
)

// sockets moves the bytes: epoll or the portable twin. The loop owns it and
// calls it from its goroutine, except kick. It tells the loop what happened
// through received, eof, writable and end.
type sockets interface {
	// add starts watching s as ref. It keeps s also when it fails: drop frees.
	add(ref hub.Ref, s socket) error
	// write gives b to the socket. full: it takes no more until writable.
	write(slot hub.Slot, b []byte) (n int, full bool, err error)
	// deaf stops reading: the peer has said all it will.
	deaf(ref hub.Ref)
	// hush tells the peer that nothing more comes, after what was written.
	hush(ref hub.Ref)
	// drop closes the socket.
	drop(ref hub.Ref)
	// wait hands over what the sockets have to say. It waits up to d for the
	// first of it, or for a kick; 0 does not wait. When it is ready to be
	// kicked, and not before, it asks the loop's fallAsleep.
	wait(d time.Duration) error
	// kick ends the wait of a loop that fell asleep. Safe from anywhere.
	kick()
	// close frees what is left and waits for what was started.
	close()
}

// A loop owns its sockets, its timer and one shard. Everything but in and
// conns is touched by the goroutine in run only.
type loop struct {
	id      int
	in      inbox
	conns   atomic.Int64 // adopted and not gone
	shard   Shard
	full    func() bool // of the shard; never when it has none
	sock    sockets
	clock   Clock
	handler Handler
	reread  func(after int64) []*protocol.Publication
	log     *slog.Logger
	slice   int

	now     protocol.Time // of this turn
	next    protocol.Time // when the shard wants its next tick
	records table
	leaving []leaving // by time: ended or finished connections
	halves  []hub.Ref // ended ones that may still have something to be sent
	got     batch
	readTo  int64         // entries up to here were read from the log
	retryAt protocol.Time // when to ask for a page again
	stats   LoopStats
}

// leaving is when a connection that ended or finished is closed regardless.
type leaving struct {
	ref hub.Ref
	at  protocol.Time
}

func newLoop(id int, cfg Config, parts Parts) *loop {
	l := &loop{
		id:      id,
		in:      inbox{maxStates: cfg.InboxStates, maxEntries: cfg.InboxEntries},
		shard:   parts.Shard(id),
		full:    func() bool { return false },
		clock:   parts.Clock,
		handler: parts.Handler,
		reread:  parts.Reread,
		log:     parts.Log.With("loop", id),
		slice:   cfg.Slice,
	}
	if l.slice == 0 {
		l.slice = math.MaxInt
	}
	if f, ok := l.shard.(fuller); ok {
		l.full = f.Full
	}
	return l
}

// open makes what the loop waits with.
func (l *loop) open(useEpoll bool) (err error) {
	if useEpoll {
		l.sock, err = newEpoll(l)
	} else {
		l.sock = newPortable(l)
	}
	if err == nil {
		l.in.kick = l.sock.kick
	}
	return err
}

// run is the loop's goroutine: look at the sockets, take what came in, write a
// slice, see what is due.
func (l *loop) run() error {
	defer l.finish()
	for {
		if err := l.sock.wait(l.patience()); err != nil {
			return err
		}
		l.now = l.clock.Now()
		if closed := l.in.take(&l.got); closed {
			return nil
		}
		l.runCommands()
		l.publishStates()
		l.publishEntries()
		l.write()
		l.serve()
		l.endHalves()
		l.tick()
		l.serve()
	}
}

// patience is how long the next wait may take. A loop with work left does not
// wait, but lets others on its core run: what they publish meanwhile goes into
// the same writes.
func (l *loop) patience() time.Duration {
	if l.busy() {
		runtime.Gosched()
		return 0
	}
	until := l.next
	if len(l.leaving) > 0 {
		until = min(until, l.leaving[0].at)
	}
	if l.got.gap.head > 0 {
		until = min(until, l.retryAt)
	}
	// At least a millisecond: a tick that asks for the past must not spin.
	return min(max(time.Duration(until-l.now), time.Millisecond), longestWait)
}

// fallAsleep is the last question before waiting: from here on, whoever leaves
// something in the inbox kicks. False when something is there already.
func (l *loop) fallAsleep() bool {
	asleep := l.in.sleep(l.got.gap.head > 0)
	if asleep {
		l.stats.Wakeups++
	}
	return asleep
}

func (l *loop) busy() bool {
	return len(l.got.cmds) > 0 || len(l.got.states) > 0 ||
		l.got.gap.head > 0 && l.now >= l.retryAt || l.shard.Pending()
}

// runCommands runs a slice of them: ten thousand connections that arrive at
// once must not stop the others.
func (l *loop) runCommands() {
	n := min(len(l.got.cmds), l.slice)
	for i, cmd := range l.got.cmds[:n] {
		l.got.cmds[i] = nil
		cmd()
	}
	if n == len(l.got.cmds) {
		l.got.cmds = emptied(l.got.cmds)
		return
	}
	l.got.cmds = append(l.got.cmds[:0], l.got.cmds[n:]...)
}

// publishStates gives the shard what came in, as long as it wants it.
func (l *loop) publishStates() {
	const stride = 64 // publications between two questions
	for i := 0; i < len(l.got.states); i += stride {
		if l.full() && l.shard.Pending() {
			l.got.states = append(l.got.states[:0], l.got.states[i:]...)
			return
		}
		for _, p := range l.got.states[i:min(i+stride, len(l.got.states))] {
			l.publish(p)
		}
	}
	l.got.states = emptied(l.got.states)
}

func (l *loop) publish(p *protocol.Publication) {
	l.stats.Publications++
	l.shard.Publish(p, l.now)
}

// publishEntries gives the shard the log's entries in order: those of the
// inbox, then a page of those that did not fit.
func (l *loop) publishEntries() {
	for _, p := range l.got.entries {
		if p.Offset > l.readTo {
			l.readTo = 0
			l.publish(p)
		}
	}
	l.got.entries = emptied(l.got.entries)
	if l.got.gap.head > 0 && l.now >= l.retryAt {
		l.fillGap()
	}
}

// fillGap gives the shard a page of what did not fit.
func (l *loop) fillGap() {
	g := &l.got.gap
	if l.reread == nil {
		l.log.Error("log entries lost: no way to read them again", "after", g.after, "head", g.head)
		l.stats.Lost++
		*g = gap{}
		return
	}
	page := l.reread(g.after)
	l.stats.Rereads++
	for _, p := range page {
		l.publish(p)
		g.after = p.Offset
	}
	switch {
	case g.after >= g.head:
		// What reached the inbox meanwhile may be part of what was read.
		l.readTo = g.after
		*g = gap{}
	case len(page) == 0:
		l.log.Warn("the log gave no page, asking again", "after", g.after, "head", g.head)
		l.retryAt = l.now + pageRetry
	}
}

// clockEvery is how many writes pass between two looks at the clock. A write
// takes microseconds, a look 0.05, and the shard counts how old each delivery
// is: with one look a slice of 512 that would be wrong by milliseconds.
const clockEvery = 16

// write writes to a slice of the connections that have something waiting.
func (l *loop) write() {
	for i := range l.slice {
		if i%clockEvery == clockEvery-1 {
			l.now = l.clock.Now()
		}
		slot, b, ok := l.shard.Next(writeBytes)
		if !ok {
			return
		}
		n, full, err := l.sock.write(slot, b)
		if err != nil {
			l.end(hub.Ref{Slot: slot, Gen: l.records.at(slot).gen})
			continue
		}
		l.stats.Writes++
		l.stats.BytesOut += uint64(n)
		if full {
			l.stats.Blocked++
			l.records.at(slot).state |= blocked
		}
		l.shard.Wrote(slot, n, full, l.now)
	}
}

// serve does what the shard asks for.
func (l *loop) serve() {
	for reqs := l.shard.Requests(); len(reqs) > 0; reqs = l.shard.Requests() {
		for _, req := range reqs {
			if req.Kind == hub.Finished {
				l.finishOne(req.Ref)
			} else {
				l.handler.Handle(l.id, req)
			}
		}
	}
}

// tick tells the shard the time and closes those who had time enough to leave.
func (l *loop) tick() {
	due := 0
	for due < len(l.leaving) && l.leaving[due].at <= l.now {
		l.end(l.leaving[due].ref)
		due++
	}
	if due > 0 {
		l.leaving = append(l.leaving[:0], l.leaving[due:]...)
	}
	l.next = l.shard.Tick(l.now)
}

// finish tells the shard that every connection is gone and frees all. The
// inbox is closed: what is still in it is the last.
func (l *loop) finish() {
	l.in.close()
	l.now = l.clock.Now()
	for l.in.take(&l.got); len(l.got.cmds) > 0; l.in.take(&l.got) {
		l.runCommands()
	}
	l.records.all(l.end)
	l.serve()
	l.sock.close()
}
