package feedsim

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/coder/websocket"
)

// A conn is one connection. Its own goroutine owns it; a second one reads.
type conn struct {
	x    *exchange
	id   uint64
	ws   *websocket.Conn
	wire *wire
	in   chan []byte   // what the client said; closed when it is gone
	kick chan struct{} // something new is planned

	now      time.Time // of this turn
	opened   time.Time
	heard    time.Time // the client's last message
	said     time.Time // our last frame
	beatAt   time.Time // 0: no heartbeats
	closeAt  time.Time // 0: never
	pingAt   time.Time // 0: never
	pongs    chan error
	subs     []*sub
	sequence uint64 // of what is made, delivered or not
	counter  uint64 // of heartbeats
	combined bool   // Binance: frames carry their stream's name
	messages window
	extra    window // OKX: subscriptions an hour

	out   []out
	hold  time.Time // frames wait until then
	fault Fault     // Drop, Duplicate, Reorder: Frames are to come
	late  *out      // Reorder: this one waits for the next
	end   *ending
}

// A sub is one subscription of a connection.
type sub struct {
	channel string // the exchange's word
	name    string // the symbol as the client spelt it
	tape    *tape
	kind    kind
	next    int // the first trade that was not told
	at      time.Time
}

type kind uint8

const (
	other  kind = iota // accepted, never served: an order book
	trades             // each trade
	ticker             // the newest state
)

// An out is a frame on its way.
type out struct {
	text string
	weight
}

// A weight says what may happen to a frame.
type weight uint8

const (
	sure    weight = iota // nothing
	state                 // may be doubled and swapped: a ticker, whose loss nobody notices
	counted               // may be lost too: its number or its trades' show that
)

// An ending is how a connection ends.
type ending struct {
	how    Kind // CleanEnd, Abrupt or HalfOpen
	code   websocket.StatusCode
	reason string
}

// say queues a frame.
func (c *conn) say(text string) { c.out = append(c.out, out{text: text}) }

// show queues a frame with a state.
func (c *conn) show(text string) { c.out = append(c.out, out{text, state}) }

// tell queues a frame that is counted.
func (c *conn) tell(text string) { c.out = append(c.out, out{text, counted}) }

// finish ends the connection after what is queued.
func (c *conn) finish(how Kind, code websocket.StatusCode, reason string) {
	if c.end == nil {
		c.end = &ending{how, code, reason}
	}
}

// breach ends the connection because the client broke a rule.
func (c *conn) breach(code websocket.StatusCode, reason string) {
	c.x.breach(c.id, "%s", reason)
	c.finish(CleanEnd, code, reason)
}

// subscribe adds a subscription, or finds the one there is.
func (c *conn) subscribe(channel, name string, t *tape, k kind) *sub {
	for _, s := range c.subs {
		if s.channel == channel && s.tape == t {
			return s
		}
	}
	n, _ := t.upTo(c.now.Add(-latency))
	s := &sub{channel: channel, name: name, tape: t, kind: k, next: n}
	c.subs = append(c.subs, s)
	return s
}

func (c *conn) unsubscribe(channel string, t *tape) bool {
	n := len(c.subs)
	c.subs = slices.DeleteFunc(c.subs, func(s *sub) bool { return s.channel == channel && s.tape == t })
	return len(c.subs) < n
}

// recent are the last n trades that were told or that a snapshot tells,
// oldest first.
func (c *conn) recent(s *sub, n int) []Trade {
	return s.tape.trades(s.next-n, s.next)
}

// run serves the connection until it ends.
func (c *conn) run(ctx context.Context, r *http.Request) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go c.read(ctx) // ends with c.in, which finally waits for
	c.now = time.Now().Round(0)
	c.opened, c.heard, c.said = c.now, c.now, c.now
	if c.x.rules.pingEvery > 0 {
		c.pingAt = c.now.Add(c.x.rules.pingEvery)
	}
	c.x.venue.open(c, r)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for c.turn(ctx) {
		timer.Reset(c.wake().Sub(c.now))
		select {
		case msg, ok := <-c.in:
			if !ok {
				c.ws.CloseNow()
				return
			}
			c.now = time.Now().Round(0)
			c.hear(msg)
		case err := <-c.pongs:
			c.pongs = nil
			if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
				c.breach(websocket.StatusPolicyViolation, "no pong in time")
			}
		case <-timer.C:
		case <-c.kick:
		case <-ctx.Done():
			c.finish(Abrupt, 0, "the simulation ends")
		}
	}
	c.finally(ctx, cancel)
}

// turn does what is due, and says whether the connection goes on.
func (c *conn) turn(ctx context.Context) bool {
	c.now = time.Now().Round(0)
	if c.end == nil {
		c.deadlines()
		c.misbehave()
	}
	if c.end == nil {
		c.produce(ctx)
	}
	if err := c.flush(ctx); err != nil {
		c.finish(Abrupt, 0, err.Error())
	}
	return c.end == nil
}

