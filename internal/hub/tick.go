package hub

import (
	"cryptointel/internal/frame"
	"cryptointel/internal/session"
	"cryptointel/protocol"
)

const (
	sweepEvery = protocol.Second
	closeTime  = 2 * protocol.Second  // for the peer to answer a close frame
	partTime   = 10 * protocol.Second // for a message that has begun to get on
	pingAfter  = 120                  // seconds without a byte from the client
	pongTime   = 10 * protocol.Second
)

// Tick does what is due and tells when to call again at the latest. Calling it
// often is cheap; being a second late changes nothing but when a deadline
// strikes.
func (s *Shard) Tick(now protocol.Time) (next protocol.Time) {
	s.now = now
	s.flushWindows()
	if now >= s.nextMark {
		s.nextMark = now + s.cfg.MarkEvery
		s.sendMarks()
	}
	if now >= s.nextSweep {
		s.nextSweep = now + sweepEvery
		s.sweep()
	}
	next = min(s.nextSweep, s.nextMark)
	if len(s.windows.due) > 0 {
		next = min(next, s.windows.due[0].next)
	}
	return next
}

// sweep looks at every connection once a second: a pass over compact records
// that costs less than a timer for each.
func (s *Shard) sweep() {
	second := s.seconds()
	for slot := range s.used {
		c := s.conn(slot)
		if c.flags&(open|closing) != open {
			continue
		}
		if second >= c.deadline {
			s.stepTick(slot)
		}
		if second >= c.seen+pingAfter && !c.flags.has(pinged|closing) {
			c.flags |= pinged
			s.pings[slot] = s.now + pongTime
			s.reply(slot, frame.Append(nil, frame.Ping, nil))
		}
	}
	s.sweepFew()
}

// sweepFew looks at the connections that are in some rare state.
func (s *Shard) sweepFew() {
	for slot, t := range s.leaving {
		if s.now >= t {
			s.finish(slot, s.conn(slot))
		}
	}
	for slot, t := range s.pings {
		if s.now >= t {
			delete(s.pings, slot)
			s.giveUp(slot, protocol.IdleTimeout)
		}
	}
	for slot, r := range s.readers {
		if s.now >= r.since+partTime && s.conn(slot).flags&(closing|echoing) == 0 {
			s.closeWith(slot, protocol.ProtocolError, "a message was begun and did not get on")
		}
	}
	for slot, x := range s.stuck {
		if s.cfg.StuckTime > 0 && s.now >= x.since+s.cfg.StuckTime && s.conn(slot).flags.has(blocked) {
			s.giveUp(slot, protocol.SlowConsumer)
		}
	}
}

// giveUp ends a connection that does not answer or read, once: until its socket
// is closed it does neither.
func (s *Shard) giveUp(slot Slot, code protocol.Code) {
	if c := s.conn(slot); !c.flags.has(finished) {
		s.stats.Errors[code]++
		s.finish(slot, c)
	}
}

// SetSession replaces the settings of all sessions; it holds from their next
// step.
func (s *Shard) SetSession(cfg *session.Config) { s.cfg.Session, s.env.Config = cfg, cfg }
