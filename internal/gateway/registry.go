package gateway

import (
	"net/netip"
	"sync"

	"cryptointel/internal/limit"
	"cryptointel/protocol"
)

// A ConnID names a connection to whoever made it: the registry only keeps it
// and hands it back.
type ConnID uint64

// A Displacement says how a twin is asked to make room.
type Displacement uint8

// The kinds of displacement.
const (
	NoTwin   Displacement = iota // nobody has to go
	IfSilent                     // the twin goes if it is draining or has been silent
	Force                        // the twin goes
)

// A ClaimRequest asks for a user's share of the limits for one connection.
type ClaimRequest struct {
	User     string
	Instance string // the client's name for itself, empty for none
	Conn     ConnID
	// Owner is the connection's present share, from AdmitIP or an earlier
	// Claim. It turns into the new one: what an address was charged is given
	// back. 0 for a connection that has none yet.
	Owner   uint64
	Replace bool // take the instance over even from a live connection
}

// A Registry counts connections by address and by user, and knows which
// connections of a user have the same instance. It takes about 107
// bytes a connection of a user of its own (BenchmarkRegistry10k).
//
// What it hands out is an owner: a number that stands for one connection's
// share from AdmitIP or the first Claim to Release, through every Claim in
// between. So a Release and a Claim that cross each other end well in either
// order. All methods are safe for concurrent use.
type Registry struct {
	names namer // immutable

	mu      sync.Mutex // guards the fields below
	limits  Limits
	ip      limit.Rate // of connects; the three follow from limits
	user    limit.Rate
	request limit.Rate
	shares  slab
	parties map[name]party
	largest int // most parties since the map was made
	rates   rateTable
	// requests to the API are counted apart from connects: an address that
	// polls may still connect.
	requests rateTable
}

// A party is an address or a user that has connections open. How often it
// connected stands here too; the rate table has that of parties that are gone.
type party struct {
	open uint32
	head uint32 // the newest of its connections that have an instance
	rate limit.Bucket
}

// NewRegistry returns a registry without connections.
func NewRegistry(l Limits) *Registry {
	r := &Registry{names: newNamer(), parties: make(map[name]party), requests: rateTable{most: mostRequesters}}
	r.SetLimits(l)
	return r
}

// SetLimits changes the limits for those who come from now on: connections
// that are open stay, even beyond the new limits.
func (r *Registry) SetLimits(l Limits) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.limits = l
	r.ip = limit.Rate{PerMinute: l.ConnectsPerMinutePerIP, Burst: l.ConnectsPerMinutePerIP}
	r.user = limit.Rate{PerMinute: l.ConnectsPerMinutePerUser, Burst: l.ConnectsPerMinutePerUser}
	r.request = limit.Rate{PerMinute: l.RequestsPerMinutePerIP, Burst: (l.RequestsPerMinutePerIP + 4) / 5}
}

// Open is the number of connections that hold a share.
func (r *Registry) Open() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.shares.used
}

// AdmitIP charges a new anonymous connection to its address. The error is
// RATE_LIMITED when the address connects too often, CONNECTION_FULL when it or
// the node has no connection left; then there is no owner.
func (r *Registry) AdmitIP(addr netip.Addr, now protocol.Time) (owner uint64, err *protocol.Error) {
	who := r.names.address(household(addr))
	r.mu.Lock()
	defer r.mu.Unlock()
	// The rate comes first and is charged even when there is no room, so that
	// hammering at a full door ends in a plain 429.
	if wait, ok := r.chargeLocked(who, r.ip, now); !ok {
		return 0, &protocol.Error{Code: protocol.RateLimited, RetryAfter: wait,
			Message: "too many new connections from this address: wait, or authenticate"}
	}
	if err := r.roomLocked(); err != nil {
		return 0, err
	}
	p := r.parties[who]
	if full(p, r.limits.ConnectionsPerIP) {
		return 0, &protocol.Error{Code: protocol.ConnectionFull,
			Message: "this address has too many open connections: close one, or authenticate"}
	}
	id, s := r.shares.take()
	s.who = who
	r.joinLocked(who)
	return owner64(id, s), nil
}

// Claim charges a connection to its user, or re-charges it after a token
// refresh, which counts once and keeps the instance it had unless it names
// another. With an instance, the twins are the user's other connections of that
// instance, newest first: each is to be asked to make room as displace says,
// and decides about its own silence itself. A claim that has a twin needs no
// free slot. On an error nothing has changed: the connection keeps the share it
// had. An Owner that was released in the meantime gets a zero owner: the
// connection is gone.
func (r *Registry) Claim(req ClaimRequest, now protocol.Time) (owner uint64, twins []ConnID, displace Displacement, err *protocol.Error) {
	who := r.names.user(req.User)
	instance := r.names.instance(req.User, req.Instance)
	r.mu.Lock()
	defer r.mu.Unlock()
	id, s := r.shares.find(req.Owner)
	if req.Owner != 0 && s == nil {
		return 0, nil, NoTwin, nil
	}
	if s != nil && s.who == who && (instance == 0 || instance == s.instance && !req.Replace) {
		s.conn = req.Conn // a fresh token and nothing else
		return req.Owner, nil, NoTwin, nil
	}
	twins = r.twinsLocked(who, instance, id)
	crowded, err := r.mayJoinLocked(who, s, len(twins) > 0, now)
	if err != nil {
		return 0, nil, NoTwin, err
	}
	if s == nil {
		id, s = r.shares.take()
	}
	r.moveLocked(id, s, who)
	r.nameLocked(id, s, instance, req.Conn)
	return owner64(id, s), twins, displacement(len(twins), req.Replace || crowded), nil
}

