package eventloop

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"cryptointel/internal/hub"
)

const firstRead = 1 << 10 // a reader's buffer to begin with

// portable is the sockets of a loop on any system and over any net.Conn: a
// goroutine a connection reads, and a write is handed to a goroutine of its
// own, at most one a connection. Both answer through the inbox.
type portable struct {
	l      *loop
	tasks  sync.WaitGroup // every reader, writer and closer
	kicked chan struct{}
	timer  *time.Timer
	conns  []*peer // by slot; nil when free
}

// A peer is one connection. The loop owns it; out belongs to the writer while
// writing is set.
type peer struct {
	ref     hub.Ref
	conn    net.Conn
	taken   chan struct{} // to the reader: the loop is done with the bytes
	out     []byte
	writing bool
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

// write copies b for the writer. The connection is full while that is under
// way: the next block is made when this one is through, with all that has come
// up meanwhile.
func (p *portable) write(slot hub.Slot, b []byte) (n int, full bool, err error) {
	c := p.conns[slot]
	if c.writing {
		return 0, true, nil
	}
	c.writing = true
	c.out = append(c.out[:0], b...)
	p.tasks.Go(func() {
		err := c.conn.SetWriteDeadline(time.Now().Add(stuckTime))
		if err == nil {
			_, err = c.conn.Write(c.out)
		}
		p.l.in.post(func() { p.haveWritten(c, err) })
	})
	return len(b), true, nil
}

func (p *portable) haveWritten(c *peer, err error) {
	c.writing = false
	r := p.l.records.live(c.ref)
	switch {
	case r == nil:
		return
	case err != nil:
		p.l.end(c.ref)
		return
	case r.state.has(finished):
		p.shut(c)
	}
	if cap(c.out) > firstRead {
		c.out = nil // idle connections keep no large buffers
	}
	p.l.writable(c.ref)
}

// deaf: the reader has returned by itself.
func (p *portable) deaf(hub.Ref) {}

// hush waits for the block under way: haveWritten comes back to it.
func (p *portable) hush(ref hub.Ref) {
	if c := p.conns[ref.Slot]; !c.writing {
		p.shut(c)
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
