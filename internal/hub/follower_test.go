package hub

import (
	"encoding/json"
	"fmt"

	"cryptointel/protocol"
)

// A follower is a client that follows the client rule of the protocol (the
// shared model's Client, fed with real frames), with an observer for each log
// subscription that knows the log, and a view of what the server must send
// after each of its acks.
type follower struct {
	w     *world
	name  string
	sock  *sock
	token string
	logs  map[string]*logSub
	rates map[string]float64 // state channels it wants, and their max_rate
	asked map[int]*request   // commands without an answer yet
	id    int
	view  map[string]*view // what the server has acknowledged, by channel
	grant *protocol.Grant  // as acknowledged
	top   int64            // the highest offset sent on a caught-up channel
}

type logSub struct {
	filter string // JSON, or empty
	last   int64
	known  bool // last is a cursor
	hold   int  // the command whose ack must come first
	truth  observer
}

type request struct {
	kind, token string
	wants       []want
}

type want struct {
	channel, filter string
	rate            float64
}

// A pred is what a log subscription lets through.
type pred struct {
	value         string
	filter, bound *protocol.Filter
}

func (p pred) lets(e *protocol.Publication) bool {
	return protocol.Shows(p.value, e) && p.filter.Lets(e.Signal) && p.bound.Lets(e.Signal)
}

// A view is one acknowledged subscription.
type view struct {
	pred pred
	from int64
	owed int // caught_up frames that must still come
	rate float64
	last map[string]*seenState // by value
}

type seenState struct {
	offset int64
	at     protocol.Time // of the last frame that was no snapshot
}

type position struct {
	From, Prev int64
	Reason     string
}

type frameMsg struct {
	Type, Channel, For, Reason string
	ID                         int
	Offset, Prev, From, Head   int64
	Snapshot                   bool
	Channels                   []string
	At                         map[string]position
	Errors                     []struct{ Channel, Code string }
	Error                      struct{ Code string }
	Conflated                  *struct {
		N       int
		O, H, L float64
	}
	Data json.RawMessage
}

func isLogChannel(ch string) bool { return len(ch) > 8 && ch[:8] == "signals:" || ch == "test:log" }

// send gives a command to the socket; it arrives when the world lets it.
func (f *follower) send(r *request, since string) int {
	f.id++
	f.asked[f.id] = r
	m := map[string]any{"type": r.kind, "id": f.id}
	if since != "" {
		m["since"] = since
	}
	if r.token != "" {
		m["token"] = r.token
	}
	var items []any
	for _, x := range r.wants {
		item := map[string]any{"channel": x.channel}
		if x.filter != "" {
			item["filter"] = json.RawMessage(x.filter)
		}
		if x.rate > 0 {
			item["max_rate"] = x.rate
		}
		items = append(items, item)
	}
	if items != nil {
		m["channels"] = items
	}
	b, _ := json.Marshal(m)
	f.sock.say(b)
	return f.id
}

// connect opens a connection and resumes: what has a cursor from the smallest
// one, the rest afresh.
func (f *follower) connect(n *nodeSim) {
	f.sock = f.w.open(n, f)
	f.view, f.asked, f.grant, f.top = map[string]*view{}, map[int]*request{}, nil, 0
	if f.token != "" {
		f.send(&request{kind: "auth", token: f.token}, "")
	}
	resume, fresh := &request{kind: "subscribe"}, &request{kind: "subscribe"}
	since := int64(-1)
	for _, ch := range sortedKeys(f.logs) {
		s := f.logs[ch]
		if !s.known {
			fresh.wants = append(fresh.wants, want{channel: ch, filter: s.filter})
			continue
		}
		resume.wants = append(resume.wants, want{channel: ch, filter: s.filter})
		if since < 0 || s.last < since {
			since = s.last
		}
	}
	for _, ch := range sortedKeys(f.rates) {
		fresh.wants = append(fresh.wants, want{channel: ch, rate: f.rates[ch]})
	}
	f.open(resume, since)
	f.open(fresh, -1)
}

