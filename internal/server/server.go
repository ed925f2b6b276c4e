// Package server joins the parts: broker, market and feeds on one side, door
// and event loops on the other. It is the only place where they meet, so an
// end-to-end test starts exactly what production starts. It decides nothing
// about protocol or market.
package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"cryptointel/internal/auth"
	"cryptointel/internal/broker"
	"cryptointel/internal/eventloop"
	"cryptointel/internal/feed"
	"cryptointel/internal/gateway"
	"cryptointel/internal/hub"
	"cryptointel/internal/market"
	"cryptointel/internal/metrics"
	"cryptointel/internal/session"
	"cryptointel/protocol"
)

// A Server is one node. New opens what it needs, Run serves.
type Server struct {
	cfg         Config
	log         *slog.Logger
	clock       eventloop.Clock
	started     protocol.Time
	session     *session.Config
	public      net.Listener
	private     net.Listener         // nil when there is no admin listener
	certificate *gateway.Certificate // nil without TLS
	tokens      *auth.Verifier
	keys        *auth.Keys
	tickets     *auth.Tickets
	assets      *market.Registry
	broker      *broker.Broker
	market      *desk
	history     *market.History
	registry    *gateway.Registry
	gateway     *gateway.Gateway
	door        *gateway.Listener // public, with its bounds
	admin       *gateway.Admin
	loops       *eventloop.Group
	judge       *judge
	replay      *feed.Replay // nil without recordings
	demo        *feed.Demo   // nil without the demo market
	live        *feed.Live
	pulse       pulse
	latency     recent
	draining    atomic.Bool

	reloading sync.Mutex // guards running
	running   Config     // cfg, with what was reloaded since
}

type wallClock struct{}

func (wallClock) Now() protocol.Time { return protocol.Time(time.Now().UnixNano()) }

// Trouble is an error of what the server stands on (an address, a file, the
// network) and not of its configuration: trying again may help.
type Trouble struct{ error }

// Unwrap is the error itself.
func (t Trouble) Unwrap() error { return t.error }

// Environment tells those that see only an interface.
func (Trouble) Environment() bool { return true }

// New checks the configuration, opens the listeners and the broker, and joins
// the parts. Nothing is served before Run; a server that is not run must be
// closed.
func New(cfg Config, log *slog.Logger) (*Server, error) {
	if err := Check(cfg); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, running: cfg, log: log, clock: cfg.Clock}
	if s.clock == nil {
		s.clock = wallClock{}
	}
	s.started = s.clock.Now()
	for _, open := range []func() error{s.openTokens, s.openBroker, s.openMarket, s.openListeners, s.openLoops, s.openDoor} {
		if err := open(); err != nil {
			s.Close()
			return nil, Trouble{err}
		}
	}
	return s, nil
}

// Close frees what New opened when Run is not called.
func (s *Server) Close() {
	for _, l := range []net.Listener{s.public, s.private} {
		if l != nil {
			l.Close()
		}
	}
	if s.broker != nil {
		s.broker.Close()
	}
	if s.history != nil {
		if err := s.history.Close(); err != nil {
			s.log.Error("candles not written", "err", err)
		}
	}
}

// Addr is the public address, with the port that was found for port 0.
func (s *Server) Addr() string { return s.public.Addr().String() }

// AdminAddr is the admin address, empty when there is none.
func (s *Server) AdminAddr() string {
	if s.private == nil {
		return ""
	}
	return s.private.Addr().String()
}

func (s *Server) openTokens() (err error) {
	if s.tokens, s.keys, err = auth.Open(s.cfg.Auth, s.log); err != nil {
		return err
	}
	s.tickets, err = auth.NewTickets(s.cfg.Auth)
	return err
}

func (s *Server) openBroker() (err error) {
	cfg := s.cfg.broker()
	cfg.Now = s.time
	s.broker, err = broker.Open(cfg, s.log)
	return err
}

func (s *Server) openListeners() (err error) {
	if s.cfg.TLS.On() {
		if s.certificate, err = gateway.OpenCertificate(s.cfg.TLS, s.log); err != nil {
			return err
		}
	}
	if s.public, err = net.Listen("tcp", s.cfg.Listen); err != nil {
		return fmt.Errorf("public listener: %w", err)
	}
	if s.cfg.AdminListen == "" {
		return nil
	}
	if s.private, err = net.Listen("tcp", s.cfg.AdminListen); err != nil {
		return fmt.Errorf("admin listener: %w", err)
	}
	return nil
}

func (s *Server) openLoops() (err error) {
	s.session = sessionConfig(s.cfg)
	s.registry = gateway.NewRegistry(s.cfg.Limits.Door)
	s.judge = newJudge(s)
	cfg := eventloop.DefaultConfig()
	cfg.Kind, cfg.Loops = s.cfg.EventLoop, s.cfg.Loops
	if s.cfg.TLS.On() {
		cfg.Kind = eventloop.KindPortable // epoll would need the plain descriptor
	}
	if s.cfg.Echo {
		cfg.SendBuffer = 0 // megabyte messages: the small buffer waits for delayed ACKs
	}
	s.loops, err = eventloop.New(cfg, eventloop.Parts{
		Shard: func(int) eventloop.Shard { return hub.New(s.shardConfig(), s.clock.Now()) },
		Clock: s.clock, Handler: s.judge, Reread: s.reread, Log: s.log,
	})
	return err
}

