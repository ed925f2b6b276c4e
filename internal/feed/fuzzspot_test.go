package feed

import (
	"math"
	"testing"

	"cryptointel/internal/market"
)

// fuzzSpot compares a codec with its slow twin, seeded from its capture.
func fuzzSpot(f *testing.F, exchange string, fresh func(resolver) Codec, slow func([]byte, resolver) ([]market.Tick, error), seeds ...string) {
	assets := registry(f)
	fuzzCodec(f, []string{captureFile(exchange)}, seeds,
		func(b []byte) ([]market.Tick, error) { return fresh(assets).Decode(b, 0, nil) },
		func(b []byte) ([]market.Tick, error) { return slow(b, assets) })
}

func FuzzOKX(f *testing.F) {
	fuzzSpot(f, "okx", func(r resolver) Codec { return NewOKX(r) }, slowOKX, "pong",
		okxTradesFrame(okxTradeText("BTC-USDT", 9, 3), okxTradeText("ETH-USDT", 9, 0), okxTradeText("BTC-USDT", 9, 1)),
		okxTickerFrame("BTC-USDT", "1e3", okxTime), okxTickerFrame("BTC-USDT-SWAP", "1e3", okxTime), okxTickerFrame("BTC-USDT", "1", 5),
		`{"event":"error","code":"60018","msg":"Wrong URL or channel:trades,instId:X doesn't exist."}`, `{"event":""}`)
}

func FuzzBybit(f *testing.F) {
	fuzzSpot(f, "bybit", func(r resolver) Codec { return NewBybit(r) }, slowBybit,
		bybitTradesFrame(bybitTradeText("BTCUSDT", 9), bybitTradeText("ETHUSDT", 9), bybitTradeText("BTCUSDT", 8)),
		bybitTickerFrame("BTCUSDT", "1e3", bybitTime), `{"topic":"","type":"snapshot"}`,
		`{"success":false,"ret_msg":"error:handler not found,topic:publicTrade.NOPEUSDT","op":"subscribe"}`)
}

func FuzzBitstamp(f *testing.F) {
	fuzzSpot(f, "bitstamp", func(r resolver) Codec { return NewBitstamp(r) }, slowBitstamp,
		bitstampTradeFrame("btcusd", 7), `{"event":"bts:error","channel":"live_trades_btcusd","data":{"message":"no"}}`)
}

// FuzzAnswers feeds REST answers to all parsers of the three exchanges: what
// they make of them is in order, sound and within what was asked for.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		string(okxHistory(12, 11)), string(bybitRecent(13, 12, 11)), string(bitstampTransactions(13, 11)),
		`{"code":"0","data":[{"instType":"SPOT","instId":"BTC-USDT","last":"3","volCcy24h":"5"}]}`,
		`{"code":"0","data":[["1597026300000","3.731","3.799","3.494","3.72","24","67","67.5","1"],["1597026000000","3","3","3","3","1","3","3","1"]]}`,
		`{"retCode":0,"result":{"list":[{"symbol":"BTCUSDT","lastPrice":"1","turnover24h":"3"}]},"time":1672046714063}`,
		`{"retCode":0,"result":{"list":[["1670608200000","2","3","1","2","6","102"]]},"time":1670608860000}`,
		`[{"pair":"BTC/USD","last":"93000","volume":"100","vwap":"92000"}]`,
		`{"data":{"ohlc":[{"timestamp":"1641343500","open":"10","high":"12","low":"9","close":"12","volume":"3"}]}}`,
	} {
		f.Add([]byte(seed), int64(10), int64(12))
	}
	assets := registry(f)
	symbols := map[string]string{"okx": "BTC-USDT", "bybit": "BTCUSDT", "bitstamp": "btcusd"}
	f.Fuzz(func(t *testing.T, body []byte, from, to int64) {
		for _, e := range []Exchange{NewOKX(assets), NewBybit(assets), NewBitstamp(assets)} {
			listings, _ := e.Listings(body)
			for _, l := range listings {
				if l.Symbol == "" || l.Asset == "" || l.Quote == "" || math.IsNaN(l.VolumeQuote) || len(e.Subscribe([]string{l.Symbol})) != 1 {
					t.Errorf("%s: listing %+v", e.Name(), l)
				}
			}
			bars, _ := e.ParseBars(symbols[e.Name()], body)
			for i, b := range bars {
				if b.Start%barSpan != 0 || b.Low <= 0 || b.High < b.Low || i > 0 && b.Start <= bars[i-1].Start {
					t.Errorf("%s: bars %+v", e.Name(), bars)
				}
			}
			gap := Note{Kind: Gap, Symbol: symbols[e.Name()], From: from, To: to}
			ticks, rest, err := e.ParseRefill(gap, body, 0)
			for i, k := range ticks {
				if !k.Late || k.TradeID < from || k.TradeID > to || k.Asset != "bitcoin" || i > 0 && k.TradeID <= ticks[i-1].TradeID {
					t.Errorf("%s: refill of %d to %d gives %+v", e.Name(), from, to, ticks)
				}
			}
			if from > 0 && rest.Kind == Gap && (rest.From < from || rest.To > to) || err != nil && len(ticks) > 0 {
				t.Errorf("%s: refill of %d to %d leaves %+v, %v", e.Name(), from, to, rest, err)
			}
		}
	})
}
