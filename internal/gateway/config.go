package gateway

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Config is what can be set about the HTTP door. Build it from DefaultConfig:
// a 0 in it means that the limit is off.
type Config struct {
	// Origins lists the web origins (scheme://host[:port]) whose pages may
	// connect and call the API. Unset means pages of this server's own host
	// only; a given list replaces that rule, and "*" allows every page. Clients
	// that are no browser send no Origin and are not concerned.
	Origins []string `name:"origins" help:"Web origins whose pages may connect, scheme://host[:port]; * for all. Unset: pages of the same host."`
	// TrustedProxies lists the networks (CIDR, or one address) whose
	// X-Forwarded-For counts. Unset means nobody's.
	TrustedProxies []string `name:"trusted_proxies" help:"Networks (CIDR) of proxies whose X-Forwarded-For counts."`
	// TokenInURL allows ?token= on /ws. URLs end up in logs and histories of
	// others, so it is off unless a client can do nothing else.
	TokenInURL bool `name:"token_in_url" help:"Accept ?token= on /ws. Off by default: URLs are logged by others."`
	// AcceptRate is how many new WebSocket connections a second are let in;
	// those beyond get 503 and Retry-After. Default 1000, 0 means no limit.
	// It keeps established clients fast while a storm reconnects.
	AcceptRate int `name:"accept_rate" help:"New WebSocket connections a second; 0 for no limit." default:"1000"`
	// Pending is how many accepted sockets may be without an upgrade: in a
	// handshake, or kept alive for the API. Default 4096, 0 means no limit.
	Pending int `name:"pending" help:"Sockets that are not (yet) upgraded; 0 for no limit." default:"4096"`
	// PendingPerIP is the same for one address, or one /64 of IPv6. Default
	// 256, 0 means no limit. Trusted proxies are exempt.
	PendingPerIP int `name:"pending_per_ip" help:"Sockets of one address that are not (yet) upgraded; 0 for no limit." default:"256"`
	// RequestTimeout bounds reading one API request and writing its answer.
	// Default 15 s, 0 means never.
	RequestTimeout time.Duration `name:"request_timeout" help:"Time for one API request and its answer; 0 for no limit." default:"15s"`
	// KeepAlive closes an API connection that has been quiet for this long.
	// Default 60 s, 0 means never.
	KeepAlive time.Duration `name:"keep_alive" help:"Close an API connection that is quiet for this long; 0 for never." default:"60s"`
	// HighConfidence is the confidence from which a published signal is shown
	// on signals:high. Default 0.8.
	HighConfidence float64 `name:"high_confidence" help:"Confidence from which a published signal is high." default:"0.8"`

	// Limits are their own part of the configuration, under `limits`.
	Limits Limits `kong:"-"`
}

// Limits bound who may connect how often. An explicit 0 switches one off.
type Limits struct {
	// ConnectsPerMinutePerIP counts new anonymous connections of an address
	// (IPv6: a /64). Default 10. Raise it where many clients share an address.
	ConnectsPerMinutePerIP int `name:"connects_per_minute_per_ip" help:"New anonymous connections a minute from one address." default:"10"`
	// ConnectionsPerIP is how many anonymous connections of an address may be
	// open. Default 100.
	ConnectionsPerIP int `name:"connections_per_ip" help:"Open anonymous connections of one address." default:"100"`
	// ConnectsPerMinutePerUser counts new connections of a token's subject.
	// Default 60.
	ConnectsPerMinutePerUser int `name:"connects_per_minute_per_user" help:"New connections a minute of one user." default:"60"`
	// ConnectionsPerUser is how many connections of a subject may be open.
	// Default 20.
	ConnectionsPerUser int `name:"connections_per_user" help:"Open connections of one user." default:"20"`
	// HandshakeTimeout bounds the time until the request's header is there.
	// Default 5 s.
	HandshakeTimeout time.Duration `name:"handshake_timeout" help:"Time for the header of a request to arrive." default:"5s"`
	// MaxConnections is how many WebSocket connections this node holds. Default
	// 0, no limit but the system's descriptors. One more is accepted, told
	// CONNECTION_FULL and closed with 4503.
	MaxConnections int `name:"max_connections" help:"Open WebSocket connections of this node." default:"0"`
}

