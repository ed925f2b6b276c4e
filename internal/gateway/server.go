package gateway

import (
	"bytes"
	"log"
	"log/slog"
	"net/http"
	"strings"
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
	cfg := g.set.Load().cfg
	return &http.Server{
		Handler:                      g,
		ReadHeaderTimeout:            orNever(cfg.Limits.HandshakeTimeout), // bounds the TLS handshake too
		ReadTimeout:                  cfg.RequestTimeout,
		WriteTimeout:                 cfg.RequestTimeout,
		IdleTimeout:                  orNever(cfg.KeepAlive),
		MaxHeaderBytes:               maxHeader - 4096, // net/http allows 4096 more
		ErrorLog:                     log.New(complaints{g.parts.Log, &g.counts}, "", 0),
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
		ErrorLog:          a.complaints,
	}
}

// complaints takes what net/http has to say. Strangers cause most of it: every
// scanner fails a TLS handshake, which is counted and told at Debug.
type complaints struct {
	log    *slog.Logger
	counts *counters // nil for nobody's
}

// Write takes one line, or a panic with its stack.
func (c complaints) Write(line []byte) (int, error) {
	why := string(bytes.TrimSpace(line))
	switch from, failed := strings.CutPrefix(why, "http: TLS handshake error from "); {
	case failed:
		if c.counts != nil {
			c.counts.handshakeFailed()
		}
		c.log.Debug("TLS handshake", "err", from)
	case strings.HasPrefix(why, "http: panic serving"):
		c.log.Error("a request ended in a panic", "err", why)
	default:
		c.log.Warn("HTTP server", "err", why)
	}
	return len(line), nil
}
