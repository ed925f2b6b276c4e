package eventloop

import (
	"net"

	"cryptointel/internal/hub"
)

// A socket is a connection that was handed over: a descriptor for epoll, the
// net.Conn for the portable twin.
type socket struct {
	fd   int
	conn net.Conn // nil for epoll
}

// takeOver prepares c for the kind of loops there are.
func takeOver(c net.Conn, cfg Config) (socket, error) {
	if cfg.epoll() {
		fd, err := detach(c, cfg.SendBuffer)
		return socket{fd: fd}, err
	}
	t, ok := c.(*net.TCPConn)
	if !ok {
		return socket{conn: c}, nil
	}
	err := t.SetNoDelay(true)
	if err == nil {
		// Pings are the shard's business, and they also test the peer.
		err = t.SetKeepAlive(false)
	}
	if err == nil && cfg.SendBuffer > 0 {
		err = t.SetWriteBuffer(cfg.SendBuffer)
	}
	if err != nil {
		c.Close()
	}
	return socket{conn: c}, err
}

// close closes a socket that no loop has seen.
func (s socket) close() {
	if s.conn != nil {
		s.conn.Close()
		return
	}
	closeDescriptor(s.fd)
}

// adopt opens a connection in the shard. rest was read behind the handshake.
func (l *loop) adopt(s socket, rest []byte, h hub.Hello) {
	ref := l.shard.Open(h, l.now)
	*l.records.at(ref.Slot) = record{fd: int32(s.fd), gen: ref.Gen, state: open}
	if err := l.sock.add(ref, s); err != nil {
		l.log.Warn("cannot watch a connection", "err", err)
		l.end(ref)
		return
	}
	if len(rest) > 0 {
		l.received(ref, rest)
	}
}

// received passes on bytes of a live connection. What comes after the shard
// has finished is read and dropped: closing a socket with unread input resets
// it, and the peer may lose the close frame.
func (l *loop) received(ref hub.Ref, b []byte) {
	l.stats.BytesIn += uint64(len(b))
	if !l.records.at(ref.Slot).state.has(finished) {
		l.shard.Receive(ref.Slot, b, l.now)
	}
}

// eof says that the peer of a live connection sends no more. It may still
// read: what the shard has for it now is sent first.
func (l *loop) eof(ref hub.Ref) {
	r := l.records.at(ref.Slot)
	r.state |= ended
	if r.state.has(finished) && !r.state.busy() {
		l.end(ref)
		return
	}
	l.sock.deaf(ref)
	l.halves = append(l.halves, ref)
	l.leave(ref)
}

// endHalves ends connections whose peers send no more, once there is nothing
// left to write to them.
func (l *loop) endHalves() {
	if len(l.halves) == 0 {
		return
	}
	pending := l.shard.Pending()
	keep := l.halves[:0]
	for _, ref := range l.halves {
		r := l.records.live(ref)
		switch {
		case r == nil:
		case pending || r.state.busy():
			keep = append(keep, ref)
		default:
			l.end(ref)
		}
	}
	l.halves = keep
}

// writable says that the socket of a live connection takes bytes again.
func (l *loop) writable(ref hub.Ref) {
	r := l.records.at(ref.Slot)
	r.state &^= blocked
	switch {
	case r.state.has(finished|ended) && !r.state.busy():
		l.end(ref)
	case !r.state.has(finished):
		l.shard.Writable(ref.Slot, l.now)
	}
}

// finishOne begins the end that the shard wants: our side is shut, the peer
// has lingerTime to shut its own.
func (l *loop) finishOne(ref hub.Ref) {
	r := l.records.live(ref)
	if r == nil || r.state.has(finished) {
		return
	}
	r.state |= finished
	l.sock.hush(ref)
	if r.state.has(ended) && !r.state.busy() {
		l.end(ref)
		return
	}
	l.leave(ref)
}

// leave sets the time at which ref is closed regardless.
func (l *loop) leave(ref hub.Ref) {
	l.leaving = append(l.leaving, leaving{ref: ref, at: l.now + lingerTime})
}

// end closes a connection, if it has not gone before, and tells the shard.
func (l *loop) end(ref hub.Ref) {
	r := l.records.live(ref)
	if r == nil {
		return
	}
	l.sock.drop(ref)
	r.state = 0
	l.conns.Add(-1)
	l.shard.Gone(ref.Slot, l.now)
}
