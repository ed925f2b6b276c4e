package broker

import (
	"bytes"
	"fmt"
	"net"
	"reflect"
	"sync"
	"testing"
	"time"

	"cryptointel/protocol"
	"github.com/nats-io/nats.go"
)

// A fake is a node whose messages the test makes.
type fake struct {
	t   *testing.T
	id  nodeID
	nc  *nats.Conn
	all <-chan *nats.Msg // what is said to all nodes and to this one
}

func (n *natsd) fake(t *testing.T, id nodeID) *fake {
	t.Helper()
	f := &fake{t: t, id: id, nc: n.raw()}
	c := make(chan *nats.Msg, 1024)
	f.all = c
	for _, subject := range []string{"cryptointel.v1.all", "cryptointel.v1.node." + id.String()} {
		if _, err := f.nc.ChanSubscribe(subject, c); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fake) say(m *message) {
	f.t.Helper()
	m.from = f.id
	f.raw(encode(m))
}

func (f *fake) raw(b []byte) {
	f.t.Helper()
	if err := f.nc.Publish("cryptointel.v1.all", b); err != nil {
		f.t.Fatal(err)
	}
}

// asked waits for an ask that is as wanted.
func (f *fake) asked(is func(*message) bool) *message {
	f.t.Helper()
	late := time.After(10 * time.Second)
	for {
		select {
		case m := <-f.all:
			if msg, err := parseMessage(m.Data); err == nil && msg.kind == kindAsk && is(msg) {
				return msg
			}
		case <-late:
			f.t.Fatal("nobody asks")
		}
	}
}

func (f *fake) entry(seq int64) sharedEntry {
	p := signal(fmt.Sprint(seq), `{}`)
	return sharedEntry{seq, "u1", contentSum(p, nil), p}
}

// TestLinkMissing: entries that got lost on the way are asked for, and
// appended in their order.
func TestLinkMissing(t *testing.T) {
	n := external(t)
	b, _ := n.join(nil)
	f := n.fake(t, nodeID{1})
	for _, seq := range []int64{1, 2, 5, 5, 2, 4} {
		f.say(&message{kind: kindEntry, entries: []sharedEntry{f.entry(seq)}})
	}
	want := []mark{{f.id, 2}}
	f.asked(func(m *message) bool { return reflect.DeepEqual(m.marks, want) })
	if got := ids(b); !reflect.DeepEqual(got, []string{"1", "2"}) {
		t.Errorf("before the answer: got %v", got)
	}
	f.say(&message{kind: kindEntries, entries: []sharedEntry{f.entry(3), f.entry(4), f.entry(5)}})
	until(t, "the rest", func() bool { return b.Head() == 5 })
	f.say(&message{kind: kindAsk, head: 7}) // its newest two were lost
	f.asked(func(m *message) bool { return reflect.DeepEqual(m.marks, []mark{{f.id, 5}}) })
	f.say(&message{kind: kindEntries, entries: []sharedEntry{f.entry(6), f.entry(7)}})
	until(t, "the newest", func() bool { return b.Head() == 7 })
	if got := ids(b); !reflect.DeepEqual(got, []string{"1", "2", "3", "4", "5", "6", "7"}) {
		t.Errorf("got %v", got)
	}
	if st := b.Stats().Link; st.Lost != 0 {
		t.Errorf("%d count as lost", st.Lost)
	}
}

// TestLinkLost: entries that their node does not give again are given up.
func TestLinkLost(t *testing.T) {
	n := external(t)
	b, d := n.join(nil)
	f := n.fake(t, nodeID{1})
	f.say(&message{kind: kindEntry, entries: []sharedEntry{f.entry(1)}})
	f.say(&message{kind: kindEntry, entries: []sharedEntry{f.entry(4)}})
	until(t, "the entry after the gap", func() bool { return b.Head() == 2 })
	if st := b.Stats().Link; st.Lost != 2 || d.with("entries of another node are lost") != 1 {
		t.Errorf("%d lost, logged %q", st.Lost, d.lines)
	}
}

// TestLinkFullLog: while a subscriber still has to get the log, another
// node's entries wait, and nothing else does.
func TestLinkFullLog(t *testing.T) {
	n := external(t)
	b, _ := n.join(func(c *Config) { c.LogEntries = 2 })
	f := n.fake(t, nodeID{1})
	hold, heard := make(chan struct{}), make(chan *protocol.Publication, 100)
	if _, err := b.Subscribe(func(p *protocol.Publication) {
		if p.IsLog() {
			<-hold
		}
		heard <- p
	}); err != nil {
		t.Fatal(err)
	}
	for seq := int64(1); seq <= 20; seq++ {
		f.say(&message{kind: kindEntry, entries: []sharedEntry{f.entry(seq)}})
	}
	p := price("bitcoin", 5)
	f.say(&message{kind: kindState, values: []value{{f.id, p, nil}}})
	until(t, "the price", func() bool { return b.Last("price:bitcoin") != nil })
	if b.Head() != 2 {
		t.Errorf("%d entries are in the log; there is room for 2", b.Head())
	}
	close(hold)
	for want := int64(1); want <= 20; {
		if p := next(t, heard); p.IsLog() {
			if p.Offset != want || p.Signal.ID != fmt.Sprint(want) {
				t.Fatalf("got %s at %d; want %d", p.Signal.ID, p.Offset, want)
			}
			want++
		}
	}
}

// TestLinkAnswers: a node that asks gets values and the entries it lacks.
func TestLinkAnswers(t *testing.T) {
	n := external(t)
	b, _ := n.join(nil)
	publish(t, b, price("bitcoin", 5))
	for i := range 5 {
		add(t, b, "u1", fmt.Sprint(i))
	}
	until(t, "all is sent", func() bool { return b.Stats().Link.Waiting == 0 })
	f := n.fake(t, nodeID{1})
	f.say(&message{kind: kindAsk, wants: true, marks: []mark{{b.link.id, 2}, {nodeID{9}, 0}}})
	var values, seqs []int64
	for done := false; !done; {
		m, err := parseMessage((<-f.all).Data)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range m.values {
			values = append(values, v.p.Offset)
		}
		for _, e := range m.entries {
			seqs = append(seqs, e.seq)
		}
		if done = m.kind == kindDone; done && m.head != 5 {
			t.Errorf("its head is %d; want 5", m.head)
		}
	}
	if !reflect.DeepEqual(values, []int64{5}) || !reflect.DeepEqual(seqs, []int64{3, 4, 5}) {
		t.Errorf("got values %v and entries %v", values, seqs)
	}
}

// TestLinkGarbage: what is no message of a node is ignored, counted, and
// spoken of once.
func TestLinkGarbage(t *testing.T) {
	n := external(t)
	b, d := n.join(nil)
	f := n.fake(t, nodeID{1})
	good := encode(&message{from: f.id, kind: kindState, values: []value{{f.id, price("bitcoin", 5), nil}}})
	garbage := [][]byte{nil, []byte("hello"), []byte(`{"type":"price_update"}`), bytes.Repeat([]byte{0xff}, 1<<19), good[:len(good)/2],
		append([]byte{2}, good[1:]...)}
	for range 10 {
		for _, g := range garbage {
			f.raw(g)
		}
	}
	far := price("ethereum", time.Now().Add(25*time.Hour).UnixMicro())
	f.say(&message{kind: kindState, values: []value{{f.id, far, nil}}})
	f.raw(good)
	until(t, "the good one", func() bool { return b.Last("price:bitcoin") != nil })
	if b.Last("price:ethereum") != nil {
		t.Error("a publication from the future stops its channel")
	}
	if got := b.Stats().Link.Refused; got != 61 {
		t.Errorf("%d counted; want 61", got)
	}
	if got := d.with("a message on our NATS subjects is ignored"); got != 1 || d.with("a node's publication is from the future") != 1 {
		t.Errorf("said %d times: %q", got, d.lines)
	}
}

// A bridge carries connections to the server, until it is told to hold what
// comes, as a network does that has gone silent.
type bridge struct {
	l      net.Listener
	to     string
	wg     sync.WaitGroup
	mu     sync.Mutex // guards the fields below
	silent chan struct{}
	conns  []net.Conn
}

func newBridge(tb testing.TB, to string) *bridge {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	open := make(chan struct{})
	close(open)
	br := &bridge{l: l, to: to, silent: open}
	br.wg.Go(br.accept)
	tb.Cleanup(func() {
		l.Close()
		br.mu.Lock()
		for _, c := range br.conns {
			c.Close()
		}
		br.mu.Unlock()
		br.wg.Wait()
	})
	return br
}

func (br *bridge) accept() {
	for {
		c, err := br.l.Accept()
		if err != nil {
			return
		}
		s, err := net.Dial("tcp", br.to)
		if err != nil {
			c.Close()
			continue
		}
		br.mu.Lock()
		br.conns = append(br.conns, c, s)
		br.mu.Unlock()
		br.wg.Go(func() { br.carry(c, s) })
		br.wg.Go(func() { br.carry(s, c) })
	}
}

func (br *bridge) carry(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 4096)
	for {
		n, err := from.Read(b)
		br.mu.Lock()
		silent := br.silent
		br.mu.Unlock()
		<-silent
		if _, werr := to.Write(b[:n]); err != nil || werr != nil {
			return
		}
	}
}