func displacement(twins int, force bool) Displacement {
	switch {
	case twins == 0:
		return NoTwin
	case force:
		return Force
	}
	return IfSilent
}

// Release ends a share. A second call does nothing.
func (r *Registry) Release(owner uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id, s := r.shares.find(owner)
	if s == nil {
		return
	}
	r.unnameLocked(id, s)
	r.leaveLocked(s.who)
	r.shares.free(id)
}

// mayJoinLocked checks whether a connection whose share is s, nil for none,
// may count for the user, and charges the user's rate when it does not yet.
// crowded means that it takes one more slot than there are.
func (r *Registry) mayJoinLocked(who name, s *share, hasTwin bool, now protocol.Time) (crowded bool, err *protocol.Error) {
	if s != nil && s.who == who {
		return false, nil
	}
	if s == nil && !hasTwin {
		if err := r.roomLocked(); err != nil {
			return false, err
		}
	}
	crowded = full(r.parties[who], r.limits.ConnectionsPerUser)
	if crowded && !hasTwin {
		return true, &protocol.Error{Code: protocol.ConnectionFull,
			Message: "this user has too many open connections: close one first"}
	}
	if wait, ok := r.chargeLocked(who, r.user, now); !ok {
		return crowded, &protocol.Error{Code: protocol.RateLimited, RetryAfter: wait,
			Message: "too many new connections of this user: wait"}
	}
	if s != nil && !s.who.isUser() {
		r.refundLocked(s.who, r.ip)
	}
	return crowded, nil
}

// chargeLocked counts one connect of who, or tells how long to wait.
func (r *Registry) chargeLocked(who name, rate limit.Rate, now protocol.Time) (wait protocol.Time, ok bool) {
	p, here := r.parties[who]
	if !here {
		return r.rates.take(who, rate, now)
	}
	if wait, ok = p.rate.Take(rate, now); ok {
		r.parties[who] = p
	}
	return wait, ok
}

// refundLocked takes back one connect that was counted for who.
func (r *Registry) refundLocked(who name, rate limit.Rate) {
	p, here := r.parties[who]
	if !here {
		r.rates.give(who, rate)
		return
	}
	p.rate.Return(rate)
	r.parties[who] = p
}

// roomLocked is the error of a node that is full.
func (r *Registry) roomLocked() *protocol.Error {
	if n := r.limits.MaxConnections; n > 0 && r.shares.used >= n {
		return &protocol.Error{Code: protocol.ConnectionFull, RetryAfter: 5 * protocol.Second,
			Message: "this server has no free connection: try again later"}
	}
	return nil
}

func full(p party, most int) bool { return most > 0 && int(p.open) >= most }

// moveLocked makes the share count for who.
func (r *Registry) moveLocked(id uint32, s *share, who name) {
	if s.who == who {
		return
	}
	r.unnameLocked(id, s)
	if s.who != (name{}) {
		r.leaveLocked(s.who)
	}
	s.who = who
	r.joinLocked(who)
}

func (r *Registry) joinLocked(who name) {
	p, here := r.parties[who]
	if !here {
		p.rate = r.rates.remove(who)
	}
	p.open++
	r.parties[who] = p
	r.largest = max(r.largest, len(r.parties))
}

// leaveLocked takes one connection off who. A map keeps the room of its
// largest size, so it is made anew when most of that is unused.
func (r *Registry) leaveLocked(who name) {
	p := r.parties[who]
	if p.open--; p.open > 0 {
		r.parties[who] = p
		return
	}
	delete(r.parties, who)
	r.rates.put(who, p.rate)
	if r.largest < 1024 || len(r.parties) > r.largest/4 {
		return
	}
	smaller := make(map[name]party, len(r.parties))
	for k, v := range r.parties {
		smaller[k] = v
	}
	r.parties, r.largest = smaller, len(smaller)
}

// twinsLocked lists the connections of who with that instance, save id.
func (r *Registry) twinsLocked(who name, instance uint64, id uint32) (twins []ConnID) {
	if instance == 0 {
		return nil
	}
	for i := r.parties[who].head; i != 0; {
		s := r.shares.at(i)
		if s.instance == instance && i != id {
			twins = append(twins, s.conn)
		}
		i = s.next
	}
	return twins
}

// nameLocked gives the share its instance, as the newest of the party's.
func (r *Registry) nameLocked(id uint32, s *share, instance uint64, conn ConnID) {
	r.unnameLocked(id, s)
	s.conn = conn
	if instance == 0 {
		return
	}
	p := r.parties[s.who]
	s.instance, s.next = instance, p.head
	p.head = id
	r.parties[s.who] = p
}

// unnameLocked takes the share out of its party's list. The list is walked:
// it is as long as a user has connections.
func (r *Registry) unnameLocked(id uint32, s *share) {
	if s.instance == 0 {
		return
	}
	p := r.parties[s.who]
	if p.head == id {
		p.head = s.next
		r.parties[s.who] = p
	} else {
		before := r.shares.at(p.head)
		for before.next != id {
			before = r.shares.at(before.next)
		}
		before.next = s.next
	}
	s.instance, s.next = 0, 0
}
