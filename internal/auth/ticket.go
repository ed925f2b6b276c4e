package auth

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"cryptointel/protocol"
)

// Bounds of tickets. A ticket travels in a URL, which some proxies cut at
// 2 KiB.
const (
	ticketLife = 30 * protocol.Second
	maxTicket  = 1536
	// maxSpent bounds the ids that are remembered: about 10 MB, and 2,000
	// tickets a second for as long as an id counts.
	maxSpent = 1 << 17
)

// A ticket is base64url of: version, id, expiry, grant as JSON, HMAC-SHA256 of
// all that.
const (
	ticketVersion = 1
	ticketHead    = 1 + 16 + 8
)

type ticketID [16]byte

// Tickets makes tickets and takes them back: what a browser puts into a URL in
// place of its token, which would stay in logs and histories. A ticket is good
// for 30 s and one connection. It can be read by whoever sees it, and does not
// let its holder publish or administer.
//
// With a secret configured, all nodes that have it take each other's tickets;
// each ticket then counts once a node. Without one, a key is made for this
// process and its tickets are good nowhere else. Safe for concurrent use.
type Tickets struct {
	key    []byte        // immutable
	leeway protocol.Time // immutable

	mu    sync.Mutex // guards spent
	spent spent
}

// NewTickets takes its key from the secret of the configuration, and keeps
// apart what has another audience: like tokens, tickets of one installation
// are no good at another that shares the secret.
func NewTickets(cfg Config) (*Tickets, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	secret, err := cfg.HMACSecret()
	if err != nil {
		return nil, err
	}
	if secret == nil {
		secret = []byte(rand.Text() + rand.Text())
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "cryptointel ticket v1 "+cfg.Audience, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the key of tickets: %w", err)
	}
	return &Tickets{key: key, leeway: protocol.Time(cfg.Leeway), spent: newSpent(maxSpent)}, nil
}

// Issue makes a ticket for the holder of a grant, and says until when it is
// good. The errors are INVALID_TOKEN, when the grant has no subject or is too
// large for a URL, and EXPIRED_TOKEN.
func (t *Tickets) Issue(grant *protocol.Grant, now time.Time) (string, protocol.Time, error) {
	if grant == nil || grant.Subject == "" {
		return "", 0, invalidTicket("a ticket needs a token to be made from")
	}
	if protocol.Time(now.UnixNano()) >= grant.Expires+t.leeway {
		return "", 0, expiredTicket("the token has expired: fetch a new one")
	}
	g := *grant
	g.Publish, g.Admin = nil, "" // a URL may leak
	body, err := json.Marshal(g)
	if err != nil {
		return "", 0, fmt.Errorf("encode a ticket: %w", err)
	}
	expires := protocol.Time(now.UnixNano()) + ticketLife
	var id ticketID
	rand.Read(id[:]) // never fails
	ticket := t.seal(id, expires, body)
	if len(ticket) > maxTicket {
		return "", 0, invalidTicket(fmt.Sprintf("the token grants too much for a ticket of at most %d bytes (it takes %d): "+
			"send the token in an auth message, or ask for one with shorter ch and flt", maxTicket, len(ticket)))
	}
	return ticket, expires, nil
}

func (t *Tickets) seal(id ticketID, expires protocol.Time, body []byte) string {
	b := append([]byte{ticketVersion}, id[:]...)
	b = append(binary.BigEndian.AppendUint64(b, uint64(expires)), body...)
	return base64.RawURLEncoding.EncodeToString(append(b, t.sum(b)...))
}

