package session

import (
	"slices"

	"cryptointel/protocol"
)

// message handles one text message from the client.
func (s *step) message(b []byte) {
	st := s.st
	st.Heard = s.now
	if wait, ok := st.Flood.Take(s.env.Limits.flood(), s.now); !ok {
		s.close(rateLimited(wait, "three times the message rate"))
		return
	}
	wait, ok := st.Messages.Take(s.env.Limits.messages(), s.now)
	if ok {
		s.command(b)
		return
	}
	cmd, _ := protocol.ParseCommand(b)
	s.refuse(cmd.ID, "", rateLimited(wait, "too many messages; slow down"))
}

// command runs a message now, or queues it behind what must come first.
func (s *step) command(b []byte) {
	cmd, err := protocol.ParseCommand(b)
	switch {
	case err != nil:
		s.strike(cmd.ID, "", err)
	case s.held() || s.overtakes(&cmd):
		s.enqueue(cmd, b)
	case s.needsAuth(&cmd):
		s.awaitAuth(cmd, b)
	default:
		s.run(&cmd, b)
	}
}

func (s *step) run(cmd *protocol.Command, b []byte) {
	switch cmd.Type {
	case protocol.CmdPing:
		s.out.send(protocol.AppendPong(nil, *cmd, s.now))
	case protocol.CmdSubscribe:
		s.subscribe(cmd, b)
	case protocol.CmdUnsubscribe:
		s.unsubscribe(cmd)
	case protocol.CmdAuth:
		s.auth(cmd)
	case protocol.CmdStatus:
		s.out.send(s.appendStatus(nil, cmd.ID))
	case protocol.CmdSeen: // has no answer
	}
}

// refuse answers a command with an error.
func (s *step) refuse(id []byte, channel string, err *protocol.Error) {
	s.out.List = append(s.out.List, Action{Kind: Send, Code: err.Code,
		Message: protocol.AppendError(nil, id, channel, err, s.now)})
}

// strike refuses a command; the tenth in a minute that the client should never
// have sent closes.
func (s *step) strike(id []byte, channel string, err *protocol.Error) {
	if !err.Code.Misuse() {
		s.refuse(id, channel, err)
		return
	}
	if _, ok := s.st.Strikes.Take(strikes, s.now); ok {
		s.refuse(id, channel, err)
		return
	}
	s.close(&protocol.Error{Code: err.Code, Message: "ten commands in a minute could not be understood; the last: " + err.Message})
}

func (s *step) auth(cmd *protocol.Command) {
	s.st.Verifying = true
	s.queue().AuthID = slices.Clone(cmd.ID)
	s.out.List = append(s.out.List, Action{
		Kind: VerifyToken, Token: cmd.Token, Instance: cmd.Instance, Replace: cmd.Replace})
}

// judge takes the verdict on the token and then runs what waited for it.
func (s *step) judge(g *protocol.Grant, err *protocol.Error) {
	if !s.st.Verifying {
		return
	}
	s.st.Verifying = false
	if err != nil {
		s.close(err)
		return
	}
	s.st.Grant, s.st.Warned = g, false
	ack := protocol.Ack{ID: s.queue().AuthID, For: protocol.CmdAuth, User: g.Subject, Expires: g.Expires}
	s.out.send(protocol.AppendAck(nil, &ack))
	q := s.queue()
	q.AuthID, q.Ready = nil, q.Hold == 0 // the log's head is waited for regardless
	s.reevaluate()
}

// reevaluate ends the subscriptions that the new token does not allow, or
// allows only under another filter.
func (s *step) reevaluate() {
	st := s.st
	for i := len(st.Subs) - 1; i >= 0; i-- {
		sub := st.Subs[i]
		if s.allowed(sub.Name, sub.Canonical) && (sub.Kind == protocol.State || sameFilter(sub.Bound, s.known(st.Grant.Filter))) {
			continue
		}
		s.drop(i)
		s.out.send(protocol.AppendUnsubscribed(nil, sub.Name, protocol.Forbidden))
	}
}

func sameFilter(a, b *protocol.Filter) bool {
	if a == nil || b == nil {
		return a == b
	}
	return string(protocol.AppendFilter(nil, a)) == string(protocol.AppendFilter(nil, b))
}

// drop ends subscription i.
func (s *step) drop(i int) {
	s.out.List = append(s.out.List, Action{Kind: Unsubscribe, Sub: i, Spec: s.st.Subs[i]})
	s.st.Subs = slices.Delete(s.st.Subs, i, i+1)
}

func (s *step) unsubscribe(cmd *protocol.Command) {
	ack := protocol.Ack{ID: cmd.ID, For: cmd.Type}
	for _, item := range cmd.Channels {
		if i := s.find(item.Channel); i >= 0 {
			s.drop(i)
		}
		// Leaving what one is not in is no error: the outcome is as asked.
		ack.Channels = append(ack.Channels, protocol.Position{Channel: item.Channel})
	}
	s.out.send(protocol.AppendAck(nil, &ack))
}

func (s *step) find(name string) int {
	return slices.IndexFunc(s.st.Subs, func(sub *Spec) bool { return sub.Name == name })
}

// allowed reports whether the session may follow a channel. The name counts as
// well as the canonical, so that a token for price:BTC is one for price:bitcoin
// only when it says so.
func (s *step) allowed(name, canonical string) bool {
	patterns := s.env.Anonymous
	if protocol.MatchAny(patterns, canonical) || protocol.MatchAny(patterns, name) {
		return true
	}
	g := s.st.Grant
	return g != nil && (g.Follows(canonical) || g.Follows(name))
}
