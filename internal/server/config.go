package server

import (
	"errors"
	"fmt"
	"math"
	"net"
	"time"

	"cryptointel/internal/auth"
	"cryptointel/internal/broker"
	"cryptointel/internal/eventloop"
	"cryptointel/internal/feed"
	"cryptointel/internal/gateway"
	"cryptointel/internal/market"
	"cryptointel/internal/session"
)

// Limits bound what connections, addresses and users may do. Absent is the
// default, 0 is none.
type Limits struct {
	Session session.Limits `embed:""`
	Door    gateway.Limits `embed:""`
}

// Config is everything that can be set about a server, in one tree: flags,
// environment and file map to it by the same names.
type Config struct {
	// Listen is the public address: WebSocket and API.
	Listen string `name:"listen" help:"Public address." default:"127.0.0.1:8080"`
	// AdminListen is the address of metrics and profiles; empty for none.
	AdminListen string `name:"admin-listen" help:"Address of metrics and profiles; empty for none." default:"127.0.0.1:9090"`
	// TLS ends in this server when it has a certificate.
	TLS gateway.TLS `embed:""`
	// Proxy says who ends TLS in front of this server.
	Proxy gateway.Proxy `embed:""`
	// NATS says through which servers nodes share publications.
	NATS broker.NATS `embed:""`
	// DataDir is where files of this server live: the candles. The event log
	// is in memory. Empty keeps candles in memory too.
	DataDir string `name:"data-dir" help:"Folder for this server's files, the candles; empty keeps them in memory." default:"data" type:"path"`
	// Feeds names the sources of prices. Unset, or auto, means coinbase, kraken
	// and binance, unless recordings are replayed: these are not mixed with the
	// present.
	Feeds []string `name:"feeds" help:"Sources of prices: coinbase kraken binance okx bybit bitstamp, or demo. auto: the first three, but none beside --replay. --feeds= for none." default:"auto"`
	// Replay lists recordings to play through the exchange adapters.
	Replay []string `name:"replay" help:"Recordings to play through the exchange adapters; several may follow." sep:"none" type:"path"`
	// ReplaySpeed is how many times faster than recorded.
	ReplaySpeed float64 `name:"replay-speed" help:"Times faster than recorded; 0 for as fast as possible." default:"1"`
	// ReplayLoop plays the recordings again and again.
	ReplayLoop bool `name:"replay-loop" help:"Start the recordings over at their end."`
	// EventLoop chooses the connection layer.
	EventLoop string `name:"eventloop" help:"Connection layer: auto, epoll or portable." default:"auto" enum:"auto,epoll,portable"`
	// Loops is the number of event loops.
	Loops int `name:"loops" help:"Event loops; 0 for one a core." default:"0"`
	// TestChannels drives test:state and test:log, one message a second.
	TestChannels bool `name:"test-channels" help:"Drive test:state and test:log." default:"true" negatable:""`
	// StatusEvery is how often system:status is published.
	StatusEvery time.Duration `name:"status-every" help:"How often system:status is published; 0 for never." default:"5s"`
	// DrainTime is how long connections get to move on when the server stops.
	DrainTime time.Duration `name:"drain-time" help:"Time over which clients are asked to reconnect when the server stops." default:"2s"`
	// LogLevel is debug, info, warn or error.
	LogLevel string `name:"log-level" reload:"" help:"debug, info, warn or error." default:"info" enum:"debug,info,warn,error"`
	// LogFormat is text for people or json for machines.
	LogFormat string `name:"log-format" help:"Log lines as text or json." default:"text" enum:"text,json"`

	Limits  Limits               `embed:"" prefix:"limits."`
	Auth    auth.Config          `embed:"" prefix:"auth."`
	Gateway gateway.Config       `embed:"" prefix:"gateway."`
	Broker  broker.Config        `embed:"" prefix:"broker."`
	Market  market.Config        `embed:"" prefix:"market."`
	History market.HistoryConfig `embed:"" prefix:"history."`
	Live    feed.LiveConfig      `embed:"" prefix:"live."`
	Demo    feed.DemoConfig      `embed:"" prefix:"demo."`

	// Clock is the time; nil is the wall clock.
	Clock eventloop.Clock `kong:"-"`
	// Epoch names the event log in tests; empty is a new one at each start.
	Epoch string `kong:"-"`
	// Echo serves a plain WebSocket echo on every path.
	Echo bool `kong:"-"`
	// Sessions names new connections; nil is random.
	Sessions func() string `kong:"-"`
}

