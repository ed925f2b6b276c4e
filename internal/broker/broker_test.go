package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cryptointel/protocol"
	"go.uber.org/goleak"
)

// A clock stands still until it is moved.
type clock struct{ ns atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// open starts a broker that is closed, and leaves nothing, at the test's end.
func open(tb testing.TB, change func(*Config)) (*Broker, *clock) {
	tb.Helper()
	here := goleak.IgnoreCurrent()
	c := &clock{}
	c.ns.Store(1_764_678_600_123_456_000)
	cfg := DefaultConfig()
	cfg.Now = c.now
	if change != nil {
		change(&cfg)
	}
	b, err := Open(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		b.Close()
		if err := goleak.Find(here); err != nil {
			tb.Error(err)
		}
	})
	return b, c
}

// listen subscribes; what is heard comes out of the channel.
func listen(tb testing.TB, b *Broker) <-chan *protocol.Publication {
	tb.Helper()
	heard := make(chan *protocol.Publication, 1<<16)
	if _, err := b.Subscribe(func(p *protocol.Publication) { heard <- p }); err != nil {
		tb.Fatal(err)
	}
	return heard
}

// next waits for the next publication.
func next(tb testing.TB, heard <-chan *protocol.Publication) *protocol.Publication {
	tb.Helper()
	select {
	case p := <-heard:
		return p
	case <-time.After(10 * time.Second):
		tb.Fatal("nothing was delivered")
		return nil
	}
}

func publish(tb testing.TB, b *Broker, p *protocol.Publication) {
	tb.Helper()
	if err := b.Publish(p); err != nil {
		tb.Fatal(err)
	}
}

func price(asset string, offset int64) *protocol.Publication {
	return &protocol.Publication{Channel: "price:" + asset, Type: protocol.TypePrice, Offset: offset,
		TS: 7, Price: 1.5, Data: fmt.Appendf(nil, `{"n":%d}`, offset)}
}

func copyOf(p *protocol.Publication) *protocol.Publication { c := *p; return &c }

func TestPublish(t *testing.T) {
	b, c := open(t, nil)
	heard := listen(t, b)
	now := c.now().UnixMicro()

	full := price("bitcoin", 5)
	stamped := &protocol.Publication{Channel: "market:summary", Type: protocol.TypeMarket, Data: []byte(`{}`)}
	again := copyOf(stamped)
	odd := &protocol.Publication{Channel: "test:a.b*-_.", Type: "anything", Data: []byte(`{"x":1}`)}
	for _, p := range []*protocol.Publication{full, stamped, again, odd} {
		publish(t, b, p)
	}
	want := []*protocol.Publication{price("bitcoin", 5), copyOf(stamped), copyOf(again), copyOf(odd)}
	for i, p := range want {
		if p.Offset == 0 || p.TS == 0 {
			t.Errorf("publication %d is not stamped: %+v", i, p)
		}
		if got := next(t, heard); !reflect.DeepEqual(got, p) {
			t.Errorf("delivery %d: got %+v; want %+v", i, got, p)
		}
	}
	if stamped.Offset != now || again.Offset != now+1 || stamped.TS != c.now().UnixMilli() {
		t.Errorf("got offsets %d and %d; want %d and the next", stamped.Offset, again.Offset, now)
	}
	if got := b.Last("market:summary"); got != again {
		t.Errorf("last: got %+v; want %+v", got, again)
	}
	if got := b.Last("price:none"); got != nil {
		t.Errorf("last of a channel that has none: got %+v", got)
	}
	if got := len(b.LastAll(nil)); got != 3 {
		t.Errorf("got %d last values; want 3", got)
	}
}

