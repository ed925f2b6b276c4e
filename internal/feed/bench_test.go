package feed

import (
	"fmt"
	"strings"
	"testing"

	"cryptointel/internal/market"
)

// BenchmarkCodec is one frame into its tick.
func BenchmarkCodec(b *testing.B) {
	assets := registry(b)
	btc := coinbaseTradeText("BTC-USD", 1, "65083.67")
	benchmarks := []struct {
		name  string
		codec Codec
		frame string
	}{
		{"coinbase/ticker", NewCoinbase(assets), `{"channel":"ticker","timestamp":"2026-08-09T21:05:48.229198328Z","sequence_num":6,"events":[{"type":"snapshot","tickers":[{"type":"ticker","product_id":"BTC-USD","price":"65086.18","volume_24_h":"2867.54532609","low_24_h":"64675.22","high_24_h":"65252.99","low_52_w":"57717.55","high_52_w":"126296","price_percent_chg_24_h":"0.09601107287722","best_bid":"65083.66","best_ask":"65083.67","best_bid_quantity":"0.20371215","best_ask_quantity":"0.24290402"}]}]}`},
		{"coinbase/trade", NewCoinbase(assets), fmt.Sprintf(coinbaseTradeFrame, 0, btc)},
		{"coinbase/level2", NewCoinbase(assets), `{"channel":"l2_data","timestamp":"2026-08-09T21:05:48.483587501Z","sequence_num":1,"events":[{"type":"snapshot","updates":[` + strings.Repeat(`{"price_level":"1"},`, 100) + `{}]}]}`},
		{"binance/trade", NewBinance(assets), `{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}`},
		{"binance/bookTicker", NewBinance(assets), `{"stream":"btcusdt@bookTicker","data":{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}}`},
		{"okx/ticker", NewOKX(assets), okxTickerFrame("BTC-USDT", "30236.10", okxTime)},
		{"okx/repeat", NewOKX(assets), okxTradesFrame(okxTradeText("BTC-USDT", 10, 1))},
		{"bybit/ticker", NewBybit(assets), bybitTickerFrame("BTCUSDT", "65140.5", bybitTime)},
		{"bitstamp/repeat", NewBitstamp(assets), bitstampTradeFrame("btcusd", 10)},
	}
	for _, bb := range benchmarks {
		b.Run(bb.name, func(b *testing.B) {
			frame := []byte(bb.frame)
			var out []market.Tick
			b.ReportAllocs()
			b.SetBytes(int64(len(frame)))
			for b.Loop() {
				out, _ = bb.codec.Decode(frame, now0, out[:0])
				if c, ok := bb.codec.(*Coinbase); ok && c.symbols.pairs["BTC-USD"] != nil {
					c.symbols.pairs["BTC-USD"].lastTrade = 0 // the same trade again is new
				} else if c, ok := bb.codec.(*Binance); ok && c.symbols.pairs["BTCUSDT"] != nil {
					c.symbols.pairs["BTCUSDT"].lastTrade = 0
				}
			}
		})
	}
}
