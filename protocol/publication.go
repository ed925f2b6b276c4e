// Package protocol is the wire contract as Go values: messages, channel names,
// filters, grants, error codes and their JSON. It decides nothing about a
// conversation (that is internal/session) and opens nothing: it is part of the
// core, imports the standard library only, and compiles to WebAssembly.
package protocol

// Time is nanoseconds since 1970 UTC. The core is told the time, it never
// asks for it.
type Time int64

// Units of Time.
const (
	Microsecond Time = 1e3
	Millisecond Time = 1e6
	Second      Time = 1e9
	Minute           = 60 * Second
)

// Millis is t in whole milliseconds, as `ts` carries it.
func (t Time) Millis() int64 { return int64(t / Millisecond) }

// Micros is t in whole microseconds, the unit of a state channel's offsets.
func (t Time) Micros() int64 { return int64(t / Microsecond) }

// Subprotocol is the WebSocket subprotocol of this version.
const Subprotocol = "cryptointel.v1"

// Message types a server sends with data.
const (
	TypePrice  = "price_update"
	TypeSignal = "signal_alert"
	TypeMarket = "market_data"
	TypeStatus = "system_status"
)

// A Publication is one message on a channel: the noun that passes through the
// whole house. It is immutable once published; everyone who is shown it shares
// its bytes.
type Publication struct {
	// Channel is canonical: "price:bitcoin" (the asset's slug, never a ticker),
	// "market:summary", "system:status", "test:c1". Entries of the event log
	// have LogChannel or TestLogChannel; which signals:* channels show them
	// follows from Signal.
	Channel string
	// Type is the message type: TypePrice, TypeSignal, TypeMarket or TypeStatus.
	Type string
	// Offset is the position in the event log, or for a state channel a number
	// that grows with each publication. Below 2^53.
	Offset int64
	// TS is when the message entered the system, in milliseconds since 1970.
	TS int64
	// Data is a valid JSON object.
	Data []byte
	// Price is what conflation summarises; 0 when the data has none.
	Price float64
	// Signal is what filters look at; nil except for entries of the event log.
	Signal *Signal
}

// Channels of the event log's entries, which nobody subscribes by this name.
const (
	LogChannel     = "signals"  // shown on signals:* and watchlist:me
	TestLogChannel = "test:log" // shown on test:log only
)

// IsLog reports whether p is an entry of the event log.
func (p *Publication) IsLog() bool { return p.Signal != nil }