// hush makes the bridge silent; the function returned ends that.
func (br *bridge) hush() (end func()) {
	silent := make(chan struct{})
	br.mu.Lock()
	defer br.mu.Unlock()
	br.silent = silent
	return func() { close(silent) }
}

// TestLinkSilent: a server that takes nothing any more, without a word, holds
// up no publisher; when the network is back, so are the newest values.
func TestLinkSilent(t *testing.T) {
	n := external(t)
	br := newBridge(t, fmt.Sprint("127.0.0.1:", n.port))
	a, _ := n.join(func(c *Config) { c.NATS.URLs = []string{"nats://" + br.l.Addr().String()} })
	b, _ := n.join(nil)
	heard := listen(t, a)
	speak := br.hush()
	began := time.Now()
	for range 2000 {
		publish(t, a, &protocol.Publication{Channel: "test:a", Data: make([]byte, 32<<10)})
		next(t, heard)
	}
	add(t, a, "u1", "x")
	if took := time.Since(began); took > writeTime {
		t.Errorf("2000 publications took %v", took)
	}
	if st := a.Stats().Link; st.Waiting == 0 || st.Waiting > 1100 {
		t.Errorf("%d wait; the bound is in bytes", st.Waiting)
	}
	speak()
	until(t, "the newest value", func() bool { return lasts(b)["test:a"] == lasts(a)["test:a"] })
	until(t, "the entry", func() bool { return b.Head() == 1 })
}

