package eventloop

import (
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cryptointel/internal/hub"
	"cryptointel/protocol"
)

// benchShard shows each publication to every connection and has no other
// work, so a benchmark measures the loop.
type benchShard struct {
	open    hub.Slot
	waiting []byte // for every connection from at on
	later   []byte // came while some were waiting
	at      hub.Slot
	owed    map[hub.Slot][]byte // what a socket did not take
	free    []hub.Slot          // take bytes again, and have some owed
}

func (s *benchShard) Open(hub.Hello, protocol.Time) hub.Ref {
	s.open++
	return hub.Ref{Slot: s.open - 1, Gen: 1}
}

func (s *benchShard) Publish(p *protocol.Publication, _ protocol.Time) {
	if s.at > 0 {
		s.later = append(s.later, p.Data...)
		return
	}
	s.waiting = append(s.waiting, p.Data...)
}

func (s *benchShard) Next(int) (hub.Slot, []byte, bool) {
	if n := len(s.free); n > 0 {
		return s.free[n-1], s.owed[s.free[n-1]], true
	}
	return s.at, s.waiting, len(s.waiting) > 0 && s.open > 0
}

func (s *benchShard) Wrote(slot hub.Slot, n int, _ bool, _ protocol.Time) {
	if k := len(s.free); k > 0 {
		s.free = s.free[:k-1]
		s.owe(slot, s.owed[slot][n:])
		return
	}
	if n < len(s.waiting) {
		s.owe(slot, append(s.owed[slot], s.waiting[n:]...))
	}
	if s.at++; s.at == s.open {
		s.at = 0
		s.waiting, s.later = s.later, s.waiting[:0]
	}
}

func (s *benchShard) owe(slot hub.Slot, b []byte) {
	if s.owed == nil {
		s.owed = map[hub.Slot][]byte{}
	}
	if s.owed[slot] = b; len(b) == 0 {
		delete(s.owed, slot)
	}
}

func (s *benchShard) Writable(slot hub.Slot, _ protocol.Time) {
	if len(s.owed[slot]) > 0 {
		s.free = append(s.free, slot)
	}
}

func (s *benchShard) Pending() bool {
	return len(s.free) > 0 || len(s.waiting) > 0 && s.open > 0
}

func (s *benchShard) Receive(hub.Slot, []byte, protocol.Time)       {}
func (s *benchShard) Gone(hub.Slot, protocol.Time)                  {}
func (s *benchShard) Tick(now protocol.Time) protocol.Time          { return now + protocol.Second }
func (s *benchShard) Requests() []hub.Request                       { return nil }
func (s *benchShard) Verdict(hub.Ref, hub.Verdict, protocol.Time)   {}
func (s *benchShard) Displace(hub.Ref, hub.Displace, protocol.Time) {}
func (s *benchShard) Drain(protocol.Time, protocol.Time)            {}
func (s *benchShard) Stats() hub.Stats                              { return hub.Stats{} }

// readers are many clients that count what they get.
type readers struct {
	addr *unix.SockaddrInet4
	ep   int
	fds  []int
	got  atomic.Int64
	all  chan struct{} // got has reached want
	want atomic.Int64
	end  atomic.Bool
}

func newReaders(b *testing.B, ln net.Listener) *readers {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		b.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	return &readers{ep: ep, all: make(chan struct{}, 1),
		addr: &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}}
}

func (r *readers) connect(b *testing.B, ln net.Listener) net.Conn {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Skipf("too few descriptors: %v", err)
	}
	r.fds = append(r.fds, fd)
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	if err := unix.Connect(fd, r.addr); err != nil {
		b.Fatal(err)
	}
	if err := unix.EpollCtl(r.ep, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		b.Fatal(err)
	}
	c, err := ln.Accept()
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func (r *readers) run() {
	events, buf := make([]unix.EpollEvent, 1024), make([]byte, 64<<10)
	for !r.end.Load() {
		n, _ := unix.EpollWait(r.ep, events, 100)
		for _, ev := range events[:max(n, 0)] {
			k, _ := unix.Read(int(ev.Fd), buf)
			if r.got.Add(int64(max(k, 0))) == r.want.Load() {
				r.all <- struct{}{}
			}
		}
	}
}

