package feed

import (
	"math"
	"math/rand/v2"
	"strconv"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// demoCoin is how a simulated asset begins.
type demoCoin struct {
	slug  string
	start float64 // dollars
	daily float64 // volume of a day in dollars
}

// demoCoins are 50 assets, the largest first, with prices and volumes of about
// January 2026.
var demoCoins = []demoCoin{
	{"bitcoin", 90700, 33e9}, {"ethereum", 3110, 18e9}, {"ripple", 2.07, 2.6e9}, {"binancecoin", 905, 1.6e9},
	{"solana", 139, 3.4e9}, {"tron", 0.2985, 600e6}, {"dogecoin", 0.1385, 1.1e9}, {"cardano", 0.389, 520e6},
	{"bitcoin-cash", 637, 420e6}, {"monero", 577, 230e6}, {"chainlink", 13.15, 430e6}, {"stellar", 0.2265, 140e6},
	{"sui", 1.79, 720e6}, {"zcash", 391, 610e6}, {"litecoin", 77.6, 390e6}, {"avalanche-2", 13.7, 310e6},
	{"hyperliquid", 24.2, 190e6}, {"shiba-inu", 0.0000085, 120e6}, {"hedera-hashgraph", 0.117, 110e6},
	{"the-open-network", 1.76, 95e6}, {"crypto-com-chain", 0.099, 25e6}, {"uniswap", 5.42, 220e6},
	{"polkadot", 2.08, 150e6}, {"mantle", 0.96, 60e6}, {"bittensor", 284, 110e6}, {"aave", 165, 210e6},
	{"pepe", 0.0000059, 420e6}, {"okb", 114, 30e6}, {"near", 1.69, 160e6}, {"ethereum-classic", 12.4, 65e6},
	{"ethena", 0.214, 180e6}, {"internet-computer", 3.21, 70e6}, {"polygon-ecosystem-token", 0.152, 140e6},
	{"worldcoin-wld", 0.574, 85e6}, {"aptos", 1.78, 90e6}, {"render-token", 2.32, 110e6}, {"cosmos", 2.55, 60e6},
	{"kaspa", 0.0468, 35e6}, {"ondo-finance", 0.392, 65e6}, {"algorand", 0.131, 45e6}, {"arbitrum", 0.203, 95e6},
	{"official-trump", 5.38, 130e6}, {"filecoin", 1.49, 120e6}, {"quant-network", 73.2, 18e6},
	{"vechain", 0.01172, 28e6}, {"optimism", 0.311, 70e6}, {"injective-protocol", 5.12, 55e6},
	{"bonk", 0.0000107, 160e6}, {"celestia", 0.552, 60e6}, {"the-graph", 0.0405, 25e6},
}

const (
	demoBucket  = 5 * protocol.Minute
	demoBuckets = 288 // a day
)

// A span is five minutes of a simulated asset.
type span struct{ open, high, low, size, dollars float64 }

// A coin is a simulated asset.
type coin struct {
	demoCoin
	log   float64 // of its price over the start price
	trend float64
	beta  float64 // how much of the market's moves it makes
	vol   float64 // of its own, a root second
	rate  float64 // ticks a second

	burst    float64 // seconds that a volume burst has left
	strength float64 // of the burst

	past      [demoBuckets]span // the last day, a ring
	newest    int
	bucketEnd protocol.Time
	whole     span // of all but the newest
}

func newCoin(k demoCoin, rank int, r *rand.Rand) coin {
	c := coin{
		demoCoin: k,
		beta:     0.8 + 0.8*r.Float64(),
		vol:      1e-4 + 3e-4*r.Float64(),
		rate:     math.Pow(float64(rank+1), -0.7),
	}
	if rank == 0 {
		c.beta, c.vol = 1, 5e-5 // the largest is the market
	}
	c.pastDay(r)
	return c
}

// pastDay makes up a day that ends at the start price.
func (c *coin) pastDay(r *rand.Rand) {
	step := math.Hypot(marketVol*c.beta, c.vol) * math.Sqrt(float64(demoBucket/protocol.Second)) / 2
	price := c.start
	for i := demoBuckets - 1; i >= 0; i-- {
		end := price
		price *= math.Exp(step*r.NormFloat64() - 0.02*math.Log(price/c.start))
		wick := 1 + step*r.ExpFloat64()/2
		dollars := c.daily / demoBuckets * (0.5 + r.ExpFloat64()/2)
		c.past[i] = span{price, max(price, end) * wick, min(price, end) / wick, dollars / price, dollars}
	}
	c.newest = demoBuckets - 1
	c.sum()
}

// move makes a step of dt seconds, in which the market made its own.
func (c *coin) move(r *rand.Rand, market, dt float64) {
	c.trend = drift(r, c.trend, 2*marketTrend, dt)
	c.log += c.beta*market + c.trend*dt + c.vol*math.Sqrt(dt)*r.NormFloat64() - pull*c.log*dt
	c.burst = max(0, c.burst-dt)
	if r.Float64() < jumpRate*dt {
		c.log += sign(r) * (0.01 + 0.03*r.Float64())
		c.begin(r)
	}
	if r.Float64() < burstRate*dt {
		c.begin(r)
	}
	// The tails of a long run stay in sight of the start.
	c.log = min(max(c.log, -1), 1)
}

// begin starts a volume burst.
func (c *coin) begin(r *rand.Rand) {
	c.burst = 20 + 40*r.Float64()
	c.strength = 5 + 15*r.Float64()
}

// roll begins new spans as time passes.
func (c *coin) roll(now protocol.Time) {
	for now >= c.bucketEnd {
		c.bucketEnd += demoBucket
		price := c.start * math.Exp(c.log)
		c.newest = (c.newest + 1) % demoBuckets
		c.past[c.newest] = span{open: price, high: price, low: price}
		c.sum()
	}
}

// sum makes whole anew: so it neither drifts nor keeps what is over a day old.
func (c *coin) sum() {
	c.whole = span{open: c.past[(c.newest+1)%demoBuckets].open, low: math.Inf(1)}
	for i := range c.past {
		if i != c.newest {
			p := &c.past[i]
			c.whole.high, c.whole.low = max(c.whole.high, p.high), min(c.whole.low, p.low)
			c.whole.size, c.whole.dollars = c.whole.size+p.size, c.whole.dollars+p.dollars
		}
	}
}

// trade enters a trade into the newest span.
func (c *coin) trade(price, dollars float64) {
	p := &c.past[c.newest]
	p.high, p.low = max(p.high, price), min(p.low, price)
	p.size, p.dollars = p.size+dollars/price, p.dollars+dollars
}

// asQuoted is a price with the decimals an exchange would give it.
func asQuoted(price float64) float64 {
	quoted, _ := strconv.ParseFloat(priceText(price), 64) // it is a number: we wrote it
	return quoted
}

// day is the last 24 hours as an exchange would give them.
func (c *coin) day(price float64) market.Day {
	p := &c.past[c.newest]
	return market.Day{
		Has:         true,
		Open:        c.whole.open,
		High:        asQuoted(max(c.whole.high, p.high, price)),
		Low:         asQuoted(min(c.whole.low, p.low, price)),
		Volume:      c.whole.size + p.size,
		QuoteVolume: c.whole.dollars + p.dollars,
	}
}
