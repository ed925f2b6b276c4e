package bench

import (
	"math"
	"math/bits"
)

// Below 2^fineBits every value has a bucket of its own; above, each power of
// two is split into 2^fineBits buckets, so that a bucket is at most 1/128 of
// its value wide.
const (
	fineBits = 7
	fine     = 1 << fineBits
	buckets  = (64 - fineBits) * fine
)

// A hist counts durations in nanoseconds with an error of at most 1 % in fixed
// memory. The zero hist is empty.
type hist struct {
	counts [buckets]uint64
	n      uint64
	max    int64
}

func bucketOf(v uint64) int {
	if v < fine {
		return int(v)
	}
	shift := bits.Len64(v) - 1 - fineBits
	return shift<<fineBits + int(v>>shift)
}

// topOf is the largest value of bucket i.
func topOf(i int) uint64 {
	if i < 2*fine {
		return uint64(i)
	}
	shift := i>>fineBits - 1
	return (uint64(i-shift<<fineBits)+1)<<shift - 1
}

// add counts v; a negative one, which two clocks that disagree can make,
// counts as 0.
func (h *hist) add(v int64) {
	v = max(v, 0)
	h.counts[bucketOf(uint64(v))]++
	h.n++
	h.max = max(h.max, v)
}

func (h *hist) merge(o *hist) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
	h.max = max(h.max, o.max)
}

// quantile is a value that at least the share q of all values do not exceed,
// at most 1 % above the smallest such one; 0 when h is empty.
func (h *hist) quantile(q float64) int64 {
	rank := max(uint64(math.Ceil(q*float64(h.n))), 1)
	var seen uint64
	for i, c := range h.counts {
		if seen += c; seen >= rank {
			return min(int64(topOf(i)), h.max)
		}
	}
	return h.max
}
