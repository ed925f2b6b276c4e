package eventloop

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cryptointel/internal/hub"
	"cryptointel/protocol"
)

var kinds = []string{KindEpoll, KindPortable}

// patient is how long a test waits for an event before it calls it missing.
const patient = 20 * time.Second

// fakeConn is a connection of a fakeShard.
type fakeConn struct {
	hub.Hello
	open, blocked, queued, done bool
	gen                         uint32
	out, in                     []byte
	blockedAt                   protocol.Time
	shown                       int // bytes of the last Next
}

// A fakeShard echoes, or shows every publication to everyone, a line each. It
// takes the lines "quit", "ask T" and reports every call that breaks the
// rules.
type fakeShard struct {
	t         *testing.T
	limit     int           // bytes queued for one connection
	patience  protocol.Time // for a blocked connection; 0: for ever
	conns     []*fakeConn
	free      []hub.Slot
	ready     []hub.Slot
	requests  []hub.Request
	served    []hub.Request
	stats     hub.Stats
	published []protocol.Publication
	ticks     []protocol.Time
	every     protocol.Time
}

func (s *fakeShard) conn(call string, slot hub.Slot) *fakeConn {
	if int(slot) >= len(s.conns) || !s.conns[slot].open {
		s.t.Errorf("%s for slot %d, which is not open", call, slot)
		return &fakeConn{}
	}
	return s.conns[slot]
}

func (s *fakeShard) Open(h hub.Hello, _ protocol.Time) hub.Ref {
	if len(s.free) == 0 {
		s.free = append(s.free, hub.Slot(len(s.conns)))
		s.conns = append(s.conns, &fakeConn{})
	}
	slot := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	gen := s.conns[slot].gen + 1
	s.conns[slot] = &fakeConn{Hello: h, open: true, gen: gen}
	s.stats.Connections++
	s.stats.Opened++
	if h.Refuse != nil {
		s.send(slot, []byte(h.Refuse.Code+"\n"))
		s.conns[slot].done = true
	}
	return hub.Ref{Slot: slot, Gen: gen}
}

func (s *fakeShard) send(slot hub.Slot, b []byte) {
	c := s.conns[slot]
	if len(c.out)+len(b) > s.limit {
		s.stats.Conflated++
		return
	}
	c.out = append(c.out, b...)
	if !c.queued && !c.blocked {
		c.queued = true
		s.ready = append(s.ready, slot)
	}
}

func (s *fakeShard) Receive(slot hub.Slot, b []byte, _ protocol.Time) {
	c := s.conn("Receive", slot)
	s.stats.BytesIn += uint64(len(b))
	if c.Echo {
		s.send(slot, b)
		return
	}
	c.in = append(c.in, b...)
	for {
		line, rest, ok := bytes.Cut(c.in, []byte("\n"))
		if !ok || c.done {
			return
		}
		s.line(slot, c, string(line))
		c.in = rest
	}
}

func (s *fakeShard) line(slot hub.Slot, c *fakeConn, line string) {
	s.stats.MessagesIn++
	if line == "quit" {
		s.send(slot, []byte("bye\n"))
		c.done = true
		return
	}
	if token, ok := bytes.CutPrefix([]byte(line), []byte("ask ")); ok {
		s.ask(hub.Request{Kind: hub.Verify, Ref: hub.Ref{Slot: slot, Gen: c.gen}, Token: string(token)})
		return
	}
	s.send(slot, []byte("heard "+line+"\n"))
}

func (s *fakeShard) ask(r hub.Request) { s.requests = append(s.requests, r) }

func (s *fakeShard) Requests() []hub.Request {
	s.requests, s.served = s.served[:0], s.requests
	return s.served
}

func (s *fakeShard) Next(max int) (hub.Slot, []byte, bool) {
	for len(s.ready) > 0 {
		slot := s.ready[0]
		c := s.conns[slot]
		if c.open && len(c.out) > 0 && !c.blocked {
			c.shown = min(max, len(c.out))
			return slot, c.out[:c.shown], true
		}
		c.queued = false
		s.ready = s.ready[1:]
	}
	return 0, nil, false
}

