package gateway

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"strings"

	"cryptointel/protocol"
)

// Bounds of a published signal.
const (
	maxEntities = 20
	maxSources  = 20
	maxID       = 128
	maxWord     = 64
)

// A signal is a published signal, checked.
type signal struct {
	protocol.Signal
	symbol, title, description []byte // JSON strings as they came
	status, replaces           string
	timestamp                  string // empty when not given
	metadata                   []byte // an object as it came, without white space
}

// publishSignal sends a signal to the event log.
func (g *Gateway) publishSignal(ctx context.Context, grant *protocol.Grant, m *message, channel string) (receipt, *protocol.Error) {
	if channel != "" {
		return receipt{}, &protocol.Error{Code: protocol.InvalidChannel,
			Message: "signal_alert takes no channel: which channels show it follows from its data"}
	}
	kind, _ := m.field(fieldType).Text()
	if !isWord(kind, false) {
		return receipt{}, invalid("data.type must be 1 to 64 of a-z 0-9 _")
	}
	if covers := "signals:type:" + kind; !grant.Publishes(covers) {
		return receipt{}, notCovered(covers)
	}
	if g.parts.Signals == nil {
		return receipt{}, invalid("this server takes no signals")
	}
	s, refuse := g.readSignal(m, kind)
	if refuse != nil {
		return receipt{}, refuse
	}
	e := Entry{Issuer: grant.Subject, Publication: g.entry(s)}
	sum := sha256.Sum256(s.appendData(nil, ""))
	copy(e.Content[:], sum[:])
	id := s.ID
	offset, err := g.parts.Signals.Append(ctx, e)
	if err != nil {
		return receipt{}, g.failed("append a signal", err)
	}
	return receipt{id: id, offset: offset}, nil
}

// entry is the publication of a signal. A signal without a time happened now,
// one without an id gets a random one: a publisher that wants to repeat safely
// names its own.
func (g *Gateway) entry(s *signal) *protocol.Publication {
	if s.ID == "" {
		s.ID = s.Type + "-" + strings.ToLower(rand.Text()[:16])
	}
	now := string(protocol.AppendTime(nil, protocol.Time(g.parts.Now().UnixNano())))
	about := s.Signal
	return &protocol.Publication{
		Channel: protocol.LogChannel,
		Type:    protocol.TypeSignal,
		Data:    s.appendData(nil, now),
		Signal:  &about,
	}
}

// readSignal checks every known field of data. The error names the field.
func (g *Gateway) readSignal(m *message, kind string) (*signal, *protocol.Error) {
	s := &signal{status: "active"}
	s.Type = kind
	switch {
	case !textField(&s.ID, m.field(fieldID), isID):
		return nil, invalid("data.id must be 1 to 128 letters, digits or - _ . : / @ +")
	case !textField(&s.replaces, m.field(fieldReplaces), isID):
		return nil, invalid("data.replaces must be the id of a signal")
	case !textField(&s.status, m.field(fieldStatus), isStatus):
		return nil, invalid("data.status must be active, corrected or retracted")
	case !textField(&s.Severity, m.field(fieldSeverity), isSeverity):
		return nil, invalid("data.severity must be low, medium, high or critical")
	case s.status == "corrected" && s.replaces == "":
		return nil, invalid("a corrected signal names the one it replaces in data.replaces")
	case !literal(&s.symbol, m.field(fieldSymbol), 32):
		return nil, invalid("data.symbol must be a string of at most 32 bytes")
	case !literal(&s.title, m.field(fieldTitle), 512):
		return nil, invalid("data.title must be a string of at most 512 bytes")
	case !literal(&s.description, m.field(fieldDescription), 8192):
		return nil, invalid("data.description must be a string of at most 8192 bytes")
	case !s.readSources(m.field(fieldSources)):
		return nil, invalid("data.sources must be at most 20 strings of 1 to 64 bytes")
	case !g.readEntities(s, m.field(fieldEntities)):
		return nil, invalid("data.entities must be at most 20 slugs, such as bitcoin")
	case !s.readConfidence(m.field(fieldConfidence), g.set.Load().cfg.HighConfidence):
		return nil, invalid("data.confidence must be a number from 0 to 1")
	case !s.readMetadata(m.field(fieldMetadata)):
		return nil, invalid("data.metadata must be an object")
	}
	_, given, err := g.timestamp(m.field(fieldTimestamp))
	if given && err == nil {
		s.timestamp, _ = m.field(fieldTimestamp).Text()
	}
	return s, err
}

