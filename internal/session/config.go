package session

import (
	"fmt"
	"time"

	"cryptointel/internal/limit"
	"cryptointel/protocol"
)

// Limits bound what one connection may do. An explicit 0 switches a limit off.
// All of them are told to the client in its first frame.
type Limits struct {
	// MessageBytes is the largest message a client may send, fragments added up.
	MessageBytes int `reload:"" help:"Largest message from a client, in bytes." default:"65536"`
	// Channels is how many channels a connection may follow.
	Channels int `reload:"" help:"Channels a connection may follow." default:"50"`
	// Filters is how many distinct filters a connection may use.
	Filters int `reload:"" help:"Distinct filters a connection may use." default:"20"`
	// MessagesPerMinute is the rate of client messages; three times it closes.
	MessagesPerMinute int `reload:"" help:"Messages a minute from one connection." default:"100"`
	// MessageBurst is how many of them may come at once.
	MessageBurst int `reload:"" help:"Messages that may come at once." default:"60"`
	// IdleTimeout closes a client that has said nothing for this long. Shorten
	// it behind a proxy that drops sooner.
	IdleTimeout time.Duration `reload:"" help:"Close a client that says nothing for this long." default:"5m"`
	// AuthTimeout closes a client that has neither authenticated nor
	// subscribed to anything.
	AuthTimeout time.Duration `reload:"" help:"Close a client that neither authenticates nor subscribes within this." default:"10s"`
}

// Config is what all sessions of a node have in common.
type Config struct {
	Limits Limits
	// Anonymous lists the channel patterns that need no token.
	Anonymous []string
	// Told are limits that are enforced elsewhere and told beside Limits.
	Told []Told
	// Heartbeat is how often clients are asked to ping.
	Heartbeat time.Duration
}

// A Told is the name and value of a limit.
type Told struct {
	Name  string
	Value int64
}

// DefaultConfig is the documented defaults (protocol.md section 6).
func DefaultConfig() Config {
	return Config{
		Limits: Limits{
			MessageBytes: 64 << 10, Channels: 50, Filters: 20,
			MessagesPerMinute: 100, MessageBurst: 60,
			IdleTimeout: 5 * time.Minute, AuthTimeout: 10 * time.Second,
		},
		Anonymous: []string{"price:*", "market:*", "system:*", "test:*"},
		Told: []Told{
			{"connects_per_minute_per_ip", 10}, {"connections_per_ip", 100},
			{"connects_per_minute_per_user", 60}, {"connections_per_user", 20},
		},
		Heartbeat: 25 * time.Second,
	}
}

// Validate names the field that is wrong.
func (l Limits) Validate() error {
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"message_bytes", int64(l.MessageBytes)}, {"channels", int64(l.Channels)},
		{"filters", int64(l.Filters)}, {"messages_per_minute", int64(l.MessagesPerMinute)},
		{"message_burst", int64(l.MessageBurst)}, {"idle_timeout", int64(l.IdleTimeout)},
		{"auth_timeout", int64(l.AuthTimeout)},
	} {
		if f.value < 0 {
			return fmt.Errorf("limits.%s is %d: use a positive value, or 0 for no limit", f.name, f.value)
		}
	}
	return nil
}

func (l Limits) messages() limit.Rate {
	return limit.Rate{PerMinute: l.MessagesPerMinute, Burst: l.MessageBurst}
}

// flood is the rate beyond which a client is not told but closed.
func (l Limits) flood() limit.Rate {
	return limit.Rate{PerMinute: 3 * l.MessagesPerMinute, Burst: 3 * max(l.MessageBurst, l.MessagesPerMinute)}
}

// strikes is how often a client may send what cannot be understood: the tenth
// within a minute closes.
var strikes = limit.Rate{PerMinute: 10, Burst: 9}

// Fixed bounds of the protocol.
const (
	maxWaiting      = 16      // commands that wait for auth
	maxWaitingBytes = 4 << 10 // and their bytes
	maxSubText      = 8 << 10 // subscription text of a connection, so that it fits the edge's attachment
	holdTime        = 2 * protocol.Second
	silentTime      = 5 * protocol.Second
	warnBefore      = 60 * protocol.Second
	graceAfter      = 30 * protocol.Second
)