// DefaultConfig is the documented defaults.
func DefaultConfig() Config {
	return Config{
		Listen: "127.0.0.1:8080", AdminListen: "127.0.0.1:9090", DataDir: "data",
		NATS: broker.DefaultNATS(), Feeds: []string{FeedAuto},
		ReplaySpeed: 1, EventLoop: eventloop.KindAuto, TestChannels: true,
		StatusEvery: 5 * time.Second, DrainTime: 2 * time.Second, LogLevel: "info", LogFormat: "text",
		Limits:  Limits{session.DefaultConfig().Limits, gateway.DefaultConfig().Limits},
		Auth:    auth.DefaultConfig(),
		Gateway: gateway.DefaultConfig(),
		Broker:  broker.DefaultConfig(),
		Market:  market.DefaultConfig(),
		History: market.DefaultHistoryConfig(),
		Live:    feed.DefaultLiveConfig(),
		Demo:    feed.DefaultDemoConfig(),
	}
}

func (c Config) validate() error {
	if err := c.Limits.Session.Validate(); err != nil {
		return err
	}
	if err := checkAddress("listen", c.Listen); err != nil {
		return err
	}
	if c.AdminListen != "" {
		if err := checkAddress("admin-listen", c.AdminListen); err != nil {
			return err
		}
	}
	if err := c.TLS.Validate(); err != nil {
		return err
	}
	if err := c.checkFeeds(); err != nil {
		return err
	}
	if sameAddress(c.Listen, c.AdminListen) {
		return fmt.Errorf("admin-listen is %s, which listen has: metrics and profiles need an address of their own", c.AdminListen)
	}
	if err := gateway.RequireTLS(c.Listen, c.TLS.On(), len(c.Proxy.BehindProxy) > 0); err != nil {
		return err
	}
	if err := gateway.RequireAdminTLS(c.AdminListen, c.TLS.On(), len(c.Proxy.BehindProxy) > 0); err != nil {
		return err
	}
	if c.TLS.On() && c.EventLoop == eventloop.KindEpoll {
		return errors.New("eventloop is epoll, which cannot end TLS: leave it at auto, or let a proxy end TLS")
	}
	if !(c.ReplaySpeed >= 0) || math.IsInf(c.ReplaySpeed, 0) {
		return fmt.Errorf("replay-speed is %v: use 1 for real time, 0 for as fast as possible", c.ReplaySpeed)
	}
	if c.ReplayLoop && c.ReplaySpeed == 0 {
		return errors.New("replay-loop needs a replay-speed above 0")
	}
	if c.StatusEvery < 0 {
		return fmt.Errorf("status-every is %v: use a positive value, or 0 for never", c.StatusEvery)
	}
	if c.DrainTime < 0 {
		return fmt.Errorf("drain-time is %v: use a positive value, or 0 for none", c.DrainTime)
	}
	if c.Loops < 0 || c.Loops > 255 {
		return fmt.Errorf("loops is %d: use 0 to 255", c.Loops)
	}
	return nil
}

// sameAddress reports whether two listeners cannot both have their address.
func sameAddress(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	all := func(h string) bool { return h == "" || h == "0.0.0.0" || h == "::" }
	return errA == nil && errB == nil && portA == portB && portA != "0" && (hostA == hostB || all(hostA) || all(hostB))
}

func checkAddress(key, address string) error {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return fmt.Errorf("%s: %q is not an address such as 127.0.0.1:8080: %w", key, address, err)
	}
	return nil
}
