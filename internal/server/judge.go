package server

import (
	"context"
	"errors"
	"sync"

	"cryptointel/internal/gateway"
	"cryptointel/internal/hub"
	"cryptointel/protocol"
)

// A judge verifies tokens off the loops: a signature takes longer than a loop
// may wait. It also charges connections to their users, and asks older
// connections of an instance to make room.
type judge struct {
	s    *Server
	wake chan struct{} // one token for each judge that may be asleep

	mu   sync.Mutex // guards the fields below
	jobs []job      // first in, first out
	open int        // jobs that have no verdict yet
}

type job struct {
	loop int
	req  hub.Request
}

// judges is how many signatures are checked at once, and maxJobs how many
// wait; when a storm brings more, clients are told to come back.
const (
	judges  = 2
	maxJobs = 16_384
)

func newJudge(s *Server) *judge { return &judge{s: s, wake: make(chan struct{}, judges)} }

// Handle takes a loop's request; it does not wait.
func (j *judge) Handle(loop int, req hub.Request) {
	if req.Kind == hub.Released {
		j.s.registry.Release(req.Owner)
		return
	}
	if !j.push(job{loop, req}) {
		busy := &protocol.Error{Code: protocol.ConnectionFull, Message: "too many tokens to verify; try again", RetryAfter: protocol.Second}
		j.s.loops.Verdict(loop, req.Ref, hub.Verdict{Err: busy})
		return
	}
	select {
	case j.wake <- struct{}{}:
	default: // all are awake and will look again
	}
}

func (j *judge) push(x job) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.jobs) >= maxJobs {
		return false
	}
	j.jobs = append(j.jobs, x)
	j.open++
	return true
}

// pop takes the oldest job. An empty queue keeps no memory: it is long only
// while thousands connect at once.
func (j *judge) pop() (x job, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.jobs) == 0 {
		return x, false
	}
	x, j.jobs[0] = j.jobs[0], job{}
	if j.jobs = j.jobs[1:]; len(j.jobs) == 0 {
		j.jobs = nil
	}
	return x, true
}

func (j *judge) done() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.open--
}

// pending is how many tokens wait for their verdict.
func (j *judge) pending() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.open
}

func (j *judge) run(ctx context.Context) error {
	var wg sync.WaitGroup
	for range judges {
		wg.Go(func() { j.work(ctx) })
	}
	wg.Wait()
	return nil
}

func (j *judge) work(ctx context.Context) {
	for {
		for x, ok := j.pop(); ok; x, ok = j.pop() {
			j.s.loops.Verdict(x.loop, x.req.Ref, j.verdict(x))
			j.done()
		}
		select {
		case <-ctx.Done():
			return
		case <-j.wake:
		}
	}
}

func (j *judge) verdict(x job) hub.Verdict {
	grant, err := j.s.tokens.Verify(x.req.Token, j.s.time())
	if err != nil {
		return hub.Verdict{Err: refusal(err)}
	}
	owner, twins, displace, refused := j.s.registry.Claim(gateway.ClaimRequest{
		User: grant.Subject, Instance: x.req.Instance, Conn: connID(x.loop, x.req.Ref),
		Owner: x.req.Owner, Replace: x.req.Replace,
	}, j.s.clock.Now())
	if refused != nil {
		return hub.Verdict{Err: refused}
	}
	for _, twin := range twins {
		loop, ref := connOf(twin)
		j.s.loops.Displace(loop, ref, hub.Displace{Force: displace == gateway.Force})
	}
	return hub.Verdict{Grant: grant, Owner: owner}
}

func refusal(err error) *protocol.Error {
	var e *protocol.Error
	if errors.As(err, &e) {
		return e
	}
	return &protocol.Error{Code: protocol.Internal, Message: "the token could not be verified; try again"}
}

// connID packs where a connection is: 8 bits of loop, 24 of slot, 32 of
// generation.
func connID(loop int, r hub.Ref) gateway.ConnID {
	return gateway.ConnID(uint64(loop)<<56 | uint64(r.Slot)<<32 | uint64(r.Gen))
}

func connOf(id gateway.ConnID) (loop int, r hub.Ref) {
	return int(id >> 56), hub.Ref{Slot: hub.Slot(id >> 32 & 0xffffff), Gen: uint32(id)}
}
