package gateway

import (
	"net/http"
	"strconv"
	"time"

	"cryptointel/protocol"
)

// A route is what one path answers. Paths are matched exactly: nothing is
// cleaned, redirected or decoded twice.
type route struct {
	get, post http.HandlerFunc
	allow     string
}

func (g *Gateway) table() map[string]route {
	t := map[string]route{
		"/healthz":  {get: g.health},
		"/readyz":   {get: g.ready},
		"/ws":       {get: g.websocket},
		"/ws/stats": {get: g.stats},
	}
	if g.parts.Echo {
		return t
	}
	t["/ws/stats"] = route{get: g.limited(g.stats)} // an echo server has no limits
	t["/api/v1/publish"] = route{post: g.publish}   // counts those who may not
	t["/api/v1/prices"] = route{get: g.limited(g.prices)}
	t["/api/v1/assets"] = route{get: g.limited(g.assetTable)}
	t["/api/v1/tickets"] = route{post: g.limited(g.ticket)}
	t["/api/v1/history/prices"] = route{get: g.limited(g.historyPrices)}
	for path, r := range t {
		switch {
		case path == "/ws":
			r.allow = "GET"
		case r.get != nil:
			r.allow = "GET, HEAD, OPTIONS"
		default:
			r.allow = "POST, OPTIONS"
		}
		t[path] = r
	}
	return t
}

// ServeHTTP answers one request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["X-Content-Type-Options"] = g.fixed.nosniff
	h["Content-Security-Policy"] = g.fixed.csp
	h["Cache-Control"] = g.fixed.noStore
	if err := g.enter(w, r); err != nil {
		g.refuse(w, err)
		return
	}
	rt, ok := g.routes[r.URL.Path]
	switch {
	case r.URL.Path == "/ws" || !ok && g.parts.Echo:
		g.websocket(w, r)
		return
	case !ok:
		g.answerError(w, http.StatusNotFound, protocol.InvalidMessage, "no such path; see docs/protocol.md section 8 for the list")
		return
	}
	g.allowCrossOrigin(w, r)
	switch handle := rt.handler(r.Method); {
	case r.Method == http.MethodOptions:
		g.preflight(w, r, rt.allow)
	case handle == nil:
		h.Set("Allow", rt.allow)
		g.answerError(w, http.StatusMethodNotAllowed, protocol.InvalidMessage, "this path answers "+rt.allow)
	default:
		handle(w, r)
	}
}

// enter lets in who came as this server is to be reached: through its proxy
// when it has one, and encrypted. The health routes answer everybody, since a
// balancer or an orchestrator asks them from anywhere.
func (g *Gateway) enter(w http.ResponseWriter, r *http.Request) *protocol.Error {
	set, peer := g.set.Load(), peerAddr(r.RemoteAddr)
	came := set.arrival(r, peer)
	if came == encrypted && set.cfg.HSTS > 0 {
		age := int64(set.cfg.HSTS / time.Second)
		w.Header().Set("Strict-Transport-Security", "max-age="+strconv.FormatInt(age, 10))
	}
	if r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
		return nil
	}
	return set.mayPass(peer, came)
}

func (rt route) handler(method string) http.HandlerFunc {
	switch method {
	case http.MethodGet, http.MethodHead:
		return rt.get
	case http.MethodPost:
		return rt.post
	}
	return nil
}

// refuse answers with the error's own status.
func (g *Gateway) refuse(w http.ResponseWriter, e *protocol.Error) {
	g.counts.refused(e.Code)
	if e.RetryAfter > 0 {
		seconds := int64((e.RetryAfter + protocol.Second - 1) / protocol.Second)
		w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
	}
	if e.Code == protocol.Unauthorized || e.Code.HTTP() == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	g.answer(w, e.Code.HTTP(), appendErrorBody(nil, e, g.now()))
}

// answerError answers with a status that no code has.
func (g *Gateway) answerError(w http.ResponseWriter, status int, code protocol.Code, message string) {
	g.counts.refused(code)
	e := &protocol.Error{Code: code, Message: message}
	g.answer(w, status, appendErrorBody(nil, e, g.now()))
}

// answer writes a JSON body. A client that is gone is nobody to tell.
func (g *Gateway) answer(w http.ResponseWriter, status int, body []byte) {
	w.Header()["Content-Type"] = g.fixed.json
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func appendErrorBody(dst []byte, e *protocol.Error, now protocol.Time) []byte {
	return append(protocol.AppendErrorObject(append(dst, `{"error":`...), e, now), '}')
}

func foreignOrigin() *protocol.Error {
	return &protocol.Error{Code: protocol.Forbidden,
		Message: "pages of this origin may not connect: add it to the server's list of origins"}
}
