package eventloop

import (
	"sync"

	"cryptointel/protocol"
)

// An inbox is the only thing a loop shares. Anyone puts in; the loop takes
// everything at once. Publications are bounded, commands are not dropped: each
// belongs to a connection or a caller, which bounds them.
type inbox struct {
	maxStates  int    // immutable
	maxEntries int    // immutable
	kick       func() // wakes the loop; set before it first sleeps

	mu        sync.Mutex // guards the fields below
	cmds      []func()
	states    []*protocol.Publication
	newest    map[string]int // where in states a channel is; nil until full
	entries   []*protocol.Publication
	gap       gap
	asleep    bool // the loop waits for its sockets and needs a kick
	closed    bool // nothing is accepted any more
	conflated uint64
	missed    uint64
}

// A gap is a stretch of the log that found the inbox full: above after, up to
// and including head. The zero gap is none.
type gap struct{ after, head int64 }

// A batch is what a loop has taken out and not yet finished.
type batch struct {
	cmds    []func()
	states  []*protocol.Publication
	entries []*protocol.Publication
	gap     gap // behind the entries
}

// post leaves a command; false when the loop has ended.
func (in *inbox) post(cmd func()) bool {
	in.mu.Lock()
	if in.closed {
		in.mu.Unlock()
		return false
	}
	in.cmds = append(in.cmds, cmd)
	in.unlockAndKick()
	return true
}

// publish leaves a publication, within the bounds.
func (in *inbox) publish(p *protocol.Publication) {
	in.mu.Lock()
	switch {
	case in.closed:
	case p.IsLog():
		in.addEntryLocked(p)
	default:
		in.addStateLocked(p)
	}
	in.unlockAndKick()
}

// close refuses what comes later and wakes the loop.
func (in *inbox) close() {
	in.mu.Lock()
	in.closed = true
	in.unlockAndKick()
}

// unlockAndKick wakes the loop once: from then on it is no longer asleep.
func (in *inbox) unlockAndKick() {
	wake := in.asleep
	in.asleep = false
	in.mu.Unlock()
	if wake {
		in.kick()
	}
}

func (in *inbox) addEntryLocked(p *protocol.Publication) {
	switch {
	case in.gap.head == 0 && len(in.entries) < in.maxEntries:
		in.entries = append(in.entries, p)
		return
	case in.gap.head == 0:
		in.gap.after = in.entries[len(in.entries)-1].Offset
	}
	in.gap.head = p.Offset
	in.missed++
}

// addStateLocked keeps everything up to the bound and then the newest of each
// channel, so a full inbox is as large as the bound or the number of channels,
// whichever is more: the same as the shard's last values.
func (in *inbox) addStateLocked(p *protocol.Publication) {
	if in.newest == nil {
		if len(in.states) < in.maxStates {
			in.states = append(in.states, p)
			return
		}
		in.conflateLocked()
	}
	in.keepNewestLocked(p)
}

// conflateLocked switches to one publication a channel.
func (in *inbox) conflateLocked() {
	all := in.states
	in.states = in.states[:0]
	in.newest = make(map[string]int)
	for _, p := range all {
		in.keepNewestLocked(p)
	}
	clear(all[len(in.states):])
}

func (in *inbox) keepNewestLocked(p *protocol.Publication) {
	at, known := in.newest[p.Channel]
	if !known {
		in.newest[p.Channel] = len(in.states)
		in.states = append(in.states, p)
		return
	}
	in.conflated++
	if p.Offset >= in.states[at].Offset {
		in.states[at] = p
	}
}

// take moves what waits into those queues of b that are empty, and reports
// whether the inbox is closed. Entries stay while b has a gap to fill: they
// come after it.
func (in *inbox) take(b *batch) (closed bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.asleep = false
	if len(b.cmds) == 0 {
		b.cmds, in.cmds = in.cmds, b.cmds
	}
	if len(b.states) == 0 {
		b.states, in.states = in.states, b.states
		in.newest = nil
	}
	if len(b.entries) == 0 && b.gap == (gap{}) {
		b.entries, in.entries = in.entries, b.entries
		b.gap, in.gap = in.gap, gap{}
	}
	return in.closed
}

// sleep marks the loop as waiting, unless there is something to take. Entries
// behind a gap do not count: a timer brings the loop back for those.
func (in *inbox) sleep(gapped bool) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	waiting := len(in.cmds) > 0 || len(in.states) > 0 || in.closed ||
		!gapped && (len(in.entries) > 0 || in.gap.head > 0)
	in.asleep = !waiting
	return in.asleep
}

func (in *inbox) counts() (conflated, missed uint64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.conflated, in.missed
}

// emptied returns s without its items, for use again when it is not large.
func emptied[T any](s []T) []T {
	clear(s)
	if cap(s) > keptItems {
		return nil
	}
	return s[:0]
}
