package eventloop

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"cryptointel/internal/hub"
	"cryptointel/protocol"
)

var kinds = []string{KindEpoll, KindPortable}

// patient is how long a test waits for an event before it calls it missing.
const patient = 20 * time.Second

// bed is a running group and a listener whose connections it adopts.
type bed struct {
	t       *testing.T
	group   *Group
	shards  []*fakeShard
	clock   *fakeClock
	handler *fakeHandler
	ln      net.Listener
	reread  func(after int64) []*protocol.Publication
	stop    func() // ends the group and waits; more than once is fine
}

func config(kind string, loops int) Config {
	cfg := DefaultConfig()
	cfg.Kind, cfg.Loops = kind, loops
	return cfg
}

// newBed runs a group; adjust, if not nil, changes it before it starts.
func newBed(t *testing.T, cfg Config, adjust func(*bed)) *bed {
	t.Helper()
	if cfg.Kind == KindEpoll && runtime.GOOS != "linux" {
		t.Skip("epoll needs Linux")
	}
	b := &bed{t: t, clock: &fakeClock{}, handler: &fakeHandler{released: make(chan uint64, 10000)}}
	for range cfg.Loops {
		b.shards = append(b.shards, &fakeShard{t: t, limit: 16 << 20, every: protocol.Minute})
	}
	if adjust != nil {
		adjust(b)
	}
	g, err := New(cfg, Parts{
		Shard:   func(loop int) Shard { return b.shards[loop] },
		Clock:   b.clock,
		Handler: b.handler,
		Reread:  b.reread,
		Log:     slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	b.group, b.handler.group = g, g
	if b.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	b.run()
	return b
}

func (b *bed) run() {
	end := start(b.t, b.group)
	b.stop = sync.OnceFunc(func() {
		end()
		b.ln.Close()
	})
	b.t.Cleanup(b.stop)
}

// start runs a group; end stops it and waits.
func start(t testing.TB, g *Group) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

// pair is both ends of a connection over loopback.
func (b *bed) pair() (client, server *net.TCPConn) {
	b.t.Helper()
	c, err := net.Dial("tcp", b.ln.Addr().String())
	if err != nil {
		b.t.Fatal(err)
	}
	s, err := b.ln.Accept()
	if err != nil {
		b.t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patient))
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// connect opens a connection that the group has adopted.
func (b *bed) connect(rest string, h hub.Hello) *net.TCPConn {
	b.t.Helper()
	client, server := b.pair()
	if err := b.group.Adopt(server, []byte(rest), h); err != nil {
		b.t.Fatalf("Adopt: %v", err)
	}
	b.t.Cleanup(func() { client.Close() })
	return client
}

// sum is the loops' numbers added up.
func (b *bed) sum() (s LoopStats) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	all, err := b.group.Stats(ctx)
	if err != nil {
		b.t.Fatalf("Stats: %v", err)
	}
	for _, l := range all {
		s.Connections += l.Connections
		s.Conflated += l.Conflated
		s.Missed += l.Missed
		s.Rereads += l.Rereads
		s.Blocked += l.Blocked
		s.Stale += l.Stale
		s.Shard.Connections += l.Shard.Connections
		s.Shard.Conflated += l.Shard.Conflated
		s.Shard.MessagesIn += l.Shard.MessagesIn
		s.Shard.Publications += l.Shard.Publications
		s.Shard.BytesIn += l.Shard.BytesIn
	}
	return s
}

// until asks the loops until ok says that what was awaited has happened.
func (b *bed) until(what string, ok func(LoopStats) bool) LoopStats {
	b.t.Helper()
	for end := time.Now().Add(patient); ; runtime.Gosched() {
		s := b.sum()
		if ok(s) {
			return s
		}
		if time.Now().After(end) {
			b.t.Fatalf("no %s: %+v", what, s)
		}
	}
}

// released waits for n owners to be released.
func (b *bed) released(n int) (owners []uint64) {
	b.t.Helper()
	late := time.After(patient)
	for range n {
		select {
		case o := <-b.handler.released:
			owners = append(owners, o)
		case <-late:
			b.t.Fatalf("%d of %d owners released", len(owners), n)
		}
	}
	return owners
}

// hold stops a loop until the answer is called.
func (b *bed) hold(loop int) (release func()) {
	held, gate := make(chan struct{}), make(chan struct{})
	b.group.loops[loop].in.post(func() { close(held); <-gate })
	<-held
	return sync.OnceFunc(func() { close(gate) })
}

func (b *bed) advance(d protocol.Time) {
	b.clock.now.Add(int64(d))
	b.group.Wake()
}

func readAll(t *testing.T, c net.Conn) string {
	t.Helper()
	all, err := io.ReadAll(c)
	if err != nil {
		t.Errorf("read to the end: %v", err)
	}
	return string(all)
}

func statePub(channel string, offset int64) *protocol.Publication {
	return &protocol.Publication{Channel: channel, Offset: offset, Data: fmt.Appendf(nil, "%s %d", channel, offset)}
}

func entry(offset int64) *protocol.Publication {
	p := statePub(protocol.LogChannel, offset)
	p.Signal = &protocol.Signal{}
	return p
}

// descriptors counts this process's open files; 0 where that is unknown.
func descriptors() int {
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(all)
}
