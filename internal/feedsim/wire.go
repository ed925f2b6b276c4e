package feedsim

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
)

// A wire is the server's end of a connection that can go silent while it
// stays open: what the client sends is swallowed, what the server sends never
// leaves. TCP does not notice such a thing for hours.
type wire struct {
	net.Conn
	silent atomic.Bool
}

func (w *wire) Read(p []byte) (int, error) {
	for {
		n, err := w.Conn.Read(p)
		if !w.silent.Load() || err != nil {
			return n, err
		}
	}
}

func (w *wire) Write(p []byte) (int, error) {
	if w.silent.Load() {
		return len(p), nil
	}
	return w.Conn.Write(p)
}

// cut ends the connection as a crash does.
func (w *wire) cut() {
	if tcp, ok := w.Conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	w.Conn.Close()
}

// A hijacker puts a wire around the connection that a WebSocket takes over.
type hijacker struct {
	http.ResponseWriter
	wire *wire
}

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	hj, ok := h.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, errors.New("feedsim: the server does not hand its connections over")
	}
	c, brw, err := hj.Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.wire = &wire{Conn: c}
	read, err := brw.Reader.Peek(brw.Reader.Buffered())
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	in := bufio.NewReader(io.MultiReader(bytes.NewReader(bytes.Clone(read)), h.wire))
	in.Peek(len(read)) // Accept takes over only what is buffered.
	return h.wire, bufio.NewReadWriter(in, bufio.NewWriter(h.wire)), nil
}
