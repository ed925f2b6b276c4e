package feed

import (
	"fmt"
	"strings"
	"testing"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

const okxTime = 1786310819126 // 2026-08-09T21:26:59.126Z

// okxTradeText is a trade; count 0 leaves the count out.
func okxTradeText(symbol string, id, count int) string {
	s := fmt.Sprintf(`{"instId":%q,"tradeId":"%d","px":"30236.10","sz":"0.0002","side":"buy","ts":"%d"`, symbol, id, okxTime+id)
	if count > 0 {
		s += fmt.Sprintf(`,"count":"%d"`, count)
	}
	return s + `,"source":"0","seqId":1234}`
}

func okxTradesFrame(trades ...string) string {
	return `{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[` + strings.Join(trades, ",") + `]}`
}

func okxTickerFrame(symbol, last string, ts int) string {
	return fmt.Sprintf(`{"arg":{"channel":"tickers","instId":%q},"data":[{"instType":"SPOT","instId":%q,"last":%q,"lastSz":"0.0002","open24h":"29700.4","high24h":"31073","low24h":"28020.3","volCcy24h":"525802090.6","vol24h":"17602.1","ts":"%d"}]}`, symbol, symbol, last, ts)
}

func TestOKX(t *testing.T) {
	btc := func(id, count int) string { return okxTradesFrame(okxTradeText("BTC-USDT", id, count)) }
	one := func(id int) []string { return []string{fmt.Sprintf("bitcoin/USDT:30236.10@%d", id)} }
	bad := func(old, new string) step {
		return step{frame: strings.Replace(btc(1, 1), old, new, 1), bad: true}
	}
	tests := []struct {
		name  string
		steps []step
		stats Stats
	}{
		{name: "counts close what looks like gaps", steps: []step{
			{frame: btc(10, 1), want: one(10)}, {frame: btc(13, 3), want: one(13)}, {frame: btc(14, 0), want: one(14)},
		}},
		{name: "gap before an aggregate", steps: []step{
			{frame: btc(10, 1), want: one(10)}, {frame: btc(16, 3), want: one(16)},
		}, stats: Stats{Gaps: 1, Missing: 3}},
		{name: "repeats and disorder", steps: []step{
			{frame: btc(10, 1), want: one(10)}, {frame: btc(12, 1), want: one(12)}, {frame: btc(11, 1)}, {frame: btc(12, 2)}, {frame: btc(13, 1), want: one(13)},
		}, stats: Stats{Gaps: 1, Missing: 1, Duplicates: 2}},
		{name: "an instrument's ids are its own", steps: []step{
			{frame: okxTradesFrame(okxTradeText("BTC-USDT", 12, 1), okxTradeText("ETH-USDT", 3, 1), okxTradeText("BTC-USDT", 11, 1)),
				want: []string{"ethereum/USDT:30236.10@3", "bitcoin/USDT:30236.10@11", "bitcoin/USDT:30236.10@12"}},
		}},
		{name: "tickers", steps: []step{
			{frame: okxTickerFrame("BTC-USDT", "30236.10", okxTime), want: []string{"bitcoin/USDT:30236.10@0"}},
			{frame: okxTickerFrame("BTC-USDT", "", okxTime)},
			{frame: okxTickerFrame("NOPE-USDT", "1", okxTime)},
		}, stats: Stats{Unknown: 1, Ignored: map[string]uint64{"ticker without price": 1}}},
		{name: "derivatives make no price", steps: []step{
			{frame: okxTickerFrame("BTC-USDT-SWAP", "1", okxTime)}, {frame: okxTickerFrame("BTC-USD-220527", "1", okxTime)},
			{frame: okxTradesFrame(okxTradeText("UNI-USD-SWAP", 1, 1), okxTradeText("BTC-USDT", 1, 1)), want: one(1)},
		}, stats: Stats{Ignored: map[string]uint64{"derivative": 3}}},
		{name: "not ours", steps: []step{
			{frame: `pong`}, {frame: `{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"snapshot","data":[{"asks":[]}]}`}, {frame: `{}`},
			{frame: `{"event":"channel-conn-count","channel":"trades","connCount":"2"}`},
		}, stats: Stats{Ignored: map[string]uint64{"pong": 1, "books": 1, "unknown": 1, "channel-conn-count": 1}}},
		{name: "malformed", steps: []step{
			{frame: ``, bad: true}, {frame: `ping`, bad: true}, {frame: `[]`, bad: true}, {frame: `{"arg":`, bad: true},
			bad(`"30236.10"`, `30236.10`), bad(`"30236.10"`, `"Infinity"`), bad(`"0.0002"`, `""`), bad(`"tradeId":"1"`, `"tradeId":"-1"`),
			bad(`"tradeId":"1"`, `"tradeId":"99999999999999999999"`), bad(`"ts":"1786310819127"`, `"ts":"0"`),
			bad(`"count":"1"`, `"count":"2"`), bad(`"count":"1"`, `"count":1`), bad(`"count":"1"`, `"count":"99999"`),
			{frame: okxTickerFrame("BTC-USDT", "x", okxTime), bad: true}, {frame: okxTickerFrame("BTC-USDT", "1", -1), bad: true},
			{frame: okxTradesFrame(okxTradeText("BTC-USDT", 7, 1), okxTradeText("BTC-USDT", 8, 9)), bad: true},
			{frame: btc(7, 1), want: one(7)}, // the frame before left no trace
		}, stats: Stats{Malformed: 16}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := NewOKX(registry(t))
			playSteps(t, o, tt.steps)
			wantStats(t, o, tt.stats)
		})
	}
}

