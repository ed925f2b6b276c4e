package gateway

import (
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"time"
)

// A Listener bounds the sockets that are not upgraded: whoever holds more of
// them than allowed is answered 503 and closed before a goroutine is spent on
// it. An upgraded socket is counted by the Registry instead.
type Listener struct {
	net.Listener
	gate *Gateway // for its present limits

	mu    sync.Mutex // guards the fields below
	open  int
	byIP  map[netip.Addr]int // without zones, so without pointers into text
	turns uint64
}

// Listen wraps l. Put it under TLS, not around it.
func (g *Gateway) Listen(l net.Listener) *Listener {
	return &Listener{Listener: l, gate: g, byIP: make(map[netip.Addr]int)}
}

// Accept returns the next socket that there is room for.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		peer := peerAddr(c.RemoteAddr().String())
		from := household(peer)
		if l.enter(peer, from) {
			return &pendingConn{Conn: c, leave: sync.OnceFunc(func() { l.exit(from) })}, nil
		}
		turnAway(c)
	}
}

// Pending is how many sockets are open and not upgraded, and how many were
// turned away.
func (l *Listener) Pending() (open int, turnedAway uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open, l.turns
}

func (l *Listener) enter(peer, from netip.Addr) bool {
	set := l.gate.set.Load()
	total, perIP := set.cfg.Pending, set.cfg.PendingPerIP
	limited := perIP > 0 && !set.trusted(peer)
	l.mu.Lock()
	defer l.mu.Unlock()
	if total > 0 && l.open >= total || limited && l.byIP[from] >= perIP {
		l.turns++
		return false
	}
	l.open++
	l.byIP[from]++
	return true
}

func (l *Listener) exit(from netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.byIP[from]--; l.byIP[from] <= 0 {
		delete(l.byIP, from)
	}
}

// turnAway answers without reading. It runs on the accepting goroutine: a
// fresh socket's buffer takes these bytes at once.
func turnAway(c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(10 * time.Millisecond))
	_, _ = c.Write([]byte("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
	_ = c.Close()
}

// A pendingConn counts against its Listener until it is closed or upgraded.
type pendingConn struct {
	net.Conn
	leave func()
}

// Close closes the socket.
func (c *pendingConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// CloseWrite lets net/http end an answer before it gives up on a request that
// is still arriving: without it the client sees a reset instead.
func (c *pendingConn) CloseWrite() error {
	if tcp, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return tcp.CloseWrite()
	}
	return nil
}

// release ends the counting of an upgraded connection and takes the wrapping
// off, so that its adopter sees the socket itself.
func release(c net.Conn) net.Conn {
	switch c := c.(type) {
	case *pendingConn:
		c.leave()
		return c.Conn
	case *tls.Conn:
		if p, ok := c.NetConn().(*pendingConn); ok {
			p.leave()
		}
	}
	return c
}
