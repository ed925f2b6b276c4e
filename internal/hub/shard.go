// Package hub is the fan-out: connections, the cohorts they form, what each
// still has to be told. A Shard turns publications into frames, once per
// cohort, and says which bytes go to which connection next; bytes from
// connections go through the session and become subscriptions. It opens
// nothing, waits for nothing and knows no socket: an event loop owns it, tells
// it what happened and moves its bytes.
package hub

import (
	"cryptointel/internal/frame"
	"cryptointel/internal/limit"
	"cryptointel/internal/session"
	"cryptointel/protocol"
)

// Config is what a shard needs to know about its node.
type Config struct {
	Session   *session.Config
	Directory protocol.Directory
	Epoch     string // of the event log
	// LogEntries and LogBytes bound the recent log that is kept here for those
	// who resume. Beyond it a cursor is too old.
	LogEntries, LogBytes int
	// HeldBytes is how much may wait for one connection that does not read,
	// beside what its socket holds; beyond, it is closed. 0 is no bound.
	HeldBytes int
	// StuckTime closes a connection whose socket takes nothing for this long;
	// 0 never does.
	StuckTime protocol.Time
	// MarkEvery is how often quiet log subscriptions learn where the head is;
	// 0 is never.
	MarkEvery protocol.Time
	// Deflate appends to dst what src is compressed to, as RFC 7692, section
	// 7.2.1, wants and without what came before (no context takeover). nil: what
	// is sent is never compressed. It is called by the shard's owner only, as
	// is Inflate.
	Deflate func(dst, src []byte) []byte
	// Inflate appends to dst what a client's compressed message src stands for.
	// What is over limit bytes is ErrInflated, and not made. nil: no connection
	// may compress, whatever its Hello says.
	Inflate func(dst, src []byte, limit int) ([]byte, error)
	// DeflateFrom is the length in bytes from which a message that several may
	// get is compressed: 1,024 by default, 0 all. Less saves little on the
	// wire and costs each client more to undo.
	DeflateFrom int
	// EchoBytes is the message limit of echoing connections.
	EchoBytes int
}

// DefaultConfig has the documented defaults; Session, Directory and Epoch have
// none.
func DefaultConfig() Config {
	return Config{
		LogEntries: 100_000, LogBytes: 64 << 20, HeldBytes: 64 << 10,
		StuckTime: 30 * protocol.Second, MarkEvery: 30 * protocol.Second, EchoBytes: 16 << 20,
		DeflateFrom: 1024,
	}
}

// A Shard is a part of the hub. One event loop owns it: no method is safe to
// call from elsewhere.
type Shard struct {
	cfg     Config
	env     session.Env
	started protocol.Time
	now     protocol.Time

	conns   [][]conn // chunks, so that growing copies nothing
	used    Slot     // slots ever used
	vacant  []Slot
	subs    *slab[sub]
	texts   *slab[byte]
	grants  grants
	cohorts []*cohort
	byKey   map[string]uint32
	spare   []uint32 // free places in cohorts
	born    uint32   // cohorts ever made
	values  map[string]*value
	logs    []uint32 // cohorts of log channels
	recent  recent
	windows windows

	queue  queue
	behind []Slot   // connections whose log subscriptions can read on
	slow   []Slot   // scratch of fanOut
	begun  []uint32 // cohorts of the state subscriptions a step has begun
	past   map[pastKey]uint32

	// What few connections have.
	readers  map[Slot]*reader        // a message that has come in part
	strikes  map[Slot]limit.Bucket   // commands that were not understood lately
	waiting  map[Slot]*session.Queue // commands that cannot run yet
	draining map[Slot]protocol.Time  // when to close
	stuck    map[Slot]*stuck         // what the socket has refused
	lagged   map[Slot]*lag           // log subscriptions that are behind
	leaving  map[Slot]protocol.Time  // when to stop waiting for the peer's close
	pings    map[Slot]protocol.Time  // when an unanswered protocol ping ends the connection

	requests, asked []Request
	nextSweep       protocol.Time
	nextMark        protocol.Time
	authenticated   int
	compressing     int // connections that negotiated compression
	stats           Stats
	latency         latency

	fresh   reader // for messages that come whole
	scratch session.State
	actions session.Actions
	text    []byte

	deflated, inflated []byte // scratch
	current            Slot   // whose session is being stepped; see Host

	replying packetKind // of what reply queues: private or fence
}

// New makes an empty shard.
func New(cfg Config, now protocol.Time) *Shard {
	s := &Shard{
		cfg: cfg, started: now, now: now,
		subs:   newSlab[sub](1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 128, 512, 2048, chunkLen),
		texts:  newSlab[byte](16, 24, 32, 40, 48, 56, 64, 80, 96, 128, 192, 256, 512, 1024),
		grants: newGrants(),
		byKey:  map[string]uint32{}, values: map[string]*value{},
		cohorts: []*cohort{nil}, // so that 0 is no cohort
		recent:  recent{maxEntries: cfg.LogEntries, maxBytes: cfg.LogBytes},
		queue:   newQueue(), past: map[pastKey]uint32{},
		readers: map[Slot]*reader{}, strikes: map[Slot]limit.Bucket{}, waiting: map[Slot]*session.Queue{},
		draining: map[Slot]protocol.Time{}, stuck: map[Slot]*stuck{}, lagged: map[Slot]*lag{},
		leaving: map[Slot]protocol.Time{}, pings: map[Slot]protocol.Time{},
		nextSweep: now + sweepEvery, nextMark: now + cfg.MarkEvery,
	}
	if cfg.MarkEvery == 0 {
		s.nextMark = session.Never
	}
	s.stats.Errors, s.stats.Closes = map[protocol.Code]uint64{}, map[int]uint64{}
	s.env = session.Env{Config: cfg.Session, Directory: cfg.Directory, Epoch: cfg.Epoch, Oldest: 1, Host: s}
	return s
}

