package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"cryptointel/protocol"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"
)

// A natsd is an external NATS server that can go away and come back.
type natsd struct {
	tb   testing.TB
	port int
	s    *server.Server
}

// external starts one; the test must leave no goroutine.
func external(tb testing.TB) *natsd {
	tb.Helper()
	here := goleak.IgnoreCurrent()
	n := &natsd{tb: tb, port: server.RANDOM_PORT}
	n.start()
	tb.Cleanup(func() {
		n.stop()
		if err := goleak.Find(here); err != nil {
			tb.Error(err)
		}
	})
	return n
}

func (n *natsd) start() {
	n.tb.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: n.port, NoSigs: true, NoLog: true})
	if err != nil {
		n.tb.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		n.tb.Fatal("the NATS server is not ready")
	}
	n.s, n.port = s, s.Addr().(*net.TCPAddr).Port
}

func (n *natsd) stop() { stopServer(n.s) }

func (n *natsd) url() string { return fmt.Sprint("nats://127.0.0.1:", n.port) }

// A diary keeps what is logged.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) Enabled(context.Context, slog.Level) bool { return true }
func (d *diary) WithAttrs([]slog.Attr) slog.Handler       { return d }
func (d *diary) WithGroup(string) slog.Handler            { return d }
func (d *diary) Handle(_ context.Context, r slog.Record) error {
	var line strings.Builder
	line.WriteString(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&line, " %s=%v", a.Key, a.Value)
		return true
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line.String())
	return nil
}

// with counts the lines that begin with a text.
func (d *diary) with(begin string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, line := range d.lines {
		if strings.HasPrefix(line, begin) {
			n++
		}
	}
	return n
}

// join opens a node on the server.
func (n *natsd) join(change func(*Config)) (*Broker, *diary) {
	n.tb.Helper()
	cfg := DefaultConfig()
	cfg.NATS.URLs = []string{n.url()}
	if change != nil {
		change(&cfg)
	}
	d := &diary{}
	b, err := Open(cfg, slog.New(d))
	if err != nil {
		n.tb.Fatal(err)
	}
	n.tb.Cleanup(b.Close)
	return b, d
}

// raw is a client that is no node, or one whose messages the test makes.
func (n *natsd) raw() *nats.Conn {
	n.tb.Helper()
	nc, err := nats.Connect(n.url(), nats.NoEcho())
	if err != nil {
		n.tb.Fatal(err)
	}
	n.tb.Cleanup(nc.Close)
	return nc
}

// until waits for something that no channel tells of.
func until(tb testing.TB, what string, is func() bool) {
	tb.Helper()
	deadline := time.NewTimer(15 * time.Second)
	defer deadline.Stop()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for !is() {
		select {
		case <-look.C:
		case <-deadline.C:
			tb.Fatalf("waited in vain: %s", what)
		}
	}
}

func add(tb testing.TB, b *Broker, issuer, id string) {
	tb.Helper()
	if _, err := b.Append(tb.Context(), issuer, signal(id, fmt.Sprintf(`{"id":%q}`, id)), nil); err != nil {
		tb.Fatal(err)
	}
}

// ids are the ids of the log, in order.
func ids(b *Broker) (list []string) {
	for _, p := range b.Read(0, 1<<20, nil) {
		list = append(list, p.Signal.ID)
	}
	return list
}

func lasts(b *Broker) map[string]int64 {
	m := map[string]int64{}
	for _, p := range b.LastAll(nil) {
		m[p.Channel] = p.Offset
	}
	return m
}

// TestLink: what is published on one node is heard on the other, the same and
// in the same order.
func TestLink(t *testing.T) {
	const rounds = 300
	n := external(t)
	a, _ := n.join(nil)
	b, _ := n.join(nil)
	here, there := listen(t, a), listen(t, b)
	for i := range rounds {
		publish(t, a, price("bitcoin", int64(i+1)))
		publish(t, a, price("ethereum", int64(2*i+1)))
	}
	for range 2 * rounds {
		if got, want := next(t, there), next(t, here); !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v; want %+v", got, want)
		}
	}
	add(t, b, "u1", "e1")
	got, want := next(t, here), next(t, there)
	if got.Signal == nil || got.Offset != 1 || !reflect.DeepEqual(got.Signal, want.Signal) || got.TS != want.TS {
		t.Errorf("entry: got %+v; want %+v", got, want)
	}
	if got, want := lasts(a), lasts(b); !reflect.DeepEqual(got, want) {
		t.Errorf("last values: %v and %v", got, want)
	}
	if a.Epoch() == b.Epoch() {
		t.Error("both logs have one epoch, and not the same offsets")
	}
	if len(here)+len(there) > 0 {
		t.Errorf("%d and %d more", len(here), len(there))
	}
}

