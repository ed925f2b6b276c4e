package session

import (
	"slices"

	"cryptointel/protocol"
)

// queue is the session's queue, made when first needed.
func (s *step) queue() *Queue {
	if s.st.Queue == nil {
		s.st.Queue = &Queue{}
	}
	return s.st.Queue
}

// tidy forgets a queue that holds nothing, so that the owner keeps none.
func (s *step) tidy() {
	if q := s.st.Queue; q != nil && len(q.Commands) == 0 && q.Hold == 0 && !s.st.Verifying {
		s.st.Queue = nil
	}
}

// held reports whether commands must wait for the log's head.
func (s *step) held() bool { return s.st.Queue != nil && s.st.Queue.Hold != 0 }

// overtakes reports whether a waiting command names a channel of cmd. What is
// said about one channel runs in the order in which it was said: a change in
// place that ran before the resume it follows would begin at the head, and the
// client would take that for where its cursor is.
func (s *step) overtakes(cmd *protocol.Command) bool {
	if s.st.Queue == nil {
		return false
	}
	for _, b := range s.st.Queue.Commands {
		waiting, _ := protocol.ParseCommand(b)
		for _, it := range waiting.Channels {
			if named(cmd.Channels, it.Channel) {
				return true
			}
		}
	}
	return false
}

// needsAuth reports whether the command must wait for a token: it names a
// channel that anonymous clients may not follow and there is no token yet, or
// it is a second auth while the first is being verified.
func (s *step) needsAuth(cmd *protocol.Command) bool {
	if cmd.Type == protocol.CmdAuth {
		return s.st.Verifying
	}
	if cmd.Type != protocol.CmdSubscribe || s.st.Grant != nil || s.st.Queue != nil && s.st.Queue.InVain {
		return false
	}
	return slices.ContainsFunc(cmd.Channels, func(it protocol.Item) bool {
		ch, _ := protocol.ParseChannel(it.Channel, s.env.Directory)
		return noChannel(it.Channel) == nil && !s.allowed(it.Channel, ch.Canonical)
	})
}

func (s *step) awaitAuth(cmd protocol.Command, b []byte) {
	if s.enqueue(cmd, b) {
		q := s.queue()
		q.Until = max(q.Until, s.now+protocol.Time(s.env.Limits.AuthTimeout))
	}
}

// enqueue keeps a command for later. What is beyond the bounds is refused.
func (s *step) enqueue(cmd protocol.Command, b []byte) bool {
	q := s.queue()
	if len(q.Commands) >= maxWaiting || q.Bytes+len(b) > maxWaitingBytes {
		s.refuse(cmd.ID, "", rateLimited(protocol.Second, "at most 16 commands and 4 KiB may wait; send auth first"))
		return false
	}
	q.Commands = append(q.Commands, slices.Clone(b))
	q.Bytes += len(b)
	return true
}

// resume runs the first waiting command.
func (s *step) resume() {
	q := s.st.Queue
	if q == nil {
		return
	}
	if len(q.Commands) == 0 {
		q.Ready, q.InVain = false, false
		s.tidy()
		s.tick() // when nothing came of them, the time to do something may be over
		return
	}
	b := q.Commands[0]
	cmd, _ := protocol.ParseCommand(b) // it was checked when it came
	if s.needsAuth(&cmd) {
		q.Ready = false
		q.Until = max(q.Until, s.now+protocol.Time(s.env.Limits.AuthTimeout))
		return
	}
	q.Commands, q.Bytes = q.Commands[1:], q.Bytes-len(b)
	s.run(&cmd, b)
	if s.st.Verifying {
		q.Ready = false
	}
}

// hold makes this and all later commands wait until this node's view of the
// log has reached offset.
func (s *step) hold(b []byte, offset int64) {
	q := s.queue()
	q.Commands = slices.Insert(q.Commands, 0, slices.Clone(b))
	q.Bytes += len(b)
	q.Hold, q.HoldUntil, q.Ready = offset, s.now+holdTime, false
}

// release lets held commands run when the head has come, or its time is over.
func (s *step) release() {
	q := s.st.Queue
	if q == nil || q.Hold == 0 || s.env.Head < q.Hold && s.now < q.HoldUntil {
		return
	}
	q.Hold, q.Ready = 0, true
}

// waitedLong lets the commands run that have waited for a token in vain: what
// anonymous clients may follow streams, the rest is UNAUTHORIZED.
func (s *step) waitedLong() {
	q := s.st.Queue
	q.Until, q.Ready, q.InVain = 0, true, true
}
