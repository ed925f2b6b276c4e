package hub

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"cryptointel/internal/frame"
	"cryptointel/internal/session"
	"cryptointel/protocol"
)

// A codebook stands for a compressor: a message becomes "#" and its number.
// What it has not written it cannot read.
type codebook struct {
	messages []string
	asked    int // messages to compress or inflate
}

func (c *codebook) Deflate(dst, src []byte) []byte {
	c.asked++
	c.messages = append(c.messages, string(src))
	return fmt.Appendf(dst, "#%d", len(c.messages)-1)
}

func (c *codebook) Inflate(dst, src []byte, limit int) ([]byte, error) {
	c.asked++
	i, err := strconv.Atoi(strings.TrimPrefix(string(src), "#"))
	switch {
	case err != nil || i < 0 || i >= len(c.messages) || src[0] != '#':
		return dst, errors.New("not in the book")
	case len(c.messages[i]) > limit:
		return append(dst, c.messages[i][:limit]...), fmt.Errorf("codebook: %w", ErrInflated)
	}
	return append(dst, c.messages[i]...), nil
}

// appendPacked appends a message as a client sends it that compresses.
func appendPacked(dst []byte, book *codebook, op frame.Opcode, message []byte) []byte {
	at := len(dst)
	dst = frame.AppendMasked(dst, op, true, [4]byte{7, 1, 7, 1}, book.Deflate(nil, message))
	dst[at] |= 0x40
	return dst
}

func long(n int) []byte {
	return fmt.Appendf(nil, `{"asset":"bitcoin","pad":"%s"}`, strings.Repeat("x", n))
}

func (r *rig) publishData(channel string, offset int64, data []byte) {
	r.shard.Publish(&protocol.Publication{Channel: channel, Type: protocol.TypePrice, Offset: offset, Data: data}, r.now)
	r.settle()
}

const subscribeAll = `{"type":"subscribe","channels":["price:bitcoin","signals:all"]}`

// TestCompressedOnce: those who negotiated it share one compression, the others
// get the plain frame, and both read the same.
func TestCompressedOnce(t *testing.T) {
	r := newRig(t, nil)
	var plain, packed []*line
	for range 3 {
		plain = append(plain, r.open(Hello{Session: "p"}))
		packed = append(packed, r.open(Hello{Session: "c", Deflate: true}))
	}
	for _, l := range slices.Concat(plain, packed) {
		l.say(subscribeAll).read()
	}
	r.publishData("price:bitcoin", 1, long(2000))
	r.publishData("price:bitcoin", 2, long(500))
	r.shard.Publish(&protocol.Publication{Channel: protocol.LogChannel, Type: protocol.TypeSignal, Offset: 1,
		Signal: &protocol.Signal{Type: "spike"}, Data: long(3000)}, r.now)
	r.settle()
	want := plain[0].read()
	for _, l := range slices.Concat(plain[1:], packed) {
		if got := l.read(); !slices.Equal(got, want) || len(got) != 3 {
			t.Errorf("got %.90q\nwant %.90q", got, want)
		}
	}
	st := r.shard.Stats()
	if r.book.asked != 2+2*3 || st.Deflated != 2 || st.DeflateIn != uint64(len(want[0])+len(want[2])) || st.DeflateOut != 4 || st.Compressing != 3 {
		t.Errorf("%d times asked, %+v", r.book.asked, st)
	}
	r.over()
}

// TestCompressedOnlyWhen: from DeflateFrom up, if it gets smaller, and if
// there is a compressor.
func TestCompressedOnlyWhen(t *testing.T) {
	set := func(f func(*Config)) func(*Config, *session.Config) {
		return func(c *Config, _ *session.Config) { f(c) }
	}
	for _, c := range []struct {
		name string
		set  func(*Config, *session.Config)
		size int // of the whole message
		want uint64
	}{
		{"long enough", nil, 1024, 1},
		{"too short", nil, 1023, 0},
		{"all", set(func(c *Config) { c.DeflateFrom = 0 }), 150, 1},
		{"not smaller", set(func(c *Config) { c.Deflate = func(_, src []byte) []byte { return bytes.Clone(src) } }), 5000, 0},
		{"no compressor", set(func(c *Config) { c.Deflate = nil }), 5000, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.set)
			l := r.open(Hello{Session: "s", Deflate: true})
			l.say(`{"type":"subscribe","channels":["price:bitcoin"]}`).read()
			r.publishData("price:bitcoin", 1, long(0))
			envelope := len(l.read()[0])
			before := r.shard.Stats().Deflated
			r.publishData("price:bitcoin", 2, long(c.size-envelope))
			if got := l.read(); len(got) != 1 || len(got[0]) != c.size || r.shard.Stats().Deflated-before != c.want {
				t.Errorf("%d compressed, %d messages, %.80q", r.shard.Stats().Deflated-before, len(got), got)
			}
		})
	}
}

