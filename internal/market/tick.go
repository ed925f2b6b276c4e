package market

import "cryptointel/protocol"

// A Kind says what a tick was made from.
type Kind uint8

// The kinds of ticks.
const (
	Trade  Kind = iota // one trade, or several at one price
	Ticker             // the exchange's summary of its last trade and 24 hours
	Bar                // a finished bar: Price is its close, Size its volume
)

// A Tick is one observation of a price by a source.
type Tick struct {
	Exchange  string // the source: "coinbase", "demo", "api:<issuer>"
	Asset     string // slug
	Quote     string // what Price counts in, upper case: "USD", "USDT", "EUR"
	Price     float64
	PriceText string        // the exchange's own digits; may be empty
	Size      float64       // of a trade or bar, in the asset; 0 when unknown
	High, Low float64       // of a bar; 0 otherwise
	Time      protocol.Time // the exchange's clock
	// Received is when the frame arrived, on the feed's clock: the wall clock
	// for a live feed, the recording's shifted clock for a replay. What is
	// "future" and how old a price is are judged against it.
	Received protocol.Time
	Kind     Kind
	TradeID  int64 // 0 when there is none
	Day      Day
	Demo     bool // from the simulation: never shown without its mark
	// Published is set for a price that came by the publish API: it is shown
	// among the sources, and sets the price while no exchange's is fresh.
	Published bool
	// Late is set for a trade that was learnt of after the fact (a gap that
	// was refilled): it counts in windows and candles at its own time and
	// never moves the price.
	Late bool
}

// A Day is the exchange's own statistics of the last 24 hours. Zero fields are
// unknown.
type Day struct {
	Has         bool // any of the fields is set
	Open        float64
	High, Low   float64
	Volume      float64 // in the asset
	QuoteVolume float64 // in the quote; wins over Volume
}

// dollar reports whether quote is the US dollar or a token redeemable for it.
func dollar(quote string) bool { return quote == "USD" || coinOf(quote) != "" }

// coinOf is the asset that a token redeemable for a dollar is, "" for
// anything else. Its own price says what a price in it is worth in dollars.
func coinOf(quote string) (slug string) {
	switch quote {
	case "USDT":
		return "tether"
	case "USDC":
		return "usd-coin"
	case "FDUSD":
		return "first-digital-usd"
	case "BUSD":
		return "binance-usd"
	case "DAI":
		return "dai"
	case "TUSD":
		return "true-usd"
	case "PYUSD":
		return "paypal-usd"
	case "RLUSD":
		return "ripple-usd"
	case "USDS":
		return "usds"
	case "USDG":
		return "global-dollar"
	case "GUSD":
		return "gemini-dollar"
	}
	return ""
}
