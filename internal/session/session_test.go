package session

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"cryptointel/protocol"
)

// What is said about one channel runs in order, though other commands overtake
// those that wait for a token.
func TestWaitingKeepsTheOrderOfAChannel(t *testing.T) {
	c := newConvo(t, nil)
	c.say(`{"type":"subscribe","id":1,"channels":["signals:all","test:log"],"since":"test1-0"}`)
	c.say(`{"type":"subscribe","id":2,"channels":["test:log"]}`)
	c.say(`{"type":"subscribe","id":3,"channels":["price:bitcoin"]}`)
	c.say(`{"type":"unsubscribe","id":4,"channels":["test:log"]}`)
	c.say(`{"type":"ping","id":5}`)
	c.expect(`"id":3`, `"id":5`)
	c.say(`{"type":"auth","id":6,"token":"t"}`)
	c.judge(grant("signals:*"))
	c.expect(`"id":6,"for":"auth"`, `"id":1,"for":"subscribe"`, `"id":2,"for":"subscribe"`, `"id":4,"for":"unsubscribe"`)
	if c.st.Queue != nil || len(c.subs) != 2 {
		t.Errorf("queue %+v, %d subscriptions", c.st.Queue, len(c.subs))
	}
}

func TestCursorAhead(t *testing.T) {
	for _, tc := range []struct {
		name string
		play func(c *convo)
		want []string
	}{
		{"it waits, and all behind it", func(c *convo) {}, nil},
		{"the head comes", func(c *convo) {
			c.env.Head = 10
			c.tell(Event{Kind: Tick})
		}, []string{`"from":10,"head":10,"recovered":true`, "pong"}},
		{"the head comes half way", func(c *convo) {
			c.env.Head = 9
			c.tell(Event{Kind: Tick})
		}, nil},
		{"a verdict comes first", func(c *convo) {
			c.st.Verifying = true
			c.judge(grant("*"))
			c.expect(`"for":"auth"`)
		}, nil},
		{"a verdict, then the head", func(c *convo) {
			c.st.Verifying = true
			c.judge(grant("*"))
			c.look()
			c.env.Head = 10
			c.tell(Event{Kind: Tick})
		}, []string{`"from":10,"head":10,"recovered":true`, "pong"}},
		{"the head never comes", func(c *convo) { c.pass(2 * protocol.Second) },
			[]string{`"from":0,"head":0,"recovered":false,"reason":"unknown_cursor"`, "pong"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newConvo(t, nil)
			c.say(`{"type":"subscribe","id":1,"channels":["test:log"],"since":"test1-10"}`)
			c.say(`{"type":"ping"}`)
			tc.play(c)
			c.expect(tc.want...)
			if waits := c.st.Queue != nil; waits != (tc.want == nil) {
				t.Errorf("queue %+v", c.st.Queue)
			}
		})
	}
}

func TestTokenFilterOnRefresh(t *testing.T) {
	filtered := func(json string) *protocol.Grant {
		g := grant("signals:*")
		if json != "" {
			f, err := protocol.ParseFilter([]byte(json))
			if err != nil {
				t.Fatal(err)
			}
			g.Filter = f
		}
		return g
	}
	for _, tc := range []struct {
		name, before, after string
		lost                bool
	}{
		{"none", ``, ``, false},
		{"the same", `{"type":["a","b"]}`, `{"type":["b","a"]}`, false},
		{"the same by ticker", `{"entity":["BTC"]}`, `{"entity":["BTC"]}`, false},
		{"ticker and slug", `{"entity":["BTC"]}`, `{"entity":["bitcoin"]}`, false},
		{"empty and none", `{}`, ``, false},
		{"empty and empty", `{}`, `{}`, false},
		{"another", `{"type":["a"]}`, `{"type":["b"]}`, true},
		{"one more", ``, `{"type":["b"]}`, true},
		{"one less", `{"type":["b"]}`, ``, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newConvo(t, nil)
			c.say(`{"type":"auth","token":"t"}`)
			c.judge(filtered(tc.before))
			c.say(`{"type":"subscribe","channels":["signals:all","price:bitcoin"]}`)
			c.look()
			c.say(`{"type":"auth","token":"t"}`)
			c.judge(filtered(tc.after))
			want := []string{`"for":"auth"`}
			if tc.lost {
				want = append(want, `{"type":"unsubscribed","channel":"signals:all","reason":"FORBIDDEN"}`)
			}
			c.expect(want...)
		})
	}
}

