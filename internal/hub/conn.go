package hub

import (
	"cryptointel/internal/limit"
	"cryptointel/internal/session"
	"cryptointel/protocol"
)

// A conn is one connection in as few bytes as will do, without a pointer.
// What a connection rarely has (a half-read message, something the socket
// refused, commands that wait, log subscriptions that are behind) is kept in
// the shard's maps.
type conn struct {
	gen   uint32
	flags flags

	heard    uint32        // hundredths of a second since the shard began
	deadline uint32        // seconds since then: when the session needs a tick
	since    protocol.Time // when it opened; with a token, when that expires
	messages limit.Bucket
	flood    limit.Bucket

	owner  uint64
	texts  uint32 // slab handle: session id, user
	ntexts uint16
	nsubs  uint16
	subs   uint32 // slab handle
	grant  uint32 // index in the shard's grants; 0 for none

	head, tail uint32 // nodes waiting to be written; 0 for none
	seen       uint32 // seconds since the shard began: when bytes last came
	conflated  uint32
}

// hundredth is the unit of conn.heard: 32 bits of it last for 497 days.
const hundredth = 10 * protocol.Millisecond

// noDeadline is a connection's that waits for nothing.
const noDeadline = ^uint32(0)

// deadline packs when a session needs a tick, rounded up: it is looked at once
// a second.
func (s *Shard) deadline(t protocol.Time) uint32 {
	if t == session.Never {
		return noDeadline
	}
	return uint32(max(0, (t-s.started+protocol.Second-1)/protocol.Second))
}

type flags uint16

const (
	open       flags = 1 << iota
	dirty            // stands in the queue of those with something to write
	blocked          // the socket takes no more for now
	echoing          // no session: send everything back
	subscribed       // something was subscribed at some time
	verifying        // a token is being verified
	warned           // token_expiring was sent
	closing          // a close frame is queued or sent: say nothing more
	peerClosed       // the client's close frame has come
	pinged           // a protocol ping waits for an answer
	finished         // the shell was told to close the socket
	lagging          // has log subscriptions that are behind
	refused          // part of a frame is kept that the socket did not take
	deflating        // permessage-deflate was negotiated
)

func (f flags) has(x flags) bool { return f&x != 0 }

func (f *flags) set(x flags, on bool) {
	if on {
		*f |= x
	} else {
		*f &^= x
	}
}

// A sub is one subscription of a connection. at is its place among the
// cohort's live members, or notLive.
type sub struct{ cohort, at uint32 }

const notLive = ^uint32(0)

func (s *Shard) conn(slot Slot) *conn {
	return &s.conns[slot/connChunk][slot%connChunk]
}

const connChunk = 512

func (s *Shard) subsOf(c *conn) []sub {
	if c.nsubs == 0 {
		return nil
	}
	return s.subs.block(c.subs, int(c.nsubs))
}

// load unpacks a connection into the one session.State the shard works with.
func (s *Shard) load(slot Slot) *session.State {
	c, st := s.conn(slot), &s.scratch
	*st = session.State{
		Heard: s.started + protocol.Time(c.heard)*hundredth, Messages: c.messages, Flood: c.flood, Strikes: s.strikes[slot],
		Subs:       st.Subs[:0],
		Subscribed: c.flags.has(subscribed),
		Verifying:  c.flags.has(verifying),
		Warned:     c.flags.has(warned),
		Closed:     c.flags.has(closing | echoing),
		DrainAt:    s.draining[slot],
		Queue:      s.waiting[slot],
	}
	id := s.identity(c)
	st.ID = id.session
	if c.grant == 0 {
		st.Opened = c.since
	} else {
		g := *s.grants.list[c.grant]
		g.Subject, g.Expires = id.user, c.since
		st.Grant = &g
	}
	for _, sub := range s.subsOf(c) {
		st.Subs = append(st.Subs, s.cohorts[sub.cohort].spec)
	}
	return st
}

// store packs the state again. Subscriptions were changed by the actions.
func (s *Shard) store(slot Slot, st *session.State) {
	c := s.conn(slot)
	c.heard = uint32((st.Heard - s.started) / hundredth)
	c.messages, c.flood = st.Messages, st.Flood
	if c.grant == 0 {
		c.since = st.Opened
	}
	c.flags.set(subscribed, st.Subscribed)
	c.flags.set(verifying, st.Verifying)
	c.flags.set(warned, st.Warned)
	c.deadline = s.deadline(session.Deadline(&s.env, st))
	keep(s.strikes, slot, st.Strikes, st.Strikes.Full() > s.now)
	keep(s.draining, slot, st.DrainAt, st.DrainAt != 0)
	keep(s.waiting, slot, st.Queue, st.Queue != nil)
}

func keep[V any](m map[Slot]V, slot Slot, v V, has bool) {
	if has {
		m[slot] = v
	} else if len(m) > 0 {
		delete(m, slot)
	}
}

// An identity is what a connection is called: all its names in one slab block.
type identity struct{ session, user string }

const maxText = 255

func (s *Shard) identity(c *conn) (id identity) {
	if c.ntexts == 0 {
		return id
	}
	all := string(s.texts.block(c.texts, int(c.ntexts)))
	for _, dst := range []*string{&id.session, &id.user} {
		n := 1 + int(all[0])
		*dst, all = all[1:n], all[n:]
	}
	return id
}

func (s *Shard) setIdentity(c *conn, id identity) {
	b := s.text[:0]
	for _, v := range []string{id.session, id.user} {
		v = v[:min(len(v), maxText)]
		b = append(append(b, byte(len(v))), v...)
	}
	s.text = b
	c.texts = s.texts.resize(c.texts, int(c.ntexts), len(b))
	c.ntexts = uint16(len(b))
	copy(s.texts.block(c.texts, len(b)), b)
}

// setGrant gives the connection a token's permissions. Equal permissions are
// kept once, whoever holds them.
func (s *Shard) setGrant(c *conn, g *protocol.Grant) {
	id := s.identity(c)
	s.authenticated -= b2i(c.grant != 0)
	s.grants.release(c.grant)
	id.user, c.grant = g.Subject, s.grants.intern(g)
	c.since = g.Expires
	s.authenticated++
	s.setIdentity(c, id)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
