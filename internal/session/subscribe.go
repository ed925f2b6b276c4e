package session

import (
	"slices"

	"cryptointel/protocol"
)

// subscribe opens or changes each channel of the command. Good ones stream,
// bad ones are listed.
func (s *step) subscribe(cmd *protocol.Command, b []byte) {
	if ahead := s.aheadOf(cmd); ahead > 0 {
		s.hold(b, ahead)
		return
	}
	ack := protocol.Ack{ID: cmd.ID, For: cmd.Type, Epoch: s.env.Epoch}
	var opened []Action
	for i, item := range cmd.Channels {
		act, err := s.open1(cmd, item, named(cmd.Channels[:i], item.Channel))
		if err != nil {
			ack.Errors = append(ack.Errors, protocol.Refusal{Channel: item.Channel, Err: err})
			continue
		}
		pos := s.place(&act, since(cmd, item))
		ack.Channels = append(ack.Channels, pos)
		opened = append(opened, act)
	}
	if len(cmd.Channels) == 1 && len(ack.Errors) == 1 {
		s.strike(cmd.ID, ack.Errors[0].Channel, ack.Errors[0].Err)
		return
	}
	s.out.send(protocol.AppendAck(nil, &ack))
	s.out.List = append(s.out.List, opened...)
}

func named(items []protocol.Item, channel string) bool {
	return slices.ContainsFunc(items, func(it protocol.Item) bool { return it.Channel == channel })
}

// since is the cursor for one item: its own, else the command's.
func since(cmd *protocol.Command, item protocol.Item) string {
	if item.Since != "" {
		return item.Since
	}
	return cmd.Since
}

// aheadOf is the furthest position the command asks for that lies beyond this
// node's head. Another node, or another loop of this one, has seen it, so this
// one will. Once the waiting is over it is 0 and the cursor is unknown.
func (s *step) aheadOf(cmd *protocol.Command) (offset int64) {
	if q := s.st.Queue; q != nil && q.HoldUntil != 0 {
		q.HoldUntil = 0 // it has waited
		return 0
	}
	for _, item := range cmd.Channels {
		cur, ok := protocol.ParseCursor(since(cmd, item))
		if ok && cur.Epoch == s.env.Epoch && cur.Offset > s.env.Head {
			offset = max(offset, cur.Offset)
		}
	}
	return offset
}

// open1 checks one channel of a subscribe and enters it in the session.
func (s *step) open1(cmd *protocol.Command, item protocol.Item, twice bool) (Action, *protocol.Error) {
	spec, err := s.spec(item)
	switch {
	case err != nil:
		return Action{}, err
	case twice:
		return Action{}, &protocol.Error{Code: protocol.InvalidChannel, Message: "'" + item.Channel + "' is named twice in one command"}
	}
	i := s.find(item.Channel)
	if err := s.room(i, spec); err != nil {
		return Action{}, err
	}
	if i >= 0 {
		act := Action{Kind: Change, Sub: i, Spec: spec}
		return act, nil
	}
	s.st.Subs = append(s.st.Subs, spec)
	s.st.Subscribed = true
	return Action{Kind: Subscribe, Sub: len(s.st.Subs) - 1, Spec: spec}, nil
}

// spec understands one element. Permission is checked before existence, so
// that a refusal tells nothing about what there is.
func (s *step) spec(item protocol.Item) (*Spec, *protocol.Error) {
	if err := noChannel(item.Channel); err != nil {
		return nil, err
	}
	ch, err := protocol.ParseChannel(item.Channel, s.env.Directory)
	if !s.allowed(item.Channel, ch.Canonical) {
		return nil, s.notAllowed(item.Channel)
	}
	if err == nil {
		err = item.Err
	}
	if err != nil {
		return nil, err
	}
	if ch.Kind == protocol.State {
		return s.stateSpec(ch, item)
	}
	if item.MaxRate != 0 {
		return nil, &protocol.Error{Code: protocol.InvalidMessage, Message: "'" + ch.Name + "' is a log channel: max_rate is for state channels"}
	}
	var bound *protocol.Filter
	if g := s.st.Grant; g != nil {
		bound = g.Filter
	}
	return newSpec(ch, s.known(item.Filter), s.known(bound), 0), nil
}

