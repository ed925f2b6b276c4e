package hub

import (
	"reflect"
	"strings"
	"testing"

	"cryptointel/internal/frame"
	"cryptointel/internal/session"
	"cryptointel/protocol"
)

func TestClosingHandshake(t *testing.T) {
	const refusal = `"code":"INVALID_MESSAGE"`
	ours := "close 4400 INVALID_MESSAGE"
	for _, c := range []struct {
		name     string
		play     func(l *line)
		got      []string
		finished bool
	}{
		{"we close first", func(l *line) { l.frame(frame.Binary, "x") }, []string{refusal, ours}, false},
		{"we close first, the peer answers", func(l *line) { l.frame(frame.Binary, "x").close(4400) }, []string{refusal, ours}, true},
		{"the peer closes first", func(l *line) { l.close(1000) }, []string{"close 1000"}, true},
		{"the peer gives no code", func(l *line) { l.frame(frame.Close, "") }, []string{"close 1005"}, true},
		{"the peer gives an illegal code", func(l *line) { l.close(1005) }, []string{"close 1002"}, true},
		{"the peer gives half a code", func(l *line) { l.frame(frame.Close, "\x03") }, []string{"close 1002"}, true},
		{"both close, ours is not written yet", func(l *line) {
			l.full = true
			l.frame(frame.Binary, "x").close(1000)
		}, nil, false},
		{"both close, ours is written later", func(l *line) {
			l.full = true
			l.frame(frame.Binary, "x").close(1000).writable()
		}, []string{refusal, ours}, true},
		{"the peer closes while its socket is full", func(l *line) {
			l.full = true
			l.say(`{"type":"ping"}`).close(1000).writable()
		}, []string{"pong", "close 1000"}, true},
		{"the peer never answers", func(l *line) {
			l.frame(frame.Binary, "x")
			l.r.pass(3 * protocol.Second)
		}, []string{refusal, ours}, true},
		{"the peer never answers, before its time", func(l *line) {
			l.frame(frame.Binary, "x")
			l.r.pass(protocol.Second)
		}, []string{refusal, ours}, false},
		{"the peer closes and reads nothing", func(l *line) {
			l.full = true
			l.close(1000)
			l.r.pass(3 * protocol.Second)
		}, nil, true},
		{"nothing is said behind our close", func(l *line) {
			l.say(`{"type":"subscribe","channels":["price:bitcoin","signals:all"]}`).read()
			l.frame(frame.Binary, "x").say(`{"type":"ping"}`).frame(frame.Ping, "hello")
			l.r.publish("price:bitcoin", 1, 5)
			l.r.entry(1, "spike")
		}, []string{refusal, ours}, false},
		{"nothing is said behind a close that waits", func(l *line) {
			l.say(`{"type":"subscribe","channels":["price:bitcoin","signals:all"]}`).read()
			l.full = true
			l.r.publish("price:bitcoin", 1, 5)
			l.r.entry(1, "spike")
			l.frame(frame.Binary, "x").writable()
			l.r.publish("price:bitcoin", 2, 5)
		}, []string{refusal, ours}, false},
		{"rubbish behind our close", func(l *line) {
			l.frame(frame.Binary, "x").raw([]byte{0xff, 0xff, 0xff, 0xff})
			l.r.pass(3 * protocol.Second)
		}, []string{refusal, ours}, true},
		{"what is not RFC 6455", func(l *line) { l.raw([]byte{0x81, 0x01, 'x'}) }, []string{"PROTOCOL_ERROR", "close 1002 PROTOCOL_ERROR"}, true},
		{"text that is not UTF-8", func(l *line) { l.frame(frame.Text, "\xff") }, []string{"INVALID_UTF8", "close 1007 INVALID_UTF8"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			l := r.open(Hello{Session: "s"})
			c.play(l)
			l.expect(c.got...)
			if l.finished != c.finished {
				t.Errorf("finished is %v, want %v", l.finished, c.finished)
			}
			r.over()
		})
	}
}

