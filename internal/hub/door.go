package hub

import "cryptointel/protocol"

// A Slot is the index of a connection in its shard. It is used again after
// Gone.
type Slot uint32

// A Ref names a connection to those who answer later. An answer to a
// connection that has gone in the meantime is dropped: Gen has moved on.
type Ref struct {
	Slot Slot
	Gen  uint32
}

// Hello is what the door knows about a new connection.
type Hello struct {
	// Session is the session id, random, chosen by the shell.
	Session string
	// Grant is the token given at the door, nil for none.
	Grant *protocol.Grant
	// Owner comes back in the Released request: whose share of the limits
	// this connection takes. 0 for nobody's.
	Owner uint64
	// Echo makes the connection send every message back, without a session:
	// for suites that test the connection layer.
	Echo bool
	// Deflate says that the door negotiated permessage-deflate for this
	// connection, without context takeover in either direction.
	Deflate bool
	// Refuse, when set, is told to the client before the connection is closed
	// with its code.
	Refuse *protocol.Error
}

// A RequestKind says what a shard asks of the shell.
type RequestKind uint8

// The kinds of requests.
const (
	Verify   RequestKind = iota // check Token off the loop, answer with Verdict
	Finished                    // the last byte is written: close the socket, then call Gone
	Released                    // Owner's share of the limits is free
)

// A Request is something only the shell can do.
type Request struct {
	Kind     RequestKind
	Ref      Ref
	Owner    uint64 // Verify, Released
	Token    string // Verify
	Instance string // Verify: the client's name for itself, may be empty
	Replace  bool   // Verify: take the instance over even from a live connection
}

// A Verdict answers a Verify request.
type Verdict struct {
	Grant *protocol.Grant // nil when refused
	Err   *protocol.Error // why it was refused
	// Owner replaces the connection's owner, whose share the shell has freed;
	// 0 leaves it as it is.
	Owner uint64
}

// A Displace asks a connection to make room for a newer one of the same
// instance. Without Force it does so only when it is draining or silent.
type Displace struct{ Force bool }

// Stats are a shard's counters since it was made, and its present numbers.
type Stats struct {
	Connections   int // open now
	Authenticated int // of them, with a token
	Subscriptions int
	Cohorts       int
	Behind        int // log subscriptions that are not caught up
	Slow          int // connections whose socket takes no more for now

	Opened, Closed uint64
	MessagesIn     uint64 // text messages from clients
	BytesIn        uint64
	Deliveries     uint64 // frames of publications handed to sockets
	BytesOut       uint64
	Writes         uint64 // blocks handed to sockets
	Conflated      uint64 // state publications a slow reader skipped
	Publications   uint64
	Errors         map[protocol.Code]uint64 // sent to clients
	Closes         map[int]uint64           // close codes sent
	HeldBytes      int                      // kept for slow or half-sent connections
	BacklogFrames  int                      // queued, not yet handed to sockets

	// Latency is how long publications took from when they entered the system
	// to each socket: what was delivered live, no snapshots, no entries read
	// again from the log.
	Latency Histogram

	Compressing int    // connections open now that negotiated compression
	Deflated    uint64 // frames compressed, each once for all its receivers
	DeflateIn   uint64 // bytes of their messages before
	DeflateOut  uint64 // and after
	Inflated    uint64 // compressed messages from clients
}
