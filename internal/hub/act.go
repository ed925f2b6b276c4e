package hub

import (
	"slices"

	"cryptointel/internal/session"
	"cryptointel/protocol"
)

// step tells a connection's session what happened and does what it answers,
// one command after the other when several could run.
func (s *Shard) step(slot Slot, ev session.Event) {
	c := s.conn(slot)
	if c.flags&(closing|echoing) != 0 {
		return
	}
	for {
		st := s.load(slot)
		s.actions.Reset()
		s.current = slot
		session.Step(&s.env, st, ev, s.now, &s.actions)
		s.store(slot, st)
		more := session.Ready(st)
		if slices.ContainsFunc(s.actions.List, goesOn) {
			s.replying = fence
		}
		for i := range s.actions.List {
			s.act(slot, &s.actions.List[i])
		}
		s.replying = private
		s.deliver(slot)
		if !more || c.flags.has(closing) {
			return
		}
		ev = session.Event{Kind: session.Resume}
	}
}

// goesOn reports whether the answer to a command says that a log subscription
// goes on, with other options, from where all that is queued has been sent.
func goesOn(a session.Action) bool {
	return a.Kind == session.Change && a.Keep && a.Spec.Kind == protocol.Log
}

func (s *Shard) stepTick(slot Slot) { s.step(slot, session.Event{Kind: session.Tick}) }

func (s *Shard) act(slot Slot, a *session.Action) {
	c := s.conn(slot)
	switch a.Kind {
	case session.Send:
		if a.Code != "" {
			s.stats.Errors[a.Code]++
		}
		s.reply(slot, s.encode(a.Message))
	case session.Subscribe:
		s.subscribe(slot, c, a)
	case session.Change:
		s.part(slot, a.Sub)
		s.begin(slot, a.Sub, a)
	case session.Unsubscribe:
		s.leave(slot, a.Sub)
	case session.VerifyToken:
		s.requests = append(s.requests, Request{Kind: Verify, Ref: Ref{slot, c.gen}, Owner: c.owner,
			Token: a.Token, Instance: a.Instance, Replace: a.Replace})
	case session.Close:
		s.stats.Errors[a.Code]++
		s.startClose(slot, c, a.Code.Close(), string(a.Code))
	}
}

// subscribe adds a subscription at the end of the connection's list.
func (s *Shard) subscribe(slot Slot, c *conn, a *session.Action) {
	n := int(c.nsubs)
	c.subs = s.subs.resize(c.subs, n, n+1)
	c.nsubs++
	s.begin(slot, n, a)
}

// begin joins the cohort. What is to be sent first follows when all
// subscriptions of the command have begun.
func (s *Shard) begin(slot Slot, i int, a *session.Action) {
	id := s.join(slot, i, a.Spec)
	if a.Spec.Kind == protocol.Log {
		s.addReader(slot, logReader{cohort: id, pos: a.From})
	} else {
		s.begun = append(s.begun, id)
	}
}

// deliver sends what subscriptions that have just begun are owed: the log from
// their positions, merged by offset, then the newest value of state channels.
// Where much waits already, the log is read when that is written.
func (s *Shard) deliver(slot Slot) {
	c := s.conn(slot)
	if c.flags&(lagging|blocked|closing) == lagging && s.waits(c) <= sliceBytes {
		s.readSlice(slot)
	}
	for _, id := range s.begun {
		s.snapshot(slot, id)
	}
	s.begun = s.begun[:0]
}

// Report is the state of delivery to the connection whose session is being
// stepped.
func (s *Shard) Report() session.Report {
	c := s.conn(s.current)
	r := session.Report{Conflated: int64(c.conflated)}
	if x := s.stuck[s.current]; x != nil {
		r.Held = int64(len(x.rest))
	}
	if l := s.lagged[s.current]; l != nil {
		for _, x := range l.readers {
			r.Lag = max(r.Lag, s.env.Head-x.pos)
		}
	}
	return r
}