// TestLinkLocal: what a node says of itself stays there.
func TestLinkLocal(t *testing.T) {
	n := external(t)
	a, _ := n.join(nil)
	b, _ := n.join(nil)
	heard := listen(t, b)
	status := func() *protocol.Publication {
		return &protocol.Publication{Channel: "system:status", Type: protocol.TypeStatus, Data: []byte(`{}`)}
	}
	for _, node := range []*Broker{a, b} {
		if err := node.PublishLocal(status()); err != nil {
			t.Fatal(err)
		}
	}
	own := b.Last("system:status")
	tick := signal("t1", `{}`)
	tick.Channel = protocol.TestLogChannel
	if _, err := a.Append(t.Context(), "system", tick, nil); err != nil {
		t.Fatal(err)
	}
	add(t, a, "u1", "e1")
	publish(t, a, price("bitcoin", 1))
	var got []string
	for range 3 {
		got = append(got, next(t, heard).Channel)
	}
	if want := []string{"system:status", "price:bitcoin", "signals"}; !reflect.DeepEqual(got, want) && got[1] != want[2] {
		t.Errorf("heard %v; want %v", got, want)
	}
	if b.Last("system:status") != own {
		t.Error("another node's system:status is shown")
	}
	c, _ := n.join(nil)
	if got, want := lasts(c), map[string]int64{"price:bitcoin": 1}; !reflect.DeepEqual(got, want) {
		t.Errorf("a node that starts later has %v; want %v", got, want)
	}
	if got := ids(b); !reflect.DeepEqual(got, []string{"e1"}) {
		t.Errorf("log: got %v; want e1", got)
	}
}

// TestLinkLateJoiner: a node that starts has every value when Open returns,
// also those of a node that is gone.
func TestLinkLateJoiner(t *testing.T) {
	const channels = 3000
	n := external(t)
	a, _ := n.join(nil)
	for i := range channels {
		publish(t, a, &protocol.Publication{Channel: fmt.Sprint("test:", i), Type: protocol.TypeMarket, Data: make([]byte, 200)})
	}
	add(t, a, "u1", "before")
	until(t, "a has sent", func() bool { return a.Stats().Link.Waiting == 0 })
	b, _ := n.join(nil)
	if got, want := lasts(b), lasts(a); !reflect.DeepEqual(got, want) {
		t.Fatalf("got %d values; want %d", len(got), len(want))
	}
	a.Close()
	c, _ := n.join(nil)
	if got, want := lasts(c), lasts(a); !reflect.DeepEqual(got, want) {
		t.Errorf("second hand: got %d values; want %d", len(got), len(want))
	}
	if got := c.Read(0, 1, nil); len(got) > 0 || b.Head() > 0 {
		t.Errorf("the log of a node that starts has %+v", got)
	}
}

