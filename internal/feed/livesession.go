package feed

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// confirmWithin is how long the exchange has to confirm a subscription or
	// to send a price.
	confirmWithin = 15 * time.Second
	// priceWithin is how long it has to send the first price.
	priceWithin = 2 * time.Minute
	// overlap is how long a new connection must have been subscribed before
	// the old one is given up for it.
	overlap = 2 * time.Second
	// probeAfter is how long a connection may be quiet before it is asked for
	// a pong, which must come within pongWithin.
	probeAfter = 15 * time.Second
	pongWithin = 10 * time.Second
	// lossGap is the least time between two connections for a lost frame's
	// sake: the first one's snapshot often tells all.
	lossGap = 10 * time.Second
	// heldFrames and heldBytes bound what waits of the new connection.
	heldFrames = 8192
	heldBytes  = 16 << 20
)

// A session is a slot while it is connected: the connection that counts, and
// while it is being replaced the next one, whose frames wait. The new one is
// there before the old one goes, so nothing is missed; what both bring is
// dropped by its trade id. run owns it.
type session struct {
	*slot
	cur  *link // nil for as long as the old one is gone and the next on its way
	next *link

	held   []arrived // of next
	size   int       // bytes of them
	dialed chan dialed
	dials  bool      // one is on its way
	wish   string    // why another connection is wanted, "" for not
	notYet time.Time // no other one is opened before
	added  []string  // symbols that came while it was on its way

	lost    string    // what was lost of the current connection
	lostYet time.Time // a loss leads to no new connection before

	good      time.Time // when the last understood frame came
	pinged    time.Time
	probed    time.Time // zero: it has shown life since
	expires   time.Time // zero for never
	confirmed bool
	failed    error // ends the session
}

type dialed struct {
	link *link
	err  error
}

// session lives with a connection until it ends; the error says why.
func (s *slot) session(ctx context.Context, l *link) error {
	outer := ctx // of requests that go on when the connection has ended
	ctx, cancel := context.WithCancel(ctx)
	x := &session{slot: s, dialed: make(chan dialed, 1)}
	x.adopt(l)
	beat := time.NewTicker(beatEvery)
	defer func() {
		beat.Stop()
		cancel()
		x.clear()
	}()
	for x.failed == nil {
		x.turn(ctx, outer, beat.C)
	}
	return x.failed
}

// turn waits for the next thing to happen, and does it.
func (x *session) turn(ctx, outer context.Context, beat <-chan time.Time) {
	var cur, next chan arrived
	if x.cur != nil {
		cur = x.cur.frames
	}
	if x.next != nil {
		next = x.next.frames
	}
	select {
	case <-ctx.Done():
		x.failed = ctx.Err()
	case f, ok := <-cur:
		if ok {
			x.frame(ctx, f)
		} else {
			x.ended(ctx)
		}
	case f, ok := <-next:
		x.hold(ctx, f, ok)
	case d := <-x.dialed:
		x.reached(d)
	case a := <-x.answers:
		x.fail(x.refill(outer, a))
	case list := <-x.more:
		x.extend(list)
	case <-beat:
		x.ask(outer)
		x.beat(ctx, time.Now())
	}
}

// fail keeps the first error.
func (x *session) fail(err error) {
	if x.failed == nil {
		x.failed = err
	}
}

// clear lets go of all connections.
func (x *session) clear() {
	for _, l := range []*link{x.cur, x.next} {
		if l != nil {
			l.drop()
		}
	}
	if x.dials {
		if d := <-x.dialed; d.link != nil {
			d.link.drop()
		}
	}
}

// adopt makes a connection the one that counts.
func (x *session) adopt(l *link) {
	x.x.Reset()
	x.reconnected()
	x.cur, x.confirmed, x.wish, x.lost, x.priced = l, false, "", "", time.Time{}
	x.good, x.pinged, x.probed, x.expires = time.Now(), l.opened, time.Time{}, time.Time{}
	x.lostYet = x.good.Add(lossGap)
	if life := x.feed.rules.Life; life > 0 {
		// Not all of a fleet at once.
		x.expires = l.opened.Add(life - time.Duration(x.feed.rand()*float64(life)/24))
	}
}

