package eventloop

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"cryptointel/internal/hub"
	"cryptointel/protocol"
)

func TestPeerEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*net.TCPConn)
	}{
		{"half", func(c *net.TCPConn) { c.CloseWrite() }},
		{"whole", func(c *net.TCPConn) { c.Close() }},
		{"reset", func(c *net.TCPConn) { c.SetLinger(0); c.Close() }},
		{"half behind a message", func(c *net.TCPConn) { io.WriteString(c, "hello\n"); c.CloseWrite() }},
		{"half behind quit", func(c *net.TCPConn) { io.WriteString(c, "quit\n"); c.CloseWrite() }},
		{"reset behind a message", func(c *net.TCPConn) { io.WriteString(c, "hello\n"); c.SetLinger(0); c.Close() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			each(t, func(t *testing.T, kind string) {
				b := newBed(t, config(kind, 1), nil)
				conn := b.connect("", hub.Hello{Owner: 7})
				c.end(conn)
				if got := b.released(1); got[0] != 7 {
					t.Errorf("released %v", got)
				}
				if n := b.sum().Connections; n != 0 {
					t.Errorf("%d connections", n)
				}
			})
		})
	}
}

// A peer that has said its last still gets the answer, however busy the loop.
func TestHalfClosedPeerGetsTheAnswer(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBed(t, config(kind, 1), nil)
		conn := b.connect("", hub.Hello{})
		release := b.hold(0)
		io.WriteString(conn, "one\nask two\nquit\n")
		conn.CloseWrite()
		release()
		got, want := readAll(t, conn), "heard one\nbye\n"
		if got != want && got != "heard one\nyes two\nbye\n" {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// The close frame arrives although the peer is still sending: the socket is
// not closed over unread input, which would reset the connection.
func TestFinishIsNotAReset(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBed(t, config(kind, 1), nil)
		conn := b.connect("", hub.Hello{})
		if _, err := io.WriteString(conn, "quit\n"+strings.Repeat("x", 8<<20)); err != nil {
			t.Fatalf("write: %v", err)
		}
		if got := readAll(t, conn); got != "bye\n" {
			t.Errorf("got %q", got)
		}
		if in := b.sum().Shard.BytesIn; in > readBytes {
			t.Errorf("the shard was given %d bytes, most of them after it finished", in)
		}
		conn.Close()
		b.released(1)
	})
}

func TestFinishedPeerThatStays(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBed(t, config(kind, 1), nil)
		conn := b.connect("", hub.Hello{Refuse: &protocol.Error{Code: protocol.ConnectionFull}})
		if got := readAll(t, conn); got != "CONNECTION_FULL\n" {
			t.Errorf("got %q", got)
		}
		b.advance(lingerTime - 1)
		if n := b.sum().Connections; n != 1 {
			t.Errorf("%d connections before the time to leave", n)
		}
		b.advance(1)
		b.released(1)
	})
}

func TestAdoptDuringShutdown(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		files, routines := descriptors(), runtime.NumGoroutine()
		b := newBed(t, config(kind, 2), nil)
		var adopted, refused int
		var clients []net.Conn
		half := make(chan struct{})
		go func() { <-half; b.stop() }()
		for i := range 400 {
			if i == 100 {
				close(half)
			}
			c, s := b.net()
			if c == nil {
				break // the listener is closed: all is over
			}
			clients = append(clients, c)
			switch err := b.group.Adopt(s, []byte("x"), hub.Hello{Echo: true}); err {
			case nil:
				adopted++
			case ErrClosed:
				refused++
			default:
				t.Fatal(err)
			}
		}
		b.stop()
		for _, c := range clients {
			io.Copy(io.Discard, c) // ends: the other side is closed
			c.Close()
		}
		b.released(adopted)
		comeBack(t, files, routines)
	})
}

// net is pair for a listener that may close meanwhile.
func (b *bed) net() (client, server net.Conn) {
	c, err := net.Dial("tcp", b.ln.Addr().String())
	if err != nil {
		return nil, nil
	}
	s, err := b.ln.Accept()
	if err != nil {
		c.Close()
		return nil, nil
	}
	c.SetDeadline(time.Now().Add(patient))
	return c, s
}

// comeBack waits until files and goroutines are as many as before. What
// belongs to the runtime and to other systems' netpollers may take a moment.
func comeBack(t *testing.T, files, routines int) {
	t.Helper()
	for end := time.Now().Add(patient); ; runtime.Gosched() {
		f, r := descriptors(), runtime.NumGoroutine()
		if f <= files && r <= routines {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d files and %d goroutines, before %d and %d", f, r, files, routines)
		}
	}
}

func TestConnectAndDisconnect(t *testing.T) {
	const rounds, clients = 10, 50
	each(t, func(t *testing.T, kind string) {
		files, routines := descriptors(), runtime.NumGoroutine()
		b := newBed(t, config(kind, 2), nil)
		for round := range rounds {
			var all sync.WaitGroup
			for i := range clients {
				c := b.connect("", hub.Hello{Echo: true})
				all.Go(func() {
					said := fmt.Sprintf("round %d client %d", round, i)
					io.WriteString(c, said)
					got := make([]byte, len(said))
					if _, err := io.ReadFull(c, got); err != nil || string(got) != said {
						t.Errorf("got %q, %v, want %q", got, err, said)
					}
					if i%2 == 0 {
						c.SetLinger(0)
					}
					c.Close()
				})
			}
			all.Wait()
			b.released(clients)
		}
		if n := len(b.shards[0].conns) + len(b.shards[1].conns); n > 2*clients {
			t.Errorf("%d slots for %d connections at a time", n, clients)
		}
		b.stop()
		comeBack(t, files, routines)
	})
}

func TestConnectionsAreShared(t *testing.T) {
	b := newBed(t, config(KindPortable, 4), nil)
	for range 40 {
		b.connect("", hub.Hello{})
	}
	for i, l := range b.group.loops {
		if n := l.conns.Load(); n != 10 {
			t.Errorf("loop %d has %d connections, want 10", i, n)
		}
	}
}