func TestDeadlines(t *testing.T) {
	const subscribe = `{"type":"subscribe","channels":["price:bitcoin"]}`
	half := frame.AppendMasked(nil, frame.Text, true, [4]byte{1, 2, 3, 4}, []byte(subscribe))[:9]
	for _, c := range []struct {
		name     string
		before   func(l *line)
		lives    protocol.Time // at least this long
		ends     protocol.Time // at most
		got      []string      // at the end
		finished bool
	}{
		{"a socket that takes nothing", func(l *line) {
			l.full = true
			l.say(subscribe)
		}, 29 * protocol.Second, 31 * protocol.Second, nil, true},
		{"a message that does not get on", func(l *line) { l.raw(half) },
			9 * protocol.Second, 11 * protocol.Second, []string{"PROTOCOL_ERROR", "close 1002"}, false},
		{"a header that does not get on", func(l *line) { l.raw(half[:1]) },
			9 * protocol.Second, 11 * protocol.Second, []string{"PROTOCOL_ERROR", "close 1002"}, false},
		{"an unanswered ping", func(l *line) {}, 129 * protocol.Second, 132 * protocol.Second, []string{"op9 "}, true},
		{"a ping that the socket does not take", func(l *line) {
			l.r.cfg.StuckTime, l.r.shard.cfg.StuckTime = 1000*protocol.Second, 1000*protocol.Second
			l.full = true
		}, 129 * protocol.Second, 132 * protocol.Second, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			l := r.open(Hello{Session: "s"})
			c.before(l)
			r.pass(c.lives)
			if l.finished || len(l.got) == len(c.got) && len(c.got) > 1 {
				t.Fatalf("ended within %d s: %q", c.lives/protocol.Second, l.got)
			}
			r.pass(c.ends - c.lives)
			if l.expect(c.got...); l.finished != c.finished {
				t.Errorf("finished is %v", l.finished)
			}
			r.over()
		})
	}
}

func TestAnsweredPingKeepsTheConnection(t *testing.T) {
	r := newRig(t, nil)
	l := r.open(Hello{Session: "s"})
	for range 3 {
		r.pass(121 * protocol.Second)
		l.expect("op9 ")
		l.frame(frame.Pong, "")
	}
	if r.pass(60 * protocol.Second); l.finished {
		t.Error("closed")
	}
	l.expect()
	r.over()
}

func TestTooMuchHeldCloses(t *testing.T) {
	r := newRig(t, func(cfg *Config, ses *session.Config) {
		cfg.HeldBytes, ses.Limits.MessagesPerMinute = 4<<10, 0
	})
	stuck, other := r.open(Hello{Session: "s"}), r.open(Hello{Session: "o"})
	stuck.full, stuck.room = true, 10
	for i := 0; !stuck.finished; i++ {
		if i > 4<<10/100 {
			t.Fatal("still open")
		}
		stuck.say(`{"type":"status"}`)
	}
	if n := r.shard.Stats().Closes[4508]; n != 1 {
		t.Errorf("%d closed as slow", n)
	}
	other.say(`{"type":"ping"}`).expect("pong")
	stuck.writable() // a late word of the poller
	stuck.expect()
	r.over()
}

func TestPricesNeverCloseASlowReader(t *testing.T) {
	r := newRig(t, func(cfg *Config, _ *session.Config) { cfg.HeldBytes = 1 << 10 })
	l := r.open(Hello{Session: "s"})
	l.say(`{"type":"subscribe","channels":["price:*","signals:all"]}`).read()
	l.full, l.room = true, 20
	for i := range int64(1000) {
		r.publish("price:bitcoin", i+1, float64(i))
		r.publish("price:solana", i+1, float64(i))
		r.entry(i+1, "spike")
	}
	l.say(`{"type":"ping"}`)
	if l.finished || r.shard.Stats().HeldBytes > 1<<10 {
		t.Fatalf("finished %v, %d bytes held", l.finished, r.shard.Stats().HeldBytes)
	}
	l.writable()
	got := l.read()
	want := []string{`"offset":1,`, "pong", `"offset":1000,`, `"offset":1000,`}
	for i, w := range want {
		if !strings.Contains(got[i], w) {
			t.Errorf("message %d is %s, want %s", i, got[i], w)
		}
	}
	if n := len(got) - len(want); n != 1000 {
		t.Errorf("%d log entries, want all 1000", n)
	}
	if got := r.shard.Stats().Conflated; got != 998+999 {
		t.Errorf("%d conflated", got)
	}
	r.over()
}