func TestLimits(t *testing.T) {
	for _, tc := range []struct {
		name  string
		set   func(*Limits)
		play  func(c *convo)
		last  string
		code  protocol.Code
		count int // messages said
	}{
		{"channels", func(l *Limits) { l.Channels = 2 }, func(c *convo) {
			c.say(`{"type":"subscribe","channels":["test:a","test:b"]}`)
			c.say(`{"type":"subscribe","channels":["test:a","test:c"]}`)
		}, `"channels":["test:a"],"errors":[{"channel":"test:c","code":"CHANNEL_LIMIT"`, "", 2},
		{"no limit on channels", func(l *Limits) { l.Channels = 0 }, func(c *convo) {
			for i := range 60 {
				c.say(`{"type":"subscribe","channels":["test:a%d"]}`, i)
			}
		}, `"channels":["test:a59"]}`, "", 60},
		{"filters", func(l *Limits) { l.Filters = 1 }, func(c *convo) {
			c.say(`{"type":"subscribe","channels":[{"channel":"test:log","filter":{"type":["a"]}}]}`)
			c.say(`{"type":"subscribe","channels":[{"channel":"test:log","filter":{"type":["b"]}}]}`)
			c.say(`{"type":"auth","token":"t"}`)
			c.judge(grant("signals:*"))
			c.say(`{"type":"subscribe","channels":[{"channel":"signals:all","filter":{"type":["a"]}}]}`)
		}, `"CHANNEL_LIMIT"`, "", 4},
		{"text of subscriptions", func(l *Limits) { l.Channels, l.MessagesPerMinute = 0, 0 }, func(c *convo) {
			for i := range 70 {
				c.say(`{"type":"subscribe","channels":["test:%s%02d"]}`, strings.Repeat("x", 121), i)
			}
		}, `"CHANNEL_LIMIT"`, "", 70},
		{"commands that wait", nil, func(c *convo) {
			for range 17 {
				c.say(`{"type":"subscribe","channels":["signals:all"]}`)
			}
		}, `"RATE_LIMITED"`, "", 1},
		{"bytes that wait", nil, func(c *convo) {
			c.say(`{"type":"subscribe","channels":["signals:all"],"x":"%s"}`, strings.Repeat("x", 4<<10))
		}, `"RATE_LIMITED"`, "", 1},
		{"messages", func(l *Limits) { l.MessagesPerMinute, l.MessageBurst = 60, 2 }, func(c *convo) {
			for range 3 {
				c.say(`{"type":"ping"}`)
			}
		}, `"code":"RATE_LIMITED"`, "", 3},
		{"a flood of messages", func(l *Limits) { l.MessagesPerMinute, l.MessageBurst = 60, 2 }, func(c *convo) {
			for range 181 {
				c.say(`{"type":"ping"}`)
			}
		}, `"code":"RATE_LIMITED"`, protocol.RateLimited, 181},
		{"nine strikes", nil, func(c *convo) {
			for range 9 {
				c.say(`nonsense`)
			}
		}, `"INVALID_MESSAGE"`, "", 9},
		{"ten strikes", nil, func(c *convo) {
			for range 10 {
				c.say(`{"type":"subscribe","channels":["price:nope"]}`)
			}
		}, `"INVALID_CHANNEL"`, protocol.InvalidChannel, 10},
		{"ten refusals are no strikes", nil, func(c *convo) {
			c.say(`{"type":"auth","token":"t"}`)
			c.judge(grant())
			for range 12 {
				c.say(`{"type":"subscribe","channels":["signals:all"]}`)
			}
		}, `"FORBIDDEN"`, "", 13},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newConvo(t, func(cfg *Config) {
				if tc.set != nil {
					tc.set(&cfg.Limits)
				}
			})
			tc.play(c)
			said := c.look()
			if len(said) == 0 || !strings.Contains(said[len(said)-1], tc.last) {
				t.Errorf("the last of %d messages is %.300s, want %s", len(said), said[max(0, len(said)-1):], tc.last)
			}
			if tc.count > 0 && len(said) != tc.count || c.code != tc.code {
				t.Errorf("%d messages, closed with %q; want %d and %q", len(said), c.code, tc.count, tc.code)
			}
		})
	}
}

