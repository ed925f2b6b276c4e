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
	jobs chan job
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

func newJudge(s *Server) *judge { return &judge{s: s, jobs: make(chan job, maxJobs)} }

// Handle takes a loop's request; it does not wait.
func (j *judge) Handle(loop int, req hub.Request) {
	if req.Kind == hub.Released {
		j.s.registry.Release(req.Owner)
		return
	}
	select {
	case j.jobs <- job{loop, req}:
	default:
		busy := &protocol.Error{Code: protocol.ConnectionFull, Message: "too many tokens to verify; try again", RetryAfter: protocol.Second}
		j.s.loops.Verdict(loop, req.Ref, hub.Verdict{Err: busy})
	}
}

func (j *judge) run(ctx context.Context) error {
	var wg sync.WaitGroup
	for range judges {
		wg.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case x := <-j.jobs:
					j.s.loops.Verdict(x.loop, x.req.Ref, j.verdict(x))
				}
			}
		})
	}
	wg.Wait()
	return nil
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
