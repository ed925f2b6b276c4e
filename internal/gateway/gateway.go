// Package gateway is the HTTP door: it decides who may come in and by which
// path. It upgrades WebSocket requests and hands their sockets over, takes
// publications from those whose token allows it, and answers the small read
// routes. It counts connections by address and by user (Registry) and bounds
// everything a stranger can hold open.
//
// It knows nothing of frames, sessions or channels' subscribers: an upgraded
// connection belongs to whoever adopts it.
package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"cryptointel/internal/hub"
	"cryptointel/protocol"
)

// adopter takes upgraded connections over: c, the bytes already read from it,
// and what the door knows. It closes c when it fails.
type adopter interface {
	Adopt(c net.Conn, rest []byte, h hub.Hello) error
}

// verifier says what a token grants. Its error is a *protocol.Error that may
// be shown to whoever sent the token.
type verifier interface {
	Verify(token string, now time.Time) (*protocol.Grant, error)
}

// publisher is where publications of market:* and test:{name} go. It assigns
// offset and ts, and owns p.
type publisher interface {
	Publish(ctx context.Context, p *protocol.Publication) (offset int64, err error)
}

// appender is where signals go. It answers when the log has the entry; an
// entry that is already there is answered with its offset.
type appender interface {
	Append(ctx context.Context, e Entry) (offset int64, err error)
}

// pricer takes prices of assets.
type pricer interface {
	protocol.Directory
	Price(ctx context.Context, q Quote) (offset int64, err error)
}

// ticketer makes and takes back tickets: a grant for one connection within
// seconds, in a form that may stand in a URL. Redeem takes each once. Its
// errors, where they are a *protocol.Error, may be shown to whoever sent it.
type ticketer interface {
	Issue(grant *protocol.Grant, now time.Time) (ticket string, expires protocol.Time, err error)
	Redeem(ticket string, now time.Time) (*protocol.Grant, error)
}

// historian has candles: those that start at from or later and before to,
// oldest first, at most limit. With from 0 they are the newest before to.
type historian interface {
	Candles(asset, interval string, from, to protocol.Time, limit int) ([]Candle, error)
}

// An Entry is a published signal on its way to the event log.
type Entry struct {
	Issuer string // the token's subject
	// Publication has everything but offset and ts. The appender owns it.
	Publication *protocol.Publication
	// Content is a digest of what the issuer sent, the same for a repeat even
	// when defaults (the time) differ: a repeat of an id with another Content
	// is a CONFLICT.
	Content [16]byte
}

// A Quote is a published price on its way into the asset's composite price.
type Quote struct {
	Issuer    string // the token's subject: the name of this source
	Asset     string // slug
	Price     float64
	Volume24h float64 // USD, 0 when not given
	At        protocol.Time
}

// An Asset is a row of GET /api/v1/assets.
type Asset struct {
	Slug    string   `json:"slug"`
	Tickers []string `json:"tickers"`
	Name    string   `json:"name"`
}

// Parts are what a Gateway is joined with. Connections, Tokens, Registry and
// Log are needed; what has no part is not served.
type Parts struct {
	Connections adopter
	Tokens      verifier
	Registry    *Registry
	States      publisher
	Signals     appender
	Prices      pricer
	// Tickets serves POST /api/v1/tickets and /ws?ticket=.
	Tickets ticketer
	// History serves GET /api/v1/history/prices.
	History historian
	// LastPrices returns the data objects of the assets' last price_update.
	LastPrices func() [][]byte
	// Assets returns the asset table.
	Assets func() []Asset
	// Stats returns what GET /ws/stats answers, as encoding/json takes it.
	Stats func() any
	// Ready is nil when clients are welcome; the error, DRAINING or another,
	// says why not. A nil func means always ready.
	Ready func() *protocol.Error
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	Log *slog.Logger
	// Echo serves WebSocket on every path, without limits or sessions, and has
	// every message sent back: for suites that test the connection layer.
	Echo bool
}

// A Gateway is the public HTTP handler. It is immutable but for its counters
// and what Reload replaces, and safe for concurrent use.
type Gateway struct {
	parts   Parts
	routes  map[string]route
	fixed   fixedHeaders
	runs    sync.Pool // of *publishRun
	assets  func() document
	symbols func() map[string]string
	reading chan struct{} // one element for each request that reads history
	counts  counters
	numbers statsPage

	set    atomic.Pointer[settings] // replaced by Reload only
	reload sync.Mutex               // held by Reload
}

// fixedHeaders are header values that every answer shares, so that an answer
// does not allocate them.
type fixedHeaders struct {
	json, text, nosniff, noStore, csp, varyOrigin, exposed []string
}

// New checks the configuration and joins the parts. It starts nothing.
func New(cfg Config, parts Parts) (*Gateway, error) {
	set, err := newSettings(cfg, nil)
	if err != nil {
		return nil, err
	}
	if parts.Connections == nil || parts.Tokens == nil || parts.Registry == nil || parts.Log == nil {
		return nil, errors.New("gateway: connections, tokens, registry and log are all needed")
	}
	if parts.Now == nil {
		parts.Now = time.Now
	}
	g := &Gateway{parts: parts, reading: make(chan struct{}, maxReading), fixed: fixedHeaders{
		json:       []string{"application/json"},
		text:       []string{"text/plain; charset=utf-8"},
		nosniff:    []string{"nosniff"},
		noStore:    []string{"no-store"},
		csp:        []string{"default-src 'none'; frame-ancestors 'none'"},
		varyOrigin: []string{"Origin"},
		exposed:    []string{"Retry-After"},
	}}
	g.set.Store(set)
	g.runs.New = func() any { return new(publishRun) }
	g.assets = sync.OnceValue(g.assetDocument)
	g.symbols = sync.OnceValue(g.symbolTable)
	g.routes = g.table()
	return g, nil
}

func (g *Gateway) now() protocol.Time { return protocol.Time(g.parts.Now().UnixNano()) }
