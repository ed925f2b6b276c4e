package feed

import (
	"fmt"
	"strings"
	"testing"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

const bybitTime = 1786310819126

func bybitTradeText(symbol string, id int) string {
	return fmt.Sprintf(`{"i":"%d","T":%d,"p":"65140.50","v":"0.002705","S":"Buy","seq":1,"s":%q,"BT":false,"RPI":false}`, id, bybitTime+id, symbol)
}

func bybitTradesFrame(trades ...string) string {
	return `{"topic":"publicTrade.BTCUSDT","ts":1786310822606,"type":"snapshot","data":[` + strings.Join(trades, ",") + `]}`
}

func bybitTickerFrame(symbol, last string, ts int) string {
	return fmt.Sprintf(`{"topic":"tickers.%s","ts":%d,"type":"snapshot","cs":112488546160,"data":{"symbol":%q,"lastPrice":%q,"highPrice24h":"65305.6","lowPrice24h":"64727.9","prevPrice24h":"65045.3","volume24h":"2953.835931","turnover24h":"191907024.7","price24hPcnt":"0.0015","usdIndexPrice":"65091.459221"}}`, symbol, ts, symbol, last)
}

func TestBybit(t *testing.T) {
	btc := func(ids ...int) string {
		var all []string
		for _, id := range ids {
			all = append(all, bybitTradeText("BTCUSDT", id))
		}
		return bybitTradesFrame(all...)
	}
	trade := func(id int) string { return fmt.Sprintf("bitcoin/USDT:65140.50@%d", id) }
	bad := func(old, new string) step {
		return step{frame: strings.Replace(btc(1), old, new, 1), bad: true}
	}
	tests := []struct {
		name  string
		steps []step
		reset int // before this step; 0 is never
		stats Stats
	}{
		{name: "ids jump without a loss", steps: []step{
			{frame: btc(10, 11), want: []string{trade(10), trade(11)}}, {frame: btc(33), want: []string{trade(33)}},
		}},
		{name: "repeats", reset: 1, steps: []step{
			{frame: btc(10, 10, 11), want: []string{trade(10), trade(11)}}, {frame: btc(11, 12), want: []string{trade(12)}},
		}, stats: Stats{Duplicates: 2}},
		{name: "tickers", steps: []step{
			{frame: bybitTickerFrame("BTCUSDT", "65140.5", bybitTime), want: []string{"bitcoin/USDT:65140.5@0"}},
			{frame: bybitTickerFrame("ETHEUR", "1900", bybitTime), want: []string{"ethereum/EUR:1900@0"}},
			{frame: bybitTickerFrame("BTCUSDT", "", bybitTime)}, {frame: bybitTickerFrame("NOPEUSDT", "1", bybitTime)},
		}, stats: Stats{Unknown: 1, Ignored: map[string]uint64{"ticker without price": 1}}},
		{name: "perpetuals are known by their form", steps: []step{
			{frame: `{"topic":"tickers.BTCUSDT","type":"delta","data":{"symbol":"BTCUSDT","lastPrice":"1"},"cs":1,"ts":1786310817883}`},
			{frame: `{"topic":"tickers.BTCUSDT","type":"snapshot","data":{"symbol":"BTCUSDT","lastPrice":"1","markPrice":"1"},"cs":1,"ts":1786310817883}`},
			{frame: strings.Replace(btc(1), `"i":"1"`, `"i":"a9188a0a-82bc-50de-be60-03eedbe3cdd7"`, 1)},
		}, stats: Stats{Ignored: map[string]uint64{"derivative": 3}}},
		{name: "not ours", steps: []step{
			{frame: strings.Replace(btc(1), `"BT":false`, `"BT":true`, 1)}, {frame: bybitTradesFrame(bybitTradeText("NOPEUSDT", 1))},
			{frame: `{"topic":"orderbook.200.BTCUSDT","type":"delta","data":{}}`}, {frame: `{"success":true,"ret_msg":"pong","conn_id":"1","op":"ping"}`}, {frame: `{}`},
		}, stats: Stats{Unknown: 1, Ignored: map[string]uint64{"block trade": 1, "orderbook": 1, "ping": 1, "unknown": 1}}},
		{name: "malformed", steps: []step{
			{frame: ``, bad: true}, {frame: `pong`, bad: true}, {frame: `"x"`, bad: true}, {frame: `{"topic"`, bad: true},
			bad(`"65140.50"`, `65140.50`), bad(`"65140.50"`, `"0x1"`), bad(`"0.002705"`, `null`), bad(`"i":"1"`, `"i":"0"`),
			bad(`"i":"1"`, `"i":1`), bad(`"T":1786310819127`, `"T":"1786310819127"`), bad(`"T":1786310819127`, `"T":-1`), bad(`"T":1786310819127`, `"T":99999999999999`),
			{frame: bybitTickerFrame("BTCUSDT", "x", bybitTime), bad: true}, {frame: bybitTickerFrame("BTCUSDT", "1", 0), bad: true},
			{frame: bybitTradesFrame(bybitTradeText("BTCUSDT", 7), `{"s":"BTCUSDT"}`), bad: true},
			{frame: btc(7), want: []string{trade(7)}}, // the frame before left no trace
		}, stats: Stats{Malformed: 15}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := NewBybit(registry(t))
			if tt.reset > 0 {
				playSteps(t, b, tt.steps[:tt.reset])
				b.Reset()
			}
			playSteps(t, b, tt.steps[tt.reset:])
			wantStats(t, b, tt.stats)
		})
	}
}

