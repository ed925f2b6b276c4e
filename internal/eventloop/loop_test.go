package eventloop

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cryptointel/internal/hub"
	"cryptointel/protocol"
)

// each runs a test on both kinds of loops.
func each(t *testing.T, test func(t *testing.T, kind string)) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) { test(t, kind) })
	}
}

func TestEcho(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		for _, c := range []struct {
			name string
			rest string
			sent int
		}{
			{"a byte", "", 1},
			{"only what was pipelined", "pipelined", 0},
			{"pipelined and more", "pipelined", 100},
			{"one read", "", readBytes},
			{"more than the socket holds", strings.Repeat("r", readBytes), 1 << 20},
		} {
			t.Run(c.name, func(t *testing.T) {
				b := newBed(t, config(kind, 2), nil)
				conn := b.connect(c.rest, hub.Hello{Echo: true})
				more := make([]byte, c.sent)
				for i := range more {
					more[i] = byte(rand.Uint32())
				}
				want := c.rest + string(more)
				go func() {
					conn.Write(more)
					conn.CloseWrite()
				}()
				if got := readAll(t, conn); got != want {
					t.Errorf("got %d bytes back, want the %d sent", len(got), len(want))
				}
			})
		}
	})
}

func TestFanOutOrder(t *testing.T) {
	const clients, bursts, size = 200, 20, 50
	each(t, func(t *testing.T, kind string) {
		b := newBed(t, config(kind, 2), nil)
		var want strings.Builder
		for i := range bursts * size {
			fmt.Fprintf(&want, "price:bitcoin %d\n", i)
		}
		var readers sync.WaitGroup
		for range clients {
			c := b.connect("", hub.Hello{})
			readers.Go(func() {
				got := make([]byte, want.Len())
				if _, err := io.ReadFull(c, got); err != nil || string(got) != want.String() {
					t.Errorf("%v, or lines missing or out of order", err)
				}
			})
		}
		b.until("connections", func(s LoopStats) bool { return s.Shard.Connections == clients })
		for burst := range bursts {
			for i := range size {
				b.group.Publish(statePub("price:bitcoin", int64(burst*size+i)))
			}
			b.sum() // every other burst meets an idle loop
		}
		readers.Wait()
		if s := b.sum(); s.Shard.Publications != 2*bursts*size || s.Conflated != 0 {
			t.Errorf("%d publications, %d conflated", s.Shard.Publications, s.Conflated)
		}
	})
}

// A reader that stops reading costs what its socket and the shard's bound
// hold, and nobody else notices; when it reads again it goes on.
func TestStuckReader(t *testing.T) {
	const others, bound = 20, 64 << 10
	each(t, func(t *testing.T, kind string) {
		b := newBed(t, config(kind, 1), func(b *bed) { b.shards[0].limit = bound })
		stuck, server := b.pair()
		defer stuck.Close()
		stuck.SetReadBuffer(32 << 10)
		if err := b.group.Adopt(server, nil, hub.Hello{}); err != nil {
			t.Fatal(err)
		}
		var conns []net.Conn
		for range others {
			conns = append(conns, b.connect("", hub.Hello{}))
		}
		line := strings.Repeat("x", 1023) + "\n"
		got := make([]byte, len(line))
		sent := 0
		for b.sum().Shard.Conflated == 0 {
			if sent++; sent > 20000 {
				t.Fatal("the stuck reader took 20 MB")
			}
			b.group.Publish(&protocol.Publication{Channel: "c", Data: []byte(line[:1023])})
			for _, c := range conns {
				if _, err := io.ReadFull(c, got); err != nil || string(got) != line {
					t.Fatalf("another reader: %q, %v", got, err)
				}
			}
		}
		if s := b.sum(); s.Blocked == 0 || s.Connections != others+1 {
			t.Errorf("blocked %d times, %d connections", s.Blocked, s.Connections)
		}
		for range sent - 1 {
			if _, err := io.ReadFull(stuck, got); err != nil || string(got) != line {
				t.Fatalf("the stuck reader, reading again: %q, %v", got, err)
			}
		}
		b.group.Publish(statePub("again", 1))
		if _, err := io.ReadFull(stuck, got[:8]); err != nil || string(got[:8]) != "again 1\n" {
			t.Errorf("after catching up: %q, %v", got[:8], err)
		}
	})
}

