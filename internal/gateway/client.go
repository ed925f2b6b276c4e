package gateway

import (
	"net/http"
	"net/netip"
	"strings"
)

// clientAddr is the address a request counts for: the peer's, or behind
// trusted proxies the rightmost address in X-Forwarded-For that is not one of
// them. What stands left of it anybody could have written.
func (g *Gateway) clientAddr(r *http.Request) netip.Addr {
	addr, set := peerAddr(r.RemoteAddr), g.set.Load()
	if !set.trusted(addr) {
		return addr
	}
	lines := r.Header["X-Forwarded-For"]
	for i := len(lines) - 1; i >= 0; i-- {
		hops := strings.Split(lines[i], ",")
		for j := len(hops) - 1; j >= 0; j-- {
			hop, ok := parseHop(hops[j])
			if !ok {
				return addr // the last address a trusted proxy vouched for
			}
			if addr = hop; !set.trusted(addr) {
				return addr
			}
		}
	}
	return addr
}

// peerAddr is the address in a net.Addr's text, invalid for a socket that has
// none.
func peerAddr(s string) netip.Addr {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// parseHop reads one element of X-Forwarded-For; some proxies add the port.
func parseHop(s string) (netip.Addr, bool) {
	s = strings.TrimSpace(s)
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap().WithZone(""), true
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	return a.Unmap().WithZone(""), err == nil
}

// household is what limits of an address count: IPv6 networks are handed out
// as a /64, so its addresses are one client's.
func household(a netip.Addr) netip.Addr {
	if !a.Is6() || a.Is4In6() {
		return a.Unmap()
	}
	p, err := a.WithZone("").Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}
