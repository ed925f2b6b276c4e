package broker

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"

	"cryptointel/protocol"
)

// What nodes say to each other through an external NATS. Every message is one
// byte of version, the sender's id, one byte of kind, and the kind's body.
const (
	wireVersion = 0x01

	kindState   = 1 // a publication of a state channel, as it happens
	kindEntry   = 2 // an entry of the sender's log, as it happens
	kindAsk     = 3 // I am here; give me what I lack
	kindValues  = 4 // answer: newest values
	kindEntries = 5 // answer: entries of the sender's log
	kindDone    = 6 // answer: that was all

	headerSize = 1 + len(nodeID{}) + 1
	maxMarks   = 1024 // positions one ask names
)

// A nodeID names one run of one node. The zero id, in memory, is this node.
type nodeID [8]byte

func (id nodeID) String() string { return hex.EncodeToString(id[:]) }

// A message is what one node tells others. Which fields count follows from
// the kind.
type message struct {
	from    nodeID
	kind    byte
	values  []value       // state, values
	entries []sharedEntry // entry, entries
	head    int64         // ask, done: number of the sender's newest entry that it has sent
	wants   bool          // ask: the newest values too
	marks   []mark        // ask: whose entries, and after which
}

// A value is a state publication and the node that made it.
type value struct {
	from nodeID
	p    *protocol.Publication
	raw  []byte // p's encoding
}

// A sharedEntry is an entry of the log on its way to other nodes. seq counts
// the entries of the node that made it, from 1 and without gaps: by it they
// see what is missing and what came twice.
type sharedEntry struct {
	seq    int64
	issuer string
	sum    [sha256.Size]byte
	p      *protocol.Publication
}

func (e *sharedEntry) size() int64 { return sizeOf(e.p) + int64(len(e.issuer)) }

// A mark is how far someone has the entries of a node.
type mark struct {
	node nodeID
	last int64
}

func appendHeader(dst []byte, from nodeID, kind byte) []byte {
	dst = append(dst, wireVersion)
	dst = append(dst, from[:]...)
	return append(dst, kind)
}

func appendEntry(dst []byte, e *sharedEntry) []byte {
	dst = binary.AppendUvarint(dst, uint64(e.seq))
	dst = appendText(dst, e.issuer)
	dst = append(dst, e.sum[:]...)
	return appendPublication(dst, e.p)
}

func appendValue(dst []byte, v *value) []byte {
	return appendPublication(append(dst, v.from[:]...), v.p)
}

func appendAsk(dst []byte, m *message) []byte {
	dst = binary.AppendUvarint(appendHeader(dst, m.from, kindAsk), uint64(m.head))
	if m.wants {
		dst = append(dst, 1)
	} else {
		dst = append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(len(m.marks)))
	for _, k := range m.marks {
		dst = append(dst, k.node[:]...)
		dst = binary.AppendUvarint(dst, uint64(k.last))
	}
	return dst
}

func appendDone(dst []byte, from nodeID, head int64) []byte {
	return binary.AppendUvarint(appendHeader(dst, from, kindDone), uint64(head))
}

// appendItem appends one of several values or entries, after its length.
func appendItem(dst, item []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(item))), item...)
}

var errMessage = errors.New("not a message of a node of this version")

// parseMessage reads what a node sent, and accepts one spelling only. Nothing
// in the message refers to b but the data of kindState and kindEntry.
func parseMessage(b []byte) (*message, error) {
	if len(b) < headerSize || b[0] != wireVersion {
		return nil, errMessage
	}
	r := reader{rest: b[1:]}
	m := &message{from: r.node(), kind: r.take(1)[0]}
	switch m.kind {
	case kindState:
		m.values = []value{r.value(m.from)}
	case kindEntry:
		m.entries = []sharedEntry{r.entry()}
	case kindAsk:
		r.ask(m)
	case kindValues:
		for len(r.rest) > 0 && !r.failed {
			r.item(func(item *reader) { m.values = append(m.values, item.value(item.node())) })
		}
	case kindEntries:
		for len(r.rest) > 0 && !r.failed {
			r.item(func(item *reader) { m.entries = append(m.entries, item.entry()) })
		}
	case kindDone:
		m.head = int64(r.number(maxOffset))
	default:
		r.fail()
	}
	if r.failed || len(r.rest) > 0 || m.from == (nodeID{}) {
		return nil, errMessage
	}
	return m, nil
}

func (r *reader) node() (id nodeID) {
	copy(id[:], r.take(len(id)))
	return id
}

// item reads one of several with a reader of its own. It is copied, so that
// one small value does not keep the whole message in memory.
func (r *reader) item(read func(*reader)) {
	b := r.take(int(r.number(2 * maxEncoded)))
	item := reader{rest: bytes.Clone(b)}
	if len(b) == 0 {
		r.fail()
		return
	}
	if read(&item); item.failed {
		r.fail()
	}
}

// value reads a publication of a state channel up to the end.
func (r *reader) value(from nodeID) value {
	v := value{from: from, raw: r.rest}
	if v.p = r.publication(); v.p == nil || v.p.Signal != nil || v.p.Offset == 0 || from == (nodeID{}) {
		r.fail()
	}
	return v
}

// entry reads an entry of the log up to the end.
func (r *reader) entry() sharedEntry {
	e := sharedEntry{seq: int64(r.number(maxOffset)), issuer: r.text()}
	copy(e.sum[:], r.take(len(e.sum)))
	if e.p = r.publication(); e.seq == 0 || e.p == nil || e.p.Signal == nil || e.p.Channel != protocol.LogChannel {
		r.fail() // test:log is every node's own
	}
	return e
}

func (r *reader) publication() *protocol.Publication {
	if r.failed {
		return nil
	}
	p, err := parsePublication(r.rest)
	r.rest = nil
	if err != nil {
		return nil
	}
	return p
}

func (r *reader) ask(m *message) {
	m.head = int64(r.number(maxOffset))
	m.wants = r.number(1) == 1
	n := r.number(maxMarks)
	for i := uint64(0); i < n && !r.failed; i++ {
		m.marks = append(m.marks, mark{r.node(), int64(r.number(maxOffset))})
	}
}