// The shard ends a connection whose socket takes nothing: what the socket
// holds does not stop that.
func TestStuckReaderIsEnded(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBed(t, config(kind, 1), func(b *bed) { b.shards[0].patience = protocol.Minute })
		stuck, server := b.pair()
		defer stuck.Close()
		stuck.SetReadBuffer(4096)
		if err := b.group.Adopt(server, nil, hub.Hello{Owner: 5}); err != nil {
			t.Fatal(err)
		}
		b.group.Publish(&protocol.Publication{Channel: "c", Data: make([]byte, 8<<20)})
		b.until("full socket", func(s LoopStats) bool { return s.Blocked > 0 })
		for len(b.handler.released) == 0 {
			b.advance(protocol.Second)
			b.sum()
		}
		if got := b.released(1); got[0] != 5 {
			t.Errorf("released %v", got)
		}
	})
}

func TestAnswersReachTheConnection(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBed(t, config(kind, 1), nil)
		conn := b.connect("ask u1\n", hub.Hello{})
		got := make([]byte, len("yes u1\n"))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != "yes u1\n" {
			t.Fatalf("got %q, %v", got, err)
		}
		b.group.Displace(0, hub.Ref{Slot: 0, Gen: 1}, hub.Displace{Force: true})
		if got := readAll(t, conn); got != "displaced true\n" {
			t.Errorf("got %q", got)
		}
		last := b.connect("", hub.Hello{})
		b.group.Drain(5)
		if got := readAll(t, last); got != "drain 5\n" {
			t.Errorf("got %q", got)
		}
	})
}

func TestTimer(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBed(t, config(kind, 1), func(b *bed) { b.clock.now.Store(100) })
		for range 3 {
			b.sum()
			b.advance(10)
		}
		b.sum()
		var got []protocol.Time
		b.group.loops[0].in.post(func() { got = slices.Clone(b.shards[0].ticks) })
		b.sum()
		if want := []protocol.Time{100, 110, 120, 130}; !reflect.DeepEqual(got, want) {
			t.Errorf("ticks at %v, want %v", got, want)
		}
	})
}

// systemClock runs by itself: the loop's own timer brings the ticks.
type systemClock struct{}

func (systemClock) Now() protocol.Time { return protocol.Time(time.Now().UnixNano()) }

type tickShard struct {
	*fakeShard
	ticked chan struct{}
}

func (s tickShard) Tick(now protocol.Time) protocol.Time {
	select {
	case s.ticked <- struct{}{}:
	default:
	}
	return s.fakeShard.Tick(now)
}

func TestTimerWakesAnIdleLoop(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBed(t, config(kind, 1), nil)
		b.stop()
		shard := tickShard{&fakeShard{t: t, every: 5 * protocol.Millisecond}, make(chan struct{})}
		l := b.group.loops[0]
		g, err := New(config(kind, 1), Parts{Shard: func(int) Shard { return shard },
			Clock: systemClock{}, Handler: b.handler, Log: l.log})
		if err != nil {
			t.Fatal(err)
		}
		b.group = g
		b.run()
		late := time.After(patient)
		for range 5 {
			select {
			case <-shard.ticked:
			case <-late:
				t.Fatal("no tick")
			}
		}
	})
}

// A flooder is read once a turn, so another connection's message is not
// further away than the flooder's next 64 KiB.
func TestFlooderDoesNotStarveOthers(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBed(t, config(kind, 1), nil)
		flooder := b.connect("", hub.Hello{})
		quiet := b.connect("", hub.Hello{})
		var flood sync.WaitGroup
		flood.Go(func() {
			for {
				if _, err := flooder.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		})
		b.until("flood", func(s LoopStats) bool { return s.Shard.BytesIn > 1<<20 })
		got := make([]byte, len("heard 1\n"))
		for range 20 {
			io.WriteString(quiet, "1\n")
			if _, err := io.ReadFull(quiet, got); err != nil || string(got) != "heard 1\n" {
				t.Fatalf("got %q, %v", got, err)
			}
		}
		flooder.Close()
		flood.Wait()
		b.released(1)
	})
}
