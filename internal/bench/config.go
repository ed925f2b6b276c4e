// Package bench is the load generator behind `cryptointel bench`: thousands of
// connections on one or two epoll loops that follow channels, time every
// delivery and check that nothing is lost, doubled or out of order.
//
// It speaks the project's protocol to any server on the own machine and knows
// nothing about how that server is made. Where there is no epoll every Run
// returns ErrUnsupported.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// ErrUnsupported is what every Run returns on systems without epoll.
var ErrUnsupported = errors.New("bench: load is generated with epoll, which only Linux has")

// ErrNoConnection is returned when not one connection came about; the report
// printed before it says why.
var ErrNoConnection = errors.New("bench: no connection was established")

// Target says which server is measured and how the generator reaches it. All
// four commands have it.
type Target struct {
	URL         string        `help:"WebSocket address of the server; on this machine, ws:// only." default:"ws://127.0.0.1:8080/ws"`
	Token       string        `help:"Token that publishes; without one it is made from the server's secret." env:"CRYPTOINTEL_BENCH_TOKEN"`
	PID         int           `name:"pid" help:"Process id of the server: adds its CPU and memory to the report."`
	Admin       string        `help:"The server's admin address, like http://127.0.0.1:9090: a collection is forced there before memory is read."`
	Loops       int           `help:"Event loops of the generator." default:"2"`
	Sources     int           `help:"Connect from this many addresses, 127.0.0.2 and up; 0: from 127.0.0.1." default:"8"`
	Concurrency int           `help:"Handshakes under way at once." default:"256"`
	Patience    time.Duration `help:"A connection that is not ready after this has failed." default:"10s"`
	Compress    bool          `help:"Connections offer permessage-deflate; the server must agree."`
	Heartbeat   time.Duration `help:"Each connection sends a ping this often; 0: never." default:"25s"`
	JSON        string        `name:"json" help:"Also write the report to this file, as JSON." type:"path"`

	// TokenFor makes tokens from the server's secret: for connection i from 0,
	// each with a subject of its own, or for the publisher when i is Publisher.
	// nil when there is no secret.
	TokenFor func(i int) (string, error) `kong:"-"`
}

// Publisher is the argument that asks Target.TokenFor for a publisher's token.
const Publisher = -1

// DefaultTarget is a server started with `cryptointel demo`.
func DefaultTarget() Target {
	return Target{URL: "ws://127.0.0.1:8080/ws", Loops: 2, Sources: 8, Concurrency: 256,
		Patience: 10 * time.Second, Heartbeat: 25 * time.Second}
}

// ConnectConfig is `bench connect`: how long a connection takes to come about
// while many are open.
type ConnectConfig struct {
	Target
	Base     int           `help:"Connections opened first, which stay." default:"10000" aliases:"n,hold"`
	Rate     float64       `help:"Measured connections a second." default:"200"`
	Duration time.Duration `help:"How long connections are measured." default:"10s"`
	Keep     bool          `help:"Measured connections stay open; otherwise each closes once it is ready, so that the number open stays the same."`
	Auth     bool          `help:"Each connection authenticates as a user of its own."`
}

// DefaultConnect is 200 connections a second beside 10,000 open ones.
func DefaultConnect() ConnectConfig {
	return ConnectConfig{Target: DefaultTarget(), Base: 10000, Rate: 200, Duration: 10 * time.Second}
}

// Load is how publications are made, and for how long.
type Load struct {
	PublishURL string        `name:"publish-url" help:"Where to publish; by default /api/v1/publish of the server."`
	Flood      int           `help:"Afterwards measure a flood with this many publications under way; 0: none."`
	Pipeline   int           `help:"Publish requests under way on a connection before the first is answered." default:"16"`
	Publishers int           `help:"Connections that publish; a channel stays with one of them." default:"1"`
	Pad        int           `help:"Bytes of padding in each publication's metadata; they compress as prices do." default:"0"`
	Warm       time.Duration `help:"Each rate is published this long before it is measured." default:"1s"`
	Duration   time.Duration `help:"How long each rate and the flood are measured." default:"10s"`
	Auth       bool          `help:"Each connection authenticates as a user of its own."`
}

// DefaultLoad publishes each rate for ten seconds.
func DefaultLoad() Load {
	return Load{Pipeline: 16, Publishers: 1, Warm: time.Second, Duration: 10 * time.Second}
}

// FanoutConfig is `bench fanout`: one channel, test:bench, with many
// subscribers.
type FanoutConfig struct {
	Target
	Load
	N            int       `name:"n" short:"n" help:"Subscribers." default:"10000"`
	PublishRate  []float64 `name:"publish-rate" help:"Publications a second; several are measured one after the other." default:"10"`
	AgainstPlain int       `name:"against-plain" help:"Measure without and with compression in turn, so many times each, and print the ratio; 0: only what --compress says." default:"0"`
	Floor        bool      `help:"Then measure the same against a bare server that frames once and does one send for each delivery, and print the ratio."`

	// FloorCommand starts FloorConfig.Run in a process of its own, like
	// {os.Executable(), "bench", "floor"}. Empty: the floor is a thread of this
	// process, which leaves half of the descriptors for subscribers.
	FloorCommand []string `kong:"-"`
}

