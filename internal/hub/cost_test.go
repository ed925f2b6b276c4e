package hub

import (
	"fmt"
	"runtime"
	"testing"

	"cryptointel/conformance"
	"cryptointel/internal/frame"
	"cryptointel/internal/session"
	"cryptointel/protocol"
)

// A crowd is a shard with many connections whose sockets take everything.
type crowd struct {
	shard  *Shard
	now    protocol.Time
	slots  []Slot
	offset int64
}

func newCrowd() *crowd {
	ses := session.DefaultConfig()
	ses.Limits.MessagesPerMinute = 0
	cfg := DefaultConfig()
	cfg.Session, cfg.Directory, cfg.Epoch = &ses, threeAssets{}, testEpoch
	now := protocol.Time(conformance.Start.UnixNano())
	return &crowd{shard: New(cfg, now), now: now}
}

// add opens n connections, each authenticated as a user and instance of its
// own, and subscribes each to the channels that it is given.
func (c *crowd) add(n int, channels func(i int) string) {
	s := c.shard
	for range n {
		i := len(c.slots)
		ref := s.Open(Hello{Session: fmt.Sprintf("session-%08d", i), Owner: uint64(i + 1)}, c.now)
		c.say(ref.Slot, fmt.Sprintf(`{"type":"auth","token":"t","instance":"7b1c-phone-%d"}`, i))
		for _, r := range s.Requests() {
			g := &protocol.Grant{Subject: fmt.Sprint("user-", i), ID: fmt.Sprint("jti-", i),
				Channels: []string{"price:*", "test:*"}, Expires: c.now + 3600*protocol.Second}
			s.Verdict(r.Ref, Verdict{Grant: g}, c.now)
		}
		c.say(ref.Slot, `{"type":"subscribe","channels":[`+channels(i)+`]}`)
		c.slots = append(c.slots, ref.Slot)
		c.drain()
	}
}

func (c *crowd) say(slot Slot, message string) {
	b := frame.AppendMasked(nil, frame.Text, true, [4]byte{1, 2, 3, 4}, []byte(message))
	c.shard.Receive(slot, b, c.now)
}

// drain writes everything and counts the writes.
func (c *crowd) drain() (writes int) {
	for {
		slot, b, ok := c.shard.Next(64 << 10)
		if !ok {
			return writes
		}
		c.shard.Wrote(slot, len(b), false, c.now)
		writes++
	}
}

func (c *crowd) publish(channel string) {
	c.offset++
	c.shard.Publish(&protocol.Publication{Channel: channel, Type: protocol.TypePrice, Offset: c.offset, TS: 1764678600123,
		Price: 43250.75, Data: []byte(`{"symbol":"BTC","asset":"bitcoin","price":43250.75,"change_24h":2.34,"volume_24h":1250000000,"timestamp":"2025-12-02T12:30:00.100Z"}`)}, c.now)
}

// fiveOf100 is five of a hundred channels, others for each connection.
func fiveOf100(i int) string {
	s := ""
	for k := range 5 {
		s += fmt.Sprintf(`,"test:c%d"`, (i*7+k*20+i/100*k)%100)
	}
	return s[1:]
}

func one(int) string { return `"price:bitcoin"` }

// TestMemoryPerConnection measures what a connection costs in the core:
// authenticated, a user and instance of its own, 5 of 100 channels. It is the
// slope between 5,000 and 10,000 connections, so that what is there anyway
// does not count. The whole server's requirement is 400 bytes.
func TestMemoryPerConnection(t *testing.T) {
	const step, most = 5000, 300
	c := newCrowd()
	c.add(step, fiveOf100)
	before := heapBytes()
	c.add(step, fiveOf100)
	after := heapBytes()
	perConn := float64(after-before) / step
	t.Logf("%.0f bytes a connection", perConn)
	if perConn > most {
		t.Errorf("%.0f bytes a connection, want at most %d", perConn, most)
	}
	runtime.KeepAlive(c)
}

func heapBytes() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestFanOutAllocates a handful for a publication, and nothing for a delivery.
func TestFanOutAllocates(t *testing.T) {
	c := newCrowd()
	c.add(1000, one)
	publish := func() {
		c.publish("price:bitcoin")
		if n := c.drain(); n != 1000 {
			t.Fatalf("%d writes", n)
		}
	}
	publish()
	if n := testing.AllocsPerRun(100, publish); n > 5 {
		t.Errorf("%.0f allocations for a publication to 1,000", n)
	}
}

// TestFanOutShares checks what makes a pipelined flood cheap: 16 publications
// are one write a connection, and all connections are given the same bytes.
func TestFanOutShares(t *testing.T) {
	c := newCrowd()
	c.add(1000, one)
	for range 16 {
		c.publish("price:bitcoin")
	}
	blocks := map[*byte]int{}
	for {
		slot, b, ok := c.shard.Next(64 << 10)
		if !ok {
			break
		}
		blocks[&b[0]]++
		c.shard.Wrote(slot, len(b), false, c.now)
	}
	if len(blocks) != 1 || c.shard.Stats().Deliveries != 16_000 {
		t.Errorf("%d blocks for %d deliveries", len(blocks), c.shard.Stats().Deliveries)
	}
}

func BenchmarkFanout(b *testing.B) {
	for _, size := range []int{1000, 10_000} {
		b.Run(fmt.Sprintf("%dk", size/1000), func(b *testing.B) { fanout(b, size, 1) })
	}
}

func BenchmarkFanoutBatch16(b *testing.B) { fanout(b, 1000, 16) }

func fanout(b *testing.B, size, batch int) {
	c := newCrowd()
	c.add(size, one)
	b.ReportAllocs()
	for b.Loop() {
		for range batch {
			c.publish("price:bitcoin")
		}
		c.drain()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(size*batch), "ns/delivery")
}

// BenchmarkFanoutMixed is the tickets' peak: everyone on 5 of 100 channels.
func BenchmarkFanoutMixed(b *testing.B) {
	c := newCrowd()
	c.add(10_000, fiveOf100)
	before := c.shard.Stats().Deliveries
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		c.publish(fmt.Sprint("test:c", i%100))
		if i++; i%10 == 0 {
			c.drain()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(c.shard.Stats().Deliveries-before), "ns/delivery")
}

func BenchmarkStepPing(b *testing.B) {
	c := newCrowd()
	c.add(1000, fiveOf100)
	msg := frame.AppendMasked(nil, frame.Text, true, [4]byte{}, []byte(protocol.PlainPing)) // unmasking changes nothing
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		c.shard.Receive(c.slots[i%1000], msg, c.now)
		c.drain()
		i++
	}
}

// BenchmarkStepSubscribe subscribes to one more channel and ends that again.
func BenchmarkStepSubscribe(b *testing.B) {
	c := newCrowd()
	c.add(1000, fiveOf100)
	on := frame.AppendMasked(nil, frame.Text, true, [4]byte{}, []byte(`{"type":"subscribe","id":2,"channels":["price:bitcoin"]}`))
	off := frame.AppendMasked(nil, frame.Text, true, [4]byte{}, []byte(`{"type":"unsubscribe","id":3,"channels":["price:bitcoin"]}`))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		slot := c.slots[i%1000]
		c.shard.Receive(slot, on, c.now)
		c.shard.Receive(slot, off, c.now)
		c.drain()
		i++
	}
}

// BenchmarkSweep is the pass over all connections once a second.
func BenchmarkSweep(b *testing.B) {
	c := newCrowd()
	c.add(10_000, one)
	b.ReportAllocs()
	for b.Loop() {
		c.shard.sweep()
	}
}
