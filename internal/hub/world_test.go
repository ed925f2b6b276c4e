package hub

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sort"

	"cryptointel/conformance"
	"cryptointel/internal/session"
	"cryptointel/protocol"
)

const testEpoch = conformance.Epoch

// A world is one random run: two shards that lag behind one log, followers
// whose sockets take what they like, a clock that is moved by hand.
type world struct {
	*rand.Rand
	// eager: whatever can be written is written and read at once, so that the
	// clock at the follower is the clock at the shard.
	eager   bool
	forgets bool // the log keeps little: a cursor may be too old
	max     int  // of Next
	now     protocol.Time
	log     []*protocol.Publication
	nodes   [2]*nodeSim
	all     []*follower
	tokens  map[string]*protocol.Grant
	owners  map[uint64]bool // shares of the limits that are taken
	owner   uint64
	trace   []string
	tracing bool
	err     error

	delivered, cut, closed int
}

// A nodeSim is a shard and what it was told.
type nodeSim struct {
	name   string
	shard  *Shard
	book   *codebook
	read   int // entries of the log it was given
	states map[string][]*protocol.Publication
	socks  map[Slot]*sock
	next   protocol.Time
	asked  []Request // tokens to verify
}

func newWorld(seed uint64) *world {
	w := &world{Rand: rand.New(rand.NewPCG(seed, 1)), now: protocol.Time(conformance.Start.UnixNano()),
		tokens: map[string]*protocol.Grant{}, owners: map[uint64]bool{}}
	w.eager = w.IntN(3) == 0
	w.max = pick(w, 64, 300, 1000, 64<<10)
	w.token("all", "signals:*", "price:*")
	w.token("some", "signals:all", "test:log")
	w.token("spikes", "signals:*").Filter = &protocol.Filter{Type: []string{"spike"}}
	w.token("none", "price:*")
	cfg := DefaultConfig()
	ses := session.DefaultConfig()
	ses.Limits.MessagesPerMinute, ses.Limits.IdleTimeout, ses.Limits.AuthTimeout = 0, 0, 0
	anonymous := w.IntN(2) == 0
	if anonymous {
		ses.Anonymous = append(ses.Anonymous, "signals:*")
	}
	cfg.Session, cfg.Directory, cfg.Epoch = &ses, threeAssets{}, testEpoch
	cfg.HeldBytes = pick(w, 64<<10, 64<<10, 4<<10)
	if w.forgets = w.IntN(2) == 0; w.forgets {
		cfg.LogEntries = pick(w, 100_000, 10)
		cfg.LogBytes = 100_000
	}
	cfg.DeflateFrom = pick(w, 1024, 300, 0)
	for i := range w.nodes {
		book := new(codebook)
		cfg.Deflate, cfg.Inflate = book.Deflate, book.Inflate
		w.nodes[i] = &nodeSim{name: fmt.Sprint("node ", i), shard: New(cfg, w.now), book: book,
			states: map[string][]*protocol.Publication{}, socks: map[Slot]*sock{}}
	}
	for i := range 1 + w.IntN(4) {
		f := &follower{w: w, name: fmt.Sprint("f", i), logs: map[string]*logSub{}, rates: map[string]float64{}}
		if !anonymous || w.IntN(2) == 0 {
			f.token = pick(w, "all", "all", "some", "spikes")
		}
		for range 1 + w.IntN(3) {
			f.logs[pick(w, logChannels...)] = &logSub{filter: pick(w, filters...), truth: observer{w: w}}
		}
		w.all = append(w.all, f)
	}
	return w
}

var (
	logChannels = []string{"signals:all", "signals:high", "signals:type:spike", "signals:entity:bitcoin", "signals:entity:BTC", "test:log"}
	stateNames  = []string{"price:bitcoin", "price:BTC", "price:ethereum", "price:*", "test:a"}
	valueNames  = []string{"price:bitcoin", "price:bitcoin", "price:ethereum", "price:solana", "test:a"}
	filters     = []string{"", "", `{"type":["spike"]}`, `{"entity":["bitcoin"],"min_confidence":0.5}`, `{"type":["news","spike"]}`}
	rates       = []float64{0, 0, 1, 5, 20, 0.2}
)

