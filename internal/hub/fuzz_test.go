package hub

import (
	"testing"

	"cryptointel/internal/frame"
	"cryptointel/internal/session"
	"cryptointel/protocol"
)

// FuzzReceive gives a shard any bytes, cut anywhere, from a socket that takes
// little. Whatever they are, the books stay in order, what is written is whole
// frames, another connection is served, and nothing is left in the end. The
// rig checks the first two after each step.
func FuzzReceive(f *testing.F) {
	key := [4]byte{1, 2, 3, 4}
	for _, text := range []string{
		`{"type":"ping"}`, `{"type":"status","id":1}`, `{"type":"auth","token":"t","instance":"i"}`,
		`{"type":"subscribe","channels":["price:*",{"channel":"price:BTC","max_rate":2},"signals:all"],"since":"test1-1"}`,
		`{"type":"unsubscribe","channels":["price:*"]}`, `{"type":"subscribe","channels":["test:log"],"since":"test1-9"}`,
	} {
		b := frame.AppendMasked(nil, frame.Text, false, key, []byte(text[:7]))
		b = frame.AppendMasked(b, frame.Ping, true, key, []byte("p"))
		b = frame.AppendMasked(b, frame.Continuation, true, key, []byte(text[7:]))
		f.Add(b, uint8(3), uint16(40), false)
		f.Add(b, uint8(30), uint16(400), true)
		f.Add(appendPacked(b, new(codebook), frame.Text, []byte(text)), uint8(30), uint16(400), true)
		f.Add(frame.AppendMasked(b, frame.Close, true, key, []byte{3, 232}), uint8(200), uint16(500), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, cut uint8, room uint16, deflate bool) {
		r := newRig(t, func(c *Config, _ *session.Config) { c.DeflateFrom = 40 })
		r.publish("price:bitcoin", 1, 5)
		r.entry(1, "spike")
		l, other := r.open(Hello{Session: "s", Owner: 1, Deflate: deflate}), r.open(Hello{Session: "o"})
		other.say(`{"type":"subscribe","channels":["price:bitcoin","signals:all"]}`).read()
		l.full, l.room = true, int(room)
		for len(b) > 0 {
			n := min(len(b), int(cut)+1)
			l.raw(b[:n])
			b = b[n:]
			r.publish("price:bitcoin", r.shard.values["price:bitcoin"].last.Offset+1, 6)
		}
		r.entry(2, "news")
		r.shard.Verdict(l.ref, Verdict{Grant: &protocol.Grant{Subject: "u", Channels: []string{"*"}, Expires: 1 << 62}}, r.now)
		l.writable()
		r.pass(3 * protocol.Second)
		if got := other.read(); len(got) == 0 || got[len(got)-1] != `{"type":"signal_alert","channel":"signals:all","offset":2,"prev":0,"ts":0,"data":{"type":"news"}}` {
			t.Errorf("the other connection was told %q", got)
		}
		r.over()
	})
}