// open subscribes from a position that is certain only with the ack.
func (f *follower) open(r *request, since int64) {
	if len(r.wants) == 0 {
		return
	}
	cursor := ""
	if since >= 0 {
		cursor = protocol.Cursor{Epoch: testEpoch, Offset: since}.String()
	}
	id := f.send(r, cursor)
	for _, x := range r.wants {
		if s := f.logs[x.channel]; s != nil {
			s.hold = id
		}
	}
}

// followLog opens a log channel or changes its filter in place.
func (f *follower) followLog(ch, filter string, resume bool) {
	s := f.logs[ch]
	r := &request{kind: "subscribe", wants: []want{{channel: ch, filter: filter}}}
	switch {
	case s == nil:
		f.logs[ch] = &logSub{filter: filter, truth: observer{w: f.w}}
		f.open(r, -1)
	case resume && s.known && s.hold == 0:
		s.filter = filter
		f.open(r, s.last)
	default:
		s.filter = filter
		f.send(r, "")
	}
}

func (f *follower) followState(ch string, rate float64) {
	f.rates[ch] = rate
	f.send(&request{kind: "subscribe", wants: []want{{channel: ch, rate: rate}}}, "")
}

func (f *follower) unfollow(ch string) {
	delete(f.logs, ch)
	delete(f.rates, ch)
	f.send(&request{kind: "unsubscribe", wants: []want{{channel: ch}}}, "")
}

// lost is a subscription that the server has ended or refused. A later command
// that still waits for its answer opens it anew.
func (f *follower) lost(ch string) {
	for id := range f.id + 1 {
		r := f.asked[id]
		if r == nil || r.kind != "subscribe" {
			continue
		}
		for _, x := range r.wants {
			if s := f.logs[ch]; s != nil && x.channel == ch {
				*s = logSub{filter: x.filter, hold: id, truth: observer{w: f.w}}
				return
			}
			if x.channel == ch {
				return
			}
		}
	}
	delete(f.logs, ch)
	delete(f.rates, ch)
}

// receive takes one message and says how the server was wrong.
func (f *follower) receive(b []byte) error {
	var m frameMsg
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	switch m.Type {
	case "ack":
		return f.ack(&m)
	case "error":
		return f.refused(&m)
	case "unsubscribed":
		delete(f.view, m.Channel)
		if s := f.logs[m.Channel]; s == nil || s.hold == 0 {
			f.lost(m.Channel)
		}
		return nil
	case "pong", "system_status":
		return nil
	}
	v := f.view[m.Channel]
	if v == nil {
		return fmt.Errorf("%s on %s, which is not subscribed", m.Type, m.Channel)
	}
	if isLogChannel(m.Channel) {
		return f.logMessage(v, &m)
	}
	return f.stateMessage(v, &m)
}

func (f *follower) refused(m *frameMsg) error {
	switch m.Error.Code {
	case "SLOW_CONSUMER":
		if m.ID == 0 && f.w.forgets {
			return nil
		}
	case "FORBIDDEN", "UNAUTHORIZED":
		r := f.asked[m.ID]
		delete(f.asked, m.ID)
		if r == nil || len(r.wants) != 1 {
			break
		}
		if f.view[m.Channel] == nil {
			f.lost(m.Channel)
		}
		return nil
	}
	return fmt.Errorf("unexpected error %q", m.Error.Code)
}

