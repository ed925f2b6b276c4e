package bench

import (
	"fmt"
	"testing"

	"cryptointel/internal/frame"
)

// delivery is a loop with one connection that is ready, and so many
// frames for it.
func delivery(tb testing.TB, frames int) (l *loop, c *conn, b []byte) {
	tb.Helper()
	c = &conn{fd: -1, state: ready, subs: []sub{{channel: 0}, {channel: 1}}}
	l = &loop{d: &dialer{channels: []string{"test:b0", "test:b1"}}, t: new(tally),
		s: &stretch{base: firstSeq, first: 1}, index: map[string]int32{"test:b0": 0, "test:b1": 1}}
	for i := range frames {
		m := fmt.Appendf(nil, `{"type":"price_update","channel":"test:b1","offset":1764678600123456,"ts":1764678600123,`+
			`"data":{"price":1.5,"metadata":{"sent_ns":1764678600123456789,"seq":%d,"pad":""}}}`, firstSeq+1+i)
		b = frame.Append(b, frame.Text, m)
	}
	return l, c, b
}

func TestDeliverDoesNotAllocate(t *testing.T) {
	l, c, b := delivery(t, 16)
	if n := testing.AllocsPerRun(100, func() {
		if rest := l.consume(c, b, 1764678600123456999); len(rest) > 0 {
			t.Fatalf("%d bytes are left", len(rest))
		}
	}); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
	if want := uint64(101 * 16); l.t.received != want || l.t.duplicates != want-16 {
		t.Errorf("got %d with %d duplicates, want %d with %d", l.t.received, l.t.duplicates, want, want-16)
	}
}

// BenchmarkDeliver is one delivery, without the system call that read it.
func BenchmarkDeliver(b *testing.B) {
	l, c, frames := delivery(b, 16)
	b.ReportAllocs()
	for b.Loop() {
		l.consume(c, frames, 1764678600123456999)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/16, "ns/delivery")
}
