package eventloop

import (
	"errors"
	"io"
	"net"
	"testing"

	"cryptointel/internal/hub"
)

// An event of a connection that has gone reaches neither the shard nor the
// connection that has its slot, and in epoll its descriptor, now.
func TestStaleEvents(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBed(t, config(kind, 1), nil)
		first := b.connect("", hub.Hello{Echo: true, Owner: 1})
		l, old := b.group.loops[0], hub.Ref{Slot: 0, Gen: 1}
		var was net.Conn
		b.group.loops[0].in.post(func() { was = portableConn(l, old) })
		b.sum()
		first.Close()
		b.released(1)

		second := b.connect("", hub.Hello{Echo: true, Owner: 2})
		l.in.post(func() {
			if r := l.records.live(hub.Ref{Slot: 0, Gen: 2}); r == nil {
				t.Error("the second connection has another slot than the first")
			}
			staleEvents(l, old, was)
		})
		io.WriteString(second, "still here")
		got := make([]byte, len("still here"))
		if _, err := io.ReadFull(second, got); err != nil || string(got) != "still here" {
			t.Errorf("got %q, %v", got, err)
		}
		if s := b.sum(); s.Stale == 0 || s.Shard.BytesIn != uint64(len(got)) {
			t.Errorf("%d stale events, the shard was given %d bytes", s.Stale, s.Shard.BytesIn)
		}
	})
}

// portableConn is the twin's connection, nil for epoll.
func portableConn(l *loop, ref hub.Ref) net.Conn {
	if p, ok := l.sock.(*portable); ok {
		return p.conns[ref.Slot].conn
	}
	return nil
}

// staleEvents makes the loop see everything that can come late.
func staleEvents(l *loop, old hub.Ref, was net.Conn) {
	if p, ok := l.sock.(*portable); ok {
		c := &peer{ref: old, conn: was, taken: make(chan struct{}, 2)}
		p.haveRead(c, []byte("late"), nil)
		p.haveRead(c, nil, io.EOF)
		p.haveWritten(c, nil)
		p.haveWritten(c, errors.New("late"))
		return
	}
	staleEpollEvents(l, old)
}
