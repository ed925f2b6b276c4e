package bench

import (
	"fmt"

	"golang.org/x/sys/unix"

	"cryptointel/internal/frame"
)

// A state is how far a connection has come.
type state uint8

const (
	connecting  state = iota
	upgrading         // waits for the answer to the upgrade request
	greeting          // waits for the first frame
	authing           // waits for the acknowledgement of its token
	subscribing       // waits for the acknowledgement of its channels
	ready
	closed
)

func (s state) String() string {
	return [...]string{"connect", "upgrade", "first frame", "auth", "subscribe", "ready", "closed"}[s]
}

// A conn is one connection of a loop, which owns it.
type conn struct {
	fd     int // -1: never opened
	slot   int // index in the loop
	number int // among all connections of the run
	state  state
	began  int64  // when connect was called, ns
	rest   []byte // the beginning of an incomplete frame or head
	subs   []sub
}

// dial opens the loop's next connection.
func (l *loop) dial() {
	c := &conn{fd: -1, slot: len(l.conns), number: len(l.conns)*l.of + l.number, began: nanos()}
	for j := range l.d.subs {
		c.subs = append(c.subs, sub{channel: l.d.follows(c.number, j)})
	}
	l.conns = append(l.conns, c)
	l.settling.underway++
	if err := l.connect(c); err != nil {
		l.fail(c, err.Error())
	}
}

func (l *loop) connect(c *conn) (err error) {
	if c.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	if err := dialOptions(c.fd); err != nil {
		return fmt.Errorf("socket option: %w", err)
	}
	if l.d.sources > 0 {
		from := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(2 + c.number%l.d.sources)}}
		if err := unix.Bind(c.fd, from); err != nil {
			return fmt.Errorf("bind: %w", err)
		}
	}
	to := &unix.SockaddrInet4{Port: int(l.d.to.addr.Port()), Addr: l.d.to.addr.Addr().As4()}
	if err := unix.Connect(c.fd, to); err != nil && err != unix.EINPROGRESS {
		return fmt.Errorf("connect: %w", err)
	}
	return l.watch(unix.EPOLL_CTL_ADD, c, unix.EPOLLOUT)
}

func (l *loop) watch(op int, c *conn, events uint32) error {
	ev := unix.EpollEvent{Events: events, Fd: int32(c.slot)}
	if err := unix.EpollCtl(l.ep, op, c.fd, &ev); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// dialOptions: the kernel picks a port only when the destination is known, so
// that each source address has all ports for each server; closing sends a
// reset, so that no port is kept waiting.
func dialOptions(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return err
	}
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		return err
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
}

// shut closes c's socket; a second call does nothing.
func (l *loop) shut(c *conn) {
	if c.state == ready {
		l.ready--
	}
	if c.state != closed && c.fd >= 0 {
		unix.Close(c.fd)
	}
	c.state, c.rest = closed, nil
}

// fail closes c and counts why.
func (l *loop) fail(c *conn, why string) {
	switch c.state {
	case closed:
		return
	case ready:
		l.t.fail(why)
	default:
		l.settling.underway--
		l.settling.failures[why]++
	}
	l.shut(c)
}

func (l *loop) connected(c *conn) {
	if e, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || e != 0 {
		l.fail(c, "connect: "+unix.Errno(e).Error())
		return
	}
	if err := l.watch(unix.EPOLL_CTL_MOD, c, unix.EPOLLIN); err != nil {
		l.fail(c, err.Error())
		return
	}
	c.state = upgrading
	l.write(c, l.d.upgrade)
}

// write sends one of the few small messages a client has to say; that the
// socket does not take it at once is a failure.
func (l *loop) write(c *conn, b []byte) {
	n, err := unix.Write(c.fd, b)
	for err == unix.EINTR {
		n, err = unix.Write(c.fd, b)
	}
	if err == nil && n < len(b) {
		err = unix.EAGAIN
	}
	if err != nil {
		l.fail(c, "write: "+err.Error())
	}
}

func (l *loop) send(c *conn, op frame.Opcode, p []byte) {
	var room [512]byte
	l.write(c, appendMessage(room[:0], op, p))
}

// readable reads once: what is left makes the socket readable again, and the
// other connections have their turn before.
func (l *loop) readable(c *conn) {
	for len(c.rest) >= len(l.buf)/2 {
		l.buf = make([]byte, 2*len(l.buf))
	}
	k := copy(l.buf, c.rest)
	n, err := unix.Read(c.fd, l.buf[k:])
	if err == unix.EAGAIN || err == unix.EINTR {
		return
	}
	if err != nil || n == 0 {
		l.fail(c, lostReason(c, err))
		return
	}
	now := nanos()
	l.t.reads++
	l.t.bytes += uint64(n)
	rest := l.consume(c, l.buf[:k+n], now)
	if c.state == closed {
		return
	}
	if len(rest) == 0 {
		c.rest = nil
		return
	}
	c.rest = append(c.rest[:0], rest...)
}

