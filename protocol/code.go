package protocol

// A Code says what went wrong, in a word that never changes. Each one's
// comment is its row in docs/protocol.md.
type Code string

// The codes of errors and closes.
const (
	InvalidMessage      Code = "INVALID_MESSAGE"      // the frame is not a JSON object of the documented shape
	UnknownType         Code = "UNKNOWN_TYPE"         // no command has this type
	InvalidChannel      Code = "INVALID_CHANNEL"      // no such channel, or its name breaks the grammar
	InvalidFilter       Code = "INVALID_FILTER"       // the filter has an unknown key, a wrong value, or is too large
	ChannelLimit        Code = "CHANNEL_LIMIT"        // more channels or filters than a connection, user or node may have
	Forbidden           Code = "FORBIDDEN"            // the token does not allow this; said before anything about existence
	Unauthorized        Code = "UNAUTHORIZED"         // a token is needed and none was given
	RateLimited         Code = "RATE_LIMITED"         // too many messages or connections; retry_after_ms says when
	InvalidToken        Code = "INVALID_TOKEN"        // the token's signature, shape or claims are not accepted
	ExpiredToken        Code = "EXPIRED_TOKEN"        // the token has expired: fetch a new one
	AuthTimeout         Code = "AUTH_TIMEOUT"         // nothing was subscribed in time
	Revoked             Code = "REVOKED"              // the token or its user was revoked
	Replaced            Code = "REPLACED"             // another connection of the same instance took over
	UnsupportedProtocol Code = "UNSUPPORTED_PROTOCOL" // none of the offered subprotocols is spoken here
	MessageTooLarge     Code = "MESSAGE_TOO_LARGE"    // the message is over the limit in the first frame
	ProtocolError       Code = "PROTOCOL_ERROR"       // the bytes are not RFC 6455
	InvalidUTF8         Code = "INVALID_UTF8"         // a text message or close reason is not UTF-8
	ConnectionFull      Code = "CONNECTION_FULL"      // the server or the user has no free connection
	Draining            Code = "DRAINING"             // the server is going away: reconnect
	EpochChanged        Code = "EPOCH_CHANGED"        // the event log was replaced: reconnect
	SlowConsumer        Code = "SLOW_CONSUMER"        // the reader fell behind what the log keeps
	Unrecoverable       Code = "UNRECOVERABLE"        // the cursor cannot be served
	Internal            Code = "INTERNAL"             // a bug or an outage here: try again
	IdleTimeout         Code = "IDLE_TIMEOUT"         // the client said nothing for too long
	Conflict            Code = "CONFLICT"             // the same id was published with other content
	NormalClosure       Code = ""                     // the client asked to close
)

// codeRow is what a code means on each transport.
type codeRow struct {
	close     int  // WebSocket close code that goes with it
	closes    bool // it always closes; else only the tenth in a minute, or at the door
	http      int
	retryable bool
}

var codeRows = map[Code]codeRow{
	InvalidMessage:      {4400, false, 400, false},
	UnknownType:         {4400, false, 400, false},
	InvalidChannel:      {4400, false, 400, false},
	InvalidFilter:       {4400, false, 400, false},
	ChannelLimit:        {4400, false, 400, false},
	Forbidden:           {4403, false, 403, false},
	Unauthorized:        {4401, false, 401, false},
	RateLimited:         {4529, false, 429, true},
	InvalidToken:        {4401, true, 401, false},
	ExpiredToken:        {4501, true, 401, true},
	AuthTimeout:         {4408, true, 401, false},
	Revoked:             {4403, true, 401, false},
	Replaced:            {4409, true, 409, false},
	UnsupportedProtocol: {4400, true, 400, false},
	MessageTooLarge:     {1009, true, 413, false},
	ProtocolError:       {1002, true, 400, false},
	InvalidUTF8:         {1007, true, 400, false},
	ConnectionFull:      {4503, true, 503, true},
	Draining:            {1012, true, 503, true},
	EpochChanged:        {1012, true, 503, true},
	SlowConsumer:        {4508, true, 503, true},
	Unrecoverable:       {4400, false, 410, false},
	Internal:            {1011, true, 500, true},
	IdleTimeout:         {4509, true, 400, true},
	Conflict:            {4400, false, 409, false},
	NormalClosure:       {1000, true, 200, false},
}

// row is the code's row; a code that has none is a bug here, like Internal.
func (c Code) row() codeRow {
	if r, ok := codeRows[c]; ok {
		return r
	}
	return codeRows[Internal]
}

// Close is the WebSocket close code that goes with c when c closes.
// 44xx: fix something first; 45xx: come back.
func (c Code) Close() int { return c.row().close }

// Closes reports whether c always ends the connection.
func (c Code) Closes() bool { return c.row().closes }

// HTTP is the status of an HTTP answer that carries c.
func (c Code) HTTP() int { return c.row().http }

// Retryable reports whether coming back may help: at once or later, for
// EXPIRED_TOKEN with a fresh token.
func (c Code) Retryable() bool { return c.row().retryable }

// Misuse reports whether c says that the client sent what it should not have:
// ten of those in a minute close.
func (c Code) Misuse() bool {
	switch c {
	case InvalidMessage, UnknownType, InvalidChannel, InvalidFilter, ChannelLimit:
		return true
	}
	return false
}

// An Error is what the wire says went wrong.
type Error struct {
	Code    Code
	Message string // names what was wrong and what to do
	// RetryAfter is how long to wait before trying again; 0 when unknown.
	RetryAfter Time
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }
