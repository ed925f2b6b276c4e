package session

import "cryptointel/protocol"

// tick does what is due.
func (s *step) tick() {
	st, l := s.st, s.env.Limits
	switch {
	case st.DrainAt != 0 && s.now >= st.DrainAt:
		s.close(&protocol.Error{Code: protocol.Draining, Message: "the server is going away; reconnect"})
	case s.idleStranger() && past(st.Opened, l.AuthTimeout, s.now):
		s.close(&protocol.Error{Code: protocol.AuthTimeout, Message: "neither authenticated nor subscribed in time"})
	case past(st.Heard, l.IdleTimeout, s.now):
		s.close(&protocol.Error{Code: protocol.IdleTimeout, Message: "no message for too long; send {\"type\":\"ping\"} every heartbeat_ms"})
	case st.Grant != nil && s.now >= st.Grant.Expires+graceAfter:
		s.close(&protocol.Error{Code: protocol.ExpiredToken, Message: "the token has expired; connect with a new one"})
	default:
		s.warn()
		s.release()
		if q := st.Queue; q != nil && q.Until != 0 && q.Hold == 0 && s.now >= q.Until && !st.Verifying {
			s.waitedLong()
		}
	}
}

// idleStranger reports whether the client has neither a token nor a
// subscription, and no command that may yet bring one.
func (s *step) idleStranger() bool { return idleStranger(s.st) }

func idleStranger(st *State) bool {
	waits := st.Queue != nil && len(st.Queue.Commands) > 0
	return st.Grant == nil && !st.Subscribed && !st.Verifying && !waits
}

func past[D ~int64](from protocol.Time, after D, now protocol.Time) bool {
	return after > 0 && now >= from+protocol.Time(after)
}

func (s *step) warn() {
	if st := s.st; st.Grant != nil && !st.Warned && s.now >= st.Grant.Expires-warnBefore {
		st.Warned = true
		s.out.send(appendExpiring(nil, st.Grant.Expires))
	}
}

// Never is later than any deadline.
const Never = protocol.Time(1<<63 - 1)

// Deadline is when the session next needs a Tick.
func Deadline(env *Env, st *State) protocol.Time {
	if st.Closed {
		return Never
	}
	next := Never
	sooner := func(t protocol.Time) { next = min(next, t) }
	if l := env.Limits; l.IdleTimeout > 0 {
		sooner(st.Heard + protocol.Time(l.IdleTimeout))
	}
	if l := env.Limits; idleStranger(st) && l.AuthTimeout > 0 {
		sooner(st.Opened + protocol.Time(l.AuthTimeout))
	}
	if st.DrainAt != 0 {
		sooner(st.DrainAt)
	}
	if g := st.Grant; g != nil && st.Warned {
		sooner(g.Expires + graceAfter)
	} else if g != nil {
		sooner(g.Expires - warnBefore)
	}
	if q := st.Queue; q != nil && q.Hold != 0 {
		sooner(q.HoldUntil)
	} else if q != nil && q.Until != 0 && !st.Verifying {
		sooner(q.Until)
	}
	return next
}
