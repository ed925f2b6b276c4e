package broker

import (
	"crypto/sha256"

	"cryptointel/protocol"
)

// outboxBytes bounds each half of an outbox beside Config.Outbox.
const outboxBytes = 32 << 20

// An outbox holds what the other nodes are to get: state publications until
// they are sent, and this node's newest entries of the log, which stay for
// nodes that missed some. Whoever owns it guards it.
type outbox struct {
	max int

	states     fifo[*protocol.Publication]
	stateBytes int

	entries    fifo[sharedEntry]
	entryBytes int64
	head, sent int64 // number of the newest entry, and of the newest sent

	dropped uint64 // state publications given up that were their channel's newest
	unsent  uint64 // entries that had to go before they were sent
}

// state adds a publication. When there are too many, each channel keeps its
// newest, and if that is not enough the oldest go: they follow when the node's
// values are repeated.
func (o *outbox) state(p *protocol.Publication) {
	o.states.push(p)
	o.stateBytes += costOf(p)
	if o.states.len() <= o.max && o.stateBytes <= outboxBytes {
		return
	}
	o.conflate()
	// Down to half, so that the next is not the occasion for another pass.
	for o.states.len() > o.max/2 || o.stateBytes > outboxBytes/2 {
		o.stateBytes -= costOf(o.states.pop())
		o.dropped++
	}
}

func costOf(p *protocol.Publication) int { return len(p.Data) + 64 }

// conflate keeps the newest publication of each channel, in order.
func (o *outbox) conflate() {
	seen := make(map[string]bool, o.states.len())
	var kept []*protocol.Publication
	for i := o.states.len() - 1; i >= 0; i-- {
		if p := o.states.at(i); !seen[p.Channel] {
			seen[p.Channel] = true
			kept = append(kept, p)
		}
	}
	o.states, o.stateBytes = fifo[*protocol.Publication]{}, 0
	for i := len(kept) - 1; i >= 0; i-- {
		o.states.push(kept[i])
		o.stateBytes += costOf(kept[i])
	}
}

// takeStates appends up to most publications to out, the oldest first.
func (o *outbox) takeStates(most int, out []*protocol.Publication) []*protocol.Publication {
	for ; most > 0 && o.states.len() > 0; most-- {
		p := o.states.pop()
		o.stateBytes -= costOf(p)
		out = append(out, p)
	}
	return out
}

// putBack returns what was taken and could not be sent.
func (o *outbox) putBack(list []*protocol.Publication) {
	later := o.states
	o.states, o.stateBytes = fifo[*protocol.Publication]{}, 0
	for _, p := range list {
		o.state(p)
	}
	for later.len() > 0 {
		o.state(later.pop())
	}
	o.conflate()
}

// entry adds an entry that this node has appended to its log.
func (o *outbox) entry(issuer string, sum [sha256.Size]byte, p *protocol.Publication) {
	o.head++
	e := sharedEntry{o.head, issuer, sum, p}
	o.entries.push(e)
	o.entryBytes += e.size()
	for o.entries.len() > o.max || o.entryBytes > outboxBytes && o.entries.len() > 1 {
		old := o.entries.pop()
		o.entryBytes -= old.size()
		if old.seq > o.sent {
			o.sent = old.seq
			o.unsent++
		}
	}
}

// after appends up to most entries with numbers above seq to out.
func (o *outbox) after(seq int64, most int, out []sharedEntry) []sharedEntry {
	oldest := o.head + 1 - int64(o.entries.len())
	for i := max(seq+1, oldest) - oldest; i < int64(o.entries.len()) && most > 0; i++ {
		out = append(out, o.entries.at(int(i)))
		most--
	}
	return out
}
