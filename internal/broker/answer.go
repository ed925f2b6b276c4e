package broker

// answer gives a node what it asks for. What cannot be sent, because the
// connection is gone, it asks for again.
func (h *listening) answer(m *message) {
	for _, k := range m.marks {
		if k.node == h.l.id {
			h.answerEntries(m.from, k.last)
		}
	}
	if !m.wants {
		return
	}
	// The head first: what this node sends later comes to the other later.
	head := h.l.b.sentHead()
	h.answerValues(m.from)
	h.buf = appendDone(h.buf[:0], h.l.id, head)
	h.tell(m.from)
}

func (h *listening) answerValues(to nodeID) {
	c := h.chunks(to, kindValues)
	for _, v := range h.l.b.sharedValues(false) {
		if v.from == (nodeID{}) {
			v.from = h.l.id
		}
		if v.from != to {
			c.item = appendValue(c.item[:0], &v)
			c.add()
		}
	}
	c.flush()
}

func (h *listening) answerEntries(to nodeID, after int64) {
	c := h.chunks(to, kindEntries)
	for _, e := range h.l.b.sentAfter(after, answerMost) {
		c.item = appendEntry(c.item[:0], &e)
		c.add()
	}
	c.flush()
}

func (h *listening) tell(to nodeID) {
	h.sent(h.l.nc.Publish(h.l.nodeSubject(to), h.buf))
}

// chunks gathers the items of an answer into messages of a bounded size. An
// item that is larger goes alone; the server refuses what is too large for it.
type chunks struct {
	h    *listening
	to   nodeID
	kind byte
	item []byte // the next to be added
}

func (h *listening) chunks(to nodeID, kind byte) chunks {
	h.buf = h.buf[:0]
	return chunks{h: h, to: to, kind: kind}
}

func (c *chunks) add() {
	if len(c.h.buf)+len(c.item) > answerBytes {
		c.flush()
	}
	if len(c.h.buf) == 0 {
		c.h.buf = appendHeader(c.h.buf, c.h.l.id, c.kind)
	}
	c.h.buf = appendItem(c.h.buf, c.item)
}

func (c *chunks) flush() {
	if len(c.h.buf) > 0 {
		c.h.tell(c.to)
	}
	c.h.buf = c.h.buf[:0]
}
