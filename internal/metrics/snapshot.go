package metrics

import (
	"cryptointel/internal/hub"
	"cryptointel/protocol"
)

// A Snapshot is everything that is shown, at one moment. Its parts are plain
// structs that whoever joins the parts of a server fills in; a nil part is not
// there, and neither are its metrics.
type Snapshot struct {
	Hub    hub.Stats // summed over the loops
	Door   Door
	Feeds  []Feed
	Market *Market
	Broker *Broker
	Link   *Link // nil without an external NATS
	Keys   *Keys // nil without a key set
	Loops  *Loops
	Tokens *Tokens
}

// Door is what the HTTP door has done since it was made.
type Door struct {
	Upgrades    uint64                   // WebSocket upgrades
	Turned      map[protocol.Code]uint64 // of them, only to be told why not
	Refused     map[protocol.Code]uint64 // requests refused in plain HTTP
	Published   map[string]uint64        // messages published, by type
	Unpublished map[protocol.Code]uint64 // messages of an array refused
	TurnedAway  uint64                   // sockets closed before a request
	Pending     int                      // sockets open and not upgraded

	TicketsIssued     uint64
	TicketsRedeemed   uint64
	TicketsRefused    uint64 // tickets in the URL of an upgrade that were not accepted
	Compressed        uint64 // upgrades that negotiated permessage-deflate
	HandshakeFailures uint64 // TLS handshakes that failed
	HistoryAnswers    uint64 // requests for candles that were answered
	// CertificateEnds is when the certificate expires, in Unix seconds; 0
	// without one.
	CertificateEnds int64
}

// A Feed is one live source of prices.
type Feed struct {
	Exchange   string
	State      string // connecting, live or down
	Symbols    int    // followed
	Frames     uint64
	Ticks      uint64
	Malformed  uint64 // frames that were not understood
	Duplicates uint64 // trades that came again, dropped
	OutOfOrder uint64 // frames with an earlier sequence number, dropped
	Unknown    uint64 // ticks of symbols without an asset
	Gaps       uint64 // places where frames or trades were missing
	Missing    uint64 // trades that were missing there
	Recovered  uint64 // of them, that came after all
	Refilled   uint64 // trades that REST gave for gaps
	Lost       uint64 // missing trades that nobody gave
	Reconnects uint64
	RESTErrors uint64
	Asking     int // gaps that REST is still asked about
	// SilentSeconds is how long nothing has come.
	SilentSeconds float64
}

// Market is what became of ticks.
type Market struct {
	Outcomes    map[string]uint64 // ticks, by what became of them
	Stale       uint64            // prices published as stale
	Settled     uint64            // prices published because a source fell silent
	SuspectDays uint64            // 24 hour figures that were not believed
	SuspectBars uint64            // bars of the past that were not believed
	Assets      int               // that have a price
	StaleAssets int
	Quarantined int // sources that are off the others now
}

// Broker is what the broker keeps.
type Broker struct {
	StateChannels int
	LogEntries    int
	LogBytes      int64
	Skipped       uint64
}

// Link is the connection to the other nodes. It has the fields of
// broker.LinkStats, which converts to it.
type Link struct {
	Configured bool
	Connected  bool
	Nodes      int
	Waiting    int

	Sent     uint64
	Received uint64
	Refused  uint64
	Skipped  uint64
	Quarrels uint64
	Lost     uint64
	Unsent   uint64
	Dropped  uint64
	TooLarge uint64
	Returns  uint64
}

// Keys is the key set that tokens are verified with.
type Keys struct {
	Current int
	Retired int
	Fetches uint64
	Failed  uint64
	// AgeSeconds is how long ago the keys were fetched well, NaN before that.
	AgeSeconds float64
}

// Loops are the event loops, summed.
type Loops struct {
	Count   int
	Wakeups uint64
	Blocked uint64
	Missed  uint64
	Rereads uint64
	Lost    uint64
}

// Tokens are the tokens that are being verified.
type Tokens struct {
	Pending int
}
