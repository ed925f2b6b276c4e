package hub

import (
	"errors"
	"unicode/utf8"

	"cryptointel/internal/frame"
)

// ErrInflated is what Config.Inflate answers, perhaps wrapped, to a message
// that inflates to more than the limit. The client is told 1009; any other
// error means that its bytes are not deflated data.
var ErrInflated = errors.New("hub: compressed message over the limit")

// maxInflated bounds what a compressed message may become where messages have
// no limit: a byte on the wire can stand for a thousand.
const maxInflated = 16 << 20

// keptInflated is how large the buffer for inflated messages may stay.
const keptInflated = 64 << 10

// wire is the bytes of a packet as a connection gets them: compressed when it
// negotiated that and the message is long enough.
func (s *Shard) wire(c *conn, p *packet) []byte {
	if c.flags&deflating == 0 {
		return p.bytes
	}
	return s.packed(p)
}

// packed is the bytes of a packet for those who inflate: its compressed twin,
// made for the first of them, if there is one.
func (s *Shard) packed(p *packet) []byte {
	if !p.tried {
		p.tried = true
		if message := frame.Payload(p.bytes); s.compresses(p, message) {
			p.deflated = s.compress(message)
		}
	}
	if p.deflated != nil {
		return p.deflated
	}
	return p.bytes
}

// compresses reports whether a packet may be worth compressing: it is long
// enough, and not a reply, which nobody else gets.
func (s *Shard) compresses(p *packet, message []byte) bool {
	return p.kind >= state && s.cfg.Deflate != nil && len(message) >= s.cfg.DeflateFrom
}

// compress makes one compressed frame of a message; nil when that would not be
// smaller.
func (s *Shard) compress(message []byte) []byte {
	s.deflated = s.cfg.Deflate(s.deflated[:0], message)
	n := len(s.deflated)
	if n >= len(message) {
		return nil
	}
	s.stats.Deflated++
	s.stats.DeflateIn += uint64(len(message))
	s.stats.DeflateOut += uint64(n)
	return frame.AppendCompressed(make([]byte, 0, n+frame.HeaderLen(n)), frame.Text, s.deflated)
}

// inflate gives a compressed message its real payload; false when the
// connection was closed instead. The payload is valid until the next message.
func (s *Shard) inflate(slot Slot, c *conn, m *frame.Message) bool {
	limit := s.messageLimit(c)
	if limit <= 0 {
		limit = maxInflated
	}
	b, err := s.cfg.Inflate(s.inflated[:0], m.Payload, limit)
	s.inflated = b
	if cap(b) > keptInflated {
		s.inflated = nil
	}
	switch {
	case errors.Is(err, ErrInflated):
		s.failed(slot, c, &frame.Error{Code: frame.TooLarge, Reason: "message over the limit when inflated"})
	case err != nil:
		s.failed(slot, c, &frame.Error{Code: frame.InvalidUTF8, Reason: "message is marked as compressed and is not deflated data"})
	case m.Op == frame.Text && !utf8.Valid(b):
		s.failed(slot, c, &frame.Error{Code: frame.InvalidUTF8, Reason: "text is not UTF-8"})
	default:
		s.stats.Inflated++
		m.Payload, m.Compressed = b, false
		return true
	}
	return false
}

// messageLimit is how long a message of a connection may be, on the wire and
// inflated; 0 is no limit.
func (s *Shard) messageLimit(c *conn) int {
	if c.flags.has(echoing) {
		return s.cfg.EchoBytes
	}
	return s.cfg.Session.Limits.MessageBytes
}