// Redeem takes a ticket, once, and returns the grant it was made from without
// pub and adm. The errors are INVALID_TOKEN, EXPIRED_TOKEN and, when too many
// tickets come at once, CONNECTION_FULL, after which the same ticket is still
// good. They show nothing of the ticket.
func (t *Tickets) Redeem(ticket string, now time.Time) (*protocol.Grant, error) {
	id, expires, body, err := t.open(ticket)
	if err != nil {
		return nil, err
	}
	var g protocol.Grant
	if err := json.Unmarshal(body, &g); err != nil {
		return nil, invalidTicket("the ticket is of another version of this server: fetch a new one")
	}
	at := protocol.Time(now.UnixNano())
	switch {
	case at >= expires:
		return nil, expiredTicket("the ticket has expired: fetch a new one and use it within 30 s")
	case expires > at+ticketLife+t.leeway:
		return nil, invalidTicket("the ticket was made in the future: check the clocks of the servers")
	case at >= g.Expires+t.leeway:
		return nil, expiredTicket("the token that the ticket was made from has expired: fetch a new one")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.spent.add(id, expires, at); err != nil {
		return nil, err
	}
	return &g, nil
}

// open checks the signature before it looks at anything else.
func (t *Tickets) open(ticket string) (id ticketID, expires protocol.Time, body []byte, err error) {
	if len(ticket) > maxTicket {
		return id, 0, nil, invalidTicket("the ticket is too large: it is not one of this server's")
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(ticket)
	// The decoder skips line breaks even when strict.
	if err != nil || len(b) < ticketHead+sha256.Size || strings.ContainsAny(ticket, "\r\n") {
		return id, 0, nil, invalidTicket("the ticket is not one: use what POST /api/v1/tickets answered, unchanged")
	}
	signed, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if !hmac.Equal(sum, t.sum(signed)) || signed[0] != ticketVersion {
		return id, 0, nil, invalidTicket("the ticket was not made by this server, or before it restarted: fetch a new one")
	}
	copy(id[:], signed[1:])
	return id, protocol.Time(binary.BigEndian.Uint64(signed[17:])), signed[ticketHead:], nil
}

func (t *Tickets) sum(b []byte) []byte {
	mac := hmac.New(sha256.New, t.key)
	mac.Write(b)
	return mac.Sum(nil)
}

func invalidTicket(message string) *protocol.Error {
	return &protocol.Error{Code: protocol.InvalidToken, Message: message}
}

func expiredTicket(message string) *protocol.Error {
	return &protocol.Error{Code: protocol.ExpiredToken, Message: message}
}

// spent are the tickets that were used and could be tried again. It forgets an
// id only after its ticket has expired, and refuses new ones rather than
// forget early.
type spent struct {
	limit int
	ids   map[ticketID]struct{}
	queue []spentTicket // as they came; those at the front expire first, nearly
	// floor is the latest expiry among the forgotten. A clock that goes back
	// brings none of them to life again.
	floor protocol.Time
}

type spentTicket struct {
	id      ticketID
	expires protocol.Time
}

func newSpent(limit int) spent { return spent{limit: limit, ids: map[ticketID]struct{}{}} }

// add notes a ticket as used, or says why it must not be.
func (s *spent) add(id ticketID, expires, now protocol.Time) error {
	s.forget(now)
	_, used := s.ids[id]
	switch {
	case used:
		return invalidTicket("the ticket was used already: each is good for one connection, fetch a new one")
	case expires <= s.floor:
		return expiredTicket("the ticket has expired: fetch a new one and use it within 30 s")
	case len(s.ids) >= s.limit:
		return &protocol.Error{Code: protocol.ConnectionFull, Message: "too many tickets are used at once: try this one again", RetryAfter: protocol.Second}
	}
	s.ids[id] = struct{}{}
	s.queue = append(s.queue, spentTicket{id, expires})
	return nil
}

func (s *spent) forget(now protocol.Time) {
	for len(s.queue) > 0 && s.queue[0].expires <= now {
		s.floor = max(s.floor, s.queue[0].expires)
		delete(s.ids, s.queue[0].id)
		if s.queue = s.queue[1:]; len(s.queue) == 0 {
			s.queue, s.ids = nil, map[ticketID]struct{}{} // a map never shrinks
		}
	}
}