func TestFloods(t *testing.T) {
	for _, c := range []struct {
		name  string
		op    frame.Opcode
		count int
		last  string
	}{
		{"pings", frame.Ping, 400, "close 4529 RATE_LIMITED"},
		{"pongs", frame.Pong, 400, "close 4529 RATE_LIMITED"},
		{"messages", frame.Text, 400, "close 4529 RATE_LIMITED"},
		{"few pings", frame.Ping, 250, "op10 x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			l := r.open(Hello{Session: "s"})
			for range c.count {
				l.frame(c.op, "x")
				if len(l.got) > 0 && strings.HasPrefix(l.got[len(l.got)-1], "close") {
					break
				}
			}
			got := l.read()
			if len(got) == 0 || got[len(got)-1] != c.last && !(c.op == frame.Text && strings.HasPrefix(got[len(got)-1], "close 4")) {
				t.Errorf("%d answers, the last %q, want %q", len(got), got[max(0, len(got)-2):], c.last)
			}
			r.over()
		})
	}
}

func TestEcho(t *testing.T) {
	r := newRig(t, nil)
	l := r.open(Hello{Echo: true})
	l.frame(frame.Text, "hello").frame(frame.Ping, "p").frame(frame.Binary, "\x00\xff").frame(frame.Text, "")
	l.expect("hello", "op10 p", "op2 \x00\xff", "")
	big := strings.Repeat("x", 65_000) // over a client's limit with the header's help
	l.frame(frame.Text, big).expect(big)
	l.frame(frame.Text, "\xff").expect("close 1007 INVALID_UTF8")
	r.over()
}

func TestRefusedAtTheDoor(t *testing.T) {
	r := newRig(t, nil)
	l := r.open(Hello{Session: "s", Owner: 7, Refuse: &protocol.Error{Code: protocol.ConnectionFull, Message: "try later"}})
	l.expect(`"code":"CONNECTION_FULL"`, "close 4503 CONNECTION_FULL")
	l.say(`{"type":"ping"}`).expect()
	if l.close(4503); !l.finished {
		t.Error("not finished")
	}
	l.gone()
	if want := []Request{{Kind: Released, Ref: l.ref, Owner: 7}}; !reflect.DeepEqual(r.asked, want) {
		t.Errorf("asked %+v, want %+v", r.asked, want)
	}
	r.over()
}

func TestVerdicts(t *testing.T) {
	grant := &protocol.Grant{Subject: "u1", Channels: []string{"*"}, Expires: 1 << 62}
	for _, c := range []struct {
		name    string
		gone    bool
		verdict Verdict
		got     []string
		owners  []uint64 // released, in the end
	}{
		{"good", false, Verdict{Grant: grant}, []string{`"user":"u1"`}, []uint64{7}},
		{"good, counted as another", false, Verdict{Grant: grant, Owner: 9}, []string{`"user":"u1"`}, []uint64{9}},
		{"bad", false, Verdict{Err: &protocol.Error{Code: protocol.InvalidToken, Message: "no"}}, []string{"INVALID_TOKEN", "close 4401"}, []uint64{7}},
		{"gone", true, Verdict{Grant: grant}, nil, []uint64{7}},
		{"gone, counted as another", true, Verdict{Grant: grant, Owner: 9}, nil, []uint64{7, 9}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			l := r.open(Hello{Session: "s", Owner: 7})
			l.say(`{"type":"auth","token":"tok","instance":"phone","replace":true}`)
			want := []Request{{Kind: Verify, Ref: l.ref, Owner: 7, Token: "tok", Instance: "phone", Replace: true}}
			if !reflect.DeepEqual(r.asked, want) {
				t.Fatalf("asked %+v, want %+v", r.asked, want)
			}
			r.asked = nil
			if c.gone {
				l.gone()
				r.open(Hello{Session: "t"}) // in the same slot
			}
			r.shard.Verdict(l.ref, c.verdict, r.now)
			r.settle()
			l.expect(c.got...)
			r.over()
			var owners []uint64
			for _, req := range r.asked {
				if req.Kind == Released {
					owners = append(owners, req.Owner)
				}
			}
			if !reflect.DeepEqual(owners, c.owners) {
				t.Errorf("released %v, want %v", owners, c.owners)
			}
		})
	}
}

