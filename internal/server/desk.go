package server

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"golang.org/x/time/rate"

	"cryptointel/internal/broker"
	"cryptointel/internal/gateway"
	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// A desk is where ticks from all feeds and from the publish API reach the
// market, one at a time.
type desk struct {
	assets *market.Registry
	now    func() protocol.Time

	mu     sync.Mutex // serialises Observe and Sweep
	market *market.Market
}

// Deliver takes ticks from a feed.
func (d *desk) Deliver(_ context.Context, ticks []market.Tick) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range ticks {
		d.market.Observe(t)
	}
	return nil
}

func (d *desk) stats() market.Stats { return d.market.Stats() }

func (d *desk) sweep() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.market.Sweep(d.now())
}

// Slug makes the desk the door's directory.
func (d *desk) Slug(name string) (string, bool) { return d.assets.Slug(name) }

// Price takes a published price: its issuer is one more source.
func (d *desk) Price(_ context.Context, q gateway.Quote) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	offset, reason := d.market.Observe(market.Tick{
		Exchange: "api:" + q.Issuer, Asset: q.Asset, Quote: "USD", Price: q.Price,
		Time: q.At, Received: d.now(), Kind: market.Ticker, Published: true,
		Day: market.Day{Has: q.Volume24h > 0, QuoteVolume: q.Volume24h},
	})
	switch reason {
	case market.Accepted, market.Confirmed, market.Behind, market.Outranked:
		return offset, nil
	}
	return 0, &protocol.Error{Code: protocol.InvalidMessage, Message: "the price was not taken: " + whyNot(reason)}
}

// whyNot tells a publisher what became of its price.
func whyNot(reason market.Reason) string {
	switch reason {
	case market.Old:
		return "its timestamp is before that of your last one"
	case market.Future:
		return "its timestamp is more than a minute ahead"
	case market.Jump:
		return "it is more than 50 % from your last one; repeat it for 10 s if it is right"
	case market.Outlier:
		return "it is too far off the other sources'"
	case market.TooManySources:
		return "the asset has as many sources as this server takes (market.max_sources)"
	}
	return reason.String()
}

// Seed takes an exchange's bars of the last day.
func (d *desk) Seed(asset, exchange string, bars []market.Candle) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.market.Seed(asset, exchange, bars)
}

// near reads this node's bars.
type near struct{ history *market.History }

func (n near) Candles(asset, interval string, from, to protocol.Time, limit int) ([]gateway.Candle, error) {
	bars, err := n.history.Candles(asset, interval, from, to, limit)
	out := make([]gateway.Candle, len(bars))
	for i, b := range bars {
		out[i] = gateway.Candle(b)
		out[i].Volume = round(b.Volume, 100) // cents
	}
	return out, err
}

// prices is where the market's publications go.
type prices struct {
	broker  *broker.Broker
	log     *slog.Logger
	trouble rate.Sometimes
}

func (p *prices) Publish(pub protocol.Publication) {
	if err := p.broker.Publish(&pub); err != nil && !errors.Is(err, broker.ErrClosed) {
		p.trouble.Do(func() { p.log.Warn("price not published", "channel", pub.Channel, "err", err) })
	}
}

// states is where the state publications of the publish API go.
type states struct{ broker *broker.Broker }

func (s states) Publish(_ context.Context, p *protocol.Publication) (int64, error) {
	if err := s.broker.Publish(p); err != nil {
		return 0, err
	}
	return p.Offset, nil
}

// signals is where published signals go.
type signals struct{ broker *broker.Broker }

func (s signals) Append(ctx context.Context, e gateway.Entry) (int64, error) {
	return s.broker.Append(ctx, e.Issuer, e.Publication, e.Content[:])
}
