package broker

import (
	"errors"
	"fmt"
	"time"
)

// Config sets what the broker keeps, and whom it shares it with.
type Config struct {
	// NATS is a part of the configuration of its own, at the top.
	NATS NATS `kong:"-" yaml:"-"`

	// LogEntries and LogBytes bound the event log in memory: 100,000 entries
	// and 64 MiB by default, whichever is reached first; the oldest go. 0
	// lifts one of the two. Raise them when clients are away for longer.
	LogEntries int   `name:"log_entries" default:"100000" help:"Entries the event log keeps; 0: bounded by bytes only."`
	LogBytes   int64 `name:"log_bytes" default:"67108864" help:"Bytes the event log keeps; 0: bounded by entries only."`
	// TestChannels bounds how many test:{name} channels have a last value,
	// 10,000 by default; the one published to longest ago goes. 0 means no
	// bound.
	TestChannels int `name:"test_channels" default:"10000" help:"Number of test:{name} channels whose last value is kept; 0: all."`
	// Pending bounds the messages that wait for a subscriber, 65,536 by
	// default and at least 16. What is over it is skipped: of state channels
	// the newest value follows, entries of the log are read from the log.
	Pending int `name:"pending" default:"65536" help:"Messages that may wait for a subscriber of the broker, at least 16."`
	// Now is the clock; nil means time.Now.
	Now func() time.Time `kong:"-" yaml:"-"`
	// Epoch names the event log; empty means a new name at each start, which
	// is right for a log that lives in memory.
	Epoch string `kong:"-" yaml:"-"`
}

// DefaultConfig returns the defaults named at the fields.
func DefaultConfig() Config {
	return Config{NATS: DefaultNATS(),
		LogEntries: 100_000, LogBytes: 64 << 20, TestChannels: 10_000, Pending: 1 << 16}
}

// Validate says what is wrong with c, but for its NATS part.
func (c Config) Validate() error {
	switch {
	case c.LogEntries < 0:
		return fmt.Errorf("broker.log_entries is %d: it may not be negative", c.LogEntries)
	case c.LogBytes < 0:
		return fmt.Errorf("broker.log_bytes is %d: it may not be negative", c.LogBytes)
	case c.LogEntries == 0 && c.LogBytes == 0:
		return errors.New("broker.log_entries and broker.log_bytes are both 0: one must bound the log")
	case c.TestChannels < 0:
		return fmt.Errorf("broker.test_channels is %d: it may not be negative", c.TestChannels)
	case c.Pending < minPending:
		return fmt.Errorf("broker.pending is %d: at least %d are needed", c.Pending, minPending)
	}
	return nil
}
