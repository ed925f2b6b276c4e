// Package limit counts against limits: how often something may happen. It is
// told the time and holds no clock, so that the same code runs in a test, in
// the server and at the edge. Who is limited, and what a refusal means, is
// decided by the callers.
package limit

import "cryptointel/protocol"

// A Rate allows PerMinute events a minute, Burst of them at once. PerMinute 0
// is no limit.
type Rate struct {
	PerMinute int
	Burst     int
}

// A Bucket is the state of one Rate for one subject, in eight bytes: the time
// at which it will be empty again (the generic cell rate algorithm). Its zero
// value is empty. Everything that changes it goes through Take.
type Bucket struct{ full protocol.Time }

// Take counts one event if the rate allows it. Otherwise it changes nothing
// and tells how long to wait.
func (b *Bucket) Take(r Rate, now protocol.Time) (wait protocol.Time, ok bool) {
	if r.PerMinute <= 0 {
		return 0, true
	}
	cost := r.cost()
	next := max(b.full, now) + cost
	if wait := next - now - cost*protocol.Time(max(r.Burst, 1)); wait > 0 {
		return wait, false
	}
	b.full = next
	return 0, true
}

// Return gives one event back that Take counted.
func (b *Bucket) Return(r Rate) {
	if r.PerMinute > 0 {
		b.full -= r.cost()
	}
}

// Used is how many events count against the burst now, and when the bucket
// will be empty.
func (b *Bucket) Used(r Rate, now protocol.Time) (used int, empty protocol.Time) {
	if r.PerMinute <= 0 || b.full <= now {
		return 0, now
	}
	return int((b.full - now + r.cost() - 1) / r.cost()), b.full
}

// Full is the bucket as one number, for those who pack it with other state.
func (b *Bucket) Full() protocol.Time { return b.full }

func (r Rate) cost() protocol.Time { return protocol.Minute / protocol.Time(r.PerMinute) }
