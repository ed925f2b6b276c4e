package gateway

import (
	"net/netip"

	"golang.org/x/time/rate"
)

// settings are the configuration as requests use it. They never change: Reload
// puts others in their place, and a request that began with these may end with
// those.
type settings struct {
	cfg     Config
	origins map[string]bool
	proxies []netip.Prefix
	accept  *rate.Limiter // nil for no limit
}

// newSettings checks a configuration. The accept limiter of before goes on
// when its rate is the same: a reload must not let a storm in.
func newSettings(cfg Config, before *settings) (*settings, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &settings{cfg: cfg}
	s.origins, _ = parseOrigins(cfg.Origins) // Validate has seen both
	s.proxies, _ = parseProxies(cfg.Proxy.BehindProxy)
	switch {
	case cfg.AcceptRate == 0:
	case before != nil && before.cfg.AcceptRate == cfg.AcceptRate:
		s.accept = before.accept
	default:
		s.accept = rate.NewLimiter(rate.Limit(cfg.AcceptRate), cfg.AcceptRate)
	}
	return s, nil
}

// Reload takes another configuration while requests are served; after an error
// the present one holds. What has the tag `reload` changes with the next
// request, limits with the next connection: those that are open stay. The
// server's time-outs are those it was started with.
func (g *Gateway) Reload(cfg Config) error {
	g.reload.Lock()
	defer g.reload.Unlock()
	next, err := newSettings(cfg, g.set.Load())
	if err != nil {
		return err
	}
	g.set.Store(next)
	g.parts.Registry.SetLimits(cfg.Limits)
	return nil
}