// DefaultFanout is ten publications a second to 10,000 subscribers.
func DefaultFanout() FanoutConfig {
	return FanoutConfig{Target: DefaultTarget(), Load: DefaultLoad(), N: 10000, PublishRate: []float64{10}}
}

// ChannelsConfig is `bench channels`: every connection follows some of many
// channels, test:b0 and up.
type ChannelsConfig struct {
	Target
	Load
	N           int       `name:"n" short:"n" help:"Connections." default:"10000"`
	Subs        int       `help:"Channels each connection follows." default:"5"`
	Channels    int       `help:"Channels there are." default:"100"`
	PublishRate []float64 `name:"publish-rate" help:"Publications a second over all channels; several are measured one after the other." default:"100,1000"`
}

// DefaultChannels is 10,000 connections on 5 of 100 channels, at 100 and at
// 1,000 publications a second.
func DefaultChannels() ChannelsConfig {
	return ChannelsConfig{Target: DefaultTarget(), Load: DefaultLoad(), N: 10000,
		Subs: 5, Channels: 100, PublishRate: []float64{100, 1000}}
}

// MemoryConfig is `bench memory`: what one more connection costs the server.
type MemoryConfig struct {
	Target
	Steps     []int         `help:"Numbers of connections at which memory is read." default:"4000,8000,12000,16000"`
	Subs      int           `help:"Channels each connection follows." default:"5"`
	Channels  int           `help:"Channels there are." default:"100"`
	Anonymous bool          `help:"Connections do not authenticate; otherwise each is a user and instance of its own."`
	Settle    time.Duration `help:"Wait this long before each reading and between runs." default:"2s"`
	Runs      int           `help:"Repeat this often and print the median too." default:"1"`
}

// DefaultMemory is one run at 4,000 to 16,000 authenticated connections.
func DefaultMemory() MemoryConfig {
	return MemoryConfig{Target: DefaultTarget(), Steps: []int{4000, 8000, 12000, 16000},
		Subs: 5, Channels: 100, Settle: 2 * time.Second, Runs: 1}
}

// FloorConfig is `bench floor`: the bare server of `bench fanout --floor` in a
// process of its own.
type FloorConfig struct {
	Listen string        `help:"Loopback address to listen on." default:"127.0.0.1:0"`
	Idle   time.Duration `help:"End after this long without a connection." default:"30s"`
}

// DefaultFloor takes a free port.
func DefaultFloor() FloorConfig {
	return FloorConfig{Listen: "127.0.0.1:0", Idle: 30 * time.Second}
}

// Run opens the connections, measures and prints the report to w. A ctx that
// is done ends it early, without a report.
func (c ConnectConfig) Run(ctx context.Context, w io.Writer) error {
	if err := c.validate(); err != nil {
		return ConfigError{err}
	}
	return runConnect(ctx, c, w)
}

// Run subscribes, publishes, measures and prints the report to w.
func (c FanoutConfig) Run(ctx context.Context, w io.Writer) error {
	if err := c.validate(); err != nil {
		return ConfigError{err}
	}
	return runFanout(ctx, c, w)
}

// Run subscribes, publishes, measures and prints the report to w.
func (c ChannelsConfig) Run(ctx context.Context, w io.Writer) error {
	if err := c.validate(); err != nil {
		return ConfigError{err}
	}
	return runChannels(ctx, c, w)
}

// Run opens connections step by step, reads the server's memory at each and
// prints the slope to w.
func (c MemoryConfig) Run(ctx context.Context, w io.Writer) error {
	if err := c.validate(); err != nil {
		return ConfigError{err}
	}
	return runMemory(ctx, c, w)
}

// Run serves until ctx is done or nobody has been connected for c.Idle. The
// first line it writes to w is the address it listens on.
func (c FloorConfig) Run(ctx context.Context, w io.Writer) error {
	return runFloor(ctx, c, w)
}

// A ConfigError is a setting that cannot be used: nothing was measured.
type ConfigError struct{ error }

