// Package session is one client's conversation: what a message means, what may
// be subscribed, when a client has been silent for too long. It is a pure
// step: told what happened and what time it is, it answers with what must be
// done. It holds no socket, clock or lock, so the same code runs in the native
// server and in a Durable Object. Fan-out and the event log are hub's.
package session

import (
	"cryptointel/internal/limit"
	"cryptointel/protocol"
)

// A State is one session between two steps. Its zero value is a session that
// has not been opened.
type State struct {
	ID     string
	Opened protocol.Time
	Heard  protocol.Time   // when the client last sent a text message
	Grant  *protocol.Grant // nil while anonymous

	Messages, Flood, Strikes limit.Bucket

	Subs       []*Spec // what is subscribed, in the order of subscribing
	Subscribed bool    // something was subscribed at some time
	Verifying  bool    // a token is being verified
	Warned     bool    // token_expiring was sent for this token
	Closed     bool    // nothing more is said

	DrainAt protocol.Time // when to close for a drain; 0 for no drain

	// Queue is for the few sessions that have commands waiting; nil for most.
	Queue *Queue
}

// A Queue holds the commands of a session that cannot run yet.
type Queue struct {
	AuthID   []byte // id of the auth command being verified
	Commands [][]byte
	Bytes    int
	Until    protocol.Time // when those that wait for auth are refused
	Ready    bool          // nothing holds them any more
	InVain   bool          // they run without the token they waited for

	Hold      int64         // run nothing until the log's head is here
	HoldUntil protocol.Time // or this time has come
}

// A Spec is what a subscription asks for. Sessions with equal keys form one
// cohort and share every frame's bytes. It is immutable.
type Spec struct {
	protocol.Channel
	Filter *protocol.Filter // the client's; nil for none
	Bound  *protocol.Filter // the token's; nil for none
	Rate   float64          // messages a second at most; 0 for all
	Key    string
}

// Lets reports whether an entry of the event log concerns the subscription.
func (s *Spec) Lets(p *protocol.Publication) bool {
	return protocol.Shows(s.Canonical, p) && s.Filter.Lets(p.Signal) && s.Bound.Lets(p.Signal)
}

func newSpec(ch protocol.Channel, f, bound *protocol.Filter, rate float64) *Spec {
	s := &Spec{Channel: ch, Filter: f, Bound: bound, Rate: rate}
	key := append([]byte(ch.Name), ' ')
	if f != nil {
		key = protocol.AppendFilter(key, f)
	}
	if bound != nil {
		key = protocol.AppendFilter(append(key, '&'), bound)
	}
	if rate > 0 {
		key = protocol.AppendFloat(append(key, '@'), rate)
	}
	s.Key = string(key)
	return s
}

// An EventKind says what happened.
type EventKind uint8

// The kinds of events.
const (
	Opened    EventKind = iota // the connection is there
	Message                    // a text message came: Event.Message
	Control                    // a ping or pong frame came
	Judged                     // the token was verified: Grant or Err
	Resume                     // the next waiting command can run: see Ready
	Tick                       // time has passed, or the log's head has moved
	Drain                      // the server goes away: close after Event.After
	Displaced                  // a newer connection of the instance: Event.Force
)

// An Event is one thing that happened to a session.
type Event struct {
	Kind    EventKind
	Message []byte          // Message: not kept
	Grant   *protocol.Grant // Opened, Judged
	Err     *protocol.Error // Opened: refuse with this; Judged: the verdict
	After   protocol.Time   // Drain
	Force   bool            // Displaced
}

// An Env is what a step may look at beside the session itself.
type Env struct {
	*Config
	Directory protocol.Directory
	// The event log as this node sees it.
	Epoch        string
	Oldest, Head int64
	// Host answers what only the owner of the subscriptions knows.
	Host Host
}

// A Host owns the session's subscriptions.
type Host interface {
	// Reading is where log subscription State.Subs[i] stands: everything up to
	// from was sent, and prev is the last that matched.
	Reading(i int) (from, prev int64)
	// Report is the state of delivery to this connection.
	Report() Report
}

// A Report is what a client is told about its own connection.
type Report struct {
	Lag       int64 // entries of the event log still to be sent
	Conflated int64 // state publications skipped because the socket was slow
	Held      int64 // bytes waiting for the socket
}

// Ready reports whether a waiting command can run. The owner then carries out
// the actions of the last step and tells Resume, until it is false: a command
// must see what the one before it did.
func Ready(st *State) bool { return st.Queue != nil && st.Queue.Ready && !st.Closed }

// Step tells the session what happened and appends what must be done to out.
func Step(env *Env, st *State, ev Event, now protocol.Time, out *Actions) {
	if st.Closed {
		return
	}
	s := &step{env, st, now, out}
	switch ev.Kind {
	case Opened:
		s.open(ev)
	case Message:
		s.message(ev.Message)
	case Control:
		s.control()
	case Judged:
		s.judge(ev.Grant, ev.Err)
	case Resume:
		s.resume()
	case Tick:
		s.tick()
	case Drain:
		s.drain(ev.After)
	case Displaced:
		s.displace(ev.Force)
	}
}

// A step is one call of Step; it exists so that its parts need not hand five
// arguments on.
type step struct {
	env *Env
	st  *State
	now protocol.Time
	out *Actions
}

func (s *step) open(ev Event) {
	s.st.Opened, s.st.Heard, s.st.Grant = s.now, s.now, ev.Grant
	if ev.Err != nil {
		s.close(ev.Err)
		return
	}
	s.out.send(s.appendHello(nil))
}

// close tells the client why and ends the session.
func (s *step) close(err *protocol.Error) {
	s.out.send(protocol.AppendError(nil, nil, "", err, s.now))
	s.out.List = append(s.out.List, Action{Kind: Close, Code: err.Code})
	s.st.Closed = true
}

func (s *step) displace(force bool) {
	if force || s.st.DrainAt != 0 || s.now-s.st.Heard >= silentTime {
		s.close(&protocol.Error{Code: protocol.Replaced, Message: "a newer connection of this instance took over"})
	}
}

func (s *step) drain(after protocol.Time) {
	s.st.DrainAt = s.now + after
	s.out.send(appendDraining(nil, after))
}

// control counts a ping or pong frame: it is no activity, but a flood of them
// closes like a flood of messages.
func (s *step) control() {
	if wait, ok := s.st.Flood.Take(s.env.Limits.flood(), s.now); !ok {
		s.close(rateLimited(wait, "too many control frames"))
	}
}

func rateLimited(wait protocol.Time, message string) *protocol.Error {
	return &protocol.Error{Code: protocol.RateLimited, Message: message, RetryAfter: wait}
}