// expect says how many bytes the readers wait for, beyond those they have.
func (r *readers) expect(n int) { r.want.Store(r.got.Load() + int64(n)) }

func (r *readers) close() {
	r.end.Store(true)
	for _, fd := range r.fds {
		unix.Close(fd)
	}
	unix.Close(r.ep)
}

func cpu() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPublish sends 200 bytes to every connection, until all have them:
// by a bare loop of write calls (the floor), by the loops, and by the loops
// with ten publications at once. The CPU is that of both ends. 9,000 is what
// the limit of 20,000 descriptors allows in one process.
func BenchmarkPublish(b *testing.B) {
	for _, conns := range []int{1000, 9000} {
		for _, c := range []struct {
			kind string
			at   int
		}{{"floor", 1}, {KindEpoll, 1}, {KindEpoll, 10}, {KindPortable, 1}} {
			b.Run(fmt.Sprintf("%s/%d/x%d", c.kind, conns, c.at), func(b *testing.B) {
				benchPublish(b, c.kind, conns, c.at)
			})
		}
	}
}

func benchPublish(b *testing.B, kind string, conns, at int) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	r := newReaders(b, ln)
	send, stop := benchSender(b, kind, conns, r, ln)
	done := make(chan struct{})
	go func() { defer close(done); r.run() }()
	p := &protocol.Publication{Channel: "price:bitcoin", Data: make([]byte, 200)}
	send(p, 0)
	b.ReportAllocs()
	b.ResetTimer()
	start := cpu()
	for b.Loop() {
		r.expect(at * conns * len(p.Data))
		send(p, at)
		<-r.all
	}
	deliveries := float64(b.N * at * conns)
	b.ReportMetric(float64(cpu()-start)/deliveries, "cpu-ns/delivery")
	b.ReportMetric(float64(b.Elapsed())/deliveries, "ns/delivery")
	b.StopTimer()
	r.end.Store(true)
	<-done
	stop()
	r.close()
}

// benchSender connects the readers; send publishes p so many times.
func benchSender(b *testing.B, kind string, conns int, r *readers, ln net.Listener) (
	send func(p *protocol.Publication, times int), stop func()) {
	if kind == "floor" {
		var fds []int
		for range conns {
			fd, err := detach(r.connect(b, ln), 32768)
			if err != nil {
				b.Fatal(err)
			}
			fds = append(fds, fd)
		}
		return func(p *protocol.Publication, times int) {
				for range times {
					for _, fd := range fds {
						unix.Write(fd, p.Data)
					}
				}
			}, func() {
				for _, fd := range fds {
					unix.Close(fd)
				}
			}
	}
	g, stop := benchGroup(b, kind)
	for range conns {
		if err := g.Adopt(r.connect(b, ln), nil, hub.Hello{}); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := g.Stats(b.Context()); err != nil {
		b.Fatal(err)
	}
	return func(p *protocol.Publication, times int) {
		for range times {
			g.Publish(p)
		}
	}, stop
}

func benchGroup(b *testing.B, kind string) (*Group, func()) {
	g, err := New(config(kind, 1), Parts{Shard: func(int) Shard { return &benchShard{} },
		Clock: systemClock{}, Handler: &fakeHandler{}, Log: discard})
	if err != nil {
		b.Fatal(err)
	}
	return g, start(b, g)
}

// BenchmarkWakeup publishes to one idle loop and waits until one client has
// the bytes: the two hand-overs and the system calls, nothing else.
func BenchmarkWakeup(b *testing.B) {
	for _, kind := range kinds {
		b.Run(kind, func(b *testing.B) { benchPublish(b, kind, 1, 1) })
	}
}
