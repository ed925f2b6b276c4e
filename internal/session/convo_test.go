package session

import (
	"fmt"
	"strings"
	"testing"

	"cryptointel/protocol"
)

// A convo is one session with everything around it faked.
type convo struct {
	t    testing.TB
	cfg  Config
	env  Env
	st   State
	now  protocol.Time
	subs []*Spec  // as the actions made them
	said []string // what the client was told since the last look
	asks []Action // tokens to verify
	code protocol.Code
}

const start = 1764678600 * protocol.Second

func newConvo(t testing.TB, set func(*Config)) *convo {
	c := &convo{t: t, cfg: DefaultConfig(), now: start}
	if set != nil {
		set(&c.cfg)
	}
	c.env = Env{Config: &c.cfg, Directory: assets{}, Epoch: "test1", Oldest: 1, Host: c}
	c.tell(Event{Kind: Opened})
	c.look()
	return c
}

type assets struct{}

func (assets) Slug(name string) (string, bool) {
	slug, ok := map[string]string{"bitcoin": "bitcoin", "BTC": "bitcoin", "btc": "bitcoin", "ethereum": "ethereum"}[name]
	return slug, ok
}

// Reading and Report make the convo its session's Host.
func (c *convo) Reading(int) (from, prev int64) { return c.env.Head, 0 }

func (c *convo) Report() Report { return Report{} }

// tell tells the session what happened and carries out what it answers, as the
// hub does.
func (c *convo) tell(ev Event) {
	c.t.Helper()
	for {
		var out Actions
		Step(&c.env, &c.st, ev, c.now, &out)
		for _, a := range out.List {
			c.act(a)
		}
		if len(c.subs) != len(c.st.Subs) {
			c.t.Fatalf("the actions give %d subscriptions, the state has %d", len(c.subs), len(c.st.Subs))
		}
		for i := range c.subs {
			if c.subs[i] != c.st.Subs[i] {
				c.t.Fatalf("subscription %d is %s, the state has %s", i, c.subs[i].Key, c.st.Subs[i].Key)
			}
		}
		if !Ready(&c.st) {
			return
		}
		ev = Event{Kind: Resume}
	}
}

func (c *convo) act(a Action) {
	switch a.Kind {
	case Send:
		if err := protocol.CheckJSON(a.Message); err != nil {
			c.t.Fatalf("sent %s: %v", a.Message, err)
		}
		c.said = append(c.said, string(a.Message))
	case Subscribe:
		c.subs = append(c.subs, a.Spec)
	case Change:
		c.subs[a.Sub] = a.Spec
	case Unsubscribe:
		if c.subs[a.Sub] != a.Spec {
			c.t.Fatalf("unsubscribe %d is for %s, that is %s", a.Sub, a.Spec.Key, c.subs[a.Sub].Key)
		}
		c.subs = append(c.subs[:a.Sub:a.Sub], c.subs[a.Sub+1:]...)
	case VerifyToken:
		c.asks = append(c.asks, a)
	case Close:
		c.code = a.Code
	}
}

func (c *convo) say(format string, args ...any) {
	c.t.Helper()
	c.tell(Event{Kind: Message, Message: fmt.Appendf(nil, format, args...)})
}

func (c *convo) judge(g *protocol.Grant) {
	c.t.Helper()
	c.tell(Event{Kind: Judged, Grant: g})
}

// pass ticks the session when it wants to be, until d has passed.
func (c *convo) pass(d protocol.Time) {
	c.t.Helper()
	for end := c.now + d; ; {
		next := Deadline(&c.env, &c.st)
		if next > end {
			c.now = end
			return
		}
		c.now = max(c.now, next)
		c.tell(Event{Kind: Tick})
		if again := Deadline(&c.env, &c.st); again <= c.now {
			c.t.Fatalf("a tick at %d asks for another at %d", c.now, again)
		}
	}
}

func (c *convo) look() []string {
	said := c.said
	c.said = nil
	return said
}

// expect compares what was said with the parts that must be in it.
func (c *convo) expect(parts ...string) {
	c.t.Helper()
	got := c.look()
	ok := len(got) == len(parts)
	for i := range min(len(got), len(parts)) {
		ok = ok && strings.Contains(got[i], parts[i])
	}
	if !ok {
		c.t.Errorf("got  %q\nwant %q", got, parts)
	}
}

func grant(channels ...string) *protocol.Grant {
	return &protocol.Grant{Subject: "u1", Channels: channels, Expires: start + 3600*protocol.Second}
}
