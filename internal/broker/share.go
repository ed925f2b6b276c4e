package broker

import (
	"errors"
	"time"

	"cryptointel/protocol"
)

// maxAhead is how far a publication of another node may be ahead of this
// node's clock. One that is further would stop its channel for that long.
const maxAhead = time.Hour

// A verdict is what became of another node's publication.
type verdict int

const (
	taken   verdict = iota // it is the channel's newest now
	old                    // what is here is newer, or the same
	quarrel                // two nodes write the channel; the newer stays
	ahead                  // its offset is too far in the future
)

// receive takes a state publication of another node: this node's subscribers
// get it if it is newer than what they have. live is false for one that is
// told again.
func (b *Broker) receive(v *value, live bool) (verdict, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return old, ErrClosed
	}
	now, known := b.cfg.Now(), b.last.find(v.p.Channel)
	switch {
	case v.p.Offset > now.Add(maxAhead).UnixMicro():
		return ahead, nil
	case known != nil && known.local:
		return old, nil
	case v.p.Offset <= known.offset():
		if live && known != nil && known.writer != v.from {
			return quarrel, nil
		}
		return old, nil
	}
	if err := b.nc.Publish(known.subjectOr(v.p.Channel), v.raw); err != nil {
		return old, err
	}
	if b.last.put(v.p, known).wroteBy(v.from, now) {
		return quarrel, nil
	}
	return taken, nil
}

// appendShared appends another node's entry to this node's log, and reports
// whether that is settled: false means that it must be tried again. The error
// says why an entry is left out.
func (b *Broker) appendShared(s sharedEntry) (settled bool, err error) {
	e := entry{p: s.p, id: issuedID{s.issuer, s.p.Signal.ID}, sum: s.sum, at: b.cfg.Now()}
	_, err = b.append(&e, false)
	if errors.Is(err, errNoRoom) || errors.Is(err, ErrClosed) {
		return false, nil
	}
	return true, err
}

// sharedValues is the newest value of every channel that nodes share; of this
// node's own making only when own is set.
func (b *Broker) sharedValues(own bool) []value {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []value
	for _, v := range b.last.values {
		if !v.local && (!own || v.writer == (nodeID{})) {
			list = append(list, value{from: v.writer, p: v.p})
		}
	}
	return list
}

// repeatOwn has this node's values sent again, each once.
func (b *Broker) repeatOwn() {
	list := b.sharedValues(true)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, v := range list {
		if known := b.last.find(v.p.Channel); known != nil && known.p == v.p { // else a newer one is on its way
			b.out.state(v.p)
		}
	}
	b.out.conflate()
}

// takeWaiting takes up to most publications, and looks up as many entries,
// that the other nodes are to get.
func (b *Broker) takeWaiting(most int, states []*protocol.Publication, entries []sharedEntry) ([]*protocol.Publication, []sharedEntry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.takeStates(most, states), b.out.after(b.out.sent, most, entries)
}

func (b *Broker) putBack(states []*protocol.Publication) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.out.putBack(states)
}

// sentEntry notes that the entries up to seq are on their way.
func (b *Broker) sentEntry(seq int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.out.sent = max(b.out.sent, seq)
}

// sentHead is the number of this node's newest entry that others may have.
func (b *Broker) sentHead() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.sent
}

// sentAfter is up to most of this node's entries after seq that were sent.
func (b *Broker) sentAfter(seq int64, most int) []sharedEntry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.after(seq, min(most, int(max(0, b.out.sent-seq))), nil)
}
