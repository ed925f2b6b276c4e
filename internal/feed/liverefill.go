package feed

import (
	"context"
	"errors"
	"slices"
	"time"

	"cryptointel/protocol"
)

const (
	// refillDelay lets what is only late arrive by itself.
	refillDelay = time.Second
	// refillTries is how often a gap is asked for when the answers bring it
	// no nearer, refillPatience how often while there is no answer, half an
	// hour, and refillRequests how often at all: OKX gives 100 trades an
	// answer, so a gap of 40,000 is filled, an outage of many minutes.
	refillTries    = 8
	refillPatience = 60
	refillRequests = 400
	refillMost     = 30 * time.Second // between two tries
	// agingMost is that for the first agingTries where an exchange may show
	// its newest trades only: what is asked for late is gone.
	agingMost  = 3 * time.Second
	agingTries = 40
	// maxRefills bounds the gaps that wait. A new one beyond is given up.
	maxRefills = 512
)

// refills are the gaps of a slot that are asked for, one at a time.
type refills struct {
	jobs   []job
	asking bool
	asked  Note   // while asking
	done   uint64 // trades
	failed uint64
}

// A job is one gap to fill.
type job struct {
	gap      Note
	tries    int // since it last got smaller
	vain     int // of them, those with an answer
	requests int
	due      time.Time
}

// A refilled is the answer to a request.
type refilled struct {
	job  job
	body []byte
	err  error
	at   protocol.Time
}

// missed puts a gap on the list.
func (s *slot) missed(gap Note) {
	j := job{gap: gap, due: time.Now().Add(refillDelay)}
	if gap.To == openEnd {
		j.due = time.Now() // nothing on its way will close it
	}
	if s.refills.covers(gap) {
		return
	}
	if len(s.refills.jobs) >= maxRefills || s.x.Refill(gap).Path == "" {
		s.giveUp(j, errors.New("too many gaps at once, or no way to ask"))
		return
	}
	s.refills.jobs = append(s.refills.jobs, j)
}

// covers reports whether all from the gap's beginning on is asked for already.
func (r *refills) covers(gap Note) bool {
	same := func(g Note) bool { return g.To == openEnd && g.Symbol == gap.Symbol && g.From <= gap.From }
	return r.asking && same(r.asked) || slices.ContainsFunc(r.jobs, func(j job) bool { return same(j.gap) })
}

// ask requests the trades of the gap that is due longest.
func (s *slot) ask(ctx context.Context) {
	if s.refills.asking || len(s.refills.jobs) == 0 {
		return
	}
	first := slices.MinFunc(s.refills.jobs, func(a, b job) int { return a.due.Compare(b.due) })
	if time.Now().Before(first.due) {
		return
	}
	s.refills.jobs = slices.DeleteFunc(s.refills.jobs, func(j job) bool { return j.gap == first.gap })
	first.requests++
	request := s.x.Refill(first.gap)
	s.refills.asking, s.refills.asked = true, first.gap
	s.wg.Go(func() {
		body, err := s.feed.rest.get(ctx, request)
		// There is room: nothing else is asked for before this is taken.
		s.answers <- refilled{first, body, err, s.feed.clock.Now()}
	})
}

// refill takes an answer: delivers what it holds, and asks on for the rest.
func (s *slot) refill(ctx context.Context, a refilled) error {
	s.refills.asking = false
	if a.err != nil {
		s.again(a.job, a.err)
		return nil
	}
	ticks, rest, err := s.x.ParseRefill(a.job.gap, a.body, a.at)
	if err != nil {
		s.again(a.job, err)
		return nil
	}
	s.refills.done += uint64(len(ticks))
	if err := s.deliver(ctx, ticks); err != nil {
		return err
	}
	was := a.job.gap
	a.job.gap = rest
	switch {
	case rest.Kind == NoNote:
	case rest.Text == outOfReach:
		s.giveUp(a.job, errors.New(outOfReach))
	case rest != was: // nearer: the next page at once
		a.job.tries, a.job.vain, a.job.due = 0, 0, time.Now()
		if a.job.requests >= refillRequests {
			s.giveUp(a.job, errors.New("too many trades are missing"))
			break
		}
		s.refills.jobs = append(s.refills.jobs, a.job)
	default:
		if a.job.vain++; a.job.vain >= refillTries {
			a.job.tries = refillPatience
		}
		s.again(a.job, errors.New("the exchange's answer does not have them"))
	}
	s.ask(ctx)
	return nil
}

// again tries a gap later, for as long as patience lasts.
func (s *slot) again(j job, err error) {
	if j.tries++; j.tries >= refillPatience {
		s.giveUp(j, err)
		return
	}
	most := refillMost
	if j.gap.Text == uncounted && j.tries <= agingTries {
		most = agingMost
	}
	wait := min(most, time.Second<<min(j.tries, 10))
	j.due = time.Now().Add(wait/2 + time.Duration(s.feed.rand()*float64(wait/2)))
	s.refills.jobs = append(s.refills.jobs, j)
}

// giveUp counts what nobody gave.
func (s *slot) giveUp(j job, err error) {
	count := uint64(j.gap.To-j.gap.From) + 1
	switch j.gap.Text { // of ids that say nothing about how many
	case uncounted:
		count = 0
	case outOfReach:
		count = 1 // at least
	}
	s.refills.failed += count
	if n, ok := s.feed.troubles.speak("refill"); ok {
		s.feed.log.Warn("exchange trades stay missing", "symbol", j.gap.Symbol, "from", j.gap.From, "to", j.gap.To,
			"err", err, "gaps", n)
	}
}
