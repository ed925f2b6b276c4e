package server

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"cryptointel/internal/broker"
	"cryptointel/internal/gateway"
	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// What nodes ask one another.
const (
	askPrice   = "price"   // take a published price
	askCandles = "candles" // bars of an asset
)

// ingests reports whether this node makes the prices: alone it always does,
// and on a shared NATS the node with feeds does. There must be one.
func (s *Server) ingests() bool {
	return len(s.cfg.NATS.URLs) == 0 || len(s.cfg.exchanges()) > 0 || s.cfg.simulated()
}

// join begins to hear what is published, and to answer the other nodes.
func (s *Server) join() (leave func(), err error) {
	var leaves []func()
	leave = func() {
		for _, f := range slices.Backward(leaves) {
			f()
		}
	}
	unsubscribe, err := s.broker.Subscribe(s.loops.Publish)
	if err != nil {
		return nil, err
	}
	leaves = append(leaves, unsubscribe)
	if !s.ingests() {
		return leave, nil
	}
	for name, answer := range map[string]func(context.Context, []byte) ([]byte, error){
		askPrice: s.answerPrice, askCandles: s.answerCandles,
	} {
		stop, err := s.broker.Serve(name, answer)
		if err != nil {
			leave()
			return nil, err
		}
		leaves = append(leaves, stop)
	}
	return leave, nil
}

// priceDesk is where published prices go: to the market of this node, or of
// the one that makes the prices.
func (s *Server) priceDesk() interface {
	protocol.Directory
	Price(ctx context.Context, q gateway.Quote) (int64, error)
} {
	if s.ingests() {
		return s.market
	}
	return far{s}
}

// candles is where bars come from.
func (s *Server) candles() interface {
	Candles(asset, interval string, from, to protocol.Time, limit int) ([]gateway.Candle, error)
} {
	if s.ingests() {
		return near{s.history}
	}
	return far{s}
}

// far asks the node that makes the prices.
type far struct{ s *Server }

func (f far) Slug(name string) (string, bool) { return f.s.assets.Slug(name) }

func (f far) Price(ctx context.Context, q gateway.Quote) (offset int64, err error) {
	err = f.ask(ctx, askPrice, q, &offset)
	return offset, err
}

// A candleQuestion is what near.Candles is called with.
type candleQuestion struct {
	Asset, Interval string
	From, To        protocol.Time
	Limit           int
}

func (f far) Candles(asset, interval string, from, to protocol.Time, limit int) (out []gateway.Candle, err error) {
	err = f.ask(context.Background(), askCandles, candleQuestion{asset, interval, from, to, limit}, &out)
	return out, err
}

func (f far) ask(ctx context.Context, name string, question, answer any) error {
	request, err := json.Marshal(question)
	if err != nil {
		return err
	}
	reply, err := f.s.broker.Ask(ctx, name, request)
	if errors.Is(err, broker.ErrNobody) {
		return &protocol.Error{Code: protocol.ConnectionFull, RetryAfter: 5 * protocol.Second,
			Message: "no node of this installation has feeds at the moment, so none makes prices; try again"}
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(reply, answer)
}

func (s *Server) answerPrice(ctx context.Context, request []byte) ([]byte, error) {
	var q gateway.Quote
	if err := json.Unmarshal(request, &q); err != nil {
		return nil, err
	}
	offset, err := s.market.Price(ctx, q)
	if err != nil {
		return nil, err
	}
	return json.Marshal(offset)
}

func (s *Server) answerCandles(_ context.Context, request []byte) ([]byte, error) {
	var q candleQuestion
	if err := json.Unmarshal(request, &q); err != nil {
		return nil, err
	}
	candles, err := near{s.history}.Candles(q.Asset, q.Interval, q.From, q.To, q.Limit)
	if err != nil {
		return nil, err
	}
	return json.Marshal(candles)
}

// lastPrices is the data of every asset's newest price, the largest first,
// whichever node made it.
func (s *Server) lastPrices() [][]byte {
	var out [][]byte
	for _, a := range s.assets.All() {
		if p := s.broker.Last("price:" + a.Slug); p != nil {
			out = append(out, p.Data)
		}
	}
	return out
}

// makerTime is how much longer than the maker of the prices another node waits
// before it calls one stale: the maker's own word comes first.
const makerTime = 5 * protocol.Second

// sweep tells clients which prices are stale: the market knows where it is,
// elsewhere it is those that nobody has sent for as long.
func (s *Server) sweep(now protocol.Time) {
	if s.ingests() {
		s.market.sweep()
		return
	}
	limit := protocol.Time(s.cfg.Market.StaleAfter)
	for _, p := range s.broker.LastAll(nil) {
		silent := now - protocol.Time(p.TS)*protocol.Millisecond
		if limit == 0 || silent <= limit+makerTime || !strings.HasPrefix(p.Channel, "price:") {
			continue
		}
		if data, ok := market.MarkStale(p.Data); ok {
			s.warn(context.Background(), "a price is not shown as stale", s.broker.Annotate(p.Channel, data))
		}
	}
}

// restore has the market go on from the offsets that other nodes have seen.
func (s *Server) restore(m *market.Market) {
	for _, p := range s.broker.LastAll(nil) {
		if strings.HasPrefix(p.Channel, "price:") {
			m.Restore(*p)
		}
	}
}