// read hands on what the client says.
func (c *conn) read(ctx context.Context) {
	defer close(c.in)
	c.ws.SetReadLimit(1 << 20)
	for {
		_, msg, err := c.ws.Read(ctx)
		if err != nil {
			return
		}
		select {
		case c.in <- msg:
		case <-ctx.Done():
			return
		}
	}
}

// finally ends the connection the way it was decided and waits for its reader.
func (c *conn) finally(ctx context.Context, cancel func()) {
	switch c.end.how {
	case HalfOpen:
		c.wire.silent.Store(true)
		select {
		case <-ctx.Done():
		case _, ok := <-c.in:
			for ok {
				_, ok = <-c.in
			}
		}
	case CleanEnd:
		c.ws.Close(c.end.code, c.end.reason)
	}
	c.wire.cut()
	cancel()
	for range c.in {
	}
	c.ws.CloseNow()
}

// hear takes a message of the client.
func (c *conn) hear(msg []byte) {
	c.heard = c.now
	c.x.count(func(st *Stats) { st.Messages++ })
	if !c.messages.allow(c.now) {
		c.x.breach(c.id, "more than %s messages", c.x.rules.messages)
		c.x.venue.limited(c)
		return
	}
	c.x.venue.message(c, msg)
}

// deadlines ends a connection whose time is over.
func (c *conn) deadlines() {
	r := &c.x.rules
	switch {
	case c.x.holds(Outage):
		c.finish(Abrupt, 0, "outage")
	case r.subscribeWithin > 0 && len(c.subs) == 0 && !c.now.Before(c.opened.Add(r.subscribeWithin)):
		c.breach(websocket.StatusPolicyViolation, "no subscription in time")
	case r.idle > 0 && !c.now.Before(c.heard.Add(r.idle)):
		c.breach(websocket.StatusNormalClosure, "nothing said in time")
	case r.quiet > 0 && !c.now.Before(later(c.heard, c.said).Add(r.quiet)):
		c.breach(4004, "No data received in 30s.")
	case r.life > 0 && !c.now.Before(c.opened.Add(r.life)):
		c.finish(CleanEnd, websocket.StatusGoingAway, "connection too old")
	case !c.closeAt.IsZero() && !c.now.Before(c.closeAt):
		c.finish(CleanEnd, websocket.StatusGoingAway, "")
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// produce makes the frames that are due.
func (c *conn) produce(ctx context.Context) {
	r := &c.x.rules
	for _, s := range c.subs {
		n, _ := s.tape.upTo(c.now.Add(-latency))
		switch {
		case n == s.next:
		case s.kind == trades:
			from := s.next
			s.next = n
			c.x.venue.trades(c, s, s.tape.trades(from, n))
		case s.kind == ticker && !c.now.Before(s.at.Add(r.tickerEvery)):
			s.next, s.at = n, c.now
			c.x.venue.ticker(c, s)
		}
	}
	if !c.pingAt.IsZero() && !c.now.Before(c.pingAt) {
		c.ping(ctx)
	}
	if c.beatAt.IsZero() {
		return
	}
	if r.beatIdle { // What waits in out counts as said.
		if len(c.out) > 0 {
			c.beatAt = c.now.Add(r.beatEvery)
		}
		c.beatAt = later(c.beatAt, c.said.Add(r.beatEvery))
	}
	if !c.now.Before(c.beatAt) {
		c.x.venue.beat(c)
		c.beatAt = c.now.Add(r.beatEvery)
	}
}

// ping sends the server's ping and has its pong watched.
func (c *conn) ping(ctx context.Context) {
	c.pingAt = c.now.Add(c.x.rules.pingEvery)
	if c.pongs != nil {
		return // The one before is still out, within its time.
	}
	c.pongs = make(chan error, 1)
	pongs := c.pongs
	c.x.sim.conns.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, c.x.rules.pongWithin)
		defer cancel()
		pongs <- c.ws.Ping(ctx)
	})
}

// wake is when there is something to do again.
func (c *conn) wake() time.Time {
	r := &c.x.rules
	at := c.now.Add(time.Hour)
	sooner := func(t time.Time) {
		if t.Before(at) {
			at = t
		}
	}
	for _, s := range c.subs {
		n, next := s.tape.upTo(c.now.Add(-latency))
		switch {
		case s.kind == ticker && n > s.next:
			sooner(s.at.Add(r.tickerEvery))
		case s.kind != other:
			sooner(next.Add(latency))
		}
	}
	for _, t := range []time.Time{c.beatAt, c.closeAt, c.pingAt, c.hold} {
		if t.After(c.now) {
			sooner(t)
		}
	}
	if t, ok := c.x.nextFault(c.now); ok {
		sooner(t)
	}
	if r.subscribeWithin > 0 && len(c.subs) == 0 {
		sooner(c.opened.Add(r.subscribeWithin))
	}
	for _, e := range []struct {
		since time.Time
		d     time.Duration
	}{{c.heard, r.idle}, {later(c.heard, c.said), r.quiet}, {c.opened, r.life}} {
		if e.d > 0 {
			sooner(e.since.Add(e.d))
		}
	}
	return at
}