// TestLinkOverflow: a node that could not read all that others said asks them
// for what it lacks.
func TestLinkOverflow(t *testing.T) {
	n := external(t)
	b, _ := n.join(nil)
	f := n.fake(t, nodeID{1})
	b.mu.Lock() // no message is taken
	for i := int64(1); i <= maxInbox+100; i++ {
		f.say(&message{kind: kindState, values: []value{{f.id, price("bitcoin", i), nil}}})
	}
	if err := f.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	until(t, "the queue is full", b.link.overflow.Load)
	b.mu.Unlock()
	f.asked(func(m *message) bool { return m.wants })
	newest := price("bitcoin", maxInbox+100)
	f.say(&message{kind: kindValues, values: []value{{f.id, newest, appendPublication(nil, newest)}}})
	until(t, "the newest value", func() bool { return lasts(b)["price:bitcoin"] == newest.Offset })
	if got := b.Stats().Link.Skipped; got == 0 {
		t.Error("nothing counted as skipped")
	}
}

// TestLinkRepeats: this node's values are said again, in case one was missed.
func TestLinkRepeats(t *testing.T) {
	n := external(t)
	b, _ := n.join(nil)
	publish(t, b, price("bitcoin", 5))
	until(t, "it is sent", func() bool { return b.Stats().Link.Waiting == 0 })
	f := n.fake(t, nodeID{1})
	publish(t, b, price("ethereum", 6))
	f.say(&message{kind: kindState, values: []value{{f.id, price("solana", 7), nil}}})
	until(t, "the other's value", func() bool { return b.Last("price:solana") != nil })
	b.repeatOwn()
	b.link.kick()
	got := map[string]bool{}
	for len(got) < 2 {
		m, err := parseMessage((<-f.all).Data)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range m.values {
			got[v.p.Channel] = true
		}
	}
	if !got["price:bitcoin"] || !got["price:ethereum"] {
		t.Errorf("said again: %v; want its own two", got)
	}
}