// known is the filter with tickers among its entities taken for the assets
// they name, as signals:entity:{ticker} is; nil for one that filters nothing.
func (s *step) known(f *protocol.Filter) *protocol.Filter {
	if f == nil || f.Empty() {
		return nil
	}
	g := *f
	g.Entity = nil
	for _, e := range f.Entity {
		if slug, ok := s.env.Directory.Slug(e); ok {
			e = slug
		}
		g.Entity = append(g.Entity, e)
	}
	slices.Sort(g.Entity)
	g.Entity = slices.Compact(g.Entity)
	return &g
}

// noChannel is the error of a name that no token and no asset could make a
// channel. To say so at once tells nothing about what there is.
func noChannel(name string) *protocol.Error {
	_, err := protocol.ParseChannel(name, everyAsset{})
	return err
}

// everyAsset is a directory in which there is nothing that is not.
type everyAsset struct{}

func (everyAsset) Slug(name string) (string, bool) { return name, name != "" }

func (s *step) notAllowed(channel string) *protocol.Error {
	if s.st.Grant == nil {
		return &protocol.Error{Code: protocol.Unauthorized,
			Message: "'" + protocol.ClipName(channel) + "' needs a token: send {\"type\":\"auth\",\"token\":\"...\"}"}
	}
	return &protocol.Error{Code: protocol.Forbidden, Message: "the token does not allow '" + protocol.ClipName(channel) + "'"}
}

func (s *step) stateSpec(ch protocol.Channel, item protocol.Item) (*Spec, *protocol.Error) {
	if item.Filter != nil {
		return nil, &protocol.Error{Code: protocol.InvalidFilter, Message: "'" + ch.Name + "' is a state channel: filters are for log channels"}
	}
	rate := 0.0
	if item.MaxRate > 0 {
		rate = protocol.Rate(item.MaxRate)
	}
	return newSpec(ch, nil, nil, rate), nil
}

// room checks the limits on what a connection may subscribe. i is the
// subscription that spec replaces, or -1.
func (s *step) room(i int, spec *Spec) *protocol.Error {
	text, filters := len(spec.Key), 0
	if spec.Filter != nil {
		filters = 1
	}
	for j, sub := range s.st.Subs {
		if j != i {
			text += len(sub.Key)
			if sub.Filter != nil {
				filters++
			}
		}
	}
	l := s.env.Limits
	switch {
	case i < 0 && l.Channels > 0 && len(s.st.Subs) >= l.Channels:
		return tooMany("this connection follows as many channels as it may; unsubscribe one, or use price:*")
	case l.Filters > 0 && filters > l.Filters:
		return tooMany("this connection uses as many filters as it may")
	case text > maxSubText:
		return tooMany("the names and filters of this connection's channels exceed 8 KiB")
	}
	return nil
}

func tooMany(message string) *protocol.Error {
	return &protocol.Error{Code: protocol.ChannelLimit, Message: message}
}

// place decides where a subscription begins.
func (s *step) place(act *Action, cursor string) protocol.Position {
	pos := protocol.Position{Channel: act.Spec.Name, Log: act.Spec.Kind == protocol.Log, Head: s.env.Head}
	switch {
	case act.Kind == Change && cursor == "":
		act.Keep = true
		if pos.Log {
			pos.Changed = true
			pos.From, pos.Prev = s.env.Host.Reading(act.Sub)
		}
		s.st.Subs[act.Sub] = act.Spec
	case act.Kind == Change:
		s.st.Subs[act.Sub] = act.Spec
		fallthrough
	default:
		pos.From, pos.Reason, pos.Resumed = s.env.start(cursor)
	}
	act.From = pos.From
	return pos
}

// start is the position a cursor means here, and why it could not be served.
func (e *Env) start(cursor string) (from int64, reason string, resumed bool) {
	if cursor == "" {
		return e.Head, "", false
	}
	cur, ok := protocol.ParseCursor(cursor)
	switch {
	case !ok:
		return e.Head, protocol.ReasonUnknownCursor, true
	case cur.Epoch != e.Epoch:
		return e.Head, protocol.ReasonEpochChanged, true
	case cur.Offset > e.Head:
		return e.Head, protocol.ReasonUnknownCursor, true
	case cur.Offset < e.Oldest-1:
		return e.Head, protocol.ReasonTooOld, true
	}
	return cur.Offset, "", true
}
