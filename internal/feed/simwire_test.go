package feed

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// wires listen to what the exchanges send, before the code under test has
// touched it: when an exchange first spoke, when its connections were given
// up, and at Bybit, which does not give everything a second time, what was
// said about which trades.
type wires struct {
	dial   dialer
	client *http.Client

	mu    sync.Mutex // guards the fields below
	first map[string]time.Time
	links map[string][]*upgraded
	acks  map[string][]time.Time    // Bybit: when a symbol's subscription was confirmed
	told  map[string]map[int64]bool // Bybit: trades by symbol
}

func newWires(dial dialer) *wires {
	w := &wires{dial: dial, first: make(map[string]time.Time), links: make(map[string][]*upgraded), acks: make(map[string][]time.Time), told: make(map[string]map[int64]bool)}
	w.client = clientOver(w.tap)
	return w
}

func (w *wires) tap(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := w.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	for _, name := range LiveExchanges() {
		if strings.Contains(addr, name) {
			return &tapped{Conn: c, wires: w, exchange: name}, nil
		}
	}
	return c, nil
}

// An upgraded connection is a WebSocket as long as it was kept.
type upgraded struct {
	opened, closed time.Time // zero while it is open
}

// A tapped connection reads along. One goroutine reads it at a time.
type tapped struct {
	net.Conn
	wires    *wires
	exchange string
	asked    atomic.Bool // for an upgrade; a connection is used again after a refusal
	buf      []byte
	link     atomic.Pointer[upgraded] // nil before the upgrade
}

func (c *tapped) Write(p []byte) (int, error) {
	if bytes.HasPrefix(p, []byte("GET ")) && bytes.Contains(p, []byte("Upgrade: websocket")) {
		c.asked.Store(true)
	}
	return c.Conn.Write(p)
}

func (c *tapped) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.asked.Load() {
		c.buf = append(c.buf, p[:n]...)
		c.parse()
	}
	return n, err
}

// parse takes the answer to the upgrade and then frame by frame.
func (c *tapped) parse() {
	if c.link.Load() == nil {
		head, rest, ok := bytes.Cut(c.buf, []byte("\r\n\r\n"))
		if !ok {
			return
		}
		if c.buf = rest; !bytes.HasPrefix(head, []byte("HTTP/1.1 101")) {
			c.asked.Store(false)
			c.buf = nil
			return
		}
		c.link.Store(c.wires.opened(c.exchange))
	}
	for {
		n, payload := wholeFrame(c.buf)
		if n == 0 {
			return
		}
		if c.buf[0]&0xf == 1 { // text
			c.wires.heard(c.exchange, payload)
		}
		c.buf = c.buf[n:]
	}
}

func (c *tapped) Close() error {
	if l := c.link.Load(); l != nil {
		c.wires.mu.Lock()
		if l.closed.IsZero() {
			l.closed = time.Now()
		}
		c.wires.mu.Unlock()
	}
	return c.Conn.Close()
}

func (w *wires) opened(exchange string) *upgraded {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := &upgraded{opened: time.Now()}
	w.links[exchange] = append(w.links[exchange], l)
	return l
}

// wholeFrame is the first frame of a server (RFC 6455 5.2: unmasked) and its
// length; 0 while it is not complete.
func wholeFrame(b []byte) (n int, payload []byte) {
	if len(b) < 2 {
		return 0, nil
	}
	head, size := 2, uint64(b[1]&0x7f)
	switch size {
	case 126:
		if head = 4; len(b) >= head {
			size = uint64(binary.BigEndian.Uint16(b[2:]))
		}
	case 127:
		if head = 10; len(b) >= head {
			size = binary.BigEndian.Uint64(b[2:])
		}
	}
	if len(b) < head || uint64(len(b)-head) < size {
		return 0, nil
	}
	n = head + int(size)
	return n, b[head:n]
}

func (w *wires) heard(exchange string, payload []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if w.first[exchange].IsZero() {
		w.first[exchange] = now
	}
	if exchange != "bybit" {
		return
	}
	var f struct {
		Topic   string `json:"topic"`
		Op      string `json:"op"`
		Success bool   `json:"success"`
		ReqID   string `json:"req_id"`
		Data    json.RawMessage
	}
	if json.Unmarshal(payload, &f) != nil {
		return // the simulation's garbage
	}
	if f.Op == "subscribe" && f.Success {
		w.acks[f.ReqID] = append(w.acks[f.ReqID], now)
	}
	symbol, ok := strings.CutPrefix(f.Topic, "publicTrade.")
	if !ok {
		return
	}
	var trades []struct {
		ID int64 `json:"i,string"`
	}
	if json.Unmarshal(f.Data, &trades) != nil {
		return
	}
	for _, t := range trades {
		if w.told[symbol] == nil {
			w.told[symbol] = make(map[int64]bool)
		}
		w.told[symbol][t.ID] = true
	}
}
