package hub

import (
	"errors"

	"cryptointel/internal/frame"
	"cryptointel/internal/session"
	"cryptointel/protocol"
)

// Receive takes bytes that came from a connection's socket. They are unmasked
// in place and not kept.
func (s *Shard) Receive(slot Slot, b []byte, now protocol.Time) {
	s.now = now
	c := s.conn(slot)
	if !c.flags.has(open) {
		return
	}
	s.stats.BytesIn += uint64(len(b))
	c.seen = s.seconds()
	c.flags &^= pinged
	if len(s.pings) > 0 {
		delete(s.pings, slot)
	}
	r := s.readers[slot]
	if r == nil {
		s.fresh = reader{since: now}
		r = &s.fresh
		r.Deflate = c.flags.has(deflating)
	}
	r.Feed(b)
	s.readMessages(slot, c, r)
	s.keepReader(slot, c, r)
}

func (s *Shard) readMessages(slot Slot, c *conn, r *reader) {
	limit := s.messageLimit(c)
	for c.flags&(open|peerClosed|finished) == open {
		m, ok, err := r.Next(limit)
		if err != nil {
			s.failed(slot, c, err)
			return
		}
		if !ok {
			return
		}
		if !r.Open() { // pings between its fragments do not get a message on
			r.since = s.now
		}
		s.receive(slot, c, m)
	}
}

// keepReader remembers a message that has come in part. Only connections in
// the middle of one have a reader.
func (s *Shard) keepReader(slot Slot, c *conn, r *reader) {
	switch {
	case c.flags&(peerClosed|finished) != 0 || r.Idle():
		if len(s.readers) > 0 {
			delete(s.readers, slot)
		}
	case r == &s.fresh:
		kept := *r
		s.readers[slot] = &kept
	}
}

func (s *Shard) receive(slot Slot, c *conn, m frame.Message) {
	switch m.Op {
	case frame.Close:
		s.peerClose(slot, c, m.Payload)
	case frame.Ping:
		if !c.flags.has(closing) {
			s.reply(slot, frame.Append(nil, frame.Pong, m.Payload))
			s.step(slot, session.Event{Kind: session.Control})
		}
	case frame.Pong:
		s.step(slot, session.Event{Kind: session.Control})
	default:
		s.receiveMessage(slot, c, m)
	}
}

func (s *Shard) receiveMessage(slot Slot, c *conn, m frame.Message) {
	s.stats.MessagesIn++
	switch {
	case c.flags.has(closing): // answers nothing any more
	case m.Compressed && !s.inflate(slot, c, &m):
	case c.flags.has(echoing):
		s.reply(slot, frame.Append(nil, m.Op, m.Payload))
	case m.Op == frame.Binary:
		s.closeWith(slot, protocol.InvalidMessage, "messages are text frames with one JSON object, not binary")
	default:
		s.step(slot, session.Event{Kind: session.Message, Message: m.Payload})
	}
}

// reply queues bytes for one connection, unless it has said its last.
func (s *Shard) reply(slot Slot, b []byte) {
	if !s.conn(slot).flags.has(closing) {
		s.offer(slot, s.packet(packet{bytes: b, kind: s.replying}))
	}
}

// failed ends a connection whose bytes are not what RFC 6455 allows. What
// follows them cannot be read as frames, so there is no close frame of the
// client to wait for.
func (s *Shard) failed(slot Slot, c *conn, err error) {
	var fail *frame.Error
	if !errors.As(err, &fail) {
		fail = &frame.Error{Code: protocol.ProtocolError.Close(), Reason: err.Error()}
	}
	code := protocol.ProtocolError
	switch fail.Code {
	case protocol.InvalidUTF8.Close():
		code = protocol.InvalidUTF8
	case protocol.MessageTooLarge.Close():
		code = protocol.MessageTooLarge
	}
	s.closeWith(slot, code, fail.Reason)
	s.heardAll(slot, c)
}

// heardAll notes that nothing more is expected from the client: the socket can
// go when the close frame is written.
func (s *Shard) heardAll(slot Slot, c *conn) {
	c.flags |= peerClosed
	if c.flags.has(closing) && c.head == 0 && !c.flags.has(refused) {
		s.finish(slot, c)
	}
}

// closeWith tells why and closes.
func (s *Shard) closeWith(slot Slot, code protocol.Code, message string) {
	c := s.conn(slot)
	if c.flags.has(closing) {
		return
	}
	if !c.flags.has(echoing) {
		s.stats.Errors[code]++
		e := protocol.Error{Code: code, Message: message}
		s.text = protocol.AppendError(s.text[:0], nil, "", &e, s.now)
		s.reply(slot, s.encode(s.text))
	}
	s.startClose(slot, c, code.Close(), string(code))
}

// startClose queues the close frame, behind which nothing is sent.
func (s *Shard) startClose(slot Slot, c *conn, code int, reason string) {
	if c.flags.has(closing) {
		return
	}
	s.stats.Closes[code]++
	s.reply(slot, frame.AppendClose(nil, code, reason))
	c.flags |= closing
	c.deadline = noDeadline
	s.leaving[slot] = s.now + closeTime
	if c.head == 0 && !c.flags.has(refused) {
		s.closed(slot, c)
	}
}

// peerClose answers the client's close frame with the same code.
func (s *Shard) peerClose(slot Slot, c *conn, payload []byte) {
	s.heardAll(slot, c)
	if c.flags.has(closing) { // it answers ours
		return
	}
	code, _, err := frame.ParseClose(payload)
	var fail *frame.Error
	if errors.As(err, &fail) {
		s.startClose(slot, c, fail.Code, fail.Reason)
		return
	}
	s.stats.Closes[code]++
	s.reply(slot, frame.Append(nil, frame.Close, payload[:min(2, len(payload))]))
	c.flags |= closing
	c.deadline = noDeadline
	s.leaving[slot] = s.now + closeTime
}

// closed is called when the close frame is written: the socket can go when
// the peer has said its close too, or its time is over.
func (s *Shard) closed(slot Slot, c *conn) {
	if c.flags.has(peerClosed) {
		s.finish(slot, c)
	}
}

// finish asks the shell to close the socket. What still waits is dropped.
func (s *Shard) finish(slot Slot, c *conn) {
	if c.flags.has(finished) {
		return
	}
	c.flags |= finished | closing
	c.flags &^= refused
	c.deadline = noDeadline
	delete(s.leaving, slot)
	s.dropPending(slot)
	if x := s.stuck[slot]; x != nil {
		*x = stuck{}
	}
	s.requests = append(s.requests, Request{Kind: Finished, Ref: Ref{slot, c.gen}, Owner: c.owner})
}