func TestBybitTicks(t *testing.T) {
	b := NewBybit(registry(t))
	got, err := b.Decode([]byte(bybitTickerFrame("BTCUSDT", "65140.5", bybitTime)), 77, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err = b.Decode([]byte(bybitTradesFrame(bybitTradeText("BTCUSDT", 4))), 78, got)
	want := []market.Tick{
		{Exchange: "bybit", Asset: "bitcoin", Quote: "USDT", Price: 65140.5, PriceText: "65140.5",
			Time: bybitTime * protocol.Millisecond, Received: 77, Kind: market.Ticker,
			Day: market.Day{Has: true, Open: 65045.3, High: 65305.6, Low: 64727.9, Volume: 2953.835931, QuoteVolume: 191907024.7}},
		{Exchange: "bybit", Asset: "bitcoin", Quote: "USDT", Price: 65140.5, PriceText: "65140.50", Size: 0.002705,
			Time: (bybitTime + 4) * protocol.Millisecond, Received: 78, TradeID: 4},
	}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %+v %v\nwant %+v", got, err, want)
	}
}

func TestBybitNotes(t *testing.T) {
	b := NewBybit(registry(t))
	for _, f := range []string{
		`{"success":true,"ret_msg":"subscribe","conn_id":"2324d924","req_id":"BTCUSDT","op":"subscribe"}`,
		`{"success":true,"ret_msg":"subscribe","conn_id":"2324d924","op":"subscribe"}`,
		`{"success":false,"ret_msg":"error:handler not found,topic:publicTrade.LIMITUSDT","conn_id":"1","req_id":"LIMITUSDT","op":"subscribe"}`,
		`{"success":false,"ret_msg":"error:handler not found,topic:publicTrade.NOPEUSDT","conn_id":"1","req_id":"","op":"subscribe"}`,
		`{"success":false,"ret_msg":"Too many visits!","conn_id":"1","req_id":"ETHUSDT","op":"subscribe"}`,
		`{"success":true,"ret_msg":"pong","conn_id":"1","op":"ping"}`,
	} {
		if _, err := b.Decode([]byte(f), now0, nil); err != nil {
			t.Fatal(err)
		}
	}
	wantNotes(t, b,
		Note{Kind: Subscribed, Symbol: "BTCUSDT"}, Note{Kind: Subscribed},
		Note{Kind: Refused, Symbol: "LIMITUSDT", Text: "error:handler not found"},
		Note{Kind: Refused, Symbol: "NOPEUSDT", Text: "error:handler not found"},
		Note{Kind: Limited, Symbol: "ETHUSDT", Text: "Too many visits!"},
	)
}

func bybitRecent(ids ...int) []byte {
	var all []string
	for _, id := range ids {
		all = append(all, fmt.Sprintf(`{"execId":"%d","symbol":"BTCUSDT","price":"65140.50","size":"0.1","side":"Buy","time":"%d","isBlockTrade":%v}`, id, bybitTime+id, id == 14))
	}
	return []byte(`{"retCode":0,"retMsg":"OK","result":{"category":"spot","list":[` + strings.Join(all, ",") + `]},"time":1672053054358}`)
}