// TestLinkAway: while the server is away each node goes on, and afterwards
// they have the same newest values and each other's entries, once.
func TestLinkAway(t *testing.T) {
	const rounds = 2000
	n := external(t)
	a, d := n.join(func(c *Config) { c.NATS.Outbox = 1000 })
	b, _ := n.join(nil)
	atA, atB := listen(t, a), listen(t, b)
	add(t, a, "u1", "first")
	for round := int64(1); round <= 2; round++ {
		n.stop()
		until(t, "the loss is noticed", func() bool { return !a.Stats().Link.Connected && !b.Stats().Link.Connected })
		for range rounds {
			publish(t, a, &protocol.Publication{Channel: "price:bitcoin", Data: []byte(`{}`)})
			publish(t, b, &protocol.Publication{Channel: "price:ethereum", Data: []byte(`{}`)})
		}
		for range 100 {
			add(t, a, "u1", fmt.Sprint("a", a.Head()))
			add(t, b, "u1", fmt.Sprint("b", b.Head()))
		}
		add(t, a, "u1", fmt.Sprint("both", a.Stats().Link.Returns))
		add(t, b, "u1", fmt.Sprint("both", b.Stats().Link.Returns))
		n.start()
		until(t, "the same values", func() bool { return len(lasts(a)) == 2 && reflect.DeepEqual(lasts(a), lasts(b)) })
		until(t, "all entries", func() bool { return a.Head() == 1+201*round && b.Head() == a.Head() })
	}
	inOrder(t, atA, 1+2*201)
	inOrder(t, atB, 1+2*201)
	if got := d.with("NATS connection lost"); got != 2 || d.with("NATS connection is back") != 2 {
		t.Errorf("logged %q", d.lines)
	}
	if st := a.Stats().Link; st.Lost+st.Unsent+st.Refused > 0 || st.Returns != 2 {
		t.Errorf("got %+v", st)
	}
}

// inOrder checks that offsets only rise, that the log has no gap, and that
// each node's entries are in its order and there once.
func inOrder(t *testing.T, heard <-chan *protocol.Publication, entries int64) {
	t.Helper()
	offsets, seen := map[string]int64{}, map[string]bool{}
	for offsets["signals"] < entries {
		p := next(t, heard)
		if p.Offset <= offsets[p.Channel] || p.IsLog() && p.Offset != offsets[p.Channel]+1 {
			t.Fatalf("%s: offset %d after %d", p.Channel, p.Offset, offsets[p.Channel])
		}
		offsets[p.Channel] = p.Offset
		if p.IsLog() {
			if seen[p.Signal.ID] {
				t.Errorf("entry %s comes twice", p.Signal.ID)
			}
			seen[p.Signal.ID] = true
		}
	}
}

// TestLinkOnce: an id that two nodes are given is in each log once.
func TestLinkOnce(t *testing.T) {
	n := external(t)
	a, _ := n.join(nil)
	b, d := n.join(nil)
	add(t, a, "u1", "x")
	until(t, "x is there", func() bool { return b.Head() == 1 })
	if offset, err := b.Append(t.Context(), "u1", signal("x", `{"id":"x"}`), nil); offset != 1 || err != nil {
		t.Errorf("the same again: got %d, %v; want 1", offset, err)
	}
	var refused *protocol.Error
	if _, err := b.Append(t.Context(), "u1", signal("x", `{}`), nil); !errors.As(err, &refused) || refused.Code != protocol.Conflict {
		t.Errorf("other content: got %v; want a conflict", err)
	}
	add(t, b, "u2", "x") // another issuer's
	until(t, "the other x", func() bool { return a.Head() == 2 && b.Head() == 2 })
	if d.with("another node's publication is left out") > 0 {
		t.Errorf("logged %q", d.lines)
	}
}

// TestLinkQuarrel: two nodes that write one channel are noticed, and the
// newest value wins everywhere.
func TestLinkQuarrel(t *testing.T) {
	n := external(t)
	a, da := n.join(nil)
	b, db := n.join(nil)
	heard := listen(t, a)
	other := listen(t, b)
	for i := int64(1); i <= 10; i++ {
		publish(t, a, price("bitcoin", 10*i))
		for next(t, other).Offset != 10*i {
		}
		publish(t, b, price("bitcoin", 10*i+1))
		for next(t, heard).Offset != 10*i+1 {
		}
		for next(t, other).Offset != 10*i+1 { // its own
		}
	}
	if got, want := lasts(a), lasts(b); !reflect.DeepEqual(got, want) || want["price:bitcoin"] != 101 {
		t.Errorf("got %v and %v", got, want)
	}
	for _, node := range []struct {
		b *Broker
		d *diary
	}{{a, da}, {b, db}} {
		if got := node.d.with("two nodes publish to one channel"); got != 1 || node.b.Stats().Link.Quarrels < 5 {
			t.Errorf("said %d times, %d counted", got, node.b.Stats().Link.Quarrels)
		}
	}
}

