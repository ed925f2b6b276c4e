package gateway

import (
	"net/http"
	"net/netip"

	"cryptointel/protocol"
)

// mostRequesters bounds the addresses whose requests are counted, two times:
// about 10 MB at most.
const mostRequesters = 1 << 16

// Request counts a request to the API for its address. The error is
// RATE_LIMITED when there are too many; then nothing is counted.
func (r *Registry) Request(addr netip.Addr, now protocol.Time) *protocol.Error {
	who := r.names.address(household(addr))
	r.mu.Lock()
	defer r.mu.Unlock()
	wait, ok := r.requests.take(who, r.request, now)
	if ok {
		return nil
	}
	return &protocol.Error{Code: protocol.RateLimited, RetryAfter: wait, Message: "too many requests from this address: wait"}
}

// Forgive takes back what Request counted.
func (r *Registry) Forgive(addr netip.Addr) {
	who := r.names.address(household(addr))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests.give(who, r.request)
}

// limited counts a request before handle answers it.
func (g *Gateway) limited(handle http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if flood := g.parts.Registry.Request(g.clientAddr(r), g.now()); flood != nil {
			g.refuse(w, flood)
			return
		}
		handle(w, r)
	}
}

// staked lets a client's address pay for a check of what the client sent, and
// gives it back when that was good: what is forged costs the forger's address,
// and one that floods is sent away before anything is verified or redeemed.
func (g *Gateway) staked(r *http.Request, check func() (*protocol.Grant, *protocol.Error)) (*protocol.Grant, *protocol.Error) {
	from := g.clientAddr(r)
	if flood := g.parts.Registry.Request(from, g.now()); flood != nil {
		return nil, flood
	}
	grant, refuse := check()
	if grant != nil {
		g.parts.Registry.Forgive(from)
	}
	return grant, refuse
}
