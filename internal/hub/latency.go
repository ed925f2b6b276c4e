package hub

import "cryptointel/protocol"

// LatencyBounds are the upper bounds of a Histogram's counts; they are not to
// be changed.
var LatencyBounds = [15]protocol.Time{
	250 * protocol.Microsecond, 500 * protocol.Microsecond,
	1 * protocol.Millisecond, 2 * protocol.Millisecond, 5 * protocol.Millisecond,
	10 * protocol.Millisecond, 20 * protocol.Millisecond, 50 * protocol.Millisecond,
	100 * protocol.Millisecond, 200 * protocol.Millisecond, 500 * protocol.Millisecond,
	1 * protocol.Second, 2 * protocol.Second, 5 * protocol.Second, 10 * protocol.Second,
}

// A Histogram counts durations: Counts[i] are those up to LatencyBounds[i] and
// over the bound before it, the last those over every bound.
type Histogram struct {
	Counts [len(LatencyBounds) + 1]uint64
	Sum    protocol.Time // of all durations
}

// Add adds the counts of another shard.
func (h *Histogram) Add(o Histogram) {
	for i, n := range o.Counts {
		h.Counts[i] += n
	}
	h.Sum += o.Sum
}

// Quantile is the duration that the share q of all did not exceed, as near as
// the bounds tell: within a count it is interpolated, and what is over the
// last bound is taken for it. 0 without any.
func (h Histogram) Quantile(q float64) protocol.Time {
	all := uint64(0)
	for _, n := range h.Counts {
		all += n
	}
	rank, below := min(max(q, 0), 1)*float64(all), 0.0
	from := protocol.Time(0)
	for i, to := range LatencyBounds {
		n := float64(h.Counts[i])
		if n > 0 && below+n >= rank {
			return from + protocol.Time(float64(to-from)*(rank-below)/n)
		}
		below, from = below+n, to
	}
	if all == 0 {
		return 0
	}
	return from
}

// oldNews is the age from which a publication that reaches the shard is not
// taken for live: another node remembered it.
const oldNews = protocol.Minute

// entered is when a publication entered the system, 0 when that is not known
// or long ago. A state channel's offset is that time in microseconds unless
// its publisher counts otherwise, which shows: it is not near TS then. TS is in
// whole milliseconds, of which the middle is as right as can be.
func entered(p *protocol.Publication, now protocol.Time) protocol.Time {
	ts := protocol.Time(p.TS) * protocol.Millisecond
	if ts == 0 || now-ts > oldNews {
		return 0
	}
	at := protocol.Time(p.Offset) * protocol.Microsecond
	if !p.IsLog() && at >= ts && at < ts+2*protocol.Millisecond {
		return at
	}
	return ts + protocol.Millisecond/2
}

// A latency counts how long deliveries took. Neighbours in the queue mostly
// took the same time, so that is looked up once for them: 1 to 3 ns a delivery
// (BenchmarkFanout/1k, against publications without a time).
type latency struct {
	Histogram
	last protocol.Time // the duration that was counted last
	at   int           // where
}

// observe counts one duration. Time that ran backwards, as between the clocks
// of two nodes, counts as none.
func (l *latency) observe(d protocol.Time) {
	if d != l.last {
		l.last, l.at = d, bucket(d)
	}
	l.Counts[l.at]++
	l.Sum += max(d, 0)
}

func bucket(d protocol.Time) (i int) {
	for i < len(LatencyBounds) && d > LatencyBounds[i] {
		i++
	}
	return i
}
