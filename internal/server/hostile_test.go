package server

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"cryptointel/internal/eventloop"
	"cryptointel/internal/frame"
	"cryptointel/protocol"
)

// A hostile is a server under attack and a well-behaved client of it. After
// every attack that client must have everything, and the server must be as it
// was before: connections, memory, goroutines, descriptors.
type hostile struct {
	*rfcServer
	witness *rfcConn
	n       int   // what was published last
	offset  int64 // of the last entry the witness has
	before  hostileUse
}

// hostileUse is what the process uses.
type hostileUse struct {
	heap                    int64
	goroutines, descriptors int
}

const (
	hostileLogBytes = 1 << 20
	hostileGrowth   = 4 << 20 // heap that may be more after an attack: buffers that are kept for use again
	hostileState    = "test:witness"
)

// hostileSignals lets anonymous clients follow the log, which is small.
func hostileSignals(c *Config) {
	c.Auth.AnonymousChannels = append(c.Auth.AnonymousChannels, "signals:*")
	c.Broker.LogBytes = hostileLogBytes
}

func hostileStart(t *testing.T, kind string, change func(*Config)) *hostile {
	t.Helper()
	h := &hostile{rfcServer: rfcStart(t, kind, func(c *Config) {
		hostileSignals(c)
		if change != nil {
			change(c)
		}
	})}
	h.witness = rfcDial(t, h.Addr())
	h.witness.subscribe(t, "signals:all", hostileState)
	h.check(t)
	h.before = h.use()
	return h
}

// subscribe follows channels and reads up to the answer.
func (c *rfcConn) subscribe(t testing.TB, channels ...string) {
	t.Helper()
	c.send(t, rfcBytes{}.text(`{"type":"subscribe","channels":["`+strings.Join(channels, `","`)+`"]}`))
	for {
		if m := c.message(t); m.Type == "ack" {
			return
		}
	}
}

// A hostileMessage is what the tests look at in a message.
type hostileMessage struct {
	Type, Channel string
	Offset, Prev  int64
	Error         struct{ Code protocol.Code }
	Errors        []struct{ Code protocol.Code }
	Data          struct {
		ID string
		N  int
	}
}

// message reads the next message, which must be a text frame.
func (c *rfcConn) message(t testing.TB) hostileMessage {
	t.Helper()
	f, err := c.next()
	if err != nil || f.Op != frame.Text {
		t.Fatalf("got %v, %v, want a message", f, err)
	}
	return hostileParse(t, f)
}

func hostileParse(t testing.TB, f rfcFrame) (m hostileMessage) {
	t.Helper()
	if err := json.Unmarshal([]byte(f.Payload), &m); err != nil {
		t.Fatalf("a message is %v: %v", f, err)
	}
	return m
}

// publish publishes one entry of the log, with a text of so many bytes, and one
// value of the state channel; both carry the next number.
func (h *hostile) publish(t testing.TB, size int) {
	t.Helper()
	h.n++
	id := fmt.Sprint("w-", h.n)
	entry := &protocol.Publication{
		Channel: protocol.LogChannel, Type: protocol.TypeSignal,
		Data:   fmt.Appendf(nil, `{"id":%q,"n":%d,"description":%q}`, id, h.n, rfcRepeat("x", size)),
		Signal: &protocol.Signal{ID: id, Type: "witness", Severity: "low"},
	}
	if _, err := h.broker.Append(t.Context(), "tester", entry, nil); err != nil {
		t.Fatal(err)
	}
	err := h.broker.Publish(&protocol.Publication{Channel: hostileState, Type: protocol.TypePrice,
		Data: fmt.Appendf(nil, `{"n":%d,"description":%q}`, h.n, rfcRepeat("y", size))})
	if err != nil {
		t.Fatal(err)
	}
}

// check publishes a few messages and has the witness read them: every entry in
// order, no gap, and every value of the state channel, since it keeps up.
func (h *hostile) check(t testing.TB) {
	t.Helper()
	const count = 10
	first := h.n
	for range count {
		h.publish(t, 10)
	}
	h.witnesses(t, first, count)
	h.witness.send(t, rfcBytes{}.text(`{"type":"ping"}`))
	for h.witness.message(t).Type != "pong" {
	}
}

