package broker

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"

	"cryptointel/protocol"
)

// NATS subjects. Everything a node hears is one subscription.
const (
	statePrefix  = "pub.state."
	logSubject   = "pub.log"
	startSubject = "pub.start" // empty: a subscription begins
	wakeSubject  = "pub.wake"  // empty: look at the last values and the log
	everything   = "pub.>"
)

// Sizes of an encoded publication.
const (
	maxEncoded = 1 << 20 // bytes; the server's own bound too
	maxChannel = 128     // bytes
	maxNames   = 1024    // entities or sources of one signal
	maxOffset  = 1<<53 - 1
)

// subjectOf maps a channel to one token of a subject, so that no channel can
// reach another's: the three characters that mean something to NATS, of which
// a channel may have two, are spelled otherwise.
func subjectOf(channel string) string {
	return statePrefix + subjectEscapes.Replace(channel)
}

// subjectEscapes has "=" for a sign that no channel contains.
var subjectEscapes = strings.NewReplacer(".", "=d", "*", "=a")

// check refuses what parsePublication would.
func check(p *protocol.Publication) error {
	switch {
	case !validChannel(p.Channel):
		return refuse(protocol.InvalidChannel, "the channel is not 1 to 128 of a-z 0-9 - _ . : *")
	case len(p.Data) == 0:
		return refuse(protocol.InvalidMessage, "the publication has no data")
	case p.Offset < 0 || p.Offset > maxOffset || p.TS < 0:
		return refuse(protocol.InvalidMessage, "the publication's offset or time is out of range")
	case p.Signal != nil && (len(p.Signal.Entities) > maxNames || len(p.Signal.Sources) > maxNames):
		return refuse(protocol.InvalidMessage, "the signal has over 1024 entities or sources")
	}
	return nil
}

func validChannel(channel string) bool {
	if len(channel) == 0 || len(channel) > maxChannel {
		return false
	}
	for _, c := range []byte(channel) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("-_.:*", c) >= 0) {
			return false
		}
	}
	return true
}

// The first byte of the encoding: its version and what follows. Nodes of
// different versions may share a broker, so a change of layout changes the
// version.
const (
	version       = 0x10
	versionMask   = 0xf0
	hasSignal     = 0x01
	hasConfidence = 0x02
	isHigh        = 0x04
)

// types are the message types written as a number, by their place; 0 is for
// any other, which is written out.
var types = [...]string{"", protocol.TypePrice, protocol.TypeSignal, protocol.TypeMarket, protocol.TypeStatus}

// appendPublication appends p's encoding: one byte of version and flags, then
// the fields in order; numbers as varints, floats as 8 bytes, text after its
// length, data last.
func appendPublication(dst []byte, p *protocol.Publication) []byte {
	dst = append(dst, flagsOf(p))
	dst = appendText(dst, p.Channel)
	dst = appendType(dst, p.Type)
	dst = binary.AppendUvarint(dst, uint64(p.Offset))
	dst = binary.AppendUvarint(dst, uint64(p.TS))
	dst = appendFloat(dst, p.Price)
	if s := p.Signal; s != nil {
		dst = appendText(dst, s.ID)
		dst = appendText(dst, s.Type)
		dst = appendText(dst, s.Severity)
		dst = appendFloat(dst, s.Confidence)
		dst = appendTexts(dst, s.Entities)
		dst = appendTexts(dst, s.Sources)
	}
	return append(dst, p.Data...)
}

func flagsOf(p *protocol.Publication) byte {
	f := byte(version)
	if s := p.Signal; s != nil {
		f |= hasSignal
		if s.HasConfidence {
			f |= hasConfidence
		}
		if s.High {
			f |= isHigh
		}
	}
	return f
}

func appendType(dst []byte, name string) []byte {
	for i, t := range types {
		if i > 0 && t == name {
			return append(dst, byte(i))
		}
	}
	return appendText(append(dst, 0), name)
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendTexts(dst []byte, list []string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	for _, s := range list {
		dst = appendText(dst, s)
	}
	return dst
}

func appendFloat(dst []byte, f float64) []byte {
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(f))
}

var errEncoding = errors.New("not an encoded publication")

// parsePublication is appendPublication's inverse, and accepts one spelling of
// each publication only. Data stays a part of b, which must not change after.
func parsePublication(b []byte) (*protocol.Publication, error) {
	if len(b) == 0 || len(b) > maxEncoded || b[0]&versionMask != version {
		return nil, errEncoding
	}
	flags, r := b[0]&^versionMask, reader{rest: b[1:]}
	p := &protocol.Publication{
		Channel: r.text(),
		Type:    r.kind(),
		Offset:  int64(r.number(maxOffset)),
		TS:      int64(r.number(math.MaxInt64)),
		Price:   r.float(),
	}
	if flags&hasSignal != 0 {
		p.Signal = r.signal()
		p.Signal.HasConfidence = flags&hasConfidence != 0
		p.Signal.High = flags&isHigh != 0
	}
	p.Data = r.rest
	if r.failed || flags != flagsOf(p)&^versionMask || check(p) != nil {
		return nil, errEncoding
	}
	return p, nil
}

// A reader takes values off the front of rest. After a failure it has nothing
// left and gives zeros.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) fail() { r.rest, r.failed = nil, true }

func (r *reader) take(n int) []byte {
	if n > len(r.rest) {
		r.fail()
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

// number reads a varint of at most limit, in its shortest form.
func (r *reader) number(limit uint64) uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || v > limit || n > 1 && r.rest[n-1] == 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) text() string { return string(r.take(int(r.number(maxEncoded)))) }

func (r *reader) texts() []string {
	n := r.number(maxNames)
	if n == 0 || n > uint64(len(r.rest)) { // each takes a byte at least
		if n > 0 {
			r.fail()
		}
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = r.text()
	}
	return list
}

func (r *reader) float() float64 {
	b := r.take(8)
	if b == nil {
		return 0
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(b))
}

// kind reads a message type.
func (r *reader) kind() string {
	i := r.number(uint64(len(types) - 1))
	if i > 0 {
		return types[i]
	}
	name := r.text()
	for _, t := range types[1:] {
		if name == t { // has a number
			r.fail()
		}
	}
	return name
}

func (r *reader) signal() *protocol.Signal {
	return &protocol.Signal{
		ID:         r.text(),
		Type:       r.text(),
		Severity:   r.text(),
		Confidence: r.float(),
		Entities:   r.texts(),
		Sources:    r.texts(),
	}
}
