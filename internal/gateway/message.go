package gateway

import "cryptointel/protocol"

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

// A message is the parts of one published message. They share the body's
// bytes; what is absent is empty.
type message struct {
	whole, kind, channel, data protocol.Value
	fields                     [fieldCount]protocol.Value
}

// A publishRun is the scratch of one publish request. It is pooled; nothing
// that outlives the request may point into it.
type publishRun struct {
	body     []byte
	out      []byte
	messages []message
	list     bool // the body is an array
}

// parse finds the messages in the body. An error is one of the whole body:
// nothing of it is published.
func (p *publishRun) parse() *protocol.Error {
	p.messages, p.list = p.messages[:0], false
	body, err := protocol.ParseValue(p.body)
	if err != nil {
		return invalid("the body cannot be read: " + err.Error())
	}
	switch body.Kind() {
	case '{':
		p.add(body)
	case '[':
		p.list = true
		for v := range body.Elements() {
			if len(p.messages) == maxBatch {
				return invalid("an array has more than 100 messages")
			}
			p.add(v)
		}
	default:
		return invalid("send one message object, or an array of them")
	}
	return nil
}

// add notes the parts of one message. What is wrong with it is said when it is
// looked at.
func (p *publishRun) add(whole protocol.Value) {
	p.messages = append(p.messages, message{whole: whole})
	m := &p.messages[len(p.messages)-1]
	for key, v := range whole.Fields() {
		switch string(key) {
		case "type":
			m.kind = v
		case "channel":
			m.channel = v
		case "data":
			m.data = v
		}
	}
	for key, v := range m.data.Fields() {
		if f, known := fieldOf(key); known {
			m.fields[f] = v
		}
	}
}

// field is a known field of data, nil when it is absent or null.
func (m *message) field(f field) protocol.Value {
	if v := m.fields[f]; v.Kind() != 'n' {
		return v
	}
	return nil
}

func invalid(why string) *protocol.Error {
	return &protocol.Error{Code: protocol.InvalidMessage, Message: why}
}