func TestSubscriptionTextIsBounded(t *testing.T) {
	c := newConvo(t, func(cfg *Config) { cfg.Limits.Channels = 0 })
	var text int
	for i := range 75 {
		c.say(`{"type":"subscribe","channels":["test:b","test:%s%02d"]}`, strings.Repeat("x", 115), i)
		c.now += protocol.Second
	}
	for _, s := range c.subs {
		text += len(s.Key)
	}
	if text > 8<<10 || text < 8<<10-150 {
		t.Errorf("%d bytes of text", text)
	}
}

func TestClock(t *testing.T) {
	second := protocol.Second
	for _, tc := range []struct {
		name  string
		set   func(*Config)
		play  func(c *convo)
		lives protocol.Time
		ends  protocol.Time
		code  protocol.Code
	}{
		{"nothing in time", nil, func(*convo) {}, 9 * second, 10 * second, protocol.AuthTimeout},
		{"only waiting commands", nil, func(c *convo) { c.say(`{"type":"subscribe","channels":["signals:all"]}`) },
			9 * second, 10 * second, protocol.AuthTimeout},
		{"subscribed, then silent", nil, func(c *convo) { c.say(`{"type":"subscribe","channels":["test:a"]}`) },
			299 * second, 300 * second, protocol.IdleTimeout},
		{"pongs are no activity", nil, func(c *convo) {
			c.say(`{"type":"subscribe","channels":["test:a"]}`)
			c.pass(200 * second)
			c.tell(Event{Kind: Control})
		}, 99 * second, 100 * second, protocol.IdleTimeout},
		{"no limits", func(cfg *Config) { cfg.Limits.IdleTimeout, cfg.Limits.AuthTimeout = 0, 0 }, func(*convo) {},
			1e6 * second, 1e6 * second, ""},
		{"the token expires", func(cfg *Config) { cfg.Limits.IdleTimeout = 0 }, func(c *convo) {
			c.say(`{"type":"auth","token":"t"}`)
			c.judge(grant("*"))
		}, 3629 * second, 3630 * second, protocol.ExpiredToken},
		{"a drain", nil, func(c *convo) { c.tell(Event{Kind: Drain, After: 5 * second}) },
			4 * second, 5 * second, protocol.Draining},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newConvo(t, tc.set)
			tc.play(c)
			if c.pass(tc.lives); c.code != "" {
				t.Fatalf("closed with %s too early", c.code)
			}
			if c.pass(tc.ends - tc.lives); c.code != tc.code {
				t.Errorf("closed with %q, want %q", c.code, tc.code)
			}
		})
	}
}

func TestExpiryIsAnnounced(t *testing.T) {
	c := newConvo(t, func(cfg *Config) { cfg.Limits.IdleTimeout = 0 })
	c.say(`{"type":"auth","token":"t"}`)
	c.judge(grant("*"))
	c.look()
	c.pass(3539 * protocol.Second)
	c.expect()
	c.pass(protocol.Second)
	c.expect(`"status":"token_expiring","expires_at":1764682200000`)
	g := grant("*")
	g.Expires += 3600 * protocol.Second
	c.say(`{"type":"auth","token":"t2"}`)
	c.judge(g)
	c.expect(`"expires_at":1764685800000`)
	c.pass(3599 * protocol.Second)
	c.expect()
	if c.pass(protocol.Second); c.code != "" {
		t.Errorf("closed with %s", c.code)
	}
	c.expect("token_expiring")
}

