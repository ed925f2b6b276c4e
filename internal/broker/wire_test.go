package broker

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"cryptointel/protocol"
)

// encode is the inverse of parseMessage.
func encode(m *message) []byte {
	b := appendHeader(nil, m.from, m.kind)
	switch m.kind {
	case kindState:
		return appendPublication(b, m.values[0].p)
	case kindEntry:
		return appendEntry(b, &m.entries[0])
	case kindAsk:
		return appendAsk(nil, m)
	case kindValues:
		for _, v := range m.values {
			b = appendItem(b, appendValue(nil, &v))
		}
	case kindEntries:
		for _, e := range m.entries {
			b = appendItem(b, appendEntry(nil, &e))
		}
	case kindDone:
		return appendDone(nil, m.from, m.head)
	}
	return b
}

func messages() map[string]*message {
	me, you := nodeID{1, 2}, nodeID{3}
	val := func(from nodeID, offset int64) value {
		p := price("bitcoin", offset)
		return value{from, p, appendPublication(nil, p)}
	}
	e := func(seq int64) sharedEntry { return sharedEntry{seq, "u1", [32]byte{7}, signal("id", `{"a":1}`)} }
	return map[string]*message{
		"state":   {from: me, kind: kindState, values: []value{val(me, 5)}},
		"entry":   {from: me, kind: kindEntry, entries: []sharedEntry{e(1)}},
		"ask":     {from: me, kind: kindAsk, head: 300, wants: true, marks: []mark{{you, 0}, {me, maxOffset}}},
		"hello":   {from: me, kind: kindAsk},
		"values":  {from: me, kind: kindValues, values: []value{val(you, 1), val(me, 2)}},
		"none":    {from: me, kind: kindValues},
		"entries": {from: me, kind: kindEntries, entries: []sharedEntry{e(1), e(maxOffset)}},
		"done":    {from: me, kind: kindDone, head: 7},
	}
}

func TestMessage(t *testing.T) {
	for name, m := range messages() {
		t.Run(name, func(t *testing.T) {
			b := encode(m)
			got, err := parseMessage(b)
			if err != nil || !reflect.DeepEqual(got, m) {
				t.Errorf("got %+v, %v; want %+v", got, err, m)
			}
		})
	}
}

func TestMessageRefused(t *testing.T) {
	id := nodeID{1}
	entry := func(change func(*sharedEntry)) []byte {
		e := sharedEntry{1, "u", [32]byte{}, signal("id", `{}`)}
		change(&e)
		return appendEntry(appendHeader(nil, id, kindEntry), &e)
	}
	tests := map[string][]byte{
		"empty":                    {},
		"text":                     []byte(`{"type":"price_update"}`),
		"another version":          append([]byte{9}, encode(messages()["state"])[1:]...),
		"no sender":                appendDone(nil, nodeID{}, 1),
		"unknown kind":             appendHeader(nil, id, 9),
		"state without an offset":  appendPublication(appendHeader(nil, id, kindState), price("bitcoin", 0)),
		"an entry as state":        appendPublication(appendHeader(nil, id, kindState), signal("a", `{}`)),
		"a value of nobody":        appendItem(appendHeader(nil, id, kindValues), appendPublication(make([]byte, 8), price("bitcoin", 1))),
		"an empty item":            appendItem(appendHeader(nil, id, kindValues), nil),
		"more after the end":       append(appendDone(nil, id, 1), 0),
		"entry without a number":   entry(func(e *sharedEntry) { e.seq = 0 }),
		"entry of test:log":        entry(func(e *sharedEntry) { e.p.Channel = protocol.TestLogChannel }),
		"entry of a state channel": entry(func(e *sharedEntry) { e.p.Channel = "price:bitcoin" }),
		"entry without signal":     entry(func(e *sharedEntry) { e.p.Signal = nil }),
		"marks that are not there": append(appendHeader(nil, id, kindAsk), 0, 0, 5),
	}
	for name, b := range tests {
		if m, err := parseMessage(b); err == nil {
			t.Errorf("%s: read as %+v", name, m)
		}
	}
	if _, err := parseMessage(entry(func(*sharedEntry) {})); err != nil {
		t.Errorf("the entry that is right: %v", err)
	}
}

// FuzzParseMessage: what parses is encoded to the same bytes again.
func FuzzParseMessage(f *testing.F) {
	for _, m := range messages() {
		f.Add(encode(m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMessage(b)
		if err != nil {
			return
		}
		if again := encode(m); !bytes.Equal(again, b) {
			t.Errorf("%x is read as %+v and written as %x", b, m, again)
		}
	})
}

// FuzzParseAnswer: an answer is a body or an error, and errors come back the
// same.
func FuzzParseAnswer(f *testing.F) {
	f.Add(appendAnswer(nil, []byte(`{}`), nil))
	f.Add(appendAnswer(nil, nil, errBusy))
	f.Add(appendAnswer(nil, nil, errors.New("other")))
	f.Fuzz(func(t *testing.T, b []byte) {
		body, err := parseAnswer(b)
		if errors.Is(err, errAnswer) {
			return
		}
		if again := appendAnswer(nil, body, err); !bytes.Equal(again, b) {
			t.Errorf("%x is read as %q, %v and written as %x", b, body, err, again)
		}
	})
}
