package gateway

import (
	"log/slog"
	"net/http"
	"time"
)

// maxHeader bounds a request's header; more is answered 431.
const maxHeader = 16 << 10

// Server returns the public HTTP server, not started, with a time-out on
// everything that a client can hold open. The read and write time-outs stand
// on the server so that no route can forget them; an upgrade takes them off
// its socket, and a route that streams must set its own through
// http.ResponseController.
func (g *Gateway) Server() *http.Server {
	return &http.Server{
		Handler:                      g,
		ReadHeaderTimeout:            orNever(g.cfg.Limits.HandshakeTimeout),
		ReadTimeout:                  g.cfg.RequestTimeout,
		WriteTimeout:                 g.cfg.RequestTimeout,
		IdleTimeout:                  orNever(g.cfg.KeepAlive),
		MaxHeaderBytes:               maxHeader - 4096, // net/http allows 4096 more
		ErrorLog:                     slog.NewLogLogger(g.parts.Log.Handler(), slog.LevelWarn),
		DisableGeneralOptionsHandler: true,
	}
}

// orNever turns the house's "0 is no limit" into net/http's, where 0 falls
// back to another time-out and a negative one is none.
func orNever(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// Server returns the admin HTTP server, not started. Its write time-out leaves
// room for a profile.
func (a *Admin) Server() *http.Server {
	return &http.Server{
		Handler:           a,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * time.Minute,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeader - 4096,
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelWarn),
	}
}