func TestDisplace(t *testing.T) {
	for _, c := range []struct {
		name   string
		silent protocol.Time
		drain  bool
		force  bool
		closed bool
	}{
		{"a connection that talks stays", 4 * protocol.Second, false, false, false},
		{"a silent one goes", 6 * protocol.Second, false, false, true},
		{"one that is draining goes", 0, true, false, true},
		{"one that is pushed goes", 0, false, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			l := r.open(Hello{Session: "s"})
			r.pass(c.silent)
			if c.drain {
				r.shard.Drain(20*protocol.Second, r.now)
				r.settle()
				l.expect("draining")
			}
			r.shard.Displace(l.ref, Displace{Force: c.force}, r.now)
			r.settle()
			if c.closed {
				l.expect("REPLACED", "close 4409 REPLACED")
			}
			l.expect()
			r.over()
		})
	}
}

func TestDrainSpreads(t *testing.T) {
	r := newRig(t, nil)
	var lines []*line
	for range 4 {
		lines = append(lines, r.open(Hello{Session: "s"}))
	}
	r.shard.Drain(20*protocol.Second, r.now)
	r.settle()
	for i, l := range lines {
		l.expect([]string{`"after_ms":5000}`, `"after_ms":10000}`, `"after_ms":15000}`, `"after_ms":20000}`}[i])
	}
	r.pass(11 * protocol.Second)
	for i, l := range lines {
		if closed := len(l.read()) == 2; closed != (i < 2) {
			t.Errorf("connection %d after 11 s: closed is %v", i, closed)
		}
	}
	r.over()
}

func TestSnapshotFramesAreShared(t *testing.T) {
	r := newRig(t, nil)
	r.publish("price:bitcoin", 1, 5)
	r.publish("price:solana", 1, 6)
	var lines []*line
	for range 3 {
		l := r.open(Hello{Session: "s"})
		l.say(`{"type":"subscribe","channels":["price:*"]}`)
		l.expect("ack", `"snapshot":true,"offset":1,"ts":0,"data":{"price":5}`, `{"price":6}`)
		lines = append(lines, l)
	}
	if n := r.shard.queue.packets.used(); n != 2 {
		t.Errorf("%d snapshots are kept for 3 subscribers, want 2", n)
	}
	r.publish("price:bitcoin", 2, 7)
	if n := r.shard.queue.packets.used(); n != 1 {
		t.Errorf("%d snapshots are kept after one has been replaced", n)
	}
	for _, l := range lines {
		l.expect(`{"price":7}`)
	}
	r.over()
}

// TestSlotsAreForgotten reuses a slot in the middle of everything.
func TestSlotsAreForgotten(t *testing.T) {
	r := newRig(t, nil)
	l := r.open(Hello{Session: "s"})
	l.say(`{"type":"subscribe","channels":["price:bitcoin","signals:all"]}`)
	l.full, l.room = true, 5
	r.publish("price:bitcoin", 1, 5)
	r.entry(1, "spike")
	l.raw([]byte{0x81}) // half a header
	r.shard.Publish(&protocol.Publication{Channel: "price:bitcoin", Offset: 2, Data: []byte("{}")}, r.now)
	r.shard.Gone(l.ref.Slot, r.now)
	delete(r.lines, l)
	m := r.open(Hello{Session: "t"})
	if m.ref.Slot != l.ref.Slot || m.ref.Gen == l.ref.Gen {
		t.Fatalf("opened %+v after %+v", m.ref, l.ref)
	}
	r.publish("price:bitcoin", 3, 5)
	r.entry(2, "spike")
	m.say(`{"type":"ping"}`).expect("pong")
	r.over()
}
