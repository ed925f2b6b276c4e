package feedsim

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"time"
)

// A Kind is a way to misbehave.
type Kind string

// The kinds of faults.
const (
	Drop      Kind = "drop"       // frames are not sent; only such whose loss the protocol shows
	Delay     Kind = "delay"      // all frames wait, in order
	Duplicate Kind = "duplicate"  // frames are sent twice
	Reorder   Kind = "reorder"    // a frame is sent after the next one
	HalfOpen  Kind = "half-open"  // the connection stays open and says nothing more, not even a pong
	Abrupt    Kind = "abrupt"     // the connection is cut without a close frame
	CleanEnd  Kind = "close"      // the connection is closed with a close frame
	Moving    Kind = "moving"     // serverShutdown, bts:request_reconnect, OKX's notice; cut ten seconds later
	RateLimit Kind = "rate-limit" // the connection ends as if we had asked too much, new ones get 429 for a while
	Outage    Kind = "outage"     // connections are cut and new ones refused for a while, REST too
	Garbage   Kind = "garbage"    // a frame that is no JSON
	Oversized Kind = "oversized"  // a frame of two megabytes
	REST429   Kind = "rest-429"   // REST answers 429 for a while
	REST500   Kind = "rest-500"   // REST answers 500 for a while
	RESTSlow  Kind = "rest-slow"  // REST answers after eight seconds for a while

	// Breach is no fault of the exchange: the log has one for each limit that
	// a client broke.
	Breach Kind = "breach"
)

// AllFaults is every kind of fault; each exchange shows those that its
// protocol allows to be noticed.
func AllFaults() []Kind {
	return []Kind{Drop, Delay, Duplicate, Reorder, HalfOpen, Abrupt, CleanEnd, Moving, RateLimit,
		Outage, Garbage, Oversized, REST429, REST500, RESTSlow}
}

// slowAnswer is how long a slow REST answer takes.
const slowAnswer = 8 * time.Second

// A Fault is one thing that goes wrong.
type Fault struct {
	At       time.Time // when it is due; in the log, when it was done
	Exchange string
	Kind     Kind
	Frames   int           // Drop, Duplicate, Reorder: how many
	For      time.Duration // Delay and what holds for a while
	Conn     uint64        // in the log: the connection that had it, 0 for none
	Note     string        // in the log: what was done

	planned bool // by the seed: not done when it found no connection in Duration
}

// String is the fault in one line.
func (f Fault) String() string {
	s := fmt.Sprintf("%s %s %s", f.At.UTC().Format("15:04:05.000"), f.Exchange, f.Kind)
	if f.Frames > 0 {
		s += fmt.Sprintf(" %d frames", f.Frames)
	}
	if f.For > 0 {
		s += " for " + f.For.String()
	}
	if f.Conn > 0 {
		s += fmt.Sprintf(" connection %d", f.Conn)
	}
	if f.Note != "" {
		s += ": " + f.Note
	}
	return s
}

// holds says that a kind is a state of the exchange, not of one connection.
func (k Kind) holds() bool {
	switch k {
	case Outage, REST429, REST500, RESTSlow:
		return true
	}
	return false
}

// noticed says whether an exchange's protocol lets a client notice a kind.
func noticed(v venue, k Kind) bool {
	switch k {
	case Drop, Reorder:
		return v.rules().gaps
	case Moving:
		return v.moving() != ""
	}
	return true
}

// plan draws the faults of one exchange from the seed.
func plan(cfg Config, start time.Time, name string, v venue) (out []Fault) {
	var kinds []Kind
	for _, k := range cfg.Faults {
		if noticed(v, k) {
			kinds = append(kinds, k)
		}
	}
	if len(kinds) == 0 {
		return nil
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	rnd := rand.New(rand.NewPCG(cfg.Seed, h.Sum64()))
	step := func() time.Duration { return cfg.Every/10 + rand64(rnd, cfg.Every*9/5) }
	for at := start.Add(step()); ; at = at.Add(step()) {
		f := draw(rnd, kinds[rnd.IntN(len(kinds))])
		f.At, f.Exchange, f.planned = at, name, true
		if at.Add(f.For).After(start.Add(cfg.Duration)) {
			return out
		}
		out = append(out, f)
		at = at.Add(f.For)
	}
}

func rand64(r *rand.Rand, below time.Duration) time.Duration {
	return time.Duration(r.Int64N(max(1, int64(below))))
}

// draw chooses the size of a fault.
func draw(r *rand.Rand, k Kind) Fault {
	f := Fault{Kind: k}
	switch k {
	case Drop, Duplicate, Reorder:
		f.Frames = 1 + r.IntN(5)
	case Delay: // Below the shortest silence deadline, Kraken's and Coinbase's 5 s.
		f.For = 200*time.Millisecond + rand64(r, 2800*time.Millisecond)
	case Outage, RateLimit, REST429, REST500, RESTSlow:
		f.For = 3*time.Second + rand64(r, 17*time.Second)
	}
	return f
}

// Plan returns the faults that are still to come, oldest first.
func (s *Sim) Plan() (out []Fault) {
	for _, x := range s.exchanges {
		x.mu.Lock()
		out = append(out, x.due...)
		x.mu.Unlock()
	}
	slices.SortStableFunc(out, byTime)
	return out
}

// Log returns what was done so far, oldest first.
func (s *Sim) Log() []Fault {
	for _, x := range s.exchanges {
		x.holds(Outage) // the ones that nobody has met yet
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedStableFunc(slices.Values(s.done), byTime)
}

func byTime(a, b Fault) int {
	return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Exchange, b.Exchange))
}

// Do adds a fault to the plan; a zero At is now. A fault of a connection
// happens to the next connection that has a subscription. Unset sizes get
// defaults: one frame, one second of delay, ten of what holds.
func (s *Sim) Do(f Fault) {
	x := s.named(f.Exchange)
	if f.At.IsZero() {
		f.At = time.Now().Round(0)
	}
	switch {
	case f.Kind == Drop || f.Kind == Duplicate || f.Kind == Reorder:
		f.Frames = cmp.Or(f.Frames, 1)
	case f.Kind == Delay:
		f.For = cmp.Or(f.For, time.Second)
	case f.Kind == RateLimit || f.Kind.holds():
		f.For = cmp.Or(f.For, 10*time.Second)
	}
	x.mu.Lock()
	x.due = append(x.due, f)
	slices.SortStableFunc(x.due, byTime)
	conns := slices.Collect(keys(x.conns))
	x.mu.Unlock()
	for _, c := range conns {
		select {
		case c.kick <- struct{}{}:
		default: // It has one to come.
		}
	}
}

// did writes to the log. What holds for a while began when it was due, even
// if nobody met it before.
func (s *Sim) did(f Fault) {
	if !f.Kind.holds() {
		f.At = time.Now().Round(0)
	}
	s.mu.Lock()
	s.done = append(s.done, f)
	s.mu.Unlock()
	s.log.Debug("simulated fault", "exchange", f.Exchange, "kind", string(f.Kind), "conn", f.Conn, "note", f.Note)
}

// Breaches are the limits that clients broke so far.
func (s *Sim) Breaches() (out []Fault) {
	for _, f := range s.Log() {
		if f.Kind == Breach {
			out = append(out, f)
		}
	}
	return out
}
