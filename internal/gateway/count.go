package gateway

import (
	"maps"
	"sync"

	"cryptointel/internal/hub"
	"cryptointel/internal/metrics"
	"cryptointel/protocol"
)

// counters are what the door has done. They are off every hot path but the
// publish API's, where one uncontended lock is lost in the cost of a request.
type counters struct {
	mu sync.Mutex // guards the fields below
	d  metrics.Door
}

func (c *counters) handshakeFailed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.d.HandshakeFailures++
}

func (c *counters) ticketIssued() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.d.TicketsIssued++
}

func (c *counters) ticketUsed(accepted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if accepted {
		c.d.TicketsRedeemed++
	} else {
		c.d.TicketsRefused++
	}
}

func (c *counters) historyRead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.d.HistoryAnswers++
}

func (c *counters) upgraded(h hub.Hello) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.d.Upgrades++
	if h.Deflate {
		c.d.Compressed++
	}
	if h.Refuse != nil {
		count(&c.d.Turned, h.Refuse.Code)
	}
}

func (c *counters) refused(code protocol.Code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	count(&c.d.Refused, code)
}

func (c *counters) published(kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	count(&c.d.Published, kind)
}

func (c *counters) unpublished(code protocol.Code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	count(&c.d.Unpublished, code)
}

func count[K comparable](m *map[K]uint64, key K) {
	if *m == nil {
		*m = make(map[K]uint64)
	}
	(*m)[key]++
}

// Counts is a copy of the door's counters since New.
func (g *Gateway) Counts() metrics.Door {
	g.counts.mu.Lock()
	defer g.counts.mu.Unlock()
	d := g.counts.d
	d.Turned, d.Refused = maps.Clone(d.Turned), maps.Clone(d.Refused)
	d.Published, d.Unpublished = maps.Clone(d.Published), maps.Clone(d.Unpublished)
	return d
}