// textField reads a string that may be absent and must fit.
func textField(dst *string, v protocol.Value, fits func(string) bool) bool {
	if v == nil {
		return true
	}
	text, ok := v.Text()
	if ok = ok && fits(text); ok {
		*dst = text
	}
	return ok
}

// literal is the JSON of a string that may be absent: the publisher's own,
// unless it has what a page could take for markup or a script for its end.
func literal(dst *[]byte, v protocol.Value, most int) bool {
	if v == nil {
		return true
	}
	if v[0] != '"' || len(v)-2 > most {
		return false
	}
	*dst = v
	if bytes.ContainsAny(v, "<>&\u2028\u2029") {
		text, ok := v.Text()
		*dst = protocol.AppendString(nil, text)
		return ok
	}
	return true
}

func (s *signal) readSources(v protocol.Value) bool {
	if v == nil {
		return true
	}
	list, ok := v.Texts()
	s.Sources = append([]string{}, list...) // an empty list is published as one
	return ok && len(list) <= maxSources && !slices.ContainsFunc(list, func(t string) bool { return t == "" || len(t) > maxWord })
}

// readEntities brings tickers to slugs, as channel names do.
func (g *Gateway) readEntities(s *signal, v protocol.Value) bool {
	if v == nil {
		return true
	}
	list, ok := v.Texts()
	if !ok || len(list) > maxEntities {
		return false
	}
	for _, e := range list {
		if g.parts.Prices != nil {
			if slug, known := g.parts.Prices.Slug(e); known {
				e = slug
			}
		}
		if !isWord(e, true) {
			return false
		}
		if !slices.Contains(s.Entities, e) {
			s.Entities = append(s.Entities, e)
		}
	}
	return true
}

func (s *signal) readConfidence(v protocol.Value, high float64) bool {
	if v == nil {
		return true
	}
	c, ok := v.Float()
	s.Confidence, s.HasConfidence = c, true
	s.High = c >= high
	return ok && c >= 0 && c <= 1
}

func (s *signal) readMetadata(v protocol.Value) bool {
	if v == nil {
		return true
	}
	s.metadata = v.Compact()
	return v[0] == '{'
}

// appendData appends the signal's data; now stands in for a time that was not
// given, unless it is empty.
func (s *signal) appendData(dst []byte, now string) []byte {
	dst = protocol.AppendString(append(dst, `{"id":`...), s.ID)
	dst = protocol.AppendString(append(dst, `,"type":`...), s.Type)
	dst = appendRaw(dst, `,"symbol":`, s.symbol)
	dst = appendTexts(dst, `,"entities":`, s.Entities)
	if s.HasConfidence {
		dst = protocol.AppendFloat(append(dst, `,"confidence":`...), s.Confidence)
	}
	dst = appendText(dst, `,"severity":`, s.Severity)
	dst = appendRaw(dst, `,"title":`, s.title)
	dst = appendRaw(dst, `,"description":`, s.description)
	if s.timestamp != "" {
		now = s.timestamp
	}
	dst = appendText(dst, `,"timestamp":`, now)
	dst = appendTexts(dst, `,"sources":`, s.Sources)
	dst = appendText(dst, `,"status":`, s.status)
	dst = appendText(dst, `,"replaces":`, s.replaces)
	return append(appendRaw(dst, `,"metadata":`, s.metadata), '}')
}

func appendRaw(dst []byte, key string, v []byte) []byte {
	if v == nil {
		return dst
	}
	return append(append(dst, key...), v...)
}

func appendText(dst []byte, key, v string) []byte {
	if v == "" {
		return dst
	}
	return protocol.AppendString(append(dst, key...), v)
}

func appendTexts(dst []byte, key string, list []string) []byte {
	if list == nil {
		return dst
	}
	dst = append(append(dst, key...), '[')
	for i, t := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = protocol.AppendString(dst, t)
	}
	return append(dst, ']')
}

// isWord reports whether s can be a signal's type, or with more an entity.
func isWord(s string, entity bool) bool {
	for i := range len(s) {
		c := s[i]
		plain := 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_'
		if !plain && !(entity && (c == '-' || c == '.')) {
			return false
		}
	}
	return s != "" && len(s) <= maxWord
}

func isID(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("-_.:/@+", c) >= 0) {
			return false
		}
	}
	return s != "" && len(s) <= maxID
}

func isStatus(s string) bool { return s == "active" || s == "corrected" || s == "retracted" }

func isSeverity(s string) bool {
	return s == "low" || s == "medium" || s == "high" || s == "critical"
}