func TestOKXTicker(t *testing.T) {
	got, err := NewOKX(registry(t)).Decode([]byte(okxTickerFrame("BTC-USDT", "30236.10", okxTime)), 77, nil)
	want := []market.Tick{{Exchange: "okx", Asset: "bitcoin", Quote: "USDT", Price: 30236.1, PriceText: "30236.10",
		Time: okxTime * protocol.Millisecond, Received: 77, Kind: market.Ticker,
		Day: market.Day{Has: true, Open: 29700.4, High: 31073, Low: 28020.3, Volume: 17602.1, QuoteVolume: 525802090.6}}}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %+v %v\nwant %+v", got, err, want)
	}
}

// TestOldTickerIsDropped: a ticker that was overtaken sets no older price, one
// from the future locks nobody out, and a new connection starts anew.
func TestOldTickerIsDropped(t *testing.T) {
	received := okxTime * protocol.Millisecond
	o := NewOKX(registry(t))
	got := ""
	decode := func(price string, ts int) {
		ticks, err := o.Decode([]byte(okxTickerFrame("BTC-USDT", price, ts)), received, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range ticks {
			got += " " + k.PriceText
		}
	}
	decode("1", okxTime)
	decode("2", okxTime-100)
	decode("3", okxTime)
	decode("4", okxTime+3_600_000)
	decode("5", okxTime+100)
	o.Reset()
	decode("6", okxTime+50)
	if got != " 1 3 4 5 6" || o.Stats().OutOfOrder != 1 {
		t.Errorf("got%s and %d out of order, want 1 3 4 5 6 and 1", got, o.Stats().OutOfOrder)
	}
}

func TestOKXNotes(t *testing.T) {
	o := NewOKX(registry(t))
	frames := []string{
		`{"id":"1512","event":"subscribe","arg":{"channel":"tickers","instId":"BTC-USDT"},"connId":"a4d3ae55"}`,
		`{"event":"subscribe","arg":{"channel":"trades","instId":"BTC-USDT"},"connId":"a4d3ae55"}`,
		`{"event":"error","code":"60018","msg":"Wrong URL or channel:trades,instId:NOPE-USDT doesn't exist. Please use the correct URL, channel and parameters referring to API document.","connId":"a4d3ae55"}`,
		`{"event":"error","code":"60014","msg":"Requests too frequent","connId":"a4d3ae55"}`,
		`{"event":"notice","code":"64008","msg":"The connection will soon be closed for a service upgrade. Please reconnect.","connId":"a4d3ae55"}`,
		`{"event":"notice","code":"1","msg":"hello"}`,
		`{"event":"channel-conn-count-error","channel":"trades","connCount":"30","connId":"a4d3ae55"}`,
		okxTradesFrame(okxTradeText("BTC-USDT", 10, 1)), okxTradesFrame(okxTradeText("BTC-USDT", 20, 2)),
	}
	for _, f := range frames {
		if _, err := o.Decode([]byte(f), now0, nil); err != nil {
			t.Fatal(err)
		}
	}
	wantNotes(t, o,
		Note{Kind: Subscribed, Symbol: "BTC-USDT"},
		Note{Kind: Refused, Symbol: "NOPE-USDT", Text: "60018 Wrong URL or channel:trades,instId:NOPE-USDT doesn't exist. Please use the correct URL, channel and parameters referring to API document."},
		Note{Kind: Limited, Text: "60014 Requests too frequent"},
		Note{Kind: Moving, Text: "The connection will soon be closed for a service upgrade. Please reconnect."},
		Note{Kind: Limited, Text: "too many connections for channel trades"},
		Note{Kind: Gap, Symbol: "BTC-USDT", From: 11, To: 18, After: (okxTime + 10) * protocol.Millisecond, Before: (okxTime + 20) * protocol.Millisecond},
	)
}

// okxHistory is an answer with single trades, newest first.
func okxHistory(ids ...int) []byte {
	var trades []string
	for _, id := range ids {
		trades = append(trades, okxTradeText("BTC-USDT", id, 0))
	}
	return []byte(`{"code":"0","msg":"","data":[` + strings.Join(trades, ",") + `]}`)
}

// TestOKXRefill closes a gap in pages, and takes nothing twice.
func TestOKXRefill(t *testing.T) {
	o := NewOKX(registry(t))
	playSteps(t, o, []step{
		{frame: okxTradesFrame(okxTradeText("BTC-USDT", 10, 1)), want: []string{"bitcoin/USDT:30236.10@10"}},
		{frame: okxTradesFrame(okxTradeText("BTC-USDT", 20, 2)), want: []string{"bitcoin/USDT:30236.10@20"}},
	})
	gap := o.Notes()[0]
	got, rest, err := o.ParseRefill(gap, okxHistory(20, 18, 17, 17, 16), 99)
	if err != nil || len(got) != 3 || got[0].TradeID != 16 || got[2].TradeID != 18 || !got[0].Late || got[0].Received != 99 {
		t.Fatalf("got %+v %v", got, err)
	}
	if rest.Kind != Gap || rest.From != 11 || rest.To != 15 || !strings.Contains(o.Refill(rest).Path, "after=16&") {
		t.Errorf("got rest %+v", rest)
	}
	got, rest, err = o.ParseRefill(rest, okxHistory(18, 15, 14, 13, 12, 11, 10, 9), 99)
	if err != nil || len(got) != 5 || rest.Kind != NoNote {
		t.Errorf("got %d ticks, rest %+v, %v; want 5 and none", len(got), rest, err)
	}
	if got, _, err = o.ParseRefill(gap, okxHistory(18, 15, 11), 99); err != nil || len(got) != 0 {
		t.Errorf("again: got %d ticks and %v, want none", len(got), err)
	}
	wantStats(t, o, Stats{Gaps: 1, Missing: 8, Recovered: 8})
	for _, body := range []string{``, `[]`, `{"code":"50011","msg":"Too Many Requests","data":[]}`, `{"code":"0"}`, `{"code":"0","data":[{"tradeId":"x"}]}`} {
		if _, rest, err := o.ParseRefill(gap, []byte(body), 0); err == nil || rest != gap {
			t.Errorf("%s: got %+v and %v, want an error and the gap", body, rest, err)
		}
	}
}

// TestOKXRepeatsCloseAGap: a new connection begins with the newest trade; one
// that the old connection lost is taken late.
func TestOKXRepeatsCloseAGap(t *testing.T) {
	o := NewOKX(registry(t))
	playSteps(t, o, []step{
		{frame: okxTradesFrame(okxTradeText("BTC-USDT", 10, 1)), want: []string{"bitcoin/USDT:30236.10@10"}},
		{frame: okxTradesFrame(okxTradeText("BTC-USDT", 15, 1)), want: []string{"bitcoin/USDT:30236.10@15"}},
	})
	o.Reset()
	got, err := o.Decode([]byte(okxTradesFrame(okxTradeText("BTC-USDT", 14, 3))), now0, nil)
	if err != nil || len(got) != 1 || !got[0].Late {
		t.Errorf("got %+v %v, want one late tick", got, err)
	}
	wantStats(t, o, Stats{Gaps: 1, Missing: 4, Recovered: 3})
}

func TestOKXListingsAndBars(t *testing.T) {
	o := NewOKX(registry(t))
	got, err := o.Listings([]byte(`{"code":"0","msg":"","data":[
		{"instType":"SPOT","instId":"BTC-USDT","last":"30236","volCcy24h":"525802090.6"},
		{"instType":"SPOT","instId":"ETH-EUR","last":"2000","volCcy24h":"5"},
		{"instType":"SPOT","instId":"NOPE-USDT","last":"1","volCcy24h":"1"},
		{"instType":"SPOT","instId":"SOL-USDT","last":"","volCcy24h":""},
		{"instType":"SPOT","instId":"BTC-US\"DT","last":"1","volCcy24h":"1"},
		{"instType":"SWAP","instId":"BTC-USDT-SWAP","last":"30236","volCcy24h":"1"}]}`))
	want := []Listing{{"BTC-USDT", "bitcoin", "USDT", 525802090.6}, {"ETH-EUR", "ethereum", "EUR", 5}}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v %v\nwant %v", got, err, want)
	}
	bars, err := o.ParseBars("BTC-USDT", []byte(`{"code":"0","msg":"","data":[
		["1597026600000","3.721","3.743","3.677","3.708","8","22","22.5","0"],
		["1597026300000","3.731","3.799","3.494","3.72","24","67","67.5","1"],
		["1597026000000","3.7","3.8","3.6","3.731","1","3","3.7","1"]]}`))
	wantBars := []market.Candle{
		{Start: 1597026000 * protocol.Second, Open: 3.7, High: 3.8, Low: 3.6, Close: 3.731, Volume: 3.7},
		{Start: 1597026300 * protocol.Second, Open: 3.731, High: 3.799, Low: 3.494, Close: 3.72, Volume: 67.5},
	}
	if err != nil || fmt.Sprint(bars) != fmt.Sprint(wantBars) {
		t.Errorf("got  %v %v\nwant %v", bars, err, wantBars)
	}
	for _, row := range []string{
		`["1597026300000","1","1","1","1","1","1"]`, `["1597026300001","1","1","1","1","1","1","1","1"]`,
		`["1597026300000","1","0.5","1","1","1","1","1","1"]`, `["1597026300000","1","1","0","1","1","1","1","1"]`,
		`["1597026300000","1","1","1","NaN","1","1","1","1"]`, `["x","1","1","1","1","1","1","1","1"]`, `7`,
	} {
		if bars, err := o.ParseBars("", []byte(`{"code":"0","data":[`+row+`]}`)); err == nil {
			t.Errorf("%s: got %v, want an error", row, bars)
		}
	}
}
