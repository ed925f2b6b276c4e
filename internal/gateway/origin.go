package gateway

import (
	"net/http"
)

// originAllowed reports whether the page that made the request may. Without an
// Origin it was no page. Browsers cannot be made to lie about it, so this is
// what keeps other sites from using a visitor's access to this server.
func (g *Gateway) originAllowed(r *http.Request) bool {
	values := r.Header["Origin"]
	if len(values) == 0 {
		return true
	}
	if len(values) > 1 {
		return false
	}
	o, ok := parseOrigin(values[0])
	set := g.set.Load()
	switch {
	case set.origins["*"]:
		return true
	case !ok:
		return false
	case len(set.origins) == 0:
		// A page that came without TLS may be another's, whatever its host.
		if o.scheme != "https" && set.arrival(r, peerAddr(r.RemoteAddr)) == encrypted {
			return false
		}
		return o.host == normalHost(o.scheme, r.Host)
	}
	return set.origins[o.String()]
}

// allowCrossOrigin adds the CORS headers that let an allowed page read the
// answer. Credentials are not allowed: cookies mean nothing here.
func (g *Gateway) allowCrossOrigin(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["Vary"] = g.fixed.varyOrigin
	if values := r.Header["Origin"]; len(values) == 1 && g.originAllowed(r) {
		h["Access-Control-Allow-Origin"] = values
		h["Access-Control-Expose-Headers"] = g.fixed.exposed
	}
}

// preflight answers OPTIONS.
func (g *Gateway) preflight(w http.ResponseWriter, r *http.Request, allow string) {
	h := w.Header()
	if r.Header.Get("Access-Control-Request-Method") == "" {
		h.Set("Allow", allow)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if !g.originAllowed(r) {
		g.refuse(w, foreignOrigin())
		return
	}
	h.Set("Access-Control-Allow-Methods", allow)
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
}
