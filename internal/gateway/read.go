package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"sync"

	"cryptointel/protocol"
)

// A document is an answer that does not change while the process runs.
type document struct {
	body []byte
	etag string
}

func (g *Gateway) health(w http.ResponseWriter, _ *http.Request) {
	g.answer(w, http.StatusOK, []byte(`{"status":"ok"}`))
}

func (g *Gateway) ready(w http.ResponseWriter, _ *http.Request) {
	if err := g.notReady(); err != nil {
		w.Header().Set("Retry-After", "1")
		g.answer(w, http.StatusServiceUnavailable, appendErrorBody(nil, err, g.now()))
		return
	}
	g.answer(w, http.StatusOK, []byte(`{"status":"ready"}`))
}

func (g *Gateway) notReady() *protocol.Error {
	if g.parts.Ready == nil {
		return nil
	}
	return g.parts.Ready()
}

func (g *Gateway) stats(w http.ResponseWriter, _ *http.Request) {
	if g.parts.Stats == nil {
		g.notServed(w)
		return
	}
	body := g.statsBody()
	if body == nil {
		g.refuse(w, internalError())
		return
	}
	g.answer(w, http.StatusOK, body)
}

// statsFresh is how long the numbers of /ws/stats are shown again: every loop
// is asked for them.
const statsFresh = protocol.Second

// A statsPage is the last answer of /ws/stats.
type statsPage struct {
	mu   sync.Mutex // guards the fields below; held while the numbers are asked for
	body []byte
	made protocol.Time
}

// statsBody is the answer of /ws/stats, nil when it cannot be encoded.
func (g *Gateway) statsBody() []byte {
	p := &g.numbers
	p.mu.Lock()
	defer p.mu.Unlock()
	now := g.now()
	if age := now - p.made; p.body != nil && age >= 0 && age < statsFresh {
		return p.body
	}
	body, err := json.Marshal(g.parts.Stats())
	if err != nil {
		g.parts.Log.Error("encode /ws/stats", "err", err)
		return nil
	}
	p.body, p.made = body, now
	return body
}

// prices answers the last price of every asset that has one.
func (g *Gateway) prices(w http.ResponseWriter, _ *http.Request) {
	if g.parts.LastPrices == nil {
		g.notServed(w)
		return
	}
	body := []byte(`{"prices":[`)
	for i, p := range g.parts.LastPrices() {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, p...)
	}
	w.Header().Set("Cache-Control", "public, max-age=1")
	g.answer(w, http.StatusOK, append(body, `]}`...))
}

func (g *Gateway) assetTable(w http.ResponseWriter, r *http.Request) {
	if g.parts.Assets == nil {
		g.notServed(w)
		return
	}
	doc := g.assets()
	w.Header().Set("Cache-Control", "public, max-age=300")
	w.Header().Set("ETag", doc.etag)
	if strings.Contains(r.Header.Get("If-None-Match"), doc.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	g.answer(w, http.StatusOK, doc.body)
}

// assetDocument encodes the asset table, which does not change.
func (g *Gateway) assetDocument() document {
	rows := g.parts.Assets()
	if rows == nil {
		rows = []Asset{}
	}
	body, err := json.Marshal(map[string]any{"assets": rows})
	if err != nil {
		g.parts.Log.Error("encode /api/v1/assets", "err", err)
	}
	sum := sha256.Sum256(body) // the same on every node
	return document{body, `"` + hex.EncodeToString(sum[:8]) + `"`}
}

func (g *Gateway) notServed(w http.ResponseWriter) {
	g.answerError(w, http.StatusNotFound, protocol.InvalidMessage, "this server does not serve this path")
}

func internalError() *protocol.Error {
	return &protocol.Error{Code: protocol.Internal, Message: "something went wrong here: try again"}
}
