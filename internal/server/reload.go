package server

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"cryptointel/internal/auth"
	"cryptointel/internal/broker"
	"cryptointel/internal/gateway"
	"cryptointel/internal/market"
	"cryptointel/internal/session"
)

// Check says what is wrong with a configuration, without listening or
// connecting anywhere: files that it names are read.
func Check(cfg Config) error {
	if err := cfg.check(); err != nil || !cfg.TLS.On() {
		return err
	}
	_, err := gateway.OpenCertificate(cfg.TLS, slog.New(slog.DiscardHandler))
	return err
}

// check is Check without the certificate: one that is being renewed has
// nothing to do with other settings.
func (c Config) check() error {
	if err := c.validate(); err != nil {
		return err
	}
	if err := c.door().Validate(); err != nil {
		return err
	}
	if err := c.broker().Validate(); err != nil {
		return err
	}
	if err := c.NATS.Validate(); err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	if _, _, err := auth.Open(c.Auth, log); err != nil {
		return err
	}
	if _, err := market.OpenHistory(c.History, "", log); err != nil {
		return err
	}
	return c.checkSources(log)
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
	s.reloading.Lock()
	defer s.reloading.Unlock()
	check := Check
	if cfg.TLS == s.running.TLS {
		check = Config.check // see renew
	}
	if err := check(cfg); err != nil {
		return nil, nil, err
	}
	defer s.renew()
	next := s.running
	changed, needRestart = adopt(&next, &cfg)
	if len(changed) == 0 {
		return nil, needRestart, nil
	}
	// What was asked for may be right and half of it wrong: without its proxies,
	// an address that still needs a restart to change would be open to all.
	if err := next.validate(); err != nil {
		return nil, nil, fmt.Errorf("%w (%s need a restart to change)", err, strings.Join(needRestart, ", "))
	}
	if err := s.gateway.Reload(next.door()); err != nil {
		return nil, nil, err
	}
	s.running = next
	ctx, cancel := context.WithTimeout(context.Background(), statsTime)
	defer cancel()
	s.loops.SetSession(ctx, sessionConfig(next))
	return changed, needRestart, nil
}

// renew reads the certificate's files, if there is one. They change on their
// own, so a pair that is half there stops no other setting.
func (s *Server) renew() {
	if s.certificate == nil {
		return
	}
	if err := s.certificate.Reload(); err != nil {
		s.log.Error("the certificate cannot be read again, the last one stays", "err", err)
	}
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