// TestCompressedAndStuck: a frame that went out in part goes on as it began,
// compressed or plain.
func TestCompressedAndStuck(t *testing.T) {
	for _, deflate := range []bool{false, true} {
		r := newRig(t, func(c *Config, _ *session.Config) { c.DeflateFrom = 0 })
		l, other := r.open(Hello{Session: "s", Deflate: deflate}), r.open(Hello{Session: "o", Deflate: !deflate})
		l.say(subscribeAll).read()
		other.say(subscribeAll).read()
		l.full, l.room = true, 3
		r.publishData("price:bitcoin", 1, long(2000))
		r.publishData("price:bitcoin", 2, long(20))
		r.entry(1, "spike")
		l.writable()
		if got, want := l.read(), other.read(); !slices.Equal(got, want) || len(got) != 3 {
			t.Errorf("deflate %v: got %.90q\nwant %.90q", deflate, got, want)
		}
		r.over()
	}
}

// TestBlocksOfTwoKinds: several messages in one write are shared among those
// who compress and among the others, and a block is not used again when its
// packets are gone.
func TestBlocksOfTwoKinds(t *testing.T) {
	r := newRig(t, func(c *Config, _ *session.Config) { c.DeflateFrom = 0 })
	var lines []*line
	for i := range 6 {
		l := r.open(Hello{Session: "s", Deflate: i%2 == 1})
		l.say(subscribeAll).read()
		lines = append(lines, l)
	}
	for round := range int64(20) {
		var want []string
		for k := range int64(2) {
			p := &protocol.Publication{Channel: "price:bitcoin", Type: protocol.TypePrice, Offset: 2*round + k + 1, Data: long(int(round))}
			r.shard.Publish(p, r.now)
			want = append(want, string(protocol.AppendDelivery(nil, protocol.Delivery{Channel: p.Channel, Pub: p})))
		}
		blocks, writes := map[*byte]bool{}, r.shard.Stats().Writes
		r.settleSeeing(func(b []byte) { blocks[&b[0]] = true })
		for i, l := range lines {
			if got := l.read(); !slices.Equal(got, want) {
				t.Fatalf("round %d, line %d: got %q\nwant %q", round, i, got, want)
			}
		}
		if n := r.shard.Stats().Writes - writes; len(blocks) != 2 || n != 6 {
			t.Fatalf("round %d: %d blocks in %d writes", round, len(blocks), n)
		}
	}
	r.over()
}

