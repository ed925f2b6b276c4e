package feedsim

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// movingNotice is how long a connection lives after it was asked to move.
const movingNotice = 10 * time.Second

// oversize is the payload of an oversized frame.
const oversize = 2 << 20

// misbehave begins what is planned. A connection without a subscription is
// left alone: nobody would notice.
func (c *conn) misbehave() {
	for c.end == nil && c.fault.Frames == 0 && len(c.subs) > 0 {
		f, ok := c.x.take(c.now)
		if !ok {
			return
		}
		f.Conn = c.id
		c.begin(&f)
		c.x.sim.did(f)
	}
}

// begin starts one fault.
func (c *conn) begin(f *Fault) {
	switch f.Kind {
	case Drop, Duplicate, Reorder:
		c.fault = *f
		f.Note = "from the next frame on"
	case Delay:
		c.hold = c.now.Add(f.For)
	case HalfOpen, Abrupt:
		c.finish(f.Kind, 0, "planned")
	case CleanEnd:
		c.finish(CleanEnd, websocket.StatusServiceRestart, "restarting")
	case Moving:
		c.say(c.moving())
		c.closeAt = c.now.Add(movingNotice)
		f.Note = "cut after " + movingNotice.String()
	case RateLimit:
		c.x.venue.limited(c)
		c.finish(CleanEnd, websocket.StatusPolicyViolation, "Too many requests")
		f.Note = "connection attempts get 429"
	case Garbage:
		c.say(`{"channel":"` + "\x00\x01 <html>502 Bad Gateway</html>")
	case Oversized:
		c.say(`{"channel":"l2_data","padding":"` + strings.Repeat("0", oversize) + `"}`)
		f.Note = fmt.Sprintf("%d bytes", oversize)
	}
}

// flush sends what is queued, through the fault that is on.
func (c *conn) flush(ctx context.Context) error {
	if c.now.Before(c.hold) && c.end == nil {
		return nil
	}
	c.hold = time.Time{}
	for i := range c.out {
		if err := c.pass(ctx, c.out[i]); err != nil {
			return err
		}
	}
	c.out = c.out[:0]
	return nil
}

// pass sends a frame, or does to it what the fault says.
func (c *conn) pass(ctx context.Context, o out) error {
	if c.fault.Frames == 0 || o.weight == sure || c.fault.Kind == Drop && o.weight != counted {
		return c.send(ctx, o)
	}
	if c.fault.Kind == Reorder && c.late == nil {
		c.late = &o
		return nil
	}
	c.fault.Frames--
	switch c.fault.Kind {
	case Drop:
		return nil
	case Duplicate:
		if err := c.send(ctx, o); err != nil {
			return err
		}
		return c.send(ctx, o)
	}
	late := *c.late
	c.late = nil
	if err := c.send(ctx, o); err != nil {
		return err
	}
	return c.send(ctx, late)
}

func (c *conn) send(ctx context.Context, o out) error {
	c.said = c.now
	c.x.count(func(st *Stats) { st.Frames++ })
	return c.ws.Write(ctx, websocket.MessageText, []byte(o.text))
}

// moving is the frame that asks for a new connection; Binance wraps it like
// the others.
func (c *conn) moving() string {
	if c.combined {
		return `{"stream":"!serverShutdown","data":` + c.x.venue.moving() + `}`
	}
	return c.x.venue.moving()
}
