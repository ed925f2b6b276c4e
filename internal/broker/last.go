package broker

import (
	"container/list"
	"strings"
	"time"

	"cryptointel/protocol"
)

// lastValues keeps the newest publication of each state channel. Whoever owns
// it guards it.
type lastValues struct {
	values map[string]*lastValue
	// tests are the channels test:{name}, whose names anyone with a token can
	// make up, the one published to longest ago first.
	tests    *list.List // of *lastValue
	maxTests int        // 0 for no bound
}

// A lastValue is one channel's newest publication.
type lastValue struct {
	p       *protocol.Publication
	subject string        // the channel's NATS subject, made once
	test    *list.Element // nil outside test:{name}
	local   bool          // this node's own affair, not shared with others

	writer, before nodeID    // who made p, and who made those before the writer did
	since          time.Time // when the writer took over
}

// takeover is how soon a writer that comes back after another shows that the
// two do not take turns but quarrel.
const takeover = time.Minute

func newLastValues(maxTests int) lastValues {
	return lastValues{values: map[string]*lastValue{}, tests: list.New(), maxTests: maxTests}
}

// find returns the channel's value, nil when there is none.
func (l *lastValues) find(channel string) *lastValue { return l.values[channel] }

// offset is the offset last used, 0 when there is none.
func (v *lastValue) offset() int64 {
	if v == nil {
		return 0
	}
	return v.p.Offset
}

// subjectOr is the subject kept, or made now when v is nil.
func (v *lastValue) subjectOr(channel string) string {
	if v == nil {
		return subjectOf(channel)
	}
	return v.subject
}

// wroteBy notes who writes the channel, and reports whether two do.
func (v *lastValue) wroteBy(node nodeID, now time.Time) (two bool) {
	if node == v.writer {
		return false
	}
	two = node == v.before && now.Sub(v.since) < takeover
	v.before, v.writer, v.since = v.writer, node, now
	return two
}

// put makes p the newest; v is what find returned. It returns the value that
// holds p now.
func (l *lastValues) put(p *protocol.Publication, v *lastValue) *lastValue {
	if v != nil {
		v.p = p
		if v.test != nil {
			l.tests.MoveToBack(v.test)
		}
		return v
	}
	v = &lastValue{p: p, subject: subjectOf(p.Channel)}
	l.values[p.Channel] = v
	if !strings.HasPrefix(p.Channel, "test:") {
		return v
	}
	v.test = l.tests.PushBack(v)
	if l.maxTests > 0 && l.tests.Len() > l.maxTests {
		oldest := l.tests.Remove(l.tests.Front()).(*lastValue)
		delete(l.values, oldest.p.Channel)
	}
	return v
}

func (l *lastValues) appendAll(out []*protocol.Publication) []*protocol.Publication {
	for _, v := range l.values {
		out = append(out, v.p)
	}
	return out
}