func lostReason(c *conn, err error) string {
	if err != nil {
		return c.state.String() + ": " + err.Error()
	}
	return c.state.String() + ": closed by the server"
}

// consume handles what is whole in b and returns the rest.
func (l *loop) consume(c *conn, b []byte, now int64) []byte {
	if c.state == upgrading {
		n, err := upgraded(b, l.d.deflate)
		if err != nil {
			l.fail(c, err.Error())
			return nil
		}
		if n == 0 {
			return b
		}
		b = b[n:]
		l.settling.upgrades.add(now - c.began)
		c.state = greeting
		if l.d.bare {
			l.becomeReady(c, now)
		}
	}
	before := l.t.received
	for c.state != closed {
		m, n, err := nextFrame(b, l.d.deflate)
		if m.packed && n > 0 {
			l.t.packed++
			m.payload, err = l.unpack.read(m.payload)
		}
		if err != nil {
			l.fail(c, err.Error())
			break
		}
		if n == 0 {
			break
		}
		b = b[n:]
		l.t.frames++
		l.frame(c, m.op, m.payload, now)
	}
	if got := l.t.received - before; got > 0 {
		l.received.Add(got)
	}
	return b
}

func (l *loop) frame(c *conn, op frame.Opcode, p []byte, now int64) {
	switch {
	case op == frame.Text && c.state == ready:
		l.deliver(c, p, now)
	case op == frame.Text:
		l.answer(c, p, now)
	case op == frame.Ping:
		l.send(c, frame.Pong, p)
	case op == frame.Close:
		l.fail(c, c.state.String()+": "+closeReason(p))
	}
}

// deliver takes a message of a connection that is ready. It is the hot path:
// no lock, no allocation.
func (l *loop) deliver(c *conn, p []byte, now int64) {
	st, ok := l.stamps.read(p)
	if !ok {
		l.other(c, p)
		return
	}
	n := st.seq - l.s.base
	channel, known := l.index[string(st.channel)]
	if known && l.s.base > 0 && n > 0 && n <= maxNumber {
		for i := range c.subs {
			if s := &c.subs[i]; s.channel == channel {
				if l.t.take(s, n, st.sent, now) && len(l.d.channels) == 1 {
					l.t.follow(n-l.s.first, st.sent, now)
				}
				return
			}
		}
	}
	if !snapshot(p) {
		l.t.strangers++
	}
}

// other takes what is not a publication.
func (l *loop) other(c *conn, p []byte) {
	r, err := parseReply(p)
	switch {
	case err != nil:
		l.fail(c, "ready: not JSON")
	case r.Type == "pong":
		l.t.pongs++
	case r.Type == "error":
		l.t.fail("error frame: " + r.Error.Code)
	}
}

// answer takes a message of a connection that is still coming about.
func (l *loop) answer(c *conn, p []byte, now int64) {
	r, err := parseReply(p)
	if err != nil {
		l.fail(c, c.state.String()+": not JSON")
		return
	}
	if why := r.refusal(); why != "" {
		l.fail(c, c.state.String()+": "+why)
		return
	}
	switch {
	case c.state == greeting && r.Type != "system_status":
		l.fail(c, "first frame: is a "+r.Type)
	case c.state == greeting:
		l.settling.frames.add(now - c.began)
		l.introduce(c)
	case c.state == authing && r.Type == "ack":
		l.subscribe(c)
	case c.state == subscribing && r.Type == "ack":
		l.becomeReady(c, now)
	}
}

func (l *loop) introduce(c *conn) {
	if l.d.token == nil {
		l.subscribe(c)
		return
	}
	token, err := l.d.token(c.number)
	if err != nil {
		l.fail(c, "make a token: "+err.Error())
		return
	}
	c.state = authing
	l.send(c, frame.Text, authMessage(token, c.number))
}

func (l *loop) subscribe(c *conn) {
	names := make([]string, len(c.subs))
	for i, s := range c.subs {
		names[i] = l.d.channels[s.channel]
	}
	c.state = subscribing
	l.send(c, frame.Text, subscribeMessage(names))
}

func (l *loop) becomeReady(c *conn, now int64) {
	c.state = ready
	l.ready++
	l.settling.underway--
	l.settling.done++
	l.settling.readies.add(now - c.began)
	if l.s.drop {
		l.shut(c)
	}
}

// appendMessage appends a whole frame of a client. The mask is constant: it
// hides nothing on the own machine, but the server has to undo it as any
// other.
func appendMessage(dst []byte, op frame.Opcode, p []byte) []byte {
	return frame.AppendMasked(dst, op, true, [4]byte{0x37, 0xfa, 0x21, 0x3d}, p)
}