func TestPublishRefuses(t *testing.T) {
	b, _ := open(t, nil)
	publish(t, b, price("bitcoin", 5))
	with := func(change func(*protocol.Publication)) *protocol.Publication {
		p := price("bitcoin", 6)
		change(p)
		return p
	}
	code := func(c protocol.Code) error { return &protocol.Error{Code: c} }
	tests := []struct {
		name string
		p    *protocol.Publication
		want error
	}{
		{"same offset", price("bitcoin", 5), ErrStale},
		{"older offset", price("bitcoin", 4), ErrStale},
		{"negative offset", price("bitcoin", -1), code(protocol.InvalidMessage)},
		{"offset of 2^53", price("bitcoin", 1<<53), code(protocol.InvalidMessage)},
		{"channel empty", with(func(p *protocol.Publication) { p.Channel = "" }), code(protocol.InvalidChannel)},
		{"channel with NATS's wildcard", with(func(p *protocol.Publication) { p.Channel = "test:>" }), code(protocol.InvalidChannel)},
		{"channel with a line break", with(func(p *protocol.Publication) { p.Channel = "a\r\nPUB x" }), code(protocol.InvalidChannel)},
		{"no data", with(func(p *protocol.Publication) { p.Data = nil }), code(protocol.InvalidMessage)},
		{"over 1 MiB", with(func(p *protocol.Publication) { p.Data = make([]byte, maxEncoded) }), code(protocol.MessageTooLarge)},
		{"a signal", with(func(p *protocol.Publication) { p.Signal = &protocol.Signal{} }), code(protocol.InvalidMessage)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := b.Publish(tt.p)
			var got, want *protocol.Error
			if errors.As(tt.want, &want) && errors.As(err, &got) {
				if got.Code != want.Code {
					t.Errorf("got %v; want %s", err, want.Code)
				}
			} else if !errors.Is(err, tt.want) {
				t.Errorf("got %v; want %v", err, tt.want)
			}
		})
	}
	if got := b.Last("price:bitcoin").Offset; got != 5 {
		t.Errorf("the last value has offset %d; want 5", got)
	}
}

