package market

import (
	"cmp"
	"math"
	"slices"

	"cryptointel/protocol"
)

// minHistory is how far back a window must reach before its change counts as
// the change over 24 hours.
const minHistory = 23 * 60 * protocol.Minute

// A bucket is one minute in which something was seen.
type bucket struct {
	minute                  int64 // since 1970
	open, high, low, volume float64
	// Of the price itself, without what was learnt late; 0: nothing was.
	ownHigh, ownLow float64
}

// A window is what was seen of one asset in the last 24 hours, in at most
// 1441 minutes.
type window struct {
	buckets []bucket // oldest first
	// Of all buckets; exact again whenever a minute begins.
	high, low, volume float64
	sized             bool // a size was seen: volume means something
	// anchor is the first late trade of a window without a price: what the
	// next ones are held to.
	anchor float64
}

// add enters a price range and the volume traded in it, in dollars. A time
// before the newest minute (exchanges' clocks differ) counts to that minute.
func (w *window) add(t protocol.Time, price, high, low, volume float64) {
	minute := int64(t / protocol.Minute)
	n := len(w.buckets)
	if n == 0 || w.buckets[n-1].minute < minute {
		w.begin(minute, price)
		n = len(w.buckets)
	}
	b := &w.buckets[n-1]
	b.own(high, low)
	w.widen(b, high, low, volume)
}

// own widens the range of the price itself.
func (b *bucket) own(high, low float64) {
	if b.ownHigh == 0 {
		b.ownHigh, b.ownLow = high, low
	}
	b.ownHigh, b.ownLow = max(b.ownHigh, high), min(b.ownLow, low)
}

func (w *window) widen(b *bucket, high, low, volume float64) {
	b.high, b.low, b.volume = max(b.high, high), min(b.low, low), b.volume+volume
	w.high, w.low, w.volume = max(w.high, high), min(w.low, low), w.volume+volume
	w.sized = w.sized || volume > 0
}

// begin starts a minute: what is older than a day goes, and the sums are made
// again, so they neither drift nor remember what has gone.
func (w *window) begin(minute int64, price float64) {
	gone := 0
	for gone < len(w.buckets) && w.buckets[gone].minute <= minute-24*60 {
		gone++
	}
	// Copied down instead of resliced: the array stays at a day's size.
	w.buckets = append(w.buckets[:0], w.buckets[gone:]...)
	w.buckets = append(w.buckets, bucket{minute: minute, open: price, high: price, low: price})
	w.sum()
}

// late enters a trade at its own time. It is false for one that is not
// believed, because it is further than a share outside of what the price was
// around its minute: other late trades do not count there, or each could go a
// step further. It is false too for one of before the window, of which nobody
// can tell.
func (w *window) late(t protocol.Time, price, volume, share float64) bool {
	minute := int64(t / protocol.Minute)
	if n := len(w.buckets); n > 0 && minute <= w.buckets[n-1].minute-24*60 {
		return false
	}
	i, found := slices.BinarySearchFunc(w.buckets, minute, func(b bucket, m int64) int { return cmp.Compare(b.minute, m) })
	high, low := w.around(i, found)
	if high == 0 {
		w.anchor = cmp.Or(w.anchor, price)
		high, low = w.anchor, w.anchor
	}
	if share > 0 && (price < low*(1-share) || price > high*(1+share)) {
		return false
	}
	switch {
	case i == len(w.buckets):
		w.begin(minute, price)
		i = len(w.buckets) - 1
	case !found:
		w.buckets = slices.Insert(w.buckets, i, bucket{minute: minute, open: price, high: price, low: price})
	}
	w.widen(&w.buckets[i], price, price, volume)
	return true
}

// around is the price's own range in the minute that is, or would be, the
// i-th: of a minute without one, the range of the nearest that have.
func (w *window) around(i int, found bool) (high, low float64) {
	if found && w.buckets[i].ownHigh > 0 {
		return w.buckets[i].ownHigh, w.buckets[i].ownLow
	}
	low = math.Inf(1)
	for k := i - 1; k >= 0; k-- {
		if b := &w.buckets[k]; b.ownHigh > 0 {
			high, low = b.ownHigh, b.ownLow
			break
		}
	}
	for k := i; k < len(w.buckets); k++ {
		if b := &w.buckets[k]; b.ownHigh > 0 {
			return max(high, b.ownHigh), min(low, b.ownLow)
		}
	}
	return high, low
}

// seed enters a past bar if nothing was seen while it lasted, and reports
// whether it was.
func (w *window) seed(c *Candle, length protocol.Time) bool {
	minute, end := int64(c.Start/protocol.Minute), int64((c.Start+length)/protocol.Minute)
	i, _ := slices.BinarySearchFunc(w.buckets, minute, func(b bucket, m int64) int { return cmp.Compare(b.minute, m) })
	if i < len(w.buckets) && w.buckets[i].minute < end {
		return false
	}
	if n := len(w.buckets); n > 0 && minute <= w.buckets[n-1].minute-24*60 {
		return false
	}
	w.buckets = slices.Insert(w.buckets, i, bucket{minute, c.Open, c.High, c.Low, c.Volume, c.High, c.Low})
	w.sum()
	w.sized = w.sized || c.Volume > 0
	return true
}

// sum makes the figures of all buckets anew.
func (w *window) sum() {
	w.high, w.low, w.volume = 0, math.Inf(1), 0
	for i := range w.buckets {
		b := &w.buckets[i]
		w.high, w.low, w.volume = max(w.high, b.high), min(w.low, b.low), w.volume+b.volume
	}
}

// open is the price a day ago, or 0 while less than minHistory was seen.
func (w *window) open(now protocol.Time) float64 {
	if len(w.buckets) == 0 || now-protocol.Time(w.buckets[0].minute)*protocol.Minute < minHistory {
		return 0
	}
	return w.buckets[0].open
}