func (t Target) validate() error {
	if _, err := parseEndpoint(t.URL, "ws"); err != nil {
		return fmt.Errorf("bench: url: %w", err)
	}
	if t.Admin != "" {
		if _, err := parseEndpoint(t.Admin, "http"); err != nil {
			return fmt.Errorf("bench: admin: %w", err)
		}
	}
	switch {
	case t.Loops < 1 || t.Loops > 64:
		return fmt.Errorf("bench: loops is %d, must be 1 to 64", t.Loops)
	case t.Sources < 0 || t.Sources > 250:
		return fmt.Errorf("bench: sources is %d, must be 0 to 250", t.Sources)
	case t.Concurrency < t.Loops:
		return fmt.Errorf("bench: concurrency is %d, must be at least one a loop", t.Concurrency)
	case t.Patience <= 0:
		return fmt.Errorf("bench: patience is %s, must be positive", t.Patience)
	case t.PID < 0:
		return fmt.Errorf("bench: pid is %d", t.PID)
	}
	return nil
}

func (c ConnectConfig) validate() error {
	if err := c.Target.validate(); err != nil {
		return err
	}
	switch {
	case c.Base < 0:
		return fmt.Errorf("bench: base is %d, must not be negative", c.Base)
	case c.Rate <= 0:
		return fmt.Errorf("bench: rate is %g, must be positive", c.Rate)
	case c.Duration <= 0:
		return fmt.Errorf("bench: duration is %s, must be positive", c.Duration)
	}
	return c.mayAuth(c.Auth)
}

// mayAuth reports whether connections can be given tokens when auth asks so.
func (t Target) mayAuth(auth bool) error {
	if auth && t.TokenFor == nil {
		return errors.New("bench: connections authenticate with tokens made from the server's secret: set CRYPTOINTEL_JWT_SECRET")
	}
	return nil
}

func (l Load) validate(rates []float64) error {
	if l.PublishURL != "" {
		if _, err := parseEndpoint(l.PublishURL, "http"); err != nil {
			return fmt.Errorf("bench: publish-url: %w", err)
		}
	}
	for _, r := range rates {
		if r <= 0 || r > 1e6 {
			return fmt.Errorf("bench: publish-rate %g must be over 0 and at most 1000000", r)
		}
	}
	switch {
	case len(rates) == 0 && l.Flood == 0:
		return errors.New("bench: nothing to publish: give publish-rate or flood")
	case l.Flood < 0:
		return fmt.Errorf("bench: flood is %d, must not be negative", l.Flood)
	case l.Pipeline < 1:
		return fmt.Errorf("bench: pipeline is %d, must be at least 1", l.Pipeline)
	case l.Publishers < 1:
		return fmt.Errorf("bench: publishers is %d, must be at least 1", l.Publishers)
	case l.Pad < 0 || l.Pad > 32<<10:
		return fmt.Errorf("bench: pad is %d, must be 0 to 32768", l.Pad)
	case l.Warm < 0 || l.Duration <= 0:
		return fmt.Errorf("bench: warm is %s and duration %s, must be positive", l.Warm, l.Duration)
	}
	return nil
}

func (c FanoutConfig) validate() error {
	if c.N < 1 {
		return fmt.Errorf("bench: n is %d, must be at least 1", c.N)
	}
	switch {
	case c.AgainstPlain < 0:
		return fmt.Errorf("bench: against-plain is %d, must not be negative", c.AgainstPlain)
	case c.AgainstPlain > 0 && c.PID == 0:
		return errors.New("bench: against-plain compares the server's CPU: give pid")
	case c.AgainstPlain > 0 && c.Floor:
		return errors.New("bench: floor and against-plain are two measurements: give one")
	}
	return errors.Join(c.Target.validate(), c.Load.validate(c.PublishRate), c.mayAuth(c.Auth))
}

func (c ChannelsConfig) validate() error {
	if c.N < 1 {
		return fmt.Errorf("bench: n is %d, must be at least 1", c.N)
	}
	return errors.Join(c.Target.validate(), c.Load.validate(c.PublishRate), c.mayAuth(c.Auth), validSpread(c.Subs, c.Channels))
}

func validSpread(subs, channels int) error {
	if subs < 1 || subs > channels {
		return fmt.Errorf("bench: subs is %d, must be 1 to channels, which is %d", subs, channels)
	}
	return nil
}

func (c MemoryConfig) validate() error {
	if err := c.Target.validate(); err != nil {
		return err
	}
	last := 0
	for _, n := range c.Steps {
		if n <= last {
			return fmt.Errorf("bench: steps %v must grow", c.Steps)
		}
		last = n
	}
	switch {
	case c.PID == 0:
		return errors.New("bench: memory needs the server's process id: give pid")
	case len(c.Steps) < 2:
		return fmt.Errorf("bench: steps %v: a slope needs two", c.Steps)
	case c.Settle < 0:
		return fmt.Errorf("bench: settle is %s, must not be negative", c.Settle)
	case c.Runs < 1:
		return fmt.Errorf("bench: runs is %d, must be at least 1", c.Runs)
	}
	return errors.Join(c.mayAuth(!c.Anonymous), validSpread(c.Subs, c.Channels))
}
