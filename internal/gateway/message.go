package gateway

import (
	"hash/maphash"

	"cryptointel/protocol"
)

// Bounds of the publish API.
const (
	maxBody    = 1 << 20
	maxMessage = 64 << 10
	maxBatch   = 100
)

// A field is one that is known in data. Others are dropped, except where data
// goes through as it is.
type field uint8

const (
	fieldID field = iota
	fieldType
	fieldSymbol
	fieldAsset
	fieldEntities
	fieldConfidence
	fieldSeverity
	fieldTitle
	fieldDescription
	fieldTimestamp
	fieldSources
	fieldStatus
	fieldReplaces
	fieldMetadata
	fieldPrice
	fieldVolume
	fieldCount
)

func fieldOf(key []byte) (field, bool) {
	switch string(key) {
	case "id":
		return fieldID, true
	case "type":
		return fieldType, true
	case "symbol":
		return fieldSymbol, true
	case "asset":
		return fieldAsset, true
	case "entities":
		return fieldEntities, true
	case "confidence":
		return fieldConfidence, true
	case "severity":
		return fieldSeverity, true
	case "title":
		return fieldTitle, true
	case "description":
		return fieldDescription, true
	case "timestamp":
		return fieldTimestamp, true
	case "sources":
		return fieldSources, true
	case "status":
		return fieldStatus, true
	case "replaces":
		return fieldReplaces, true
	case "metadata":
		return fieldMetadata, true
	case "price":
		return fieldPrice, true
	case "volume_24h":
		return fieldVolume, true
	}
	return 0, false
}

// A message is where the parts of one published message are in the body.
type message struct {
	whole, kind, channel, data span
	loose                      bool // data has white space between its tokens
	fields                     [fieldCount]span
}

// A publishRun is the scratch of one publish request. It is pooled; nothing
// that outlives the request may point into it.
type publishRun struct {
	body     []byte
	out      []byte
	messages []message
	list     bool // the body is an array
	scan     scanner
}

func newPublishRun() *publishRun {
	return &publishRun{scan: scanner{seed: maphash.MakeSeed()}}
}

// parse finds the messages in the body. An error is one of the whole body:
// nothing of it is published.
func (p *publishRun) parse() *protocol.Error {
	p.messages, p.list = p.messages[:0], false
	s := &p.scan
	s.reset(p.body)
	switch s.peek() {
	case '[':
		p.list = true
		s.array(0, p.element)
	case '{':
		p.element(0)
	default:
		if s.value(0) && s.end() {
			return invalid("send one message object, or an array of them")
		}
	}
	if s.fault == "" {
		s.end()
	}
	switch {
	case len(p.messages) > maxBatch:
		return invalid("an array has more than 100 messages")
	case s.fault != "":
		return invalid("the body cannot be read: " + s.fault)
	}
	return nil
}

// element passes one message.
func (p *publishRun) element(depth int) bool {
	if len(p.messages) > maxBatch {
		return false // already too many: the rest is not read
	}
	p.messages = append(p.messages, message{})
	m, s := &p.messages[len(p.messages)-1], &p.scan
	m.whole.from = s.i
	if s.peek() != '{' {
		return s.value(depth)
	}
	ok := s.object(depth, func(key []byte, depth int) bool {
		switch string(key) {
		case "type":
			return p.part(&m.kind, depth)
		case "channel":
			return p.part(&m.channel, depth)
		case "data":
			return p.payload(m, depth)
		}
		return s.value(depth)
	})
	m.whole.to = s.i
	return ok
}

// part passes a value and notes where it is.
func (p *publishRun) part(at *span, depth int) bool {
	from := p.scan.i
	ok := p.scan.value(depth)
	*at = span{from, p.scan.i}
	return ok
}

// payload passes data and notes its fields.
func (p *publishRun) payload(m *message, depth int) bool {
	s := &p.scan
	if s.peek() != '{' {
		return s.value(depth) // no data: said when the message is looked at
	}
	from, loose := s.i, s.loose
	ok := s.object(depth, func(key []byte, depth int) bool {
		if f, known := fieldOf(key); known {
			return p.part(&m.fields[f], depth)
		}
		return s.value(depth)
	})
	m.data, m.loose = span{from, s.i}, s.loose > loose
	return ok
}

// field is the bytes of a known field of data, nil when it is absent or null.
func (p *publishRun) field(m *message, f field) []byte {
	v := m.fields[f].of(p.body)
	if len(v) == 0 || v[0] == 'n' {
		return nil
	}
	return v
}

// payloadCopy is data as it goes through: the bytes that came, without white
// space between tokens.
func (p *publishRun) payloadCopy(m *message) []byte {
	data := m.data.of(p.body)
	if m.loose {
		return appendCompact(make([]byte, 0, len(data)), data)
	}
	return append(make([]byte, 0, len(data)), data...)
}

func invalid(why string) *protocol.Error {
	return &protocol.Error{Code: protocol.InvalidMessage, Message: why}
}
