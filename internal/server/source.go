package server

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"cryptointel/internal/feed"
	"cryptointel/internal/market"
)

// FeedDemo is the simulated market, FeedAuto what is followed unless feeds are
// named.
const (
	FeedDemo = "demo"
	FeedAuto = "auto"
)

// autoFeeds need no key and quote in dollars.
var autoFeeds = []string{"coinbase", "kraken", "binance"}

// exchanges are the live feeds that the configuration asks for.
func (c Config) exchanges() []string {
	var out []string
	for _, name := range c.Feeds {
		switch {
		case name == FeedDemo:
		case name != FeedAuto:
			out = append(out, name)
		case len(c.Replay) == 0:
			out = append(out, autoFeeds...)
		}
	}
	return out
}

// checkFeeds refuses to mix what is now with what is not, and two nodes that
// both make the prices because nobody thought of it.
func (c Config) checkFeeds() error {
	live, demo := len(c.exchanges()) > 0, slices.Contains(c.Feeds, FeedDemo)
	switch {
	case live && demo:
		return errors.New("feeds: demo is a simulation and does not mix with exchanges: choose one of them")
	case live && len(c.Replay) > 0:
		return errors.New("feeds: recordings are of the past and do not mix with exchanges: leave feeds at auto, or out")
	case len(c.NATS.URLs) > 0 && slices.Contains(c.Feeds, FeedAuto) && live:
		return errors.New("feeds: with nats-url one node makes the prices: say --feeds=coinbase,kraken,binance on that one and --feeds= on the others")
	}
	return nil
}

// simulated reports whether prices are not the present ones of a market: such
// bars are not kept among real ones.
func (c Config) simulated() bool {
	return len(c.Replay) > 0 || slices.Contains(c.Feeds, FeedDemo)
}

func (s *Server) openMarket() (err error) {
	if s.assets, err = market.NewRegistry(s.cfg.Market.Assets); err != nil {
		return err
	}
	dir := s.cfg.DataDir
	if s.cfg.simulated() || !s.ingests() {
		dir = ""
	}
	if s.history, err = market.OpenHistory(s.cfg.History, dir, s.log); err != nil {
		return err
	}
	m, err := market.New(s.cfg.Market, s.assets, &prices{broker: s.broker, log: s.log, trouble: rate.Sometimes{First: 1, Interval: time.Minute}}, s.clock.Now)
	if err != nil {
		return err
	}
	m.Keep(s.history)
	s.restore(m)
	s.market = &desk{market: m, assets: s.assets, now: s.clock.Now}
	return s.openFeeds()
}

func (s *Server) openFeeds() (err error) {
	if slices.Contains(s.cfg.Feeds, FeedDemo) {
		if s.demo, err = feed.NewDemo(s.cfg.Demo, s.assets, s.market, feed.WallClock{}); err != nil {
			return err
		}
	}
	if len(s.cfg.Replay) > 0 {
		cfg := feed.ReplayConfig{Files: s.cfg.Replay, Speed: s.cfg.ReplaySpeed, Loop: s.cfg.ReplayLoop}
		if s.replay, err = feed.NewReplay(cfg, s.assets, s.market, feed.WallClock{}, s.log); err != nil {
			return err
		}
	}
	s.live, err = feed.NewLive(s.cfg.Live, s.cfg.exchanges(), s.assets, s.market, feed.LiveOptions{Seeder: s.market, Log: s.log})
	return err
}

// sources runs whatever makes publications.
func (s *Server) sources(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if s.demo != nil {
		g.Go(func() error { return s.demo.Run(ctx) })
	}
	if s.replay != nil {
		g.Go(func() error { return s.replay.Run(ctx) })
	}
	g.Go(func() error { return s.live.Run(ctx) })
	g.Go(func() error { return s.everySecond(ctx) })
	return g.Wait()
}
