package eventloop

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"cryptointel/internal/hub"
)

const (
	firstRead = 1 << 10  // a reader's buffer to begin with
	nextBytes = 64 << 10 // may wait for a writer
)

// portable is the sockets of a loop on any system and over any net.Conn: a
// goroutine a connection reads, and what is written is copied for a goroutine
// of its own, at most one a connection. Both answer through the inbox.
type portable struct {
	l      *loop
	tasks  sync.WaitGroup // every reader, writer and closer
	kicked chan struct{}
	timer  *time.Timer
	conns  []*peer // by slot; nil when free
}

// A peer is one connection. The loop owns it; out belongs to the writer while
// the record says sending.
type peer struct {
	ref   hub.Ref
	conn  net.Conn
	taken chan struct{} // to the reader: the loop is done with the bytes
	out   []byte        // what the writer writes
	next  []byte        // what it writes then: one block, or more up to nextBytes
}

func newPortable(l *loop) sockets {
	t := time.NewTimer(longestWait)
	t.Stop()
	return &portable{l: l, kicked: make(chan struct{}, 1), timer: t}
}

func (p *portable) wait(d time.Duration) error {
	if d == 0 || !p.l.fallAsleep() {
		return nil
	}
	p.timer.Reset(d)
	select {
	case <-p.kicked:
	case <-p.timer.C:
	}
	p.timer.Stop()
	return nil
}

func (p *portable) kick() {
	select {
	case p.kicked <- struct{}{}:
	default: // one is waiting already
	}
}

func (p *portable) close() {
	p.timer.Stop()
	p.tasks.Wait()
}

func (p *portable) add(ref hub.Ref, s socket) error {
	for int(ref.Slot) >= len(p.conns) {
		p.conns = append(p.conns, nil)
	}
	c := &peer{ref: ref, conn: s.conn, taken: make(chan struct{}, 1)}
	p.conns[ref.Slot] = c
	p.tasks.Go(func() { p.read(c) })
	return nil
}

// read is a connection's goroutine. It waits for the loop after each read, so
// no more than one buffer of a connection is ever in the inbox.
func (p *portable) read(c *peer) {
	buf := make([]byte, firstRead)
	for {
		n, err := c.conn.Read(buf)
		b := buf[:n]
		if !p.l.in.post(func() { p.haveRead(c, b, err) }) {
			return
		}
		<-c.taken
		if err != nil {
			return
		}
		if n == len(buf) && n < readBytes {
			buf = make([]byte, min(4*n, readBytes))
		}
	}
}

func (p *portable) haveRead(c *peer, b []byte, err error) {
	if len(b) > 0 && p.l.records.live(c.ref) != nil {
		p.l.received(c.ref, b)
	}
	c.taken <- struct{}{}
	switch {
	case err == nil:
	case p.l.records.live(c.ref) == nil:
		p.l.stats.Stale++
	case errors.Is(err, io.EOF):
		p.l.eof(c.ref)
	default:
		p.l.end(c.ref)
	}
}

// write copies b for the writer. While that has a block under way some more may
// wait for it, as a kernel's buffer would let it: a client that reads is not
// full just because two publications came in a row.
func (p *portable) write(slot hub.Slot, b []byte) (n int, full bool, err error) {
	c, r := p.conns[slot], p.l.records.at(slot)
	switch {
	case r.state.has(finished): // the peer was told that nothing more comes
	case !r.state.has(sending):
		c.out = append(c.out[:0], b...)
		p.start(c, r)
	case len(c.next) > 0 && len(c.next)+len(b) > nextBytes:
		return 0, true, nil
	default:
		c.next = append(c.next, b...)
	}
	return len(b), false, nil
}

// start lets a writer write what is in out.
func (p *portable) start(c *peer, r *record) {
	r.state |= sending
	p.tasks.Go(func() {
		err := c.conn.SetWriteDeadline(time.Now().Add(stuckTime))
		if err == nil {
			_, err = c.conn.Write(c.out)
		}
		p.l.in.post(func() { p.haveWritten(c, err) })
	})
}

func (p *portable) haveWritten(c *peer, err error) {
	r := p.l.records.live(c.ref)
	switch {
	case r == nil:
		return
	case err != nil:
		p.l.end(c.ref)
		return
	}
	r.state &^= sending
	if len(c.next) > 0 {
		c.out, c.next = c.next, c.out[:0]
		p.start(c, r)
	} else {
		p.rest(c, r)
	}
	if r.state.has(blocked) {
		p.l.writable(c.ref)
	}
}

// rest is when all is written: idle connections keep no large buffers.
func (p *portable) rest(c *peer, r *record) {
	if cap(c.out) > firstRead {
		c.out = nil
	}
	c.next = nil
	if r.state.has(finished) {
		p.shut(c)
	}
}

// deaf: the reader has returned by itself.
func (p *portable) deaf(hub.Ref) {}

// hush waits for what is under way: the writer comes back to it.
func (p *portable) hush(ref hub.Ref) {
	if !p.l.records.at(ref.Slot).state.has(sending) {
		p.shut(p.conns[ref.Slot])
	}
}

// shut closes our side. TLS writes for it, so it is not done on the loop.
func (p *portable) shut(c *peer) {
	if half, ok := c.conn.(interface{ CloseWrite() error }); ok {
		p.tasks.Go(func() { _ = half.CloseWrite() })
	}
}

// drop does not close on the loop: closing TLS may wait for the peer.
func (p *portable) drop(ref hub.Ref) {
	c := p.conns[ref.Slot]
	p.conns[ref.Slot] = nil
	p.tasks.Go(func() { _ = c.conn.Close() })
}