// DefaultConfig returns the defaults named at the fields.
func DefaultConfig() Config {
	return Config{
		AcceptRate:     1000,
		Pending:        4096,
		PendingPerIP:   256,
		RequestTimeout: 15 * time.Second,
		KeepAlive:      60 * time.Second,
		HighConfidence: 0.8,
		Limits: Limits{
			ConnectsPerMinutePerIP: 10, ConnectionsPerIP: 100,
			ConnectsPerMinutePerUser: 60, ConnectionsPerUser: 20,
			HandshakeTimeout: 5 * time.Second,
		},
	}
}

func (c Config) validate() error {
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"accept_rate", int64(c.AcceptRate)}, {"pending", int64(c.Pending)},
		{"pending_per_ip", int64(c.PendingPerIP)}, {"request_timeout", int64(c.RequestTimeout)},
		{"keep_alive", int64(c.KeepAlive)},
		{"limits.connects_per_minute_per_ip", int64(c.Limits.ConnectsPerMinutePerIP)},
		{"limits.connections_per_ip", int64(c.Limits.ConnectionsPerIP)},
		{"limits.connects_per_minute_per_user", int64(c.Limits.ConnectsPerMinutePerUser)},
		{"limits.connections_per_user", int64(c.Limits.ConnectionsPerUser)},
		{"limits.handshake_timeout", int64(c.Limits.HandshakeTimeout)},
		{"limits.max_connections", int64(c.Limits.MaxConnections)},
	} {
		if f.value < 0 {
			return fmt.Errorf("gateway: %s is %d: use a positive value, or 0 for no limit", f.name, f.value)
		}
	}
	if !(c.HighConfidence >= 0 && c.HighConfidence <= 1) {
		return fmt.Errorf("gateway: high_confidence is %v: use a number from 0 to 1", c.HighConfidence)
	}
	if _, err := parseOrigins(c.Origins); err != nil {
		return err
	}
	_, err := parseProxies(c.TrustedProxies)
	return err
}

// parseOrigins brings each configured origin into the form in which browsers
// send it, without the scheme's own port.
func parseOrigins(list []string) (map[string]bool, error) {
	set := make(map[string]bool, len(list))
	for _, s := range list {
		if s == "*" {
			set["*"] = true
			continue
		}
		o, ok := parseOrigin(s)
		if !ok {
			return nil, fmt.Errorf("gateway: origins has %q: use scheme://host[:port], such as https://app.example.com", s)
		}
		set[o.String()] = true
	}
	return set, nil
}

// An origin is the scheme, host and port that a browser names as the place a
// page came from. Its zero value is no origin.
type origin struct{ scheme, host string }

func (o origin) String() string { return o.scheme + "://" + o.host }

// parseOrigin reads an origin; "null", a path, a user or a query make it none.
func parseOrigin(s string) (origin, bool) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" ||
		u.User != nil || u.Path != "" || u.RawQuery != "" || u.ForceQuery || strings.ContainsAny(s, "#?") {
		return origin{}, false
	}
	return origin{u.Scheme, normalHost(u.Scheme, u.Host)}, true
}

// normalHost is host in lower case without the port that scheme implies.
func normalHost(scheme, host string) string {
	host = strings.ToLower(host)
	if scheme == "http" {
		return strings.TrimSuffix(host, ":80")
	}
	return strings.TrimSuffix(host, ":443")
}

func parseProxies(list []string) ([]netip.Prefix, error) {
	var nets []netip.Prefix
	for _, s := range list {
		if a, err := netip.ParseAddr(s); err == nil {
			nets = append(nets, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("gateway: trusted_proxies has %q: use a network such as 10.0.0.0/8", s)
		}
		nets = append(nets, p.Masked())
	}
	return nets, nil
}