// TestRandomCommands plays random commands. The convo checks after each step
// that the actions make the same subscriptions as the state has, that all that
// is said is JSON, and that a tick is not asked for at once again; here each
// command must have one answer.
func TestRandomCommands(t *testing.T) {
	seed := uint64(time.Now().UnixNano() % 1e9)
	for i := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed+i, 1))
		ok := t.Run(fmt.Sprint("seed ", seed+i), func(t *testing.T) { randomCommands(t, r) })
		if !ok {
			return
		}
	}
}

func randomCommands(t *testing.T, r *rand.Rand) {
	c := newConvo(t, func(cfg *Config) {
		cfg.Limits.MessagesPerMinute, cfg.Limits.IdleTimeout, cfg.Limits.AuthTimeout = 0, 0, time.Second
		cfg.Limits.Channels = 1 + r.IntN(6)
		if r.IntN(2) == 0 {
			cfg.Anonymous = []string{"*"}
		}
	})
	one := func(of ...string) string { return of[r.IntN(len(of))] }
	item := func() string {
		switch r.IntN(3) {
		case 0:
			return `{"channel":"` + one("signals:all", "signals:high", "test:log", "price:BTC") + `","filter":{"type":["a"]}}`
		case 1:
			return `{"channel":"` + one("price:bitcoin", "test:a", "test:log") + `","max_rate":` + one("1", "20", "0.1") + `}`
		}
		return `"` + one("price:bitcoin", "price:BTC", "price:*", "test:log", "signals:all", "signals:high", "price:none") + `"`
	}
	id, answers := 0, map[string]int{}
	count := func() {
		for _, m := range c.look() {
			if _, rest, ok := strings.Cut(m, `"id":`); ok {
				n, _, _ := strings.Cut(rest, ",")
				answers[n]++
			}
		}
	}
	for range 60 {
		id++
		switch r.IntN(9) {
		case 0, 1, 2:
			since := one("", "", `,"since":"test1-0"`, fmt.Sprintf(`,"since":"test1-%d"`, c.env.Head+2), `,"since":"other-5"`, `,"since":"rubbish"`)
			c.say(`{"type":"subscribe","id":%d,"channels":[%s,%s]%s}`, id, item(), item(), since)
		case 3:
			c.say(`{"type":"unsubscribe","id":%d,"channels":[%s]}`, id, item())
		case 4:
			c.say(`{"type":"ping","id":%d}`, id)
		case 5:
			c.say(`{"type":"status","id":%d}`, id)
		case 6:
			if len(c.asks) > 3 {
				id--
				continue
			}
			c.say(`{"type":"auth","id":%d,"token":"t"}`, id)
		case 7:
			id--
			c.env.Head += int64(r.IntN(3))
			c.pass(protocol.Time(r.IntN(1500)) * protocol.Millisecond)
			c.tell(Event{Kind: Tick})
		case 8:
			id--
			if len(c.asks) > 0 {
				c.asks = c.asks[1:]
				c.judge(grant(one("*", "signals:*", "signals:all", "price:*")))
			}
		}
		if count(); c.code != "" {
			return // ten strikes
		}
	}
	for range 50 {
		if len(c.asks) > 0 {
			c.asks = c.asks[1:]
			c.judge(grant("*"))
		}
		c.pass(3 * protocol.Second)
	}
	count()
	if c.code != "" {
		return
	}
	for n := 1; n <= id; n++ {
		if got := answers[fmt.Sprint(n)]; got != 1 {
			t.Fatalf("command %d has %d answers; queue %+v", n, got, c.st.Queue)
		}
	}
	if c.st.Queue != nil {
		t.Errorf("a queue is left: %+v", c.st.Queue)
	}
}
