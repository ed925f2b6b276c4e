package hub

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"cryptointel/protocol"
)

const ms = protocol.Millisecond

// histogramOf counts durations the slow way.
func histogramOf(all []protocol.Time) (h Histogram) {
	for _, d := range all {
		i := 0
		for ; i < len(LatencyBounds); i++ {
			if d <= LatencyBounds[i] {
				break
			}
		}
		h.Counts[i]++
		h.Sum += max(d, 0)
	}
	return h
}

func TestLatencyObserves(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var l latency
	var all []protocol.Time
	for range 2000 {
		d := protocol.Time(math.Exp(r.Float64()*26)) - ms
		for range 1 + r.IntN(3) {
			l.observe(d)
			all = append(all, d)
		}
	}
	for _, d := range append(LatencyBounds[:], 0, 1, 10*protocol.Second+1, 250*protocol.Microsecond+1) {
		l.observe(d)
		all = append(all, d)
	}
	if want := histogramOf(all); l.Histogram != want {
		t.Errorf("got %+v, want %+v", l.Histogram, want)
	}
	// The quantile is in the same count as the duration it stands for.
	slices.Sort(all)
	for _, q := range []float64{0.001, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1} {
		want := all[max(0, int(math.Ceil(q*float64(len(all))))-1)]
		got := l.Quantile(q)
		if i := bucket(want); i == len(LatencyBounds) && got != 10*protocol.Second || i < len(LatencyBounds) && bucket(got) != i {
			t.Errorf("quantile %g: got %d, the sorted list says %d", q, got, want)
		}
	}
}

func TestQuantile(t *testing.T) {
	h := func(n ...uint64) (h Histogram) {
		copy(h.Counts[:], n)
		return h
	}
	over := Histogram{}
	over.Counts[15] = 3
	for _, c := range []struct {
		name string
		h    Histogram
		q    float64
		want protocol.Time
	}{
		{"empty", h(), 0.5, 0},
		{"half of the first", h(10), 0.5, 125 * protocol.Microsecond},
		{"between bounds", h(0, 0, 0, 100), 0.99, ms + 99*ms/100},
		{"the upper of two", h(50, 0, 0, 50), 0.75, ms + ms/2},
		{"all", h(50, 0, 50), 1, ms},
		{"too much asked", h(50, 0, 50), 7, ms},
		{"none", h(0, 5), 0, 250 * protocol.Microsecond},
		{"over all bounds", over, 0.5, 10 * protocol.Second},
	} {
		if got := c.h.Quantile(c.q); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
	a, b := h(1, 2), h(10, 0, 3)
	a.Sum, b.Sum = 5, 7
	a.Add(b)
	if want := h(11, 2, 3); a.Counts != want.Counts || a.Sum != 12 {
		t.Errorf("sum: %+v", a)
	}
}

// at publishes what entered the system some time ago.
func (r *rig) at(channel string, ago protocol.Time) {
	p := &protocol.Publication{Channel: channel, Type: protocol.TypePrice, Price: 1,
		Offset: (r.now - ago).Micros(), TS: (r.now - ago).Millis(), Data: []byte(`{"price":1}`)}
	if channel == protocol.LogChannel {
		p.Type, p.Offset, p.Signal = protocol.TypeSignal, r.shard.env.Head+1, &protocol.Signal{Type: "spike"}
	}
	r.shard.Publish(p, r.now)
	r.settle()
}

// TestLatencyOfWhat: what is delivered live counts, to each socket; what is
// shown again does not.
func TestLatencyOfWhat(t *testing.T) {
	const price = `{"type":"subscribe","channels":["price:bitcoin"]}`
	for _, c := range []struct {
		name string
		play func(r *rig, l *line)
		want []protocol.Time
	}{
		{"a price to two", func(r *rig, l *line) {
			l.say(price)
			r.open(Hello{Session: "t"}).say(price)
			r.at("price:bitcoin", 3300*protocol.Microsecond)
		}, []protocol.Time{3300 * protocol.Microsecond, 3300 * protocol.Microsecond}},
		{"a snapshot", func(r *rig, l *line) {
			r.at("price:bitcoin", 3*ms)
			l.say(price)
		}, nil},
		{"an entry, of whose millisecond the middle is taken", func(r *rig, l *line) {
			l.say(`{"type":"subscribe","channels":["signals:all"]}`)
			r.at(protocol.LogChannel, 30*ms)
		}, []protocol.Time{29*ms + ms/2}},
		{"an entry read again", func(r *rig, l *line) {
			r.at(protocol.LogChannel, 30*ms)
			l.say(`{"type":"subscribe","channels":["signals:all"],"since":"%s-0"}`, testEpoch)
		}, nil},
		{"a clock that is behind", func(r *rig, l *line) {
			l.say(price)
			r.at("price:bitcoin", -3*ms)
		}, []protocol.Time{0}},
		{"what another node remembered", func(r *rig, l *line) {
			l.say(price)
			r.at("price:bitcoin", 61*protocol.Second)
		}, nil},
		{"an offset that is no time", func(r *rig, l *line) {
			l.say(price)
			r.shard.Publish(&protocol.Publication{Channel: "price:bitcoin", Type: protocol.TypePrice, Offset: 9,
				TS: r.now.Millis() - 40, Data: []byte(`{}`)}, r.now)
			r.settle()
		}, []protocol.Time{39*ms + ms/2}},
		{"the first of a period at once, the next when it is over", func(r *rig, l *line) {
			l.say(`{"type":"subscribe","channels":[{"channel":"price:bitcoin","max_rate":1}]}`)
			r.at("price:bitcoin", 2*ms)
			r.now += 300 * ms
			r.at("price:bitcoin", 1*ms)
			r.pass(700 * ms)
		}, []protocol.Time{2 * ms, 0}},
		{"the newest for one who was stuck", func(r *rig, l *line) {
			l.say(price)
			l.full = true
			r.at("price:bitcoin", 2*ms)
			r.now += 5 * ms
			r.at("price:bitcoin", 1*ms)
			l.writable()
		}, nil},
		{"an answer", func(r *rig, l *line) { l.say(`{"type":"ping"}`) }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			c.play(r, r.open(Hello{Session: "s"}))
			if got, want := r.shard.Stats().Latency, histogramOf(c.want); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// BenchmarkFanoutPacked is a publication of 2 KiB to 10,000 of whom none, every
// second one, all compress. Compressing costs nothing here, so this is the
// sharing alone.
func BenchmarkFanoutPacked(b *testing.B) {
	for _, every := range []int{0, 2, 1} { // none, half, all
		b.Run(fmt.Sprintf("every %d", every), func(b *testing.B) {
			c := newCrowd()
			c.shard.cfg.Deflate = func(dst, src []byte) []byte { return append(dst, src[:len(src)/3]...) }
			c.shard.cfg.Inflate = new(codebook).Inflate
			c.add(10_000, one)
			for i, slot := range c.slots {
				c.shard.conn(slot).flags.set(deflating, every > 0 && i%every == 0)
			}
			data := long(2000)
			for b.Loop() {
				c.offset++
				c.shard.Publish(&protocol.Publication{Channel: "price:bitcoin", Type: protocol.TypePrice, Offset: c.offset, Data: data}, c.now)
				c.drain()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10_000, "ns/delivery")
		})
	}
}
