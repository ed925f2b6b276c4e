package feed

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// DemoConfig sets the simulated market.
type DemoConfig struct {
	// Seed makes the market: the same seed gives the same ticks. 1 by default.
	Seed uint64 `help:"The same seed gives the same market." default:"1"`
	// Rate is the ticks a second over all assets, 25 by default; bursts come
	// on top. Raise it to load a server, up to 10,000. It has no off.
	Rate float64 `help:"Ticks a second over all assets." default:"25"`
}

// DefaultDemoConfig returns the defaults.
func DefaultDemoConfig() DemoConfig { return DemoConfig{Seed: 1, Rate: 25} }

func (c DemoConfig) validate() error {
	if !(c.Rate > 0 && c.Rate <= 10_000) {
		return fmt.Errorf("demo.rate is %v: use more than 0 and at most 10000", c.Rate)
	}
	return nil
}

const (
	demoStep = 20 * protocol.Millisecond
	// demoCatchUp bounds what is simulated at once after a pause, such as a
	// laptop's sleep; the rest of the pause has no prices.
	demoCatchUp = 10 * protocol.Second
)

// How the market moves, in natural logarithms of the price and seconds. The
// figures make it livelier than a real one, so that a few minutes show trends,
// jumps and bursts, and keep prices within some 15 % of where they began.
const (
	marketVol   = 2e-4 // of the whole market, a root second
	marketTrend = 1e-5 // a second, of a trend that lasts
	trendLife   = 180  // seconds
	pull        = 5e-5 // a second, back to the start price
	jumpRate    = 1.0 / 1800
	burstRate   = 1.0 / 600
	marketJumps = 1.0 / 2400
)

// A Demo simulates a market of 50 real assets. All its ticks say Demo. One
// goroutine owns it.
type Demo struct {
	cfg   DemoConfig
	out   sink
	clock clock
	rng   *rand.Rand
	coins []coin
	trend float64       // of the market
	at    protocol.Time // of the last step; 0 before the first
	trade int64
	ticks []market.Tick // of the last Step
}

// NewDemo prepares the market with a made-up past day. Assets that the
// registry lacks are left out.
func NewDemo(cfg DemoConfig, assets resolver, out sink, c clock) (*Demo, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	d := &Demo{cfg: cfg, out: out, clock: c, rng: rand.New(rand.NewPCG(cfg.Seed, 0))}
	weights := 0.0
	for _, k := range demoCoins {
		a, ok := assets.Resolve(k.slug)
		if !ok || a.Slug != k.slug {
			continue
		}
		d.coins = append(d.coins, newCoin(k, len(d.coins), d.rng))
		weights += d.coins[len(d.coins)-1].rate
	}
	for i := range d.coins {
		d.coins[i].rate *= cfg.Rate / weights
	}
	return d, nil
}

// Run delivers ticks until ctx is done, then returns nil.
func (d *Demo) Run(ctx context.Context) error {
	for next := d.clock.Now(); ; next += demoStep {
		if d.clock.Wait(ctx, next) != nil {
			return nil
		}
		now := d.clock.Now()
		next = max(next, now-demoStep)
		if ticks := d.Step(now); len(ticks) > 0 {
			if err := d.out.Deliver(ctx, ticks); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("demo: deliver: %w", err)
			}
		}
	}
}

// Step moves the market on to now and returns what happened, valid until the
// next Step. The first one gives every asset its price. The market moves in
// steps of 20 ms from the first one on, so how often Step is called changes
// nothing.
func (d *Demo) Step(now protocol.Time) []market.Tick {
	d.ticks = d.ticks[:0]
	if d.at == 0 {
		d.at = now
		for i := range d.coins {
			d.coins[i].bucketEnd = now + demoBucket
			d.emit(&d.coins[i])
		}
		return d.ticks
	}
	d.at = max(d.at, now-demoCatchUp)
	for d.at+demoStep <= now {
		d.at += demoStep
		d.step()
	}
	return d.ticks
}

func (d *Demo) step() {
	const dt = float64(demoStep) / float64(protocol.Second)
	r := d.rng
	d.trend = drift(r, d.trend, marketTrend, dt)
	move := d.trend*dt + marketVol*math.Sqrt(dt)*r.NormFloat64()
	if r.Float64() < marketJumps*dt {
		move += sign(r) * (0.005 + 0.015*r.Float64())
	}
	for i := range d.coins {
		c := &d.coins[i]
		c.move(r, move, dt)
		c.roll(d.at)
		expected := c.rate * dt
		if c.burst > 0 {
			expected *= 3
		}
		for n := int(expected + r.Float64()); n > 0; n-- {
			d.emit(c)
		}
	}
}

// drift moves a trend: it dies away within trendLife and is born again.
func drift(r *rand.Rand, trend, size, dt float64) float64 {
	return trend - trend*dt/trendLife + size*math.Sqrt(2*dt/trendLife)*r.NormFloat64()
}

func sign(r *rand.Rand) float64 {
	if r.Uint64()&1 == 0 {
		return 1
	}
	return -1
}

// emit makes a tick: a trade close to the price.
func (d *Demo) emit(c *coin) {
	text := priceText(c.start * math.Exp(c.log+2e-5*d.rng.NormFloat64()))
	price, _ := strconv.ParseFloat(text, 64)
	dollars := c.daily / 86400 / c.rate * d.rng.ExpFloat64()
	if c.burst > 0 {
		dollars *= c.strength
	}
	c.trade(price, dollars)
	d.trade++
	d.ticks = append(d.ticks, market.Tick{
		Exchange: "demo", Asset: c.slug, Quote: "USD",
		Price: price, PriceText: text, Size: dollars / price,
		Time: d.at, Received: d.at, Kind: market.Ticker, TradeID: d.trade,
		Day: c.day(price), Demo: true,
	})
}

// priceText writes a price with about as many digits as an exchange would.
func priceText(price float64) string {
	digits := 2
	for limit := 1000.0; price < limit && digits < 12; limit /= 10 {
		digits++
	}
	if digits > 2 {
		digits--
	}
	return strconv.FormatFloat(price, 'f', digits, 64)
}
