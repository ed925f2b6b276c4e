package gateway

import (
	"hash/maphash"
	"net/netip"

	"cryptointel/internal/limit"
	"cryptointel/protocol"
)

// A name stands for an address or a user: 128 bits of a hash whose key nobody
// outside knows, so that maps hold no text and nobody can aim at another's
// row. The lowest bit tells users from addresses.
type name [2]uint64

func (n name) isUser() bool { return n[0]&1 == 1 }

// A namer makes names. It is immutable.
type namer struct{ first, second maphash.Seed }

func newNamer() namer { return namer{maphash.MakeSeed(), maphash.MakeSeed()} }

func (n namer) user(subject string) name {
	return name{maphash.String(n.first, subject) | 1, maphash.String(n.second, subject)}
}

func (n namer) address(a netip.Addr) name {
	b := a.As16()
	return name{maphash.Bytes(n.first, b[:]) &^ 1, maphash.Bytes(n.second, b[:])}
}

// instance names an instance among those of its user, 0 for none.
func (n namer) instance(subject, instance string) uint64 {
	if instance == "" {
		return 0
	}
	var h maphash.Hash
	h.SetSeed(n.first)
	h.WriteString(subject)
	h.WriteByte(0)
	h.WriteString(instance)
	return max(1, h.Sum64())
}

// A share is what one connection takes of the limits, in 40 bytes without a
// pointer.
type share struct {
	who      name // zero when free
	instance uint64
	conn     ConnID
	next     uint32 // in the party's list, or in the list of free shares
	gen      uint32 // counts the uses of this slot
}

// chunkShares is how many shares are allocated at a time, so that growing
// copies nothing and wastes little.
const chunkShares = 256

// A slab holds shares by number, from 1.
type slab struct {
	chunks []*[chunkShares]share
	free1  uint32 // first free share
	made   uint32 // shares that were ever in use
	used   int
}

func (s *slab) at(id uint32) *share { return &s.chunks[(id-1)/chunkShares][(id-1)%chunkShares] }

func (s *slab) take() (uint32, *share) {
	s.used++
	if id := s.free1; id != 0 {
		sh := s.at(id)
		s.free1, sh.next = sh.next, 0
		return id, sh
	}
	if int(s.made) == len(s.chunks)*chunkShares {
		s.chunks = append(s.chunks, new([chunkShares]share))
	}
	s.made++
	return s.made, s.at(s.made)
}

func (s *slab) free(id uint32) {
	sh := s.at(id)
	*sh = share{gen: sh.gen + 1, next: s.free1}
	s.free1 = id
	s.used--
}

// owner64 is what a share is called outside: its number and generation.
func owner64(id uint32, s *share) uint64 { return uint64(s.gen)<<32 | uint64(id) }

// find is the share that owner stands for, nil when it was released.
func (s *slab) find(owner uint64) (uint32, *share) {
	id, gen := uint32(owner), uint32(owner>>32)
	if id == 0 || id > s.made {
		return 0, nil
	}
	sh := s.at(id)
	if sh.gen != gen || sh.who == (name{}) {
		return 0, nil
	}
	return id, sh
}

// A rateTable holds a bucket for everyone who connected lately. A bucket's
// burst is a minute's worth, so one that was not touched for a minute is full
// again and need not be remembered: there are two generations, each minute the
// older one is dropped whole.
type rateTable struct {
	young, old map[uint64]limit.Bucket
	turned     protocol.Time
	most       int // buckets of a generation; 0: a minute's worth
}

// take counts one event, or tells how long to wait.
func (t *rateTable) take(who name, r limit.Rate, now protocol.Time) (wait protocol.Time, ok bool) {
	if r.PerMinute <= 0 {
		return 0, true
	}
	t.turn(now)
	b := t.bucket(who)
	if wait, ok = b.Take(r, now); ok {
		t.put(who, b)
	}
	return wait, ok
}

// give takes one event back.
func (t *rateTable) give(who name, r limit.Rate) {
	if r.PerMinute <= 0 {
		return
	}
	if b := t.bucket(who); b != (limit.Bucket{}) {
		b.Return(r)
		t.put(who, b)
	}
}

// remove takes who out of the table.
func (t *rateTable) remove(who name) limit.Bucket {
	b := t.bucket(who)
	delete(t.young, who[0])
	delete(t.old, who[0])
	return b
}

func (t *rateTable) bucket(who name) limit.Bucket {
	if b, ok := t.young[who[0]]; ok {
		return b
	}
	return t.old[who[0]]
}

func (t *rateTable) put(who name, b limit.Bucket) {
	if b == (limit.Bucket{}) {
		return
	}
	// Whoever fills the table makes it forget early: better than to fill memory.
	if t.most > 0 && len(t.young) >= t.most {
		t.young, t.old = nil, t.young
	}
	if t.young == nil {
		t.young = make(map[uint64]limit.Bucket)
	}
	t.young[who[0]] = b
}

func (t *rateTable) turn(now protocol.Time) {
	switch since := now - t.turned; {
	case since < 0 || since >= 2*protocol.Minute: // a stepped clock, or nobody came
		t.young, t.old, t.turned = nil, nil, now
	case since >= protocol.Minute:
		t.young, t.old, t.turned = nil, t.young, now
	}
}