// TestBybitRefill: only a reconnect leaves a gap; what it cost is known from
// the answer, and what the answer does not reach is not asked for again.
func TestBybitRefill(t *testing.T) {
	b := NewBybit(registry(t))
	decode := func(id int) {
		if _, err := b.Decode([]byte(bybitTradesFrame(bybitTradeText("BTCUSDT", id))), now0, nil); err != nil {
			t.Fatal(err)
		}
	}
	decode(5)
	decode(10)
	b.Reset()
	decode(20)
	decode(25)
	gap := Note{Kind: Gap, Symbol: "BTCUSDT", From: 11, To: 19, Text: uncounted,
		After: (bybitTime + 10) * protocol.Millisecond, Before: (bybitTime + 20) * protocol.Millisecond}
	wantNotes(t, b, gap)
	wantStats(t, b, Stats{})

	if _, rest, err := b.ParseRefill(gap, bybitRecent(19, 18, 10), 99); err == nil || rest != gap {
		t.Errorf("too early: got rest %+v and %v, want the gap and an error", rest, err)
	}
	got, rest, err := b.ParseRefill(gap, bybitRecent(25, 20, 19, 14, 13), 99)
	lost := gap
	lost.To, lost.Text = 12, outOfReach
	if err != nil || fmt.Sprint(ids(got)) != "[13 19]" || !got[0].Late || rest != lost {
		t.Errorf("got %+v, rest %+v, %v", got, rest, err)
	}
	if got, rest, err = b.ParseRefill(gap, bybitRecent(20, 12, 10), 99); err != nil || len(got) != 1 || rest != (Note{}) {
		t.Errorf("all of it: got %+v, rest %+v, %v", got, rest, err)
	}
	wantStats(t, b, Stats{Gaps: 2, Missing: 3, Recovered: 3})
	for _, body := range []string{``, `{"retCode":10006,"retMsg":"Too many visits!","result":{},"time":1}`, `{"retCode":0,"result":{"list":{}},"time":1}`, string(bybitRecent())} {
		if _, _, err := b.ParseRefill(gap, []byte(body), 0); err == nil {
			t.Errorf("%s: want an error", body)
		}
	}
}

// TestOverlapIsNoGap: a connection that was opened before the old one went
// repeats what is known, so a jump after that is no loss.
func TestOverlapIsNoGap(t *testing.T) {
	b := NewBybit(registry(t))
	trade := func(id int) step {
		return step{frame: bybitTradesFrame(bybitTradeText("BTCUSDT", id)), want: []string{fmt.Sprintf("bitcoin/USDT:65140.50@%d", id)}}
	}
	playSteps(t, b, []step{trade(5), trade(10)})
	b.Reset()
	playSteps(t, b, []step{{frame: trade(10).frame}, trade(20)})
	wantNotes(t, b)
	wantStats(t, b, Stats{Duplicates: 1})
}

func ids(ticks []market.Tick) (out []int64) {
	for _, k := range ticks {
		out = append(out, k.TradeID)
	}
	return out
}

func TestBybitListingsAndBars(t *testing.T) {
	b := NewBybit(registry(t))
	got, err := b.Listings([]byte(`{"retCode":0,"retMsg":"OK","result":{"category":"spot","list":[
		{"symbol":"BTCUSDT","lastPrice":"16258.75","turnover24h":"36131144.9"},{"symbol":"NOPEUSDT","lastPrice":"1"},
		{"symbol":"ETHUSDC","lastPrice":"2","turnover24h":""},{"symbol":"ETHUSDT","lastPrice":"0"}]},"time":1672046714063}`))
	want := []Listing{{"BTCUSDT", "bitcoin", "USDT", 36131144.9}, {"ETHUSDC", "ethereum", "USDC", 0}}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v %v\nwant %v", got, err, want)
	}
	bars, err := b.ParseBars("BTCUSDT", []byte(`{"retCode":0,"retMsg":"OK","result":{"list":[
		["1670608800000","17071","17073","17027","17055.5","2","34000"],
		["1670608500000","17071.5","17072","17061","17071","4","68000"],
		["1670608200000","17086.5","17088","16978","17071.5","6","102000"]]},"time":1670608860000}`))
	wantBars := []market.Candle{
		{Start: 1670608200 * protocol.Second, Open: 17086.5, High: 17088, Low: 16978, Close: 17071.5, Volume: 102000},
		{Start: 1670608500 * protocol.Second, Open: 17071.5, High: 17072, Low: 17061, Close: 17071, Volume: 68000},
	}
	if err != nil || fmt.Sprint(bars) != fmt.Sprint(wantBars) {
		t.Errorf("got  %v %v\nwant %v", bars, err, wantBars)
	}
	if _, err := b.ParseBars("", []byte(`{"retCode":0,"result":{"list":[["1670608200000"]]},"time":1}`)); err == nil {
		t.Error("a bar of one field: want an error")
	}
}
