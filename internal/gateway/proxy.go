package gateway

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"cryptointel/protocol"
)

// Proxy says who stands between this server and its clients. It is its own
// part of the configuration, since it says how the server may be reached.
type Proxy struct {
	// BehindProxy lists the networks (CIDR, or one address) of the proxies that
	// end TLS for this server. Only they and this machine may use it, and their
	// X-Forwarded-For and X-Forwarded-Proto count. Unset means that there is no
	// proxy. Set it where TLS ends elsewhere; 127.0.0.0/8 for one on this
	// machine.
	BehindProxy []string `name:"behind-proxy" reload:"" help:"Networks (CIDR) of the proxies that end TLS for this server: only they and this machine may use it, and their X-Forwarded-For and X-Forwarded-Proto count."`
}

// RequireTLS refuses to listen beyond this machine without encryption: tokens
// would be read by everyone on the way. secure says that there is a
// certificate, proxied that proxies are named which end TLS.
func RequireTLS(listen string, secure, proxied bool) error {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("listen: %q is not an address such as 127.0.0.1:8080: %w", listen, err)
	}
	if secure || proxied || onlyHere(host) {
		return nil
	}
	return fmt.Errorf("listen: %s can be reached from other machines, and without TLS everyone on the way reads the tokens: "+
		"give --tls-cert and --tls-key, or name the proxy that ends TLS with --behind-proxy CIDR, or listen on 127.0.0.1", listen)
}

// RequireAdminTLS is RequireTLS for the admin listener, where tokens with adm
// are sent. With a certificate that listener has to speak TLS too: AdminTLS
// says when.
func RequireAdminTLS(listen string, secure, proxied bool) error {
	if secure || proxied || !BeyondThisMachine(listen) {
		return nil
	}
	return fmt.Errorf("admin-listen: %s can be reached from other machines, and without TLS everyone on the way reads the tokens: "+
		"give --tls-cert and --tls-key, or name the proxy that ends TLS with --behind-proxy CIDR, or listen on 127.0.0.1", listen)
}

// AdminTLS reports whether the admin listener speaks TLS, given that there is
// a certificate or not. On this machine it stays plain, so that tools there
// need no name that the certificate has.
func AdminTLS(listen string, secure bool) bool { return secure && BeyondThisMachine(listen) }

// BeyondThisMachine reports whether others than this machine reach a listener
// on this address.
func BeyondThisMachine(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	return listen != "" && (err != nil || !onlyHere(host))
}

// onlyHere reports whether a host to listen on is this machine's alone. Other
// names than localhost are not looked up: what they mean may change.
func onlyHere(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
}

// forwarded is what a trusted proxy says about how the client came to it.
type forwarded uint8

const (
	unsaid forwarded = iota
	encrypted
	unencrypted
)

// forwardedProto reads X-Forwarded-Proto. Proxies may add to what they were
// sent, so every element has to say that it was encrypted. Some name WebSocket
// in it.
func forwardedProto(h http.Header) forwarded {
	said := unsaid
	for _, line := range h["X-Forwarded-Proto"] {
		for proto := range strings.SplitSeq(line, ",") {
			switch strings.ToLower(strings.TrimSpace(proto)) {
			case "https", "wss":
				said = encrypted
			default:
				return unencrypted
			}
		}
	}
	return said
}

// arrival is whether the client's own connection is encrypted, as far as this
// server knows.
func (s *settings) arrival(r *http.Request, peer netip.Addr) forwarded {
	switch {
	case r.TLS != nil:
		return encrypted
	case s.trusted(peer):
		return forwardedProto(r.Header)
	}
	return unsaid
}

// mayPass is the error of a client that came around the proxy, or without
// encryption to it.
func (s *settings) mayPass(peer netip.Addr, came forwarded) *protocol.Error {
	switch {
	case len(s.proxies) > 0 && !peer.IsLoopback() && !s.trusted(peer):
		return &protocol.Error{Code: protocol.Forbidden,
			Message: "this server answers its proxy only: use the public address, or add your network to behind-proxy"}
	case came == unencrypted:
		return &protocol.Error{Code: protocol.Forbidden,
			Message: "this server answers wss and https only, and the proxy says that you came without: use wss:// or https://"}
	}
	return nil
}

func (s *settings) trusted(a netip.Addr) bool {
	for _, p := range s.proxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func parseProxies(list []string) ([]netip.Prefix, error) {
	var nets []netip.Prefix
	for _, s := range list {
		if a, err := netip.ParseAddr(s); err == nil {
			a = a.Unmap().WithZone("")
			nets = append(nets, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil || p.Addr().Is4In6() {
			return nil, fmt.Errorf("behind-proxy has %q: use a network such as 10.0.0.0/8, or an address", s)
		}
		nets = append(nets, p.Masked())
	}
	return nets, nil
}