func pick[T any](w *world, from ...T) T { return from[w.IntN(len(from))] }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func (w *world) say(format string, a ...any) {
	if w.tracing {
		w.trace = append(w.trace, fmt.Sprintf("%6d ms ", w.now.Millis()-conformance.Start.UnixMilli())+fmt.Sprintf(format, a...))
	}
}

func (w *world) fail(err error, format string, a ...any) {
	if err != nil && w.err == nil {
		w.err = fmt.Errorf(format+": %w", append(a, err)...)
	}
}

func (w *world) token(name string, channels ...string) *protocol.Grant {
	g := &protocol.Grant{Subject: "user-" + name, ID: "jti-" + name, Channels: channels, Expires: w.now + 1e6*protocol.Second}
	w.tokens[name] = g
	return g
}

// The log, for those who know it.

func (w *world) entry(offset int64) *protocol.Publication {
	if i := indexOf(w.log, offset); i >= 0 {
		return w.log[i]
	}
	return &protocol.Publication{}
}

func indexOf(list []*protocol.Publication, offset int64) int {
	i := sort.Search(len(list), func(i int) bool { return list[i].Offset >= offset })
	if i == len(list) || list[i].Offset != offset {
		return -1
	}
	return i
}

// firstMatch is the first offset in (after, to] that matches, or 0.
func (w *world) firstMatch(p pred, after, to int64) int64 {
	for _, e := range w.log {
		if e.Offset > after && e.Offset <= to && p.lets(e) {
			return e.Offset
		}
	}
	return 0
}

// lastMatch is the last offset in (after, to] that matches, or 0.
func (w *world) lastMatch(p pred, after, to int64) int64 {
	for _, e := range slices.Backward(w.log) {
		if e.Offset <= after {
			return 0
		}
		if e.Offset <= to && p.lets(e) {
			return e.Offset
		}
	}
	return 0
}

// What happens.

func (w *world) appendEntry() {
	offset := int64(1 + w.IntN(3))
	if n := len(w.log); n > 0 {
		offset += w.log[n-1].Offset
	}
	s := &protocol.Signal{Type: pick(w, "spike", "news", "whale"), Confidence: w.Float64(), HasConfidence: true,
		Entities: pick(w, nil, []string{"bitcoin"}, []string{"ethereum", "bitcoin"})}
	s.High = s.Confidence > 0.8
	p := &protocol.Publication{Channel: protocol.LogChannel, Type: protocol.TypeSignal, Offset: offset, TS: w.now.Millis(), Signal: s}
	if w.IntN(5) == 0 {
		p.Channel = protocol.TestLogChannel
	}
	p.Data = []byte(fmt.Sprintf(`{"id":"e%d","pad":"%s"}`, offset, w.padding()))
	w.log = append(w.log, p)
	w.say("log: %d %s %s %v %.2f, %d bytes", offset, p.Channel, s.Type, s.Entities, s.Confidence, len(p.Data))
}

// padding makes an entry long now and then, so that slices, blocks and held
// bytes have a bound to reach.
func (w *world) padding() string {
	n := pick(w, 0, 0, 0, 0, 0, 0, 50, 700, 2000)
	if w.IntN(40) == 0 {
		n = 25_000
	}
	return string(slices.Repeat([]byte{'x'}, n))
}

func (w *world) advance(n *nodeSim) bool {
	if n.read == len(w.log) {
		return false
	}
	p := w.log[n.read]
	n.read++
	w.say("%s: head %d", n.name, p.Offset)
	n.shard.Publish(p, w.now)
	return true
}

func (w *world) publishState() {
	value := pick(w, valueNames...)
	price := float64(1+w.IntN(1000)) / 4
	if value == "test:a" && w.IntN(3) == 0 {
		price = 0
	}
	offset := w.now.Micros()
	for _, n := range w.nodes {
		if list := n.states[value]; len(list) > 0 {
			offset = max(offset, list[len(list)-1].Offset+1)
		}
	}
	p := &protocol.Publication{Channel: value, Type: protocol.TypePrice, Offset: offset, TS: w.now.Millis(), Price: price}
	asset := ""
	if isPrice(value) {
		asset = value[6:]
	}
	p.Data, _ = json.Marshal(map[string]any{"asset": asset, "price": price, "n": offset})
	for i, n := range w.nodes {
		if w.IntN(20) == 0 {
			continue // it fell out of this node's inbox
		}
		w.say("node %d: %s %d price %g", i, value, offset, price)
		n.states[value] = append(n.states[value], p)
		n.shard.Publish(p, w.now)
	}
}

