package bench

// A sub is one connection's view of one channel: the last number seen and
// which of the 64 numbers up to it.
type sub struct {
	channel int32
	last    int64
	seen    uint64 // bit d: number last-d has been seen
}

// A verdict says what a number means after those seen before.
type verdict uint8

const (
	inOrder   verdict = iota
	late              // after a later one, for the first time
	duplicate         // seen already, or so old that this is not known
)

// observe takes number n, from 1, and says what it is and how many numbers
// before it are missing.
func (s *sub) observe(n int64) (v verdict, missing int64) {
	switch d := n - s.last; {
	case d > 0:
		s.seen = s.seen<<uint64(d) | 1 // a shift by 64 or more is 0
		s.last = n
		return inOrder, d - 1
	case d > -64 && s.seen>>uint64(-d)&1 == 0:
		s.seen |= 1 << uint64(-d)
		return late, 0
	}
	return duplicate, 0
}

// A tally is what came in during one stretch of a run.
type tally struct {
	latency    hist
	received   uint64 // publications, duplicates included
	duplicates uint64
	late       uint64 // out of order
	missing    int64  // numbers skipped and not seen until now
	strangers  uint64 // publications nobody here asked for
	frames     uint64 // frames of any kind
	packed     uint64 // of them, those that were compressed
	bytes      uint64
	reads      uint64 // read calls that brought something
	pongs      uint64
	lastAt     int64             // when the last publication came, ns
	rounds     []round           // by number since the stretch began
	failures   map[string]uint64 // connections lost, error frames
}

// A round is one publication's way to all subscribers.
type round struct {
	sent, last int64 // ns
	receivers  int
}

// maxRounds bounds how many publications of a stretch are followed to their
// last receiver.
const maxRounds = 1 << 16

func (t *tally) fail(why string) {
	if t.failures == nil {
		t.failures = map[string]uint64{}
	}
	t.failures[why]++
}

// take counts one delivery of number n and reports whether it is the first.
func (t *tally) take(s *sub, n, sent, now int64) (first bool) {
	t.received++
	t.lastAt = now
	v, missing := s.observe(n)
	t.missing += missing
	switch v {
	case duplicate:
		t.duplicates++
		return false
	case late:
		t.late++
		t.missing--
	}
	t.latency.add(now - sent)
	return true
}

// follow notes a delivery of the stretch's publication i.
func (t *tally) follow(i int64, sent, now int64) {
	if i < 0 || i >= maxRounds {
		return
	}
	for int64(len(t.rounds)) <= i {
		t.rounds = append(t.rounds, round{})
	}
	r := &t.rounds[i]
	r.sent, r.last = sent, max(r.last, now)
	r.receivers++
}

func (t *tally) merge(o *tally) {
	t.latency.merge(&o.latency)
	t.received += o.received
	t.duplicates += o.duplicates
	t.late += o.late
	t.missing += o.missing
	t.strangers += o.strangers
	t.frames += o.frames
	t.packed += o.packed
	t.bytes += o.bytes
	t.reads += o.reads
	t.pongs += o.pongs
	t.lastAt = max(t.lastAt, o.lastAt)
	for why, n := range o.failures {
		if t.failures == nil {
			t.failures = map[string]uint64{}
		}
		t.failures[why] += n
	}
	for i, r := range o.rounds {
		if i >= len(t.rounds) {
			t.rounds = append(t.rounds, round{})
		}
		m := &t.rounds[i]
		m.sent, m.last = max(m.sent, r.sent), max(m.last, r.last)
		m.receivers += r.receivers
	}
}

// lastReceive is how long publications took to their last receiver; those that
// did not reach all subscribers are not in it.
func (t *tally) lastReceive(subscribers int) *hist {
	h := new(hist)
	for _, r := range t.rounds {
		if r.receivers >= subscribers && subscribers > 0 {
			h.add(r.last - r.sent)
		}
	}
	return h
}
