package broker

import (
	"time"

	"github.com/nats-io/nats.go"
)

const (
	lookEvery   = 100 * time.Millisecond // at what is missing
	helloEvery  = 10 * time.Second       // that this node is there, and how many entries it made
	repeatEvery = time.Minute            // this node's values, for whoever missed one
	maxPeers    = 1024
	answerBytes = 128 << 10 // of one message of an answer
	answerMost  = 2048      // entries of one answer
)

// listening is what the goroutine that hears the other nodes owns.
type listening struct {
	l     *link
	peers map[nodeID]*peer
	buf   []byte

	answered, nobody bool // while gathering

	hello, repeat, away           time.Time // when each is due
	asked                         time.Time // when all were asked
	garbage, quarrels, lost, left quiet
	unsaid, early                 quiet
}

func newListening(l *link, now time.Time) listening {
	return listening{l: l, peers: map[nodeID]*peer{},
		hello: now.Add(helloEvery), repeat: now.Add(repeatEvery), away: now.Add(time.Minute)}
}

// run hears the other nodes until the link is closed.
func (l *link) run() {
	h := &l.hearing
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		select {
		case <-l.done:
			return
		case m := <-l.in:
			h.take(m, time.Now())
		case <-l.back:
			h.returned(time.Now())
		case <-t.C:
			h.look(time.Now())
		}
	}
}

// gather asks all nodes for their values and takes what comes at once.
func (h *listening) gather() {
	h.askAll(time.Now())
	end := time.NewTimer(gatherTime)
	defer end.Stop()
	quiet := time.NewTimer(gatherTime)
	defer quiet.Stop()
	for !h.nobody {
		select {
		case m := <-h.l.in:
			if h.take(m, time.Now()); h.answered {
				quiet.Reset(gatherQuiet)
			}
		case <-quiet.C:
			return
		case <-end.C:
			return
		}
	}
}

// take reads one message.
func (h *listening) take(m *nats.Msg, now time.Time) {
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" { // NATS: nobody hears
		h.nobody = true
		return
	}
	msg, err := parseMessage(m.Data)
	if err != nil {
		h.l.n.refused.Add(1)
		if n, due := h.garbage.due(now); due {
			h.l.log.Warn("a message on our NATS subjects is ignored: it is none of a node of this version", "subject", m.Subject, "bytes", len(m.Data), "times", n)
		}
		return
	}
	if msg.from == h.l.id {
		return
	}
	h.l.n.received.Add(1)
	if p := h.peers[msg.from]; p != nil {
		p.heard = now
	}
	switch msg.kind {
	case kindState, kindValues:
		h.states(msg, now)
	case kindEntry, kindEntries:
		h.entries(msg, now)
	case kindAsk:
		h.note(msg, now)
		h.answer(msg)
	case kindDone:
		h.note(msg, now)
		h.answered = true
	}
}

func (h *listening) states(msg *message, now time.Time) {
	for i := range msg.values {
		v := &msg.values[i]
		if v.from == h.l.id { // ours, told back to us
			continue
		}
		verdict, err := h.l.b.receive(v, msg.kind == kindState)
		switch {
		case err == ErrClosed:
			return
		case err != nil:
			h.leave("channel", v.p.Channel, err, now)
		case verdict == quarrel:
			h.l.n.quarrels.Add(1)
			if n, due := h.quarrels.due(now); due {
				h.l.log.Warn("two nodes publish to one channel: the newer of their values is shown; let one node write it", "channel", v.p.Channel, "node", v.from.String(), "times", n)
			}
		case verdict == ahead:
			h.l.n.refused.Add(1)
			if n, due := h.early.due(now); due {
				h.l.log.Warn("a node's publication is from the future and is ignored: check that node's clock", "channel", v.p.Channel, "node", v.from.String(), "times", n)
			}
		}
	}
}

// leave says that something of another node cannot be taken.
func (h *listening) leave(key, name string, err error, now time.Time) {
	if n, due := h.left.due(now); due {
		h.l.log.Warn("another node's publication is left out", key, name, "err", err, "times", n)
	}
}

func (h *listening) entries(msg *message, now time.Time) {
	for _, e := range msg.entries {
		h.peer(msg.from, e.seq-1, now).hold(e)
	}
	if p := h.peers[msg.from]; p != nil {
		h.advance(msg.from, p, now)
	}
}

// note takes the number of a node's newest entry.
func (h *listening) note(msg *message, now time.Time) {
	p := h.peer(msg.from, msg.head, now)
	p.head = max(p.head, msg.head)
	h.advance(msg.from, p, now)
}

// peer finds a node. Of one that was not known, the entries up to last were
// made before this node listened: a log begins where its node does.
func (h *listening) peer(id nodeID, last int64, now time.Time) *peer {
	if p := h.peers[id]; p != nil {
		return p
	}
	if len(h.peers) >= maxPeers {
		h.forget()
	}
	p := &peer{last: last, head: last, heard: now}
	h.peers[id] = p
	return p
}

// forget drops the node that has been silent for longest.
func (h *listening) forget() {
	var silent nodeID
	for id, p := range h.peers {
		if s := h.peers[silent]; s == nil || p.heard.Before(s.heard) {
			silent = id
		}
	}
	delete(h.peers, silent)
}

// advance appends what can be appended, and asks for what is missing.
func (h *listening) advance(id nodeID, p *peer, now time.Time) {
	p.advance(now, func(e sharedEntry) bool {
		settled, err := h.l.b.appendShared(e)
		if err != nil {
			h.leave("id", e.p.Signal.ID, err, now)
		}
		return settled
	})
	if p.mayAsk(now) {
		h.say(h.l.nodeSubject(id), &message{marks: []mark{{id, p.last}}})
	}
}

// returned is what follows when the connection was lost and is back.
func (h *listening) returned(now time.Time) {
	for _, p := range h.peers {
		p.gap = time.Time{}
	}
	h.away = now.Add(time.Minute)
	h.repeatOwn(now)
	h.askAll(now)
}

func (h *listening) repeatOwn(now time.Time) {
	h.repeat = now.Add(repeatEvery)
	h.l.b.repeatOwn()
	h.l.kick()
}

// askAll asks every node for its values, and for the entries that this node
// may have missed.
func (h *listening) askAll(now time.Time) {
	m := &message{wants: true}
	for id, p := range h.peers {
		m.marks = append(m.marks, mark{id, p.last})
	}
	h.asked = now
	h.hello = now.Add(helloEvery)
	h.say(h.l.prefix+"all", m)
}

// say sends an ask. One that is lost is asked again when the connection is
// back, or when something is still missing.
func (h *listening) say(subject string, m *message) {
	m.from, m.head = h.l.id, h.l.b.sentHead()
	h.buf = appendAsk(h.buf[:0], m)
	msg := nats.Msg{Subject: subject, Data: h.buf}
	if m.wants {
		msg.Reply = h.l.nodeSubject(h.l.id) // where NATS says that nobody is there
	}
	h.sent(h.l.nc.PublishMsg(&msg))
}

// sent counts what was said.
func (h *listening) sent(err error) {
	if err == nil {
		h.l.n.sent.Add(1)
	} else if n, due := h.unsaid.due(time.Now()); due && h.l.nc.IsConnected() {
		h.l.log.Warn("a message to another node is not sent", "err", err, "times", n)
	}
}

// look does what is due.
func (h *listening) look(now time.Time) {
	if !h.l.nc.IsConnected() {
		if now.After(h.away) {
			h.away = now.Add(time.Minute)
			h.l.log.Warn("NATS is still away: this node goes on alone", "url", allShown(h.l.b.cfg.NATS.URLs))
		}
		return
	}
	nodes := int64(0)
	for id, p := range h.peers {
		if now.Sub(p.heard) < 3*helloEvery {
			nodes++
		}
		h.tend(id, p, now)
	}
	h.l.n.nodes.Store(nodes)
	if now.After(h.repeat) {
		h.repeatOwn(now)
	}
	if len(h.l.in) == 0 && now.Sub(h.asked) > time.Second && h.l.overflow.Swap(false) {
		h.askAll(now)
	} else if now.After(h.hello) {
		h.hello = now.Add(helloEvery)
		h.say(h.l.prefix+"all", &message{})
	}
	h.l.kick()
}

// tend has one node's entries go on: there may be room now, or no more hope.
func (h *listening) tend(id nodeID, p *peer, now time.Time) {
	if lost := p.skip(now); lost > 0 {
		h.l.n.lost.Add(uint64(lost))
		if n, due := h.lost.due(now); due {
			h.l.log.Error("entries of another node are lost: it did not send them again", "node", id.String(), "entries", lost, "times", n)
		}
	}
	h.advance(id, p, now)
}
