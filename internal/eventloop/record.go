package eventloop

import "cryptointel/internal/hub"

// A record is what a loop knows about a connection: twelve bytes and no
// pointer, so the garbage collector does not look at it.
type record struct {
	fd    int32 // epoll only
	gen   uint32
	state state
}

// state is a set of the bits below.
type state uint8

const (
	open     state = 1 << iota // the slot is in use
	ended                      // the peer sends no more
	finished                   // the shard sends no more: waiting for the peer
	blocked                    // the socket takes no more for now
	sending                    // portable only: a writer has bytes under way
)

// busy reports whether bytes that were to be sent may not have been.
func (s state) busy() bool { return s&(blocked|sending) != 0 }

func (s state) has(bits state) bool { return s&bits == bits }

const chunkRecords = 1024

// A table holds the records by slot, in chunks so that growing copies nothing.
type table struct {
	chunks []*[chunkRecords]record
}

// at is the record of a slot, in use or not.
func (t *table) at(slot hub.Slot) *record {
	for int(slot)/chunkRecords >= len(t.chunks) {
		t.chunks = append(t.chunks, new([chunkRecords]record))
	}
	return &t.chunks[slot/chunkRecords][slot%chunkRecords]
}

// live is the record of a connection, nil when it has gone: slots and
// descriptors are used again, and an event may be older than that.
func (t *table) live(ref hub.Ref) *record {
	if int(ref.Slot)/chunkRecords >= len(t.chunks) {
		return nil
	}
	r := t.at(ref.Slot)
	if !r.state.has(open) || r.gen != ref.Gen {
		return nil
	}
	return r
}

// all calls f for every connection.
func (t *table) all(f func(hub.Ref)) {
	for c, chunk := range t.chunks {
		for i := range chunk {
			if r := &chunk[i]; r.state.has(open) {
				f(hub.Ref{Slot: hub.Slot(c*chunkRecords + i), Gen: r.gen})
			}
		}
	}
}
