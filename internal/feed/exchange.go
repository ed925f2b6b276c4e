package feed

import (
	"time"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// An Exchange is how one exchange is talked to: its codec, what to send it,
// which limits it sets, and what its REST API can add. It does no I/O: the
// runner (Live) moves the bytes. One goroutine at a time uses it.
type Exchange interface {
	Codec
	// Rules are the exchange's limits and habits. They do not change.
	Rules() Rules
	// Subscribe returns the messages that subscribe to these symbols, each
	// within the exchange's limit on one message. The runner paces them.
	Subscribe(symbols []string) [][]byte
	// Notes returns what frames since the last call said beside prices. The
	// slice is valid until the next Decode.
	Notes() []Note
	// Catalog is the request for the list of what can be subscribed to, and
	// how to read its answer.
	Catalog() Request
	Listings(body []byte) ([]Listing, error)
	// Bars is the request for a symbol's five-minute bars since a time, and
	// how to read its answer, oldest first. An empty path: there is none.
	Bars(symbol string, since protocol.Time) Request
	ParseBars(symbol string, body []byte) ([]market.Candle, error)
	// Refill is the request for trades that a gap lost, and how to read its
	// answer: the ticks of the gap that are in it (Late, oldest first), and
	// what of the gap is still missing (Kind 0 when nothing is). An empty
	// path: the exchange offers no way.
	Refill(gap Note) Request
	ParseRefill(gap Note, body []byte, received protocol.Time) (ticks []market.Tick, rest Note, err error)
}

// Rules are what an exchange asks of its clients, with our own limits a little
// below. Zero durations mean "not at all".
type Rules struct {
	URL, REST  string        // public base URLs, used unless configured otherwise
	Silence    time.Duration // a connection without any frame for this long is dead
	Ping       []byte        // text message that asks for a sign of life
	PingEvery  time.Duration // how often it is sent
	Life       time.Duration // the connection is replaced after this long, before the exchange ends it
	ConnectGap time.Duration // least time between two connection attempts
	MessageGap time.Duration // least time between two messages sent
	RequestGap time.Duration // least time between two REST requests
	FrameBytes int64         // the largest frame that is read
	MaxSymbols int           // of one connection; more symbols take more connections
}

// A Request is a GET: path and query, behind the REST base URL.
type Request struct{ Path string }

// A Listing is one market of an exchange.
type Listing struct {
	Symbol      string  // as the exchange spells it in Subscribe
	Asset       string  // slug
	Quote       string  // upper case
	VolumeQuote float64 // of 24 hours in the quote; 0 when not told
}

// A NoteKind says what a Note is about.
type NoteKind uint8

// The kinds of notes. The zero kind is no note.
const (
	NoNote     NoteKind = iota
	Subscribed          // the exchange has confirmed Symbol ("" for all it was asked for)
	Refused             // the exchange does not serve Symbol; Text is why
	Limited             // the exchange says that we ask too much; Text is why
	Moving              // the exchange asks for a new connection (serverShutdown, request_reconnect)
	Gap                 // trades From to To of Symbol, inclusive, were not seen
	Lost                // a frame of the connection was lost, nobody knows of which symbol
)

// A Note is something that a frame said beside prices.
type Note struct {
	Kind     NoteKind
	Symbol   string
	From, To int64         // Gap: trade ids
	After    protocol.Time // Gap: time of the last trade before it; 0 when unknown
	Before   protocol.Time // Gap: time of the first trade behind it; 0 when unknown
	Text     string
}
