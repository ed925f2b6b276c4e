package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"cryptointel/internal/auth"
	"cryptointel/internal/eventloop"
	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// startNATS runs a NATS server on a port of loopback, 0 for a free one.
func startNATS(t *testing.T, port int) (s *natsserver.Server, url string) {
	t.Helper()
	if port == 0 {
		port = natsserver.RANDOM_PORT
	}
	s, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: port, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		t.Fatal("the NATS server is not ready")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s, s.ClientURL()
}

// A pair is two gateways on one NATS: one makes the prices, the other has no
// feeds.
func pair(t *testing.T, url string) (maker, other *Server) {
	t.Helper()
	cfg := testConfig(eventloop.KindAuto)
	cfg.NATS.URLs = []string{url}
	cfg.Auth.AnonymousChannels = []string{"*"}
	other, _ = begin(t, cfg)
	cfg.Feeds, cfg.Demo.Rate = []string{FeedDemo}, 200
	maker, _ = begin(t, cfg)
	return maker, other
}

// priceAt is the first price of a client's channel at or after an offset.
func priceAt(t *testing.T, c *socket, offset int64) said {
	t.Helper()
	return c.until(t, func(m said) bool { return m.Type == protocol.TypePrice && m.Offset >= offset })
}

func TestTwoNodesShowTheSamePrices(t *testing.T) {
	t.Parallel()
	_, url := startNATS(t, 0)
	maker, other := pair(t, url)
	a, b := connect(t, maker), connect(t, other)
	a.subscribe(t, `"price:bitcoin"`)
	b.subscribe(t, `"price:bitcoin"`)
	from := max(priceAt(t, a, 0).Offset, priceAt(t, b, 0).Offset)
	for range 20 {
		x := priceAt(t, a, from)
		y := priceAt(t, b, x.Offset)
		if x.Offset != y.Offset || string(x.Data) != string(y.Data) {
			t.Fatalf("one node says %s\nthe other %s", x.text, y.text)
		}
		from = x.Offset + 1
	}
	late := connect(t, other)
	late.subscribe(t, `"price:*"`)
	if first := priceAt(t, late, 0); !first.Snapshot {
		t.Errorf("a late client of the other node has no snapshot first: %s", first.text)
	}
}

// A node without feeds passes published prices on, and asks for what it does
// not have.
func TestOtherNodeAsksTheMaker(t *testing.T) {
	t.Parallel()
	_, url := startNATS(t, 0)
	maker, other := pair(t, url)
	watching := connect(t, maker)
	watching.subscribe(t, `"price:kaspa"`)
	token := signed(t, auth.TokenRequest{Subject: "desk", Publish: []string{"price:*"}})
	code, _, body := call(t, "POST", "http://"+other.Addr()+"/api/v1/publish", token,
		`{"type":"price_update","data":{"asset":"kaspa","price":0.125}}`)
	var receipt struct{ Offset int64 }
	if err := json.Unmarshal([]byte(body), &receipt); err != nil || code != http.StatusOK {
		t.Fatalf("publish a price at the other node: %d %s", code, body)
	}
	if got := priceAt(t, watching, receipt.Offset); got.Offset != receipt.Offset {
		t.Errorf("the maker's clients got offset %d, the publisher %d", got.Offset, receipt.Offset)
	}
	path := "/api/v1/history/prices?asset=kaspa&interval=1m"
	_, _, here := call(t, "GET", "http://"+maker.Addr()+path, "", "")
	_, _, there := call(t, "GET", "http://"+other.Addr()+path, "", "")
	if here != there || !json.Valid([]byte(here)) || len(here) < 100 {
		t.Errorf("candles at the maker: %s\nat the other: %s", here, there)
	}
}

// Without a node that makes prices a publisher is told so, and a price that
// nobody sends any more is shown as stale.
func TestMakerIsGone(t *testing.T) {
	t.Parallel()
	_, url := startNATS(t, 0)
	cfg := testConfig(eventloop.KindAuto)
	cfg.NATS.URLs = []string{url}
	clock := newHandClock(time.Now())
	cfg.Clock = clock
	s, _ := begin(t, cfg)
	token := signed(t, auth.TokenRequest{Subject: "desk", Publish: []string{"price:*"}})
	code, header, body := call(t, "POST", "http://"+s.Addr()+"/api/v1/publish", token,
		`{"type":"price_update","data":{"asset":"bitcoin","price":100000}}`)
	if code != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
		t.Errorf("publish without a maker: %d %s", code, body)
	}
	c := connect(t, s)
	c.subscribe(t, `"price:bitcoin"`)
	data := `{"symbol":"BTC","asset":"bitcoin","price":100000,"sources":[],"timestamp":"2026-01-01T00:00:00Z"}`
	if err := s.broker.Publish(&protocol.Publication{Channel: "price:bitcoin", Type: protocol.TypePrice, Data: []byte(data), Price: 100000}); err != nil {
		t.Fatal(err)
	}
	fresh := c.next(t)
	for range 2 { // the second sweep has nothing to say
		s.sweep(clock.Now() + protocol.Time(market.DefaultConfig().StaleAfter) + makerTime + protocol.Second)
	}
	stale := c.next(t)
	if want, _ := market.MarkStale([]byte(data)); string(stale.Data) != string(want) || stale.Offset <= fresh.Offset {
		t.Errorf("after a minute of silence: %s", stale.text)
	}
	c.send(t, `{"type":"ping","id":1}`)
	if next := c.next(t); next.Type != "pong" {
		t.Errorf("swept twice, told twice: %s", next.text)
	}
}

// What one node called stale is fresh again as soon as the maker says so.
func TestMakerComesBack(t *testing.T) {
	t.Parallel()
	_, url := startNATS(t, 0)
	cfg := testConfig(eventloop.KindAuto)
	cfg.NATS.URLs = []string{url}
	other, _ := begin(t, cfg)
	cfg.Feeds = []string{FeedDemo}
	_, stop := begin(t, cfg)
	c := connect(t, other)
	c.subscribe(t, `"price:bitcoin"`)
	priceAt(t, c, 0)
	stop()
	other.sweep(other.clock.Now() + protocol.Time(cfg.Market.StaleAfter) + makerTime + protocol.Second)
	gone := c.until(t, func(m said) bool { return quoteOf(t, m).Stale })
	begin(t, cfg)
	back := c.until(t, func(m said) bool { return m.Type == protocol.TypePrice && !quoteOf(t, m).Stale })
	if back.Offset <= gone.Offset {
		t.Errorf("offsets went back from %d to %d", gone.Offset, back.Offset)
	}
}

// The prices go on when NATS is back, on the same connections.
func TestNATSRestart(t *testing.T) {
	t.Parallel()
	nats, url := startNATS(t, 0)
	_, other := pair(t, url)
	c := connect(t, other)
	c.subscribe(t, `"price:bitcoin"`)
	before := priceAt(t, c, 0)
	var port int
	if _, err := fmt.Sscanf(url, "nats://127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	nats.Shutdown()
	nats.WaitForShutdown()
	gone := time.Now()
	startNATS(t, port)
	after := c.until(t, func(m said) bool {
		return m.Offset > max(before.Offset, gone.UnixMicro()) && m.Type == protocol.TypePrice
	})
	if after.Offset <= before.Offset {
		t.Errorf("offsets went back from %d to %d", before.Offset, after.Offset)
	}
}