// frame takes a frame of the current connection.
func (x *session) frame(ctx context.Context, f arrived) {
	ticks, err := x.x.Decode(f.data, f.at, x.ticks[:0])
	x.ticks = ticks
	if err != nil {
		if n, ok := x.feed.troubles.speak("frame"); ok {
			x.feed.log.Warn("exchange frame not understood", "err", err, "bytes", len(f.data), "frames", n)
		}
	} else {
		x.good = f.got
		x.heard(f.at)
	}
	for _, n := range x.x.Notes() {
		x.said(ctx, n)
	}
	if len(ticks) > 0 {
		if x.priced.IsZero() {
			x.priced = f.got
			if !x.latest.IsZero() {
				x.feed.back(f.got.Sub(x.latest))
			}
		}
		x.latest = f.got
		x.confirmed = true
		x.live()
		x.fail(x.deliver(ctx, ticks))
	}
}

// live tells of the first price of a connection.
func (x *session) live() {
	if x.status().State == FeedLive {
		return
	}
	x.set(FeedLive, "")
	if n, ok := x.feed.troubles.speak("live"); ok {
		x.feed.log.Info("exchange is live", "symbols", len(x.symbols), "times", n)
	}
}

// said does what a frame asks for beside its prices.
func (x *session) said(ctx context.Context, n Note) {
	switch n.Kind {
	case Subscribed:
		x.confirmed = true
	case Refused:
		x.refuse(n)
	case Limited:
		x.fail(&limitError{said: n.Text})
	case Moving:
		x.wish = "the exchange asks for a new connection: " + n.Text
		x.move(ctx, time.Now())
	case Lost:
		x.lost = n.Text
	case Gap:
		x.missed(n)
	}
}

// beat looks at the deadlines.
func (x *session) beat(ctx context.Context, now time.Time) {
	x.note()
	if x.cur != nil {
		x.alive(now)
		x.ping(now)
		x.probe(now)
		if !x.expires.IsZero() && now.After(x.expires) {
			x.wish = "the exchange ends connections of this age"
		}
	}
	if x.lost != "" && now.After(x.lostYet) {
		x.wish, x.lost = "lost: "+x.lost, ""
	}
	x.promote(ctx, now)
	x.move(ctx, now)
}

// alive ends a connection that shows no life, or no effect.
func (x *session) alive(now time.Time) {
	sign := x.good
	if s := x.cur.lastSign(); s.After(sign) {
		sign = s
	}
	if !sign.Before(x.probed) {
		x.probed = time.Time{}
	}
	silence := x.feed.rules.Silence
	switch {
	case !x.probed.IsZero() && now.Sub(x.probed) > pongWithin:
		x.fail(fmt.Errorf("no answer to a ping within %v, after %v of silence", pongWithin, probeAfter))
	case silence > 0 && now.Sub(sign) > silence && len(x.cur.frames) == 0:
		x.fail(fmt.Errorf("no sign of life for %v", silence))
	case !x.confirmed && x.cur.since(now) > confirmWithin:
		x.fail(fmt.Errorf("subscription not confirmed within %v", confirmWithin))
	case x.priced.IsZero() && x.cur.since(now) > priceWithin:
		x.fail(fmt.Errorf("no price within %v of the subscription", priceWithin))
	case x.confirmed && now.Sub(x.cur.opened) > stable:
		x.tries, x.limits = 0, 0
	}
}

// ping asks for a sign of life, where the protocol wants it.
func (x *session) ping(now time.Time) {
	r := x.feed.rules
	if len(r.Ping) > 0 && r.PingEvery > 0 && now.Sub(x.pinged) >= r.PingEvery {
		x.pinged = now
		x.cur.post(r.Ping)
		if x.next != nil {
			x.next.post(r.Ping)
		}
	}
}

