package feed

import "strings"

// majors are the coins that are followed when an exchange does not tell what
// it has: large ones that have been listed everywhere for years.
const majors = "BTC ETH SOL XRP ADA DOGE AVAX LINK LTC BCH DOT UNI XLM ATOM AAVE USDT USDC"

// majorListings is the built-in list of an exchange.
func majorListings(exchange string, s *symbols) (out []Listing) {
	for coin := range strings.FieldsSeq(majors) {
		quote, separator := "USD", ""
		switch exchange {
		case "coinbase":
			separator = "-"
		case "kraken":
			separator = "/"
		case "okx":
			quote, separator = "USDT", "-"
		case "binance", "bybit":
			quote = "USDT"
		}
		if coin == quote {
			continue
		}
		symbol := coin + separator + quote
		if exchange == "bitstamp" {
			symbol = strings.ToLower(symbol)
		}
		if l, ok := s.listing(symbol); ok {
			out = append(out, l)
		}
	}
	return out
}