func (f *follower) ack(m *frameMsg) error {
	r := f.asked[m.ID]
	if r == nil || m.For != r.kind {
		return fmt.Errorf("ack %d for %q was not asked for", m.ID, m.For)
	}
	delete(f.asked, m.ID)
	switch m.For {
	case "auth":
		f.grant = f.w.tokens[r.token]
		return nil
	case "unsubscribe":
		delete(f.view, r.wants[0].channel)
		return nil
	}
	for _, e := range m.Errors {
		if f.view[e.Channel] == nil {
			f.lost(e.Channel)
		}
	}
	for _, ch := range m.Channels {
		at, ok := m.At[ch]
		if !ok {
			at = position{m.From, m.Prev, m.Reason}
		}
		for _, x := range r.wants {
			if x.channel == ch {
				if err := f.ackOne(m.ID, x, at); err != nil {
					return fmt.Errorf("ack %d of %s: %w", m.ID, ch, err)
				}
			}
		}
	}
	return nil
}

func (f *follower) ackOne(id int, x want, at position) error {
	v := &view{from: at.From, owed: 1, rate: protocol.Rate(x.rate), last: map[string]*seenState{}}
	if x.rate == 0 {
		v.rate = 0
	}
	f.view[x.channel] = v
	if !isLogChannel(x.channel) {
		v.owed = 0
		return nil
	}
	ch, _ := protocol.ParseChannel(x.channel, threeAssets{})
	v.pred.value = ch.Canonical
	if x.filter != "" {
		v.pred.filter, _ = protocol.ParseFilter([]byte(x.filter))
	}
	if f.grant != nil {
		v.pred.bound = f.grant.Filter
	}
	s := f.logs[x.channel]
	if s == nil || s.hold > id {
		return nil // unsubscribed, or replaced by a newer subscribe
	}
	return s.ack(v.pred, at)
}

// ack is the client rule for acks.
func (s *logSub) ack(p pred, at position) error {
	if s.hold == 0 { // a change in place
		if at.Prev > s.last {
			return fmt.Errorf("a gap: prev %d, last %d", at.Prev, s.last)
		}
		err := s.truth.ack(p, at)
		s.last = max(s.last, at.From)
		return err
	}
	s.hold = 0
	err := s.truth.ack(p, at)
	if !s.known || at.Reason == "unknown_cursor" || at.Reason == "epoch_changed" || at.From > s.last {
		s.last = at.From
	}
	s.known = true
	return err
}

// logMessage checks a message of a log channel against what the server owes,
// then lets the client rule have it.
func (f *follower) logMessage(v *view, m *frameMsg) error {
	isFrame := m.Type == protocol.TypeSignal
	upTo := m.Offset
	if isFrame {
		upTo--
	}
	if exact := f.w.lastMatch(v.pred, v.from, upTo); exact != 0 && m.Prev != exact || exact == 0 && m.Prev > v.from {
		return fmt.Errorf("%s %s offset %d: prev is %d, the last match %d, from %d", m.Type, m.Channel, m.Offset, m.Prev, exact, v.from)
	}
	if m.Type == "caught_up" {
		if v.owed--; v.owed < 0 {
			return fmt.Errorf("a second caught_up on %s", m.Channel)
		}
	}
	if isFrame && v.owed == 0 {
		if m.Offset < f.top {
			return fmt.Errorf("%s: offset %d after %d", m.Channel, m.Offset, f.top)
		}
		f.top = m.Offset
	}
	s := f.logs[m.Channel]
	if s == nil || s.hold != 0 {
		return nil
	}
	if isFrame && string(f.w.entry(m.Offset).Data) != string(m.Data) {
		return fmt.Errorf("offset %d has other data: %.60s", m.Offset, m.Data)
	}
	return s.message(m, isFrame)
}

// message is the client rule for frames, caught_up and marks.
func (s *logSub) message(m *frameMsg, isFrame bool) error {
	switch {
	case isFrame && m.Offset <= s.last: // duplicate
		return nil
	case m.Prev > s.last:
		return fmt.Errorf("a gap on %s: %s offset %d prev %d, last %d", m.Channel, m.Type, m.Offset, m.Prev, s.last)
	case isFrame:
		s.last = m.Offset
		return s.truth.deliver(m.Offset)
	}
	s.last = max(s.last, m.Offset)
	return s.truth.raise(s.last)
}