// probe asks a connection that is quiet for a pong. Exchanges whose protocol
// has a ping of its own, or that speak all the time, need none: their silence
// is found sooner.
func (x *session) probe(now time.Time) {
	r := x.feed.rules
	sign := x.good
	if s := x.cur.lastSign(); s.After(sign) {
		sign = s
	}
	if len(r.Ping) == 0 && r.Silence > probeAfter+pongWithin && x.probed.IsZero() && now.Sub(sign) > probeAfter {
		x.probed = now
		x.cur.post(nil)
	}
}

// extend follows further symbols on the connection there is.
func (x *session) extend(list []string) {
	x.symbols = append(x.symbols, list...)
	x.subscribe(x.cur, list)
	x.subscribe(x.next, list)
	if x.dials {
		x.added = append(x.added, list...)
	}
}

func (x *session) subscribe(l *link, list []string) {
	if l == nil || len(list) == 0 {
		return
	}
	for _, message := range x.x.Subscribe(list) {
		if !l.post(message) {
			x.wish = "too many messages wait"
		}
	}
}

// ended is when the current connection is over.
func (x *session) ended(ctx context.Context) {
	err := x.cur.end
	x.cur.drop()
	x.cur = nil
	switch {
	case x.next != nil:
		x.replace(ctx)
	case x.dials:
		x.set(FeedConnecting, err.Error())
	default:
		x.fail(err)
	}
}

// move opens the connection that is to replace the current one, when one is
// wanted and none is on its way.
func (x *session) move(ctx context.Context, now time.Time) {
	if x.wish == "" || x.dials || x.next != nil || now.Before(x.notYet) {
		return
	}
	x.feed.log.Info("exchange connection is being replaced", "why", x.wish)
	x.dials = true
	messages := x.x.Subscribe(x.symbols)
	x.wg.Go(func() {
		l, err := x.feed.dial(ctx, messages)
		x.dialed <- dialed{l, err}
	})
}

// reached takes the connection that was opened, or why it was not.
func (x *session) reached(d dialed) {
	x.dials = false
	x.subscribe(d.link, x.added)
	x.added = nil
	switch {
	case d.err == nil && x.cur == nil:
		x.adopt(d.link)
	case d.err == nil:
		x.next, x.held, x.size = d.link, nil, 0
	case x.cur == nil:
		x.fail(d.err)
	default:
		x.later(d.err)
	}
}

// later puts off the replacement that failed; the old connection still counts.
func (x *session) later(err error) {
	x.notYet = time.Now().Add(x.backoff(err))
	if n, ok := x.feed.troubles.speak("replacement"); ok {
		x.feed.log.Warn("exchange connection not replaced", "err", err, "attempts", n)
	}
}

// hold keeps a frame of the next connection until it counts.
func (x *session) hold(ctx context.Context, f arrived, ok bool) {
	if !ok {
		err := x.next.end
		x.next.drop()
		x.next, x.held = nil, nil
		x.later(err)
		return
	}
	x.held = append(x.held, f)
	if x.size += len(f.data); len(x.held) >= heldFrames || x.size >= heldBytes {
		x.replace(ctx)
	}
}

// promote lets the next connection count when it has been subscribed for a
// while and speaks. One that stays silent is given up.
func (x *session) promote(ctx context.Context, now time.Time) {
	if x.next == nil {
		return
	}
	since := x.next.since(now)
	switch {
	case since >= overlap && len(x.held) > 0:
		x.replace(ctx)
	case now.Sub(x.next.opened) > max(x.feed.rules.Silence, confirmWithin):
		x.next.drop()
		x.next, x.held = nil, nil
		x.later(errors.New("the new connection stays silent"))
	}
}

// replace puts the next connection in the current one's place: first what the
// old one still has, then what the new one brought meanwhile.
func (x *session) replace(ctx context.Context) {
	if old := x.cur; old != nil {
		x.drain(ctx, old)
		x.wg.Go(old.leave)
	}
	l, held := x.next, x.held
	x.next, x.held, x.size = nil, nil, 0
	x.adopt(l)
	for _, f := range held {
		x.frame(ctx, f)
	}
}

// drain takes what a connection has received already.
func (x *session) drain(ctx context.Context, l *link) {
	for {
		select {
		case f, ok := <-l.frames:
			if !ok {
				return
			}
			x.frame(ctx, f)
		default:
			return
		}
	}
}
