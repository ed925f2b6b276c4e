// Package feed brings prices in: the codecs of the exchanges, one file each,
// the replay of recordings through them, and the simulated market. It makes
// market.Ticks and hands them to a sink; what a price is, internal/market
// decides. A codec does no I/O, so a recording and a live connection drive it
// alike.
package feed

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/valyala/fastjson"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// resolver finds an asset by its slug or its ticker in upper case.
type resolver interface {
	Resolve(name string) (market.Asset, bool)
}

// sink is where ticks go. Deliver may wait, which slows a replay down; it
// keeps no reference to ticks. An error ends the feed.
type sink interface {
	Deliver(ctx context.Context, ticks []market.Tick) error
}

// clock tells the time and waits. Wait returns at once when until has passed,
// and with the context's error when that ends first.
type clock interface {
	Now() protocol.Time
	Wait(ctx context.Context, until protocol.Time) error
}

// WallClock is the real time.
type WallClock struct{}

// Now is the time in nanoseconds since 1970.
func (WallClock) Now() protocol.Time { return protocol.Time(time.Now().UnixNano()) }

// Wait waits until the clock shows until or ctx is done.
func (c WallClock) Wait(ctx context.Context, until protocol.Time) error {
	return sleep(ctx, time.Duration(until-c.Now()))
}

// A Codec turns the frames of one connection to an exchange into ticks. It is
// owned by the goroutine that reads the connection.
type Codec interface {
	// Name is the exchange as Tick.Exchange shows it.
	Name() string
	// Decode appends the ticks of a frame to out, oldest first. It keeps no
	// reference to frame. A malformed frame is an error and appends nothing.
	Decode(frame []byte, received protocol.Time, out []market.Tick) ([]market.Tick, error)
	// Reset says that a new connection begins: sequence numbers start over.
	// What was seen of trades stays, since exchanges repeat them.
	Reset()
	// Stats are the counts so far, over all connections.
	Stats() Stats
}

// Stats counts what a codec has seen.
type Stats struct {
	Frames     uint64
	Ticks      uint64
	Malformed  uint64            // frames that Decode returned an error for
	Duplicates uint64            // trades that were seen before, dropped
	Gaps       uint64            // places where frames or trades are missing
	Missing    uint64            // how many are missing there
	Recovered  uint64            // how many of the missing came after all: repeated by a new connection, or refilled
	OutOfOrder uint64            // frames with an earlier sequence number
	Unknown    uint64            // ticks for symbols without an asset, skipped
	Ignored    map[string]uint64 // frames without ticks, by their type
}

// maxIgnored bounds the types that are counted apart: they come from outside.
const maxIgnored = 64

// ignore counts a frame without ticks.
func (s *Stats) ignore(kind []byte) {
	if _, ok := s.Ignored[string(kind)]; !ok && len(s.Ignored) >= maxIgnored {
		kind = []byte("other")
	}
	if s.Ignored == nil {
		s.Ignored = make(map[string]uint64)
	}
	s.Ignored[string(kind)]++
}

func (s Stats) clone() Stats {
	ignored := make(map[string]uint64, len(s.Ignored))
	for k, n := range s.Ignored {
		ignored[k] = n
	}
	s.Ignored = ignored
	return s
}

// An adapter is what all codecs have: the same counting around another decode.
type adapter struct {
	name    string // of the exchange
	json    reader
	symbols symbols
	notes   notes
	stats   Stats
}

func newAdapter(name string, assets resolver) adapter {
	return adapter{name: name, symbols: symbols{assets: assets}}
}

// Name is the exchange as Tick.Exchange shows it.
func (a *adapter) Name() string { return a.name }

// Stats returns the counts so far.
func (a *adapter) Stats() Stats { return a.stats.clone() }

// Notes returns what frames said since the last call.
func (a *adapter) Notes() []Note { return a.notes.take() }

// take has a frame decoded and counts what came of it. Of a malformed frame
// nothing is appended.
func (a *adapter) take(frame []byte, received protocol.Time, out []market.Tick,
	decode func([]byte, protocol.Time, []market.Tick) ([]market.Tick, error)) ([]market.Tick, error) {
	a.stats.Frames++
	start := len(out)
	out, err := decode(frame, received, out)
	if err != nil {
		a.stats.Malformed++
		return out[:start], fmt.Errorf("%s: %w", a.name, err)
	}
	a.stats.Ticks += uint64(len(out) - start)
	return out, nil
}

// largeFrame is from where on a parser is not kept: it holds on to several
// times the size of the largest frame it has seen, and a level2 snapshot has
// 5 MB.
const largeFrame = 256 << 10

// A reader is a JSON parser that lets go of large frames.
type reader struct{ p fastjson.Parser }

func (r *reader) parse(frame []byte) (*fastjson.Value, error) {
	v, err := r.p.ParseBytes(frame)
	if err != nil {
		return nil, fmt.Errorf("parse frame: %w", err)
	}
	if v.Type() != fastjson.TypeObject {
		return nil, fmt.Errorf("parse frame: a %s, not an object", v.Type())
	}
	return v, nil
}

func (r *reader) done(frame []byte) {
	if len(frame) > largeFrame {
		r.p = fastjson.Parser{}
	}
}

// text is the string under key, nil when it is absent or no string.
func text(v *fastjson.Value, key string) []byte { return v.GetStringBytes(key) }

// decimal is the number that the string under key spells: digits, a point, an
// exponent, and a finite result.
func decimal(v *fastjson.Value, key string) (float64, error) {
	b := text(v, key)
	if f, ok := parseDecimal(b); ok {
		return f, nil
	}
	return 0, fmt.Errorf("%s %.40q is not a decimal", key, b)
}

func parseDecimal(b []byte) (float64, bool) {
	for _, c := range b {
		// ParseFloat also takes names, hexadecimals and underscores.
		if (c < '0' || c > '9') && c != '.' && c != '-' && c != '+' && c != 'e' && c != 'E' {
			return 0, false
		}
	}
	f, err := strconv.ParseFloat(string(b), 64)
	return f, err == nil
}

// optional is decimal for a figure that may be absent or odd: 0 then.
func optional(v *fastjson.Value, key string) float64 {
	f, _ := parseDecimal(text(v, key))
	return f
}

// timeField is the RFC 3339 time under key.
func timeField(v *fastjson.Value, key string) (protocol.Time, error) {
	var t time.Time
	b := text(v, key)
	if err := t.UnmarshalText(b); err != nil || t.Year() < 1970 || t.Year() > 2200 {
		return 0, fmt.Errorf("%s %.40q is not a time", key, b)
	}
	return protocol.Time(t.UnixNano()), nil
}

// intField is the whole number under key.
func intField(v *fastjson.Value, key string) (int64, error) {
	f := v.Get(key)
	if f == nil {
		return 0, fmt.Errorf("%s is missing", key)
	}
	n, err := f.Int64()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", key, err)
	}
	return n, nil
}
