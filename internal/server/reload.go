package server

import (
	"log/slog"
	"slices"

	"cryptointel/internal/auth"
	"cryptointel/internal/broker"
	"cryptointel/internal/gateway"
	"cryptointel/internal/market"
	"cryptointel/internal/session"
)

// Check says what is wrong with a configuration, without listening or
// connecting anywhere: files that it names are read.
func Check(cfg Config) error {
	if err := cfg.validate(); err != nil {
		return err
	}
	if err := cfg.door().Validate(); err != nil {
		return err
	}
	if err := cfg.broker().Validate(); err != nil {
		return err
	}
	if err := cfg.NATS.Validate(); err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	if cfg.TLS.On() {
		if _, err := gateway.OpenCertificate(cfg.TLS, log); err != nil {
			return err
		}
	}
	if _, _, err := auth.Open(cfg.Auth, log); err != nil {
		return err
	}
	if _, err := market.OpenHistory(cfg.History, "", log); err != nil {
		return err
	}
	return cfg.checkSources(log)
}

// checkSources makes the market and the feeds without running them.
func (c Config) checkSources(log *slog.Logger) error {
	assets, err := market.NewRegistry(c.Market.Assets)
	if err != nil {
		return err
	}
	m, err := market.New(c.Market, assets, nil, wallClock{}.Now)
	if err != nil {
		return err
	}
	s := &Server{cfg: c, log: log, assets: assets, market: &desk{market: m, assets: assets, now: wallClock{}.Now}}
	return s.openFeeds()
}

// door is the gateway's configuration with the parts that have other names in
// the tree.
func (c Config) door() gateway.Config {
	g := c.Gateway
	g.Limits, g.Proxy = c.Limits.Door, c.Proxy
	return g
}

// broker is the broker's configuration with the parts that have other names in
// the tree.
func (c Config) broker() broker.Config {
	b := c.Broker
	b.NATS, b.Epoch = c.NATS, c.Epoch
	return b
}

// Reload takes another configuration while the server runs. Settings that can
// change do, with the next message or connection; the names of the others that
// differ come back as needing a restart, and keep their values. After an error
// nothing has changed.
func (s *Server) Reload(cfg Config) (changed, needRestart []string, err error) {
	if err := Check(cfg); err != nil {
		return nil, nil, err
	}
	s.reloading.Lock()
	defer s.reloading.Unlock()
	next := s.running
	changed, needRestart = adopt(&next, &cfg)
	if len(changed) == 0 {
		return nil, needRestart, nil
	}
	if err := s.gateway.Reload(next.door()); err != nil {
		return nil, nil, err
	}
	s.running = next
	s.loops.SetSession(sessionConfig(next))
	return changed, needRestart, nil
}

// adopt copies into a configuration what may change while the server runs.
func adopt(into, from *Config) (changed, needRestart []string) {
	changed, needRestart = difference(into, from)
	values := settings(from)
	for i, x := range settings(into) {
		if slices.Contains(changed, x.name) {
			x.value.Set(values[i].value)
		}
	}
	return changed, needRestart
}

// sessionConfig is what sessions hear and keep to.
func sessionConfig(c Config) *session.Config {
	cfg := session.DefaultConfig()
	cfg.Limits, cfg.Told = c.Limits.Session, told(c.Limits.Door)
	cfg.Anonymous = c.Auth.AnonymousChannels
	return &cfg
}
