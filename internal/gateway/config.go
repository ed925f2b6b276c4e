package gateway

import (
	"fmt"
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
	Origins []string `name:"origins" reload:"" help:"Web origins whose pages may connect, scheme://host[:port]; * for all. Unset: pages of the same host."`
	// TokenInURL allows ?token= on /ws. URLs end up in logs and histories of
	// others, so it is off unless a client can do nothing else.
	TokenInURL bool `name:"token_in_url" reload:"" help:"Accept ?token= on /ws. Off by default: URLs are logged by others."`
	// AcceptRate is how many new WebSocket connections a second are let in;
	// those beyond get 503 and Retry-After. Default 1000, 0 means no limit.
	// It keeps established clients fast while a storm reconnects.
	AcceptRate int `name:"accept_rate" reload:"" help:"New WebSocket connections a second; 0 for no limit." default:"1000"`
	// Pending is how many accepted sockets may be without an upgrade: in a
	// handshake, or kept alive for the API. Default 4096, 0 means no limit.
	Pending int `name:"pending" reload:"" help:"Sockets that are not (yet) upgraded; 0 for no limit." default:"4096"`
	// PendingPerIP is the same for one address, or one /64 of IPv6. Default
	// 256, 0 means no limit. Trusted proxies are exempt.
	PendingPerIP int `name:"pending_per_ip" reload:"" help:"Sockets of one address that are not (yet) upgraded; 0 for no limit." default:"256"`
	// RequestTimeout bounds reading one API request and writing its answer.
	// Default 15 s, 0 means never.
	RequestTimeout time.Duration `name:"request_timeout" help:"Time for one API request and its answer; 0 for no limit." default:"15s"`
	// KeepAlive closes an API connection that has been quiet for this long.
	// Default 60 s, 0 means never.
	KeepAlive time.Duration `name:"keep_alive" help:"Close an API connection that is quiet for this long; 0 for never." default:"60s"`
	// HighConfidence is the confidence from which a published signal is shown
	// on signals:high. Default 0.8.
	HighConfidence float64 `name:"high_confidence" reload:"" help:"Confidence from which a published signal is high." default:"0.8"`

	// Compression offers permessage-deflate to clients that ask for it: a
	// fraction of the bytes for more CPU at both ends. Default true; switch it
	// off where CPU is scarce and traffic is not.
	Compression bool `name:"compression" reload:"" help:"Compress messages for clients that offer permessage-deflate." default:"true" negatable:""`
	// HSTS is how long browsers shall come back by TLS only, to this host on
	// every port, once they came by TLS. Default one year, 0 sends no
	// Strict-Transport-Security. Shorten it before TLS is given up.
	HSTS time.Duration `name:"hsts" reload:"" help:"How long browsers shall use TLS only for this host, told to those that came by TLS; 0 to not say so." default:"8760h"`

	// Limits are their own part of the configuration, under limits.
	Limits Limits `kong:"-"`
	// Proxy is a part of its own too, at the top.
	Proxy Proxy `kong:"-"`
}

// Limits bound who may connect how often. An explicit 0 switches one off.
type Limits struct {
	// ConnectsPerMinutePerIP counts new anonymous connections of an address
	// (IPv6: a /64). Default 10. Raise it where many clients share an address.
	ConnectsPerMinutePerIP int `name:"connects_per_minute_per_ip" reload:"" help:"New anonymous connections a minute from one address." default:"10"`
	// ConnectionsPerIP is how many anonymous connections of an address may be
	// open. Default 100.
	ConnectionsPerIP int `name:"connections_per_ip" reload:"" help:"Open anonymous connections of one address." default:"100"`
	// ConnectsPerMinutePerUser counts new connections of a token's subject.
	// Default 60.
	ConnectsPerMinutePerUser int `name:"connects_per_minute_per_user" reload:"" help:"New connections a minute of one user." default:"60"`
	// ConnectionsPerUser is how many connections of a subject may be open.
	// Default 20.
	ConnectionsPerUser int `name:"connections_per_user" reload:"" help:"Open connections of one user." default:"20"`
	// RequestsPerMinutePerIP counts requests to the API from an address (IPv6:
	// a /64), of which a fifth may come at once, and tokens and tickets of
	// upgrades that turn out bad. Publishing with a token that has pub, /ws and
	// the health routes do not count. Default 600. Raise it where many clients
	// share an address.
	RequestsPerMinutePerIP int `name:"requests_per_minute_per_ip" reload:"" help:"Requests to the API a minute from one address, a fifth of them at once; bad tokens at /ws count too." default:"600"`
	// HandshakeTimeout bounds the time until the request's header is there.
	// Default 5 s.
	HandshakeTimeout time.Duration `name:"handshake_timeout" help:"Time for the header of a request to arrive." default:"5s"`
	// MaxConnections is how many WebSocket connections this node holds. Default
	// 0, no limit but the system's descriptors. One more is accepted, told
	// CONNECTION_FULL and closed with 4503.
	MaxConnections int `name:"max_connections" reload:"" help:"Open WebSocket connections of this node." default:"0"`
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
		Compression:    true,
		HSTS:           365 * 24 * time.Hour,
		Limits: Limits{
			ConnectsPerMinutePerIP: 10, ConnectionsPerIP: 100,
			ConnectsPerMinutePerUser: 60, ConnectionsPerUser: 20,
			RequestsPerMinutePerIP: 600,
			HandshakeTimeout:       5 * time.Second,
		},
	}
}

// Validate names the first setting that cannot be, and says what to use. New
// and Reload call it.
func (c Config) Validate() error {
	l := c.Limits
	for _, f := range []struct {
		name     string
		negative bool
		value    any
	}{
		{"gateway.accept_rate", c.AcceptRate < 0, c.AcceptRate},
		{"gateway.pending", c.Pending < 0, c.Pending},
		{"gateway.pending_per_ip", c.PendingPerIP < 0, c.PendingPerIP},
		{"gateway.request_timeout", c.RequestTimeout < 0, c.RequestTimeout},
		{"gateway.keep_alive", c.KeepAlive < 0, c.KeepAlive},
		{"gateway.hsts", c.HSTS < 0, c.HSTS},
		{"limits.connects_per_minute_per_ip", l.ConnectsPerMinutePerIP < 0, l.ConnectsPerMinutePerIP},
		{"limits.connections_per_ip", l.ConnectionsPerIP < 0, l.ConnectionsPerIP},
		{"limits.connects_per_minute_per_user", l.ConnectsPerMinutePerUser < 0, l.ConnectsPerMinutePerUser},
		{"limits.connections_per_user", l.ConnectionsPerUser < 0, l.ConnectionsPerUser},
		{"limits.requests_per_minute_per_ip", l.RequestsPerMinutePerIP < 0, l.RequestsPerMinutePerIP},
		{"limits.handshake_timeout", l.HandshakeTimeout < 0, l.HandshakeTimeout},
		{"limits.max_connections", l.MaxConnections < 0, l.MaxConnections},
	} {
		if f.negative {
			return fmt.Errorf("%s is %v: use a positive value, or 0 to switch it off", f.name, f.value)
		}
	}
	if !(c.HighConfidence >= 0 && c.HighConfidence <= 1) {
		return fmt.Errorf("gateway.high_confidence is %v: use a number from 0 to 1", c.HighConfidence)
	}
	if _, err := parseOrigins(c.Origins); err != nil {
		return err
	}
	_, err := parseProxies(c.Proxy.BehindProxy)
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
			return nil, fmt.Errorf("gateway.origins has %q: use scheme://host[:port], such as https://app.example.com", s)
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
