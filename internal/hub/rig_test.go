package hub

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"cryptointel/conformance"
	"cryptointel/internal/frame"
	"cryptointel/internal/session"
	"cryptointel/protocol"
)

// A rig is a shard whose connections, socket by socket, the test holds in its
// hands.
type rig struct {
	t     testing.TB
	shard *Shard
	cfg   Config
	ses   session.Config
	now   protocol.Time
	lines map[*line]bool
	asked []Request // but Finished
	book  *codebook
}

// A line is one connection and its socket.
type line struct {
	r        *rig
	ref      Ref
	book     *codebook // it negotiated compression
	in       []byte
	got      []string // frames: "text {...}", "close 1000 bye"
	full     bool     // takes nothing
	room     int      // with full: but this much first
	finished bool
}

// newRig makes a rig. Nothing is limited in time but what the test sets.
func newRig(t testing.TB, set func(*Config, *session.Config)) *rig {
	r := &rig{t: t, cfg: DefaultConfig(), ses: session.DefaultConfig(), lines: map[*line]bool{},
		now: protocol.Time(conformance.Start.UnixNano())}
	r.ses.Limits.IdleTimeout, r.ses.Limits.AuthTimeout = 0, 0
	r.ses.Anonymous = append(r.ses.Anonymous, "signals:*")
	r.cfg.Session, r.cfg.Directory, r.cfg.Epoch = &r.ses, threeAssets{}, testEpoch
	r.book = new(codebook)
	r.cfg.Deflate, r.cfg.Inflate = r.book.Deflate, r.book.Inflate
	if set != nil {
		set(&r.cfg, &r.ses)
	}
	r.shard = New(r.cfg, r.now)
	return r
}

// open opens a connection and takes its first frame away.
func (r *rig) open(h Hello) *line {
	l := &line{r: r, ref: r.shard.Open(h, r.now)}
	if h.Deflate {
		l.book = r.book
	}
	r.lines[l] = true
	r.settle()
	if !h.Echo && h.Refuse == nil {
		if len(l.got) != 1 || !strings.Contains(l.got[0], `"status":"connected"`) {
			r.t.Fatalf("the first frame is %q", l.got)
		}
		l.got = nil
	}
	return l
}

func (l *line) raw(b []byte) *line {
	l.r.shard.Receive(l.ref.Slot, slices.Clone(b), l.r.now)
	l.r.settle()
	return l
}

func (l *line) frame(op frame.Opcode, payload string) *line {
	return l.raw(frame.AppendMasked(nil, op, true, [4]byte{1, 2, 3, 4}, []byte(payload)))
}

func (l *line) say(format string, args ...any) *line {
	return l.frame(frame.Text, fmt.Sprintf(format, args...))
}

func (l *line) close(code int) *line {
	return l.frame(frame.Close, string([]byte{byte(code >> 8), byte(code)}))
}

// writable ends a time in which the socket took nothing.
func (l *line) writable() *line {
	l.full = false
	l.r.shard.Writable(l.ref.Slot, l.r.now)
	l.r.settle()
	return l
}

func (l *line) gone() {
	l.r.shard.Gone(l.ref.Slot, l.r.now)
	delete(l.r.lines, l)
	l.r.settle()
}

// read is what has come since the last read.
func (l *line) read() []string {
	got := l.got
	l.got = nil
	return got
}

func (r *rig) publish(channel string, offset int64, price float64) {
	r.shard.Publish(&protocol.Publication{Channel: channel, Type: protocol.TypePrice, Offset: offset,
		Price: price, Data: fmt.Appendf(nil, `{"price":%g}`, price)}, r.now)
	r.settle()
}

func (r *rig) entry(offset int64, kind string) {
	r.shard.Publish(&protocol.Publication{Channel: protocol.LogChannel, Type: protocol.TypeSignal, Offset: offset,
		Signal: &protocol.Signal{Type: kind}, Data: fmt.Appendf(nil, `{"type":%q}`, kind)}, r.now)
	r.settle()
}

func (r *rig) pass(d protocol.Time) {
	for end := r.now + d; ; {
		next := r.shard.Tick(r.now)
		r.settle()
		if r.now == end {
			return
		}
		r.now = min(max(r.now+1, next), end)
	}
}

func (r *rig) settle() { r.settleSeeing(func([]byte) {}) }

// settleSeeing shows each block before it is written.
func (r *rig) settleSeeing(see func(b []byte)) {
	for {
		slot, b, ok := r.shard.Next(64 << 10)
		if !ok {
			break
		}
		see(b)
		l := r.line(slot)
		n := len(b)
		if l.full {
			n = min(n, l.room)
			l.room -= n
		}
		l.take(b[:n])
		r.shard.Wrote(slot, n, l.full, r.now)
	}
	for _, req := range r.shard.Requests() {
		if req.Kind == Finished {
			r.line(req.Ref.Slot).finished = true
		} else {
			r.asked = append(r.asked, req)
		}
	}
	if err := r.shard.check(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) line(slot Slot) *line {
	for l := range r.lines {
		if l.ref.Slot == slot {
			return l
		}
	}
	r.t.Fatalf("slot %d has no connection", slot)
	return nil
}

func (l *line) take(b []byte) {
	l.in = append(l.in, b...)
	for {
		op, payload, size, err := parseFrame(l.in, l.book)
		if err != nil {
			l.r.t.Fatal(err)
		}
		if size == 0 {
			return
		}
		l.in = l.in[size:]
		switch op {
		case frame.Text:
			l.got = append(l.got, string(payload))
		case frame.Close:
			l.got = append(l.got, "close "+closeText(payload))
		default:
			l.got = append(l.got, fmt.Sprintf("op%d %s", op, payload))
		}
	}
}

// expect compares what has come with the parts of messages that must be in it.
func (l *line) expect(parts ...string) {
	l.r.t.Helper()
	got := l.read()
	ok := len(got) == len(parts)
	for i := range min(len(got), len(parts)) {
		ok = ok && strings.Contains(got[i], parts[i])
	}
	if !ok {
		l.r.t.Errorf("got  %q\nwant %q", got, parts)
	}
}

// over closes all connections and looks whether anything is left.
func (r *rig) over() {
	r.t.Helper()
	for l := range r.lines {
		l.gone()
	}
	if err := r.shard.checkEmpty(); err != nil {
		r.t.Error(err)
	}
}