// TestLinkTakeover: one writer after another is no quarrel.
func TestLinkTakeover(t *testing.T) {
	n := external(t)
	a, _ := n.join(nil)
	b, d := n.join(nil)
	heard := listen(t, b)
	publish(t, a, price("bitcoin", 1))
	next(t, heard)
	publish(t, b, price("bitcoin", 2))
	c, _ := n.join(nil)
	publish(t, c, price("bitcoin", 3))
	until(t, "the newest is there", func() bool { return lasts(b)["price:bitcoin"] == 3 })
	if got := b.Stats().Link.Quarrels; got != 0 {
		t.Errorf("%d quarrels: %q", got, d.lines)
	}
}

// TestLinkPrefix: two installations on one NATS hear nothing of each other.
func TestLinkPrefix(t *testing.T) {
	n := external(t)
	a, _ := n.join(nil)
	b, d := n.join(func(c *Config) { c.NATS.Prefix = "cryptointel.two" })
	publish(t, a, price("bitcoin", 1))
	add(t, a, "u1", "x")
	until(t, "a has sent", func() bool { return a.Stats().Link.Waiting == 0 })
	if _, err := b.Ask(t.Context(), "anything", nil); !errors.Is(err, ErrNobody) { // a round trip
		t.Errorf("got %v; want ErrNobody", err)
	}
	if len(lasts(b)) > 0 || b.Head() > 0 || b.Stats().Link.Received > 0 {
		t.Errorf("heard %v: %q", lasts(b), d.lines)
	}
}

func TestLinkUnreachable(t *testing.T) {
	cfg := DefaultConfig()
	cfg.NATS.URLs = []string{"nats://user:secret@127.0.0.1:1", "nats://token@localhost:1"}
	here := goleak.IgnoreCurrent()
	b, err := Open(cfg, slog.New(slog.DiscardHandler))
	if err == nil {
		b.Close()
		t.Fatal("connected")
	}
	text := err.Error()
	if !strings.Contains(text, "nats://127.0.0.1:1, nats://localhost:1") || strings.Contains(text, "secret") || strings.Contains(text, "token@") {
		t.Errorf("got %q; want the URLs without their secrets", text)
	}
	if err := goleak.Find(here); err != nil {
		t.Error(err)
	}
}

// TestLinkSlowSubscriber: a subscriber that is held up gets the newest values
// and the whole log of another node.
func TestLinkSlowSubscriber(t *testing.T) {
	const rounds = 500
	n := external(t)
	a, _ := n.join(nil)
	b, _ := n.join(func(c *Config) { c.Pending = minPending })
	hold, heard := make(chan struct{}), make(chan *protocol.Publication, 4*rounds)
	if _, err := b.Subscribe(func(p *protocol.Publication) {
		<-hold
		heard <- p
	}); err != nil {
		t.Fatal(err)
	}
	for i := int64(1); i <= rounds; i++ {
		publish(t, a, price("bitcoin", i))
		add(t, a, "u1", fmt.Sprint(i))
	}
	until(t, "the node has it all", func() bool { return b.Head() == rounds && lasts(b)["price:bitcoin"] == rounds })
	close(hold)
	offsets := map[string]int64{}
	for offsets["signals"] < rounds || offsets["price:bitcoin"] < rounds {
		p := next(t, heard)
		if p.Offset <= offsets[p.Channel] || p.IsLog() && p.Offset != offsets[p.Channel]+1 {
			t.Fatalf("%s: offset %d after %d", p.Channel, p.Offset, offsets[p.Channel])
		}
		offsets[p.Channel] = p.Offset
	}
}

// BenchmarkLink is the way from one node's Publish to the other's subscriber.
func BenchmarkLink(b *testing.B) {
	n := external(b)
	from, _ := n.join(nil)
	to, _ := n.join(nil)
	heard := make(chan struct{})
	if _, err := to.Subscribe(func(*protocol.Publication) { heard <- struct{}{} }); err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 250)
	b.ReportAllocs()
	for b.Loop() {
		publish(b, from, &protocol.Publication{Channel: "price:bitcoin", Type: protocol.TypePrice, Data: data})
		<-heard
	}
}
