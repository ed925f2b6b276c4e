package gateway

import (
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"cryptointel/protocol"
)

// An Admin is the handler of the admin listener: /metrics, /debug/pprof and
// /debug/free. A request to a loopback address needs no token; elsewhere it
// needs one with adm "read" or "write".
type Admin struct {
	mux    *http.ServeMux // immutable
	tokens verifier

	complaints *log.Logger
}

// NewAdmin returns the handler. tokens may be nil: then only loopback is
// served.
func NewAdmin(numbers prometheus.Gatherer, tokens verifier, logger *slog.Logger) *Admin {
	a := &Admin{mux: http.NewServeMux(), tokens: tokens, complaints: log.New(complaints{log: logger}, "", 0)}
	a.mux.Handle("GET /metrics", promhttp.HandlerFor(numbers, promhttp.HandlerOpts{
		ErrorLog: a.complaints, MaxRequestsInFlight: 4,
	}))
	a.mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	a.mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	a.mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	a.mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	a.mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
	a.mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	a.mux.HandleFunc("POST /debug/free", freeMemory)
	a.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"status":"ok"}`))
	})
	return a
}

// ServeHTTP answers one request.
func (a *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if err := a.mayEnter(r); err != nil {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(err.Code.HTTP())
		_, _ = w.Write(appendErrorBody(nil, err, protocol.Time(time.Now().UnixNano())))
		return
	}
	a.mux.ServeHTTP(w, r)
}

// mayEnter lets in who is on this machine, or has an admin token.
func (a *Admin) mayEnter(r *http.Request) *protocol.Error {
	if onLoopback(r) {
		return nil
	}
	token, err := bearer(r.Header)
	if err != nil {
		return err
	}
	if token == "" || a.tokens == nil {
		return &protocol.Error{Code: protocol.Unauthorized,
			Message: `send Authorization: Bearer with a token that has adm "read", or call 127.0.0.1 by that name`}
	}
	grant, bad := a.tokens.Verify(token, time.Now())
	switch {
	case bad != nil:
		return &protocol.Error{Code: protocol.InvalidToken, Message: "the token is not accepted"}
	case grant.Admin != "read" && grant.Admin != "write":
		return &protocol.Error{Code: protocol.Forbidden, Message: "the token has no adm claim"}
	}
	return nil
}

// onLoopback reports whether the request came to a loopback address and names
// it so. A page whose host name was pointed at 127.0.0.1 names its own host,
// and a page of another site has an Origin: neither is let in.
func onLoopback(r *http.Request) bool {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local == nil || !peerAddr(local.String()).IsLoopback() || !peerAddr(r.RemoteAddr).IsLoopback() {
		return false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if named := err == nil && addr.IsLoopback() || strings.EqualFold(host, "localhost"); !named {
		return false
	}
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	origin := r.Header.Get("Origin")
	return origin == "" || origin == scheme+r.Host
}

// freeMemory returns unused memory to the system and answers what the process
// holds before and after: for measuring.
func freeMemory(w http.ResponseWriter, _ *http.Request) {
	before := memory()
	runtime.GC() // a closed socket has a finalizer: it goes with the second collection
	debug.FreeOSMemory()
	after := memory()
	w.Header().Set("Content-Type", "application/json")
	var b []byte
	b = appendMemory(append(b, `{"before":`...), before)
	b = appendMemory(append(b, `,"after":`...), after)
	_, _ = w.Write(append(b, '}', '\n'))
}

// residence is what a process holds in memory, in bytes; 0 where the system
// does not tell.
type residence struct{ total, anonymous int64 }

func memory() residence {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return residence{}
	}
	return residence{statusBytes(string(status), "VmRSS:"), statusBytes(string(status), "RssAnon:")}
}

func statusBytes(status, key string) int64 {
	_, rest, _ := strings.Cut(status, key)
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kib, _ := strconv.ParseInt(fields[0], 10, 64)
	return kib << 10
}

func appendMemory(dst []byte, m residence) []byte {
	dst = strconv.AppendInt(append(dst, `{"rss_bytes":`...), m.total, 10)
	dst = strconv.AppendInt(append(dst, `,"rss_anon_bytes":`...), m.anonymous, 10)
	return append(dst, '}')
}