// TestOrder: eight publish at once, to the log and to channels of their own
// and to one they share. Each one's order is kept, and the log's.
func TestOrder(t *testing.T) {
	const publishers, each = 8, 200
	b, _ := open(t, nil)
	heard := listen(t, b)
	var wg sync.WaitGroup
	for i := range publishers {
		wg.Go(func() {
			for n := range each {
				data := fmt.Appendf(nil, `{"by":%d,"n":%d}`, i, n)
				err := errors.Join(
					b.Publish(&protocol.Publication{Channel: fmt.Sprint("test:", i), Data: data}),
					b.Publish(&protocol.Publication{Channel: "test:shared", Data: data}))
				_, appendErr := b.Append(t.Context(), "t", signal(fmt.Sprint(i, "-", n), string(data)), nil)
				if err = errors.Join(err, appendErr); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	offsets, counts := map[string]int64{}, map[string]int{}
	for range publishers * each * 3 {
		p := next(t, heard)
		var by, n int
		if _, err := fmt.Sscanf(string(p.Data), `{"by":%d,"n":%d}`, &by, &n); err != nil {
			t.Fatal(err)
		}
		key := fmt.Sprint(p.Channel, " by ", by)
		if counts[key] != n {
			t.Fatalf("%s: got number %d; want %d", key, n, counts[key])
		}
		counts[key]++
		if p.Offset <= offsets[p.Channel] || p.IsLog() && p.Offset != offsets[p.Channel]+1 {
			t.Fatalf("%s: offset %d after %d", p.Channel, p.Offset, offsets[p.Channel])
		}
		offsets[p.Channel] = p.Offset
	}
}

// TestSlowSubscriber: a subscriber that is held up loses state publications,
// which are counted; it gets the newest value of each, and all of the log.
func TestSlowSubscriber(t *testing.T) {
	const rounds = 500
	b, _ := open(t, func(c *Config) { c.Pending = minPending })
	hold := make(chan struct{})
	heard := make(chan *protocol.Publication, 4*rounds)
	unsubscribe, err := b.Subscribe(func(p *protocol.Publication) {
		<-hold
		heard <- p
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := int64(1); i <= rounds; i++ {
		publish(t, b, price("bitcoin", i))
		publish(t, b, price("ethereum", i))
		if _, err := b.Append(t.Context(), "t", signal(fmt.Sprint(i), `{}`), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.nc.Flush(); err != nil { // what is dropped is dropped now
		t.Fatal(err)
	}
	close(hold)
	offsets := map[string]int64{}
	for offsets["signals"] < rounds || offsets["price:bitcoin"] < rounds || offsets["price:ethereum"] < rounds {
		p := next(t, heard)
		if p.Offset <= offsets[p.Channel] || p.IsLog() && p.Offset != offsets[p.Channel]+1 {
			t.Fatalf("%s: offset %d after %d", p.Channel, p.Offset, offsets[p.Channel])
		}
		offsets[p.Channel] = p.Offset
	}
	skipped := b.Stats().Skipped
	if skipped == 0 {
		t.Error("nothing counted as skipped")
	}
	unsubscribe()
	unsubscribe()
	if got := b.Stats().Skipped; got != skipped {
		t.Errorf("after the subscription %d are counted; want %d", got, skipped)
	}
}

// TestSubscribeLate: a subscriber starts from the last values.
func TestSubscribeLate(t *testing.T) {
	b, _ := open(t, nil)
	publish(t, b, price("bitcoin", 5))
	publish(t, b, price("bitcoin", 6))
	if _, err := b.Append(t.Context(), "t", signal("old", `{}`), nil); err != nil {
		t.Fatal(err)
	}
	heard := listen(t, b)
	if got, want := next(t, heard), price("bitcoin", 6); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v; want the last value %+v", got, want)
	}
	publish(t, b, price("bitcoin", 7))
	if got, want := next(t, heard), price("bitcoin", 7); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v; want %+v", got, want)
	}
}

// TestReconnect: what is lost with the connection inside the process is made
// up for.
func TestReconnect(t *testing.T) {
	const entries = 300
	b, _ := open(t, nil)
	heard := listen(t, b)
	for i := range entries {
		if i%100 == 50 {
			if err := b.nc.ForceReconnect(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.Append(t.Context(), "t", signal(fmt.Sprint(i), `{}`), nil); err != nil {
			t.Fatal(err)
		}
		publish(t, b, price("bitcoin", int64(i+1)))
	}
	var log, state int64
	for log < entries || state < entries {
		p := next(t, heard)
		if p.IsLog() && p.Offset != log+1 || !p.IsLog() && p.Offset <= state {
			t.Fatalf("%s: offset %d after %d of the log and %d of the state", p.Channel, p.Offset, log, state)
		}
		if p.IsLog() {
			log = p.Offset
		} else {
			state = p.Offset
		}
	}
}

func TestTestChannelsAreBounded(t *testing.T) {
	b, _ := open(t, func(c *Config) { c.TestChannels = 2 })
	for _, channel := range []string{"price:bitcoin", "test:a", "test:b", "test:a", "test:c"} {
		publish(t, b, &protocol.Publication{Channel: channel, Data: []byte(`{}`)})
	}
	got := map[string]bool{}
	for _, p := range b.LastAll(nil) {
		got[p.Channel] = true
	}
	if want := map[string]bool{"price:bitcoin": true, "test:a": true, "test:c": true}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v; want %v", got, want)
	}
}

func TestClose(t *testing.T) {
	b, _ := open(t, nil)
	var calls atomic.Int64
	unsubscribe, err := b.Subscribe(func(*protocol.Publication) { calls.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 { // Close while others publish
		started := make(chan struct{})
		wg.Go(func() {
			if err := b.Publish(&protocol.Publication{Channel: "test:x", Data: []byte(`{}`)}); err != nil {
				t.Error(err)
			}
			close(started)
			for b.Publish(&protocol.Publication{Channel: "test:x", Data: []byte(`{}`)}) == nil {
			}
		})
		<-started
	}
	b.Close()
	called := calls.Load()
	wg.Wait()
	unsubscribe()
	b.Close()
	if got := calls.Load(); got != called {
		t.Errorf("%d calls after Close", got-called)
	}
	if err := b.Publish(price("bitcoin", 2)); err != ErrClosed {
		t.Errorf("publish: got %v; want ErrClosed", err)
	}
	if _, err := b.Append(t.Context(), "t", signal("x", `{}`), nil); err != ErrClosed {
		t.Errorf("append: got %v; want ErrClosed", err)
	}
	if _, err := b.Subscribe(func(*protocol.Publication) {}); err != ErrClosed {
		t.Errorf("subscribe: got %v; want ErrClosed", err)
	}
}

// BenchmarkPublish is what a publisher spends on one publication while
// someone listens.
func BenchmarkPublish(b *testing.B) {
	br, _ := open(b, nil)
	if _, err := br.Subscribe(func(*protocol.Publication) {}); err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 250)
	b.ReportAllocs()
	for b.Loop() {
		publish(b, br, &protocol.Publication{Channel: "price:bitcoin", Type: protocol.TypePrice, Data: data})
	}
}

// BenchmarkLatency is the way from Publish to the subscriber, one at a time.
func BenchmarkLatency(b *testing.B) {
	br, _ := open(b, nil)
	heard := make(chan struct{})
	if _, err := br.Subscribe(func(*protocol.Publication) { heard <- struct{}{} }); err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 250)
	b.ReportAllocs()
	for b.Loop() {
		publish(b, br, &protocol.Publication{Channel: "price:bitcoin", Type: protocol.TypePrice, Data: data})
		<-heard
	}
}