// TestInflated is what clients may send compressed and what ends them. The
// attack table's bomb is among it.
func TestInflated(t *testing.T) {
	const limit = 200
	ping := []byte(`{"type":"ping"}`)
	for _, c := range []struct {
		name    string
		hello   Hello
		send    func(*codebook) []byte
		want    []string
		inflate uint64
	}{
		{"a command", Hello{Deflate: true}, func(b *codebook) []byte { return appendPacked(nil, b, frame.Text, ping) },
			[]string{`"type":"pong"`}, 1},
		{"fragments", Hello{Deflate: true}, func(b *codebook) []byte { return fragments(appendPacked(nil, b, frame.Text, ping)) },
			[]string{`"type":"pong"`}, 1},
		{"plain is allowed", Hello{Deflate: true}, func(*codebook) []byte { return frame.AppendMasked(nil, frame.Text, true, [4]byte{}, ping) },
			[]string{`"type":"pong"`}, 0},
		{"at the limit", Hello{Deflate: true}, func(b *codebook) []byte {
			return appendPacked(nil, b, frame.Text, append(ping, bytes.Repeat([]byte(" "), limit-len(ping))...))
		}, []string{`"type":"pong"`}, 1},
		{"a bomb", Hello{Deflate: true}, func(b *codebook) []byte { return appendPacked(nil, b, frame.Text, make([]byte, limit+1)) },
			[]string{"MESSAGE_TOO_LARGE", "close 1009"}, 0},
		{"not UTF-8", Hello{Deflate: true}, func(b *codebook) []byte { return appendPacked(nil, b, frame.Text, []byte("\xff")) },
			[]string{"INVALID_UTF8", "close 1007"}, 0},
		{"not deflated", Hello{Deflate: true}, func(*codebook) []byte { return appendPacked(nil, new(codebook), frame.Text, ping) },
			[]string{"INVALID_UTF8", "close 1007"}, 0},
		{"binary", Hello{Deflate: true}, func(b *codebook) []byte { return appendPacked(nil, b, frame.Binary, []byte("\xff")) },
			[]string{"INVALID_MESSAGE", "close 4400"}, 1},
		{"not negotiated", Hello{}, func(b *codebook) []byte { return appendPacked(nil, b, frame.Text, ping) },
			[]string{"PROTOCOL_ERROR", "close 1002"}, 0},
		{"a compressed ping", Hello{Deflate: true}, func(b *codebook) []byte { return appendPacked(nil, b, frame.Ping, ping) },
			[]string{"PROTOCOL_ERROR", "close 1002"}, 0},
		{"an echo", Hello{Deflate: true, Echo: true}, func(b *codebook) []byte { return appendPacked(nil, b, frame.Text, ping) },
			[]string{`{"type":"ping"}`}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, func(_ *Config, ses *session.Config) { ses.Limits.MessageBytes = limit })
			l := r.open(c.hello)
			l.raw(c.send(r.book)).expect(c.want...)
			if got := r.shard.Stats().Inflated; got != c.inflate {
				t.Errorf("%d inflated, want %d", got, c.inflate)
			}
			r.over()
		})
	}
}

// fragments cuts a client's short frame into two, with a ping between.
func fragments(b []byte) []byte {
	payload := bytes.Clone(b[6:])
	frame.Mask(payload, [4]byte(b[2:6]), 0)
	out := frame.AppendMasked(nil, frame.Text, false, [4]byte{1}, payload[:1])
	out[0] |= 0x40
	out = frame.AppendMasked(out, frame.Pong, true, [4]byte{2}, nil)
	return frame.AppendMasked(out, frame.Continuation, true, [4]byte{3}, payload[1:])
}

// TestInflateKeepsLittle: after a large message the buffer is given back, and
// without a limit of messages there is one all the same.
func TestInflateKeepsLittle(t *testing.T) {
	r := newRig(t, func(c *Config, ses *session.Config) {
		c.EchoBytes, ses.Limits.MessageBytes = 1<<20, 0
	})
	echo := r.open(Hello{Echo: true, Deflate: true})
	r.shard.Receive(echo.ref.Slot, appendPacked(nil, r.book, frame.Binary, make([]byte, 1<<20)), r.now)
	if r.shard.Stats().Inflated != 1 || cap(r.shard.inflated) > keptInflated {
		t.Errorf("%d bytes kept", cap(r.shard.inflated))
	}
	echo.gone()
	l := r.open(Hello{Deflate: true})
	l.raw(appendPacked(nil, r.book, frame.Text, make([]byte, maxInflated+1))).expect("MESSAGE_TOO_LARGE", "close 1009")
	r.over()
}

// TestNoInflate: without Inflate nobody negotiates anything.
func TestNoInflate(t *testing.T) {
	r := newRig(t, func(c *Config, _ *session.Config) { c.Inflate = nil })
	l := r.open(Hello{Deflate: true})
	l.book = nil
	l.say(`{"type":"subscribe","channels":["price:bitcoin"]}`).read()
	r.publishData("price:bitcoin", 1, long(3000))
	l.expect(`"price":`[:0])
	l.raw(appendPacked(nil, r.book, frame.Text, []byte(`{"type":"ping"}`))).expect("PROTOCOL_ERROR", "close 1002")
	if st := r.shard.Stats(); st.Compressing != 0 || st.Deflated != 0 {
		t.Errorf("%+v", st)
	}
	r.over()
}
