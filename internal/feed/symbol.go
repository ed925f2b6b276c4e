package feed

import (
	"strings"

	"cryptointel/protocol"
)

// quotes are the moneys a symbol without a separator can end in, a longer one
// before those it ends in.
var quotes = []string{"FDUSD", "USDT", "USDC", "BUSD", "TUSD", "USD", "EUR", "GBP", "JPY", "TRY", "BRL",
	"AUD", "CAD", "CHF", "KRW", "DAI", "BTC", "XBT", "ETH", "BNB", "SOL", "XRP", "TRX", "DOGE"}

// A pair is what is kept of a symbol.
type pair struct {
	symbol      string
	slug, quote string // slug is empty for a symbol without an asset

	lastText  string        // the newest price as text, shared by ticks that repeat it
	lastTrade int64         // the newest trade's id, 0 before the first
	lastAgg   int64         // the newest aggregate trade's id
	lastTime  protocol.Time // of the trade that one of the two names
	top       int64         // scratch of settle
	missing   []hole        // trades that were not seen, by id
}

// price returns the price's text. Most ticks repeat the one before: then it
// costs no allocation.
func (p *pair) price(b []byte) string {
	if string(b) != p.lastText {
		p.lastText = string(b)
	}
	return p.lastText
}

// symbols maps an exchange's symbols to pairs. Bounded: symbols come from
// outside.
type symbols struct {
	assets resolver
	pairs  map[string]*pair
}

const maxSymbols = 20_000

// find returns the pair of a symbol, nil when there is no such asset.
func (s *symbols) find(symbol []byte) *pair {
	p, ok := s.pairs[string(symbol)]
	if !ok {
		p = s.learn(string(symbol))
	}
	if p.slug == "" {
		return nil
	}
	return p
}

func (s *symbols) learn(symbol string) *pair {
	slug, quote := splitSymbol(s.assets, symbol)
	p := &pair{symbol: symbol, slug: slug, quote: quote}
	if len(s.pairs) < maxSymbols {
		if s.pairs == nil {
			s.pairs = make(map[string]*pair)
		}
		s.pairs[symbol] = p
	}
	return p
}

// splitSymbol understands BTC-USD, BTC/USD, BTCUSDT, btcusd, XBT-EUR and the
// like, as slug and quote. The slug is empty when there is no such asset.
func splitSymbol(assets resolver, symbol string) (slug, quote string) {
	symbol = strings.ToUpper(symbol)
	if i := strings.IndexAny(symbol, "-/_"); i >= 0 {
		if quote = ticker(symbol[i+1:]); !isQuote(quote) {
			return "", ""
		}
		return base(assets, symbol[:i]), quote
	}
	for _, q := range quotes {
		if b, ok := strings.CutSuffix(symbol, q); ok && b != "" {
			return base(assets, b), ticker(q)
		}
	}
	return "", ""
}

func isQuote(quote string) bool {
	for _, q := range quotes {
		if q == quote {
			return true
		}
	}
	return false
}

func base(assets resolver, name string) string {
	a, _ := assets.Resolve(ticker(name))
	return a.Slug
}

// ticker gives the usual ticker for those that only Kraken spells its own way.
func ticker(name string) string {
	switch name {
	case "XBT":
		return "BTC"
	case "XDG":
		return "DOGE"
	}
	return name
}