// told are the limits that are enforced at the door: clients hear of them in
// their first frame.
func told(l gateway.Limits) []session.Told {
	return []session.Told{
		{Name: "connects_per_minute_per_ip", Value: int64(l.ConnectsPerMinutePerIP)},
		{Name: "connections_per_ip", Value: int64(l.ConnectionsPerIP)},
		{Name: "connects_per_minute_per_user", Value: int64(l.ConnectsPerMinutePerUser)},
		{Name: "connections_per_user", Value: int64(l.ConnectionsPerUser)},
	}
}

func (s *Server) shardConfig() hub.Config {
	cfg := hub.DefaultConfig()
	cfg.Session, cfg.Directory, cfg.Epoch = s.session, s.assets, s.broker.Epoch()
	deflater := &eventloop.Deflater{} // one a loop
	cfg.Deflate, cfg.Inflate = deflater.Deflate, deflater.Inflate
	cfg.LogEntries, cfg.LogBytes = s.cfg.Broker.LogEntries, int(s.cfg.Broker.LogBytes)
	return cfg
}

func (s *Server) reread(after int64) []*protocol.Publication {
	return s.broker.Read(after, 1024, nil)
}

func (s *Server) openDoor() (err error) {
	s.gateway, err = gateway.New(s.cfg.door(), gateway.Parts{
		Connections: namer{s.loops, s.cfg.Sessions},
		Tokens:      auth.NewCache(s.tokens), Registry: s.registry,
		States: states{s.broker}, Signals: signals{s.broker}, Prices: s.priceDesk(),
		Tickets: s.tickets, History: s.candles(), LastPrices: s.lastPrices, Assets: s.assetTable, Stats: s.stats, Ready: s.ready,
		Now: s.time, Log: s.log, Echo: s.cfg.Echo,
	})
	if err != nil {
		return err
	}
	s.door = s.gateway.Listen(s.public)
	s.admin = gateway.NewAdmin(metrics.NewRegistry(version(), s.snapshot), s.tokens, s.log)
	return nil
}

func (s *Server) time() time.Time { return time.Unix(0, int64(s.clock.Now())) }

// ready says why clients are not welcome, nil when they are.
func (s *Server) ready() *protocol.Error {
	if s.draining.Load() {
		return &protocol.Error{Code: protocol.Draining, Message: "this server is going away; try another, or again in a moment", RetryAfter: protocol.Second}
	}
	return nil
}

// namer gives each new connection its session id.
type namer struct {
	loops *eventloop.Group
	name  func() string
}

func (n namer) Adopt(c net.Conn, rest []byte, h hub.Hello) error {
	if n.name == nil {
		h.Session = strings.ToLower(rand.Text()[:12])
	} else {
		h.Session = n.name()
	}
	return n.loops.Adopt(c, rest, h)
}

// Run serves until ctx is done or a part fails. When ctx is done it asks every
// connection to move on before it ends.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close()
	// The loops outlive ctx by the time it takes to drain them.
	late, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	g, early := errgroup.WithContext(ctx)
	leave, err := s.join()
	if err != nil {
		return err
	}
	defer leave()
	g.Go(func() error { return s.loops.Run(late) })
	g.Go(func() error { return s.judge.run(late) })
	g.Go(func() error { return s.keys.Run(late) })
	g.Go(func() error { return s.history.Run(late) })
	g.Go(func() error { return s.sources(late) })
	servers := s.serve(g)
	s.log.Info("listening", "public", s.Addr(), "admin", s.AdminAddr(), "tls", s.certificate != nil,
		"feeds", s.cfg.Feeds, "version", version())
	defer s.log.Info("stopped")
	g.Go(func() error {
		<-early.Done()
		s.drain(servers)
		end()
		return nil
	})
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// serve starts the HTTP servers.
func (s *Server) serve(g *errgroup.Group) []*http.Server {
	run := func(h *http.Server, l net.Listener) *http.Server {
		g.Go(func() error {
			if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
		return h
	}
	var public net.Listener = s.door
	if s.certificate != nil {
		public = s.certificate.Listener(s.door)
	}
	servers := []*http.Server{run(s.gateway.Server(), public)}
	if s.private != nil {
		private := s.private
		if gateway.AdminTLS(s.cfg.AdminListen, s.certificate != nil) {
			private = s.certificate.Listener(private)
		}
		servers = append(servers, run(s.admin.Server(), private))
	}
	return servers
}

// drain lets no new connection in, gives the open ones a time to leave, and
// then ends the HTTP servers.
func (s *Server) drain(servers []*http.Server) {
	s.draining.Store(true)
	s.log.Info("draining", "connections", s.connections(context.Background()), "time", s.cfg.DrainTime)
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.DrainTime+2*time.Second)
	defer cancel()
	s.loops.Drain(protocol.Time(s.cfg.DrainTime))
	s.empty(ctx)
	for _, h := range servers {
		if h.Shutdown(ctx) != nil {
			h.Close()
		}
	}
}

// empty waits until no connection is open, or ctx ends.
func (s *Server) empty(ctx context.Context) {
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for s.connections(ctx) > 0 {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}