// witnesses reads so many entries and state values behind number first.
func (h *hostile) witnesses(t testing.TB, first, count int) {
	t.Helper()
	entries, states := first, first
	for entries < first+count || states < first+count {
		m := h.witness.message(t)
		switch {
		case m.Type == "signal_alert" && m.Data.N == entries+1 && m.Prev == h.offset:
			entries, h.offset = m.Data.N, m.Offset
		case m.Channel == hostileState && m.Data.N == states+1:
			states = m.Data.N
		case m.Type == "signal_alert" || m.Channel == hostileState:
			t.Fatalf("the other client got %+v after entry %d (offset %d) and state %d", m, entries, h.offset, states)
		}
	}
}

func (h *hostile) use() hostileUse {
	runtime.GC()
	runtime.GC() // the second empties what the first moved out of pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fds, _ := os.ReadDir("/proc/self/fd")
	return hostileUse{int64(m.HeapAlloc), runtime.NumGoroutine(), len(fds)}
}

// stats are the one loop's numbers.
func (h *hostile) stats(t testing.TB) eventloop.LoopStats {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), rfcPatience)
	defer cancel()
	all, err := h.loops.Stats(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return all[0]
}

// until asks the loop again and again, each time a turn of it, until what it
// says is right.
func (h *hostile) until(t testing.TB, what string, right func(eventloop.LoopStats) bool) {
	t.Helper()
	for end := time.Now().Add(rfcPatience); ; {
		s := h.stats(t)
		if right(s) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("still not: %s; %+v", what, s)
		}
		runtime.Gosched()
	}
}

// passes lets time pass, a second at a time and at most a minute, until what the
// loop says is right.
func (h *hostile) passes(t testing.TB, what string, right func(eventloop.LoopStats) bool) {
	t.Helper()
	for range 60 {
		h.advance(time.Second)
		if right(h.stats(t)) {
			return
		}
	}
	h.until(t, what, right)
}

// hostileAlone reports whether only the witness is left.
func hostileAlone(s eventloop.LoopStats) bool { return s.Shard.Connections == 1 }

// recovered waits until only the witness is left, and compares.
func (h *hostile) recovered(t testing.TB) {
	t.Helper()
	h.until(t, "one connection, nothing held, goroutines and descriptors back", func(s eventloop.LoopStats) bool {
		fds, _ := os.ReadDir("/proc/self/fd")
		return s.Shard.Connections == 1 && s.Shard.HeldBytes == 0 && s.Shard.Subscriptions == 2 &&
			runtime.NumGoroutine() <= h.before.goroutines && len(fds) <= h.before.descriptors
	})
	if grown := h.use().heap - h.before.heap; grown > hostileGrowth {
		t.Errorf("the heap has %d KiB more than before", grown>>10)
	}
}

// A hostileAttack is one way to misuse the server.
type hostileAttack struct {
	name string
	run  func(*testing.T, *hostile)
}

// hostileRun runs attacks against both kinds of loops.
func hostileRun(t *testing.T, change func(*Config), attacks []hostileAttack) {
	for _, kind := range rfcKinds {
		for _, a := range attacks {
			t.Run(kind+" "+a.name, func(t *testing.T) {
				h := hostileStart(t, kind, change)
				a.run(t, h)
				h.check(t)
				h.recovered(t)
			})
		}
	}
}

// ends reads up to the end, which must come with code.
func (c *rfcConn) ends(t testing.TB, code protocol.Code) {
	t.Helper()
	got, err := c.rest()
	if err != nil {
		t.Fatalf("got %v, %v", got, err)
	}
	c.lastWords(t, got, code)
}

// lastWords checks that the last two frames are the error with this code and
// the close that goes with it.
func (c *rfcConn) lastWords(t testing.TB, got []rfcFrame, code protocol.Code) {
	t.Helper()
	n := len(got) - 2
	if n < 0 {
		t.Fatalf("got %v: want an error and a close", got)
	}
	m := hostileParse(t, got[n])
	if want := rfcClose(code.Close()); m.Error.Code != code || got[n+1] != want {
		t.Errorf("got %v %v, want %s and %v", got[n], got[n+1], code, want)
	}
}