// Open admits a connection and queues its first frame.
func (s *Shard) Open(h Hello, now protocol.Time) Ref {
	s.now = now
	slot := s.place()
	c := s.conn(slot)
	*c = conn{gen: c.gen + 1, flags: open | c.flags&dirty, owner: h.Owner, seen: s.seconds()}
	s.stats.Opened++
	if h.Deflate && s.cfg.Inflate != nil {
		c.flags |= deflating
		s.compressing++
	}
	ref := Ref{slot, c.gen}
	if h.Echo {
		c.flags |= echoing
		c.deadline = noDeadline
		return ref
	}
	s.setIdentity(c, identity{session: h.Session})
	if h.Grant != nil {
		s.setGrant(c, h.Grant)
	}
	s.step(slot, session.Event{Kind: session.Opened, Grant: h.Grant, Err: h.Refuse})
	return ref
}

func (s *Shard) place() Slot {
	if n := len(s.vacant); n > 0 {
		slot := s.vacant[n-1]
		s.vacant = s.vacant[:n-1]
		return slot
	}
	slot := s.used
	if int(slot/connChunk) == len(s.conns) {
		s.conns = append(s.conns, make([]conn, connChunk))
	}
	s.used++
	return slot
}

// Gone frees a slot whose socket is closed.
func (s *Shard) Gone(slot Slot, now protocol.Time) {
	c := s.conn(slot)
	if !c.flags.has(open) {
		return
	}
	s.now = now
	for c.nsubs > 0 {
		s.leave(slot, int(c.nsubs)-1)
	}
	s.dropPending(slot)
	s.authenticated -= b2i(c.grant != 0)
	s.compressing -= b2i(c.flags.has(deflating))
	s.grants.release(c.grant)
	s.texts.resize(c.texts, int(c.ntexts), 0)
	if c.owner != 0 {
		s.requests = append(s.requests, Request{Kind: Released, Ref: Ref{slot, c.gen}, Owner: c.owner})
	}
	s.forget(slot)
	*c = conn{gen: c.gen + 1, flags: c.flags & dirty} // a dirty slot leaves the queue by itself
	s.vacant = append(s.vacant, slot)
	s.stats.Closed++
}

// forget drops what few connections have.
func (s *Shard) forget(slot Slot) {
	delete(s.readers, slot)
	delete(s.waiting, slot)
	delete(s.strikes, slot)
	delete(s.draining, slot)
	delete(s.stuck, slot)
	delete(s.lagged, slot)
	delete(s.leaving, slot)
	delete(s.pings, slot)
}

// live is the connection a late answer is for, unless it has gone.
func (s *Shard) live(r Ref) (*conn, bool) {
	if r.Slot >= s.used {
		return nil, false
	}
	c := s.conn(r.Slot)
	return c, c.flags.has(open) && c.gen == r.Gen
}

// Verdict answers a Verify request.
func (s *Shard) Verdict(r Ref, v Verdict, now protocol.Time) {
	s.now = now
	c, ok := s.live(r)
	if !ok {
		if v.Owner != 0 {
			s.requests = append(s.requests, Request{Kind: Released, Ref: r, Owner: v.Owner})
		}
		return
	}
	if v.Owner != 0 {
		c.owner = v.Owner
	}
	if v.Grant != nil {
		s.setGrant(c, v.Grant)
	}
	s.step(r.Slot, session.Event{Kind: session.Judged, Grant: v.Grant, Err: v.Err})
}

// Displace asks a connection to make room for a newer one of its instance.
func (s *Shard) Displace(r Ref, d Displace, now protocol.Time) {
	s.now = now
	if _, ok := s.live(r); ok {
		s.step(r.Slot, session.Event{Kind: session.Displaced, Force: d.Force})
	}
}

// Drain tells every connection to reconnect, each at its own time within the
// window, so that they do not all come back at once.
func (s *Shard) Drain(window, now protocol.Time) {
	s.now = now
	for slot := range s.used {
		if c := s.conn(slot); c.flags.has(open) && !c.flags.has(echoing) {
			after := window * protocol.Time(slot+1) / protocol.Time(s.used)
			s.step(slot, session.Event{Kind: session.Drain, After: after})
		}
	}
}

// Requests is what the shell must do now; the next call gives only what is
// new. The slice is valid until then.
func (s *Shard) Requests() []Request {
	s.requests, s.asked = s.asked[:0], s.requests
	return s.asked
}

// Stats are the shard's numbers now.
func (s *Shard) Stats() Stats {
	st := s.stats
	st.Connections = int(s.used) - len(s.vacant)
	st.Authenticated = s.authenticated
	st.Cohorts = len(s.byKey)
	st.Slow = len(s.stuck)
	st.Compressing, st.Latency = s.compressing, s.latency.Histogram
	for _, l := range s.lagged {
		st.Behind += len(l.readers)
	}
	for _, r := range s.readers {
		st.HeldBytes += r.Held()
	}
	for _, x := range s.stuck {
		st.HeldBytes += len(x.rest)
	}
	st.BacklogFrames = s.queue.nodes.used()
	st.Errors, st.Closes = copyMap(st.Errors), copyMap(st.Closes)
	return st
}

func copyMap[K comparable](m map[K]uint64) map[K]uint64 {
	out := make(map[K]uint64, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

func (s *Shard) seconds() uint32 { return uint32((s.now - s.started) / protocol.Second) }

// A reader is a frame.Reader in the middle of a message.
type reader struct {
	frame.Reader
	since protocol.Time
}