func (s *fakeShard) Wrote(slot hub.Slot, n int, blocked bool, now protocol.Time) {
	c := s.conn("Wrote", slot)
	if n > c.shown {
		s.t.Errorf("wrote %d of %d bytes", n, c.shown)
	}
	c.out = c.out[:copy(c.out, c.out[n:])]
	c.queued, s.ready = false, s.ready[1:]
	s.stats.BytesOut += uint64(n)
	s.stats.Writes++
	if blocked {
		c.blocked, c.blockedAt = true, now
	}
	s.settle(slot, c)
}

// settle queues what is left, or asks for the end.
func (s *fakeShard) settle(slot hub.Slot, c *fakeConn) {
	switch {
	case len(c.out) == 0 && c.done:
		s.ask(hub.Request{Kind: hub.Finished, Ref: hub.Ref{Slot: slot, Gen: c.gen}})
	case len(c.out) > 0 && !c.blocked && !c.queued:
		c.queued = true
		s.ready = append(s.ready, slot)
	}
}

func (s *fakeShard) Writable(slot hub.Slot, _ protocol.Time) {
	c := s.conn("Writable", slot)
	if !c.blocked {
		s.t.Errorf("Writable for slot %d, which is not blocked", slot)
	}
	c.blocked = false
	if len(c.out) > 0 {
		s.settle(slot, c)
	}
}

func (s *fakeShard) Gone(slot hub.Slot, _ protocol.Time) {
	c := s.conn("Gone", slot)
	c.open, c.out = false, nil
	s.free = append(s.free, slot)
	s.ready = deleted(s.ready, slot)
	s.stats.Connections--
	s.stats.Closed++
	s.ask(hub.Request{Kind: hub.Released, Owner: c.Owner})
}

func deleted(all []hub.Slot, slot hub.Slot) (kept []hub.Slot) {
	for _, s := range all {
		if s != slot {
			kept = append(kept, s)
		}
	}
	return kept
}

func (s *fakeShard) Publish(p *protocol.Publication, _ protocol.Time) {
	s.stats.Publications++
	s.published = append(s.published, *p)
	line := append(p.Data[:len(p.Data):len(p.Data)], '\n')
	for slot, c := range s.conns {
		if c.open && !c.Echo && !c.done {
			s.send(hub.Slot(slot), line)
		}
	}
}

func (s *fakeShard) Tick(now protocol.Time) protocol.Time {
	if n := len(s.ticks); n == 0 || s.ticks[n-1] != now {
		s.ticks = append(s.ticks, now)
	}
	for slot, c := range s.conns {
		if c.open && c.blocked && !c.done && s.patience > 0 && now-c.blockedAt >= s.patience {
			c.done, c.out = true, nil
			s.settle(hub.Slot(slot), c)
		}
	}
	return now + s.every
}

func (s *fakeShard) Pending() bool {
	for _, slot := range s.ready {
		if c := s.conns[slot]; c.open && len(c.out) > 0 && !c.blocked {
			return true
		}
	}
	return false
}

func (s *fakeShard) Verdict(r hub.Ref, v hub.Verdict, _ protocol.Time) {
	if c := s.conns[r.Slot]; !c.open || c.gen != r.Gen {
		return
	}
	if v.Err != nil {
		s.send(r.Slot, []byte("no "+v.Err.Message+"\n"))
		return
	}
	s.send(r.Slot, []byte("yes "+v.Grant.Subject+"\n"))
}

func (s *fakeShard) Displace(r hub.Ref, v hub.Displace, _ protocol.Time) {
	s.send(r.Slot, fmt.Appendf(nil, "displaced %v\n", v.Force))
	s.conns[r.Slot].done = true
}

func (s *fakeShard) Drain(window, _ protocol.Time) {
	for slot, c := range s.conns {
		if c.open {
			s.send(hub.Slot(slot), fmt.Appendf(nil, "drain %d\n", window))
			c.done = true
		}
	}
}

func (s *fakeShard) Stats() hub.Stats { return s.stats }

// fakeClock is moved by hand.
type fakeClock struct{ now atomic.Int64 }

func (c *fakeClock) Now() protocol.Time { return protocol.Time(c.now.Load()) }

// fakeHandler answers every token with itself as the subject and keeps the
// owners that were released.
type fakeHandler struct {
	group    *Group
	released chan uint64
}

func (h *fakeHandler) Handle(loop int, req hub.Request) {
	switch req.Kind {
	case hub.Verify:
		h.group.Verdict(loop, req.Ref, hub.Verdict{Grant: &protocol.Grant{Subject: req.Token}})
	case hub.Released:
		h.released <- req.Owner
	}
}

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