func (w *world) open(n *nodeSim, f *follower) *sock {
	w.owner++
	w.owners[w.owner] = true
	s := &sock{f: f, node: n, slow: w.IntN(2) == 0, room: w.roomFor()}
	h := Hello{Session: "session-" + f.name, Owner: w.owner, Deflate: w.IntN(2) == 0}
	if h.Deflate {
		s.book = n.book
	}
	s.ref = n.shard.Open(h, w.now)
	w.say("%s opens %+v on %s, slow %v, compresses %v", f.name, s.ref, n.name, s.slow, h.Deflate)
	n.socks[s.ref.Slot] = s
	return s
}

// serve does what the shards ask for.
func (w *world) serve() {
	for _, n := range w.nodes {
		for reqs := n.shard.Requests(); len(reqs) > 0; reqs = n.shard.Requests() {
			for _, r := range slices.Clone(reqs) {
				w.serveOne(n, r)
			}
		}
	}
}

func (w *world) serveOne(n *nodeSim, r Request) {
	s := n.socks[r.Ref.Slot]
	switch r.Kind {
	case Verify:
		n.asked = append(n.asked, r)
	case Released:
		if !w.owners[r.Owner] {
			w.fail(fmt.Errorf("owner %d released twice", r.Owner), "%s", n.name)
		}
		delete(w.owners, r.Owner)
	case Finished:
		if s == nil || s.ref != r.Ref {
			w.fail(fmt.Errorf("finished %+v, which is gone", r.Ref), "%s", n.name)
			return
		}
		s.done = true
		w.say("%s: finished", s.f.name)
		w.gone(s)
	}
}

// judge answers one request for a verdict, maybe of a connection that is gone.
func (w *world) judge(n *nodeSim) bool {
	if len(n.asked) == 0 {
		return false
	}
	r := n.asked[0]
	n.asked = n.asked[1:]
	v := Verdict{Grant: w.tokens[r.Token]}
	if w.IntN(2) == 0 {
		w.owner++
		w.owners[w.owner] = true
		v.Owner = w.owner
		if s := n.socks[r.Ref.Slot]; s != nil && s.ref == r.Ref {
			delete(w.owners, r.Owner) // the shell frees the old share itself
		}
	}
	w.say("%s: verdict on %+v: %s", n.name, r.Ref, r.Token)
	n.shard.Verdict(r.Ref, v, w.now)
	return true
}

// pass lets time pass, as an event loop would see it.
func (w *world) pass(d protocol.Time) {
	if d >= protocol.Second {
		for _, n := range w.nodes { // or cursors would be ahead for too long
			for w.advance(n) {
			}
			for _, s := range n.socks { // nor does a message take that long
				w.upload(s, len(s.up))
			}
		}
	}
	w.say("%d ms pass", d.Millis())
	for end := w.now + d; ; {
		next := end
		for _, n := range w.nodes {
			n.next = n.shard.Tick(w.now)
			next = min(next, n.next)
		}
		w.flush()
		w.prompt()
		if w.now == end {
			return
		}
		w.now = max(w.now+1, next)
	}
}

// prompt checks that max_rate subscriptions have what is a period old.
func (w *world) prompt() {
	for _, f := range w.all {
		if s := f.sock; !w.eager || s == nil || s.slow {
			continue
		}
		for ch, v := range f.view {
			for value, list := range f.sock.node.states {
				newest := list[len(list)-1]
				seen := v.last[value]
				due := protocol.Time(newest.TS+1)*protocol.Millisecond + protocol.Time(float64(protocol.Second)/v.rate)
				if v.rate > 0 && seen != nil && seen.offset < newest.Offset && w.now >= due {
					w.fail(fmt.Errorf("%s: %d of %s has not come within the period", ch, newest.Offset, value), "%s", f.name)
				}
			}
		}
	}
}

// flush moves everything that can move, in an eager run.
func (w *world) flush() {
	w.serve()
	for again := w.eager; again && w.err == nil; w.serve() {
		again = false
		for _, n := range w.nodes {
			again = w.pump(n, 100) || again
		}
		for _, f := range w.all {
			if s := f.sock; s != nil && !s.slow {
				again = w.read(s, 100) || again
			}
		}
	}
}
