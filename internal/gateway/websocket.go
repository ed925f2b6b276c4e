package gateway

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"time"

	"cryptointel/internal/hub"
	"cryptointel/protocol"
)

// websocket upgrades a request and hands its socket over. What goes wrong
// before the upgrade is plain HTTP; what a person should read is put into
// Hello.Refuse, since a browser's script sees nothing of a failed upgrade.
func (g *Gateway) websocket(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		g.answerError(w, http.StatusMethodNotAllowed, protocol.InvalidMessage, "this path answers GET")
		return
	}
	if !upgradeAsked(r.Header) {
		w.Header()["Content-Type"] = g.fixed.text
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "Expected WebSocket")
		return
	}
	hs, bad := readHandshake(r)
	if bad != nil {
		// RFC 9112, section 6.3: when a proxy may have understood the length of
		// the request in another way, nothing behind it is read as a request.
		w.Header().Set("Connection", "close")
		if bad.status == http.StatusUpgradeRequired {
			w.Header().Set("Sec-WebSocket-Version", "13")
		}
		g.answerError(w, bad.status, protocol.InvalidMessage, bad.why)
		return
	}
	hello := hub.Hello{Echo: true}
	if !g.parts.Echo {
		var flood *protocol.Error
		if hello, flood = g.admit(r, hs); flood != nil {
			g.refuse(w, flood)
			return
		}
	}
	hs.deflate.accepted = hs.deflate.accepted && g.set.Load().cfg.Compression
	hello.Deflate = hs.deflate.accepted
	g.upgrade(w, hs, hello)
}

// admit decides about a request that can be upgraded. The error is told in
// plain HTTP, everything else in the Hello.
func (g *Gateway) admit(r *http.Request, hs handshake) (hub.Hello, *protocol.Error) {
	if !g.originAllowed(r) {
		return hub.Hello{}, foreignOrigin()
	}
	if err := g.notReady(); err != nil {
		return hub.Hello{}, soon(err)
	}
	if accept := g.set.Load().accept; accept != nil && !accept.AllowN(g.parts.Now(), 1) {
		return hub.Hello{}, soon(&protocol.Error{Code: protocol.ConnectionFull,
			Message: "too many connections are arriving: try again"})
	}
	hello, err := g.charge(r)
	if err != nil {
		return hub.Hello{}, err
	}
	if hs.unknown && hello.Refuse == nil {
		hello.Refuse = &protocol.Error{Code: protocol.UnsupportedProtocol,
			Message: "the subprotocol spoken here is " + protocol.Subprotocol}
	}
	hello.Session = rand.Text()[:16]
	return hello, nil
}

// charge counts the connection for the user its token names, else for its
// address. Only one that comes too often is an error.
func (g *Gateway) charge(r *http.Request) (hub.Hello, *protocol.Error) {
	now := g.now()
	grant, refuse := g.doorGrant(r)
	if refuse != nil && refuse.Code == protocol.RateLimited {
		return hub.Hello{}, refuse
	}
	if grant == nil {
		owner, err := g.parts.Registry.AdmitIP(g.clientAddr(r), now)
		if err != nil && err.Code == protocol.RateLimited {
			return hub.Hello{}, err
		}
		if refuse == nil {
			refuse = err
		}
		return hub.Hello{Owner: owner, Refuse: refuse}, nil
	}
	owner, _, _, err := g.parts.Registry.Claim(ClaimRequest{User: grant.Subject}, now)
	if err != nil && err.Code == protocol.RateLimited {
		return hub.Hello{}, err
	}
	return hub.Hello{Grant: grant, Owner: owner, Refuse: err}, nil
}

// upgrade answers 101 and hands the socket over. Until it is handed over, the
// share of the limits in the Hello is released here.
func (g *Gateway) upgrade(w http.ResponseWriter, hs handshake, hello hub.Hello) {
	c, rest, err := switchProtocols(w, hs)
	if err == nil {
		err = g.parts.Connections.Adopt(c, rest, hello)
	}
	if err != nil {
		g.parts.Registry.Release(hello.Owner)
		g.parts.Log.Debug("upgrade", "err", err)
		return
	}
	g.counts.upgraded(hello)
}

// switchProtocols takes the socket out of net/http's hands: the connection
// itself without this package's wrapping, and what the client has sent behind
// its handshake.
func switchProtocols(w http.ResponseWriter, hs handshake) (net.Conn, []byte, error) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "WebSocket needs HTTP/1.1", http.StatusHTTPVersionNotSupported)
		return nil, nil, fmt.Errorf("hijack: %w", err)
	}
	rest := pipelined(rw.Reader)
	c = release(c)
	if err := writeSwitching(c, hs); err != nil {
		_ = c.Close()
		return nil, nil, fmt.Errorf("answer 101: %w", err)
	}
	return c, rest, nil
}

func writeSwitching(c net.Conn, hs handshake) error {
	// A fresh socket takes this at once; the deadline is for TLS and pipes.
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write(appendSwitching(make([]byte, 0, 320), hs)); err != nil {
		return err
	}
	return c.SetDeadline(time.Time{})
}

// pipelined copies what the reader holds: its buffer goes back to net/http's
// pool.
func pipelined(r *bufio.Reader) []byte {
	b, _ := r.Peek(r.Buffered())
	if len(b) == 0 {
		return nil
	}
	return append([]byte(nil), b...)
}

// soon gives the error a time to come back, spread so that those who are sent
// away do not come back together.
func soon(e *protocol.Error) *protocol.Error {
	return &protocol.Error{Code: e.Code, Message: e.Message,
		RetryAfter: protocol.Second + protocol.Time(mathrand.Int64N(int64(4*protocol.Second)))}
}
