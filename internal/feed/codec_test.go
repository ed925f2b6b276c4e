package feed

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

const coinbaseTradeFrame = `{"channel":"market_trades","timestamp":"2026-08-09T21:05:48.251397169Z","sequence_num":%d,"events":[{"type":"update","trades":[%s]}]}`

func coinbaseTradeText(product string, id int, price string) string {
	return fmt.Sprintf(`{"product_id":%q,"trade_id":"%d","price":%q,"size":"0.5","time":"2026-08-09T21:05:48.%03dZ","side":"SELL"}`, product, id, price, id)
}

// step is one frame into a codec: what it must give.
type step struct {
	frame string
	want  []string // price@id
	bad   bool
}

func playSteps(t *testing.T, c Codec, steps []step) {
	t.Helper()
	for i, s := range steps {
		ticks, err := c.Decode([]byte(s.frame), now0, nil)
		var got []string
		for _, k := range ticks {
			got = append(got, fmt.Sprintf("%s/%s:%s@%d", k.Asset, k.Quote, k.PriceText, k.TradeID))
		}
		if (err != nil) != s.bad || fmt.Sprint(got) != fmt.Sprint(s.want) {
			t.Errorf("frame %d: got %v, error %v; want %v, error %v", i, got, err, s.want, s.bad)
		}
	}
}

func wantStats(t *testing.T, c Codec, want Stats) {
	t.Helper()
	got := c.Stats()
	want.Frames, want.Ticks = got.Frames, got.Ticks
	if want.Ignored == nil {
		want.Ignored = map[string]uint64{}
	}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestCoinbase(t *testing.T) {
	trades := func(seq int, trades ...string) string {
		return fmt.Sprintf(coinbaseTradeFrame, seq, strings.Join(trades, ","))
	}
	btc := func(id int) string { return coinbaseTradeText("BTC-USD", id, "100.10") }
	eth := func(id int) string { return coinbaseTradeText("ETH-USD", id, "7") }
	heartbeat := func(seq int) string {
		return fmt.Sprintf(`{"channel":"heartbeats","sequence_num":%d,"events":[{"current_time":"no RFC 3339","heartbeat_counter":1}]}`, seq)
	}
	tests := []struct {
		name  string
		steps []step
		reset int // before this step; 0 is never
		stats Stats
	}{
		{name: "snapshot is newest first", steps: []step{
			{frame: trades(0, btc(13), btc(12), btc(11)), want: []string{"bitcoin/USD:100.10@11", "bitcoin/USD:100.10@12", "bitcoin/USD:100.10@13"}},
		}},
		{name: "duplicates after a reconnect", reset: 1, steps: []step{
			{frame: trades(7, btc(12), eth(3)), want: []string{"ethereum/USD:7@3", "bitcoin/USD:100.10@12"}},
			{frame: trades(0, btc(13), btc(12), btc(11)), want: []string{"bitcoin/USD:100.10@13"}},
		}, stats: Stats{Duplicates: 2}},
		{name: "a product's ids are its own", steps: []step{
			{frame: trades(0, btc(12)), want: []string{"bitcoin/USD:100.10@12"}},
			{frame: trades(1, eth(12)), want: []string{"ethereum/USD:7@12"}},
		}},
		{name: "gap over all channels", steps: []step{
			{frame: heartbeat(5)},
			{frame: `{"channel":"subscriptions","sequence_num":6,"events":[{"subscriptions":{}}]}`},
			{frame: trades(10, btc(1)), want: []string{"bitcoin/USD:100.10@1"}},
			{frame: heartbeat(11)},
		}, stats: Stats{Gaps: 1, Missing: 3, Ignored: map[string]uint64{"heartbeats": 2, "subscriptions": 1}}},
		{name: "level2 counts in the sequence", steps: []step{
			{frame: heartbeat(0)},
			{frame: `{"channel":"l2_data","timestamp":"2026-08-09T21:05:48.483587501Z","sequence_num":1,"events":[{"type":"snapshot","updates":[]}]}`},
			{frame: `{"sequence_num":2,"channel":"l2_data","timestamp":"x","events":[]}`},
			{frame: heartbeat(3)},
		}, stats: Stats{Ignored: map[string]uint64{"heartbeats": 2, "l2_data": 2}}},
		{name: "out of order", steps: []step{
			{frame: heartbeat(5)}, {frame: heartbeat(3)}, {frame: heartbeat(6)},
		}, stats: Stats{OutOfOrder: 1, Ignored: map[string]uint64{"heartbeats": 3}}},
		{name: "all of a frame or nothing", steps: []step{
			{frame: trades(0, btc(1), strings.Replace(btc(2), "100.10", "1_0", 1)), bad: true},
			{frame: trades(1, btc(1)), want: []string{"bitcoin/USD:100.10@1"}},
		}, stats: Stats{Malformed: 1}},
		{name: "malformed", steps: []step{
			{frame: ``, bad: true}, {frame: `[]`, bad: true}, {frame: `{"channel":"ticker"`, bad: true},
			{frame: `{"channel":"ticker","sequence_num":"1"}`, bad: true},
			{frame: `{"channel":"ticker","sequence_num":-1}`, bad: true},
			{frame: `{"channel":"ticker","sequence_num":0,"timestamp":"yesterday"}`, bad: true},
			{frame: trades(1, strings.Replace(btc(1), "100.10", "NaN", 1)), bad: true},
			{frame: trades(2, strings.Replace(btc(1), "100.10", "0x10", 1)), bad: true},
			{frame: trades(3, strings.Replace(btc(1), `"1"`, `"x"`, 1)), bad: true},
			{frame: trades(4, strings.Replace(btc(1), "2026", "1826", 1)), bad: true},
		}, stats: Stats{Malformed: 10}},
		{name: "unknown symbols and messages", steps: []step{
			{frame: trades(0, coinbaseTradeText("NOPE-USD", 1, "1"), coinbaseTradeText("BTC-NOPE", 1, "1"), btc(1)), want: []string{"bitcoin/USD:100.10@1"}},
			{frame: `{"type":"error","message":"no"}`},
		}, stats: Stats{Unknown: 2, Ignored: map[string]uint64{"error": 1}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := NewCoinbase(registry(t))
			if tt.reset > 0 {
				playSteps(t, c, tt.steps[:tt.reset])
				c.Reset()
			}
			playSteps(t, c, tt.steps[tt.reset:])
			wantStats(t, c, tt.stats)
		})
	}
}

func TestBinance(t *testing.T) {
	trade := func(id int) string {
		return fmt.Sprintf(`{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":%d,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}`, id)
	}
	agg := func(id int) string {
		return fmt.Sprintf(`{"stream":"x","data":{"e":"aggTrade","E":9,"s":"NKNUSDT","a":%d,"p":"0.35","q":"58","f":1,"l":2,"T":1633998523963}}`, id)
	}
	tests := []struct {
		name  string
		steps []step
		stats Stats
	}{
		{name: "gaps and duplicates", steps: []step{
			{frame: trade(10), want: []string{"bitcoin/USDT:61837.63000000@10"}},
			{frame: trade(11), want: []string{"bitcoin/USDT:61837.63000000@11"}},
			{frame: trade(15), want: []string{"bitcoin/USDT:61837.63000000@15"}},
			{frame: trade(14)},
			{frame: agg(3), want: []string{"nkn/USDT:0.35@3"}},
			{frame: agg(5), want: []string{"nkn/USDT:0.35@5"}},
			{frame: agg(5)},
		}, stats: Stats{Gaps: 2, Missing: 4, Duplicates: 2}},
		{name: "case twins in either order", steps: []step{
			// A decoder that folds case reads E for e, T for t, Q for q.
			{frame: `{"E":5,"e":"trade","M":true,"m":false,"T":1723161255342,"t":7,"S":"ETHUSDT","s":"BTCUSDT","P":"1","p":"2","Q":"3","q":"4"}`, want: []string{"bitcoin/USDT:2@7"}},
			{frame: `{"e":"24hrTicker","E":1723161255342,"s":"BTCUSDT","p":"-1","P":"-2","c":"9","C":1,"o":"8","O":2,"h":"1","l":"1","L":5,"v":"1","q":"1","Q":"7"}`, want: []string{"bitcoin/USDT:9@0"}},
			{frame: `{"E":"trade","s":"BTCUSDT"}`},
		}, stats: Stats{Ignored: map[string]uint64{"unknown": 1}}},
		{name: "ignored", steps: []step{
			{frame: `{"stream":"btcusdt@bookTicker","data":{"u":1,"s":"BTCUSDT","b":"1","B":"1","a":"1","A":"1"}}`},
			{frame: `{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":1,"u":2,"b":[],"a":[]}`},
			{frame: `{"result":null,"id":1}`},
			{frame: `{"error":{"code":2},"id":1}`},
			{frame: `{"e":"serverShutdown","E":1}`},
		}, stats: Stats{Ignored: map[string]uint64{"bookTicker": 1, "depthUpdate": 1, "result": 1, "error": 1, "serverShutdown": 1}}},
		{name: "array and microseconds", steps: []step{
			{frame: `{"stream":"!miniTicker@arr","data":[{"e":"24hrMiniTicker","E":1723161255342001,"s":"BTCUSDT","c":"3"},{"e":"24hrMiniTicker","E":1,"s":"NOPE","c":"x"},{"e":"24hrMiniTicker","E":2,"s":"ETHBTC","c":"4"}]}`,
				want: []string{"bitcoin/USDT:3@0", "ethereum/BTC:4@0"}},
		}, stats: Stats{Unknown: 1}},
		{name: "malformed", steps: []step{
			{frame: `{`, bad: true}, {frame: `7`, bad: true}, {frame: strings.Replace(trade(1), `"61837.63000000"`, `61837`, 1), bad: true},
			{frame: strings.Replace(trade(1), `"t":1`, `"t":"1"`, 1), bad: true},
			{frame: strings.Replace(trade(1), `1723161255342`, `0`, 1), bad: true},
			{frame: strings.Replace(trade(1), `1723161255342`, `99999999999999999`, 1), bad: true},
			{frame: `[` + trade(1) + `,{"e":"trade","s":"BTCUSDT"}]`, bad: true},
		}, stats: Stats{Malformed: 7}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := NewBinance(registry(t))
			playSteps(t, c, tt.steps)
			wantStats(t, c, tt.stats)
		})
	}
	got, err := NewBinance(registry(t)).Decode([]byte(`{"e":"24hrMiniTicker","E":1723161255342001,"s":"BTCUSDT","c":"3","o":"2","h":"5","l":"1","v":"10","q":"30"}`), 77, nil)
	want := []market.Tick{{Exchange: "binance", Asset: "bitcoin", Quote: "USDT", Price: 3, PriceText: "3",
		Time: 1723161255342001 * protocol.Microsecond, Received: 77, Kind: market.Ticker,
		Day: market.Day{Has: true, Open: 2, High: 5, Low: 1, Volume: 10, QuoteVolume: 30}}}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %+v %v\nwant %+v", got, err, want)
	}
}

func TestSplitSymbol(t *testing.T) {
	tests := []struct{ symbol, slug, quote string }{
		{"BTC-USD", "bitcoin", "USD"}, {"BTCUSDT", "bitcoin", "USDT"}, {"XBT/USD", "bitcoin", "USD"},
		{"btcusd", "bitcoin", "USD"}, {"xbtusdt", "bitcoin", "USDT"}, {"ETHXBT", "ethereum", "BTC"},
		{"XDG/XBT", "dogecoin", "BTC"}, {"BTCFDUSD", "bitcoin", "FDUSD"}, {"BTC-USDT", "bitcoin", "USDT"},
		{"USDCUSDT", "usd-coin", "USDT"}, {"BTCBUSD", "bitcoin", "BUSD"}, {"RUNEEUR", "thorchain", "EUR"},
		{"TUSDT", "threshold-network-token", "USDT"}, {"1INCHUSDT", "1inch", "USDT"},
		{"USDT", "", "USDT"}, {"BTC", "", ""}, {"", "", ""}, {"-", "", ""}, {"BTC-NOPE", "", ""}, {"NOPE-USD", "", "USD"},
	}
	r := registry(t)
	for _, tt := range tests {
		if slug, quote := splitSymbol(r, tt.symbol); slug != tt.slug || slug != "" && quote != tt.quote {
			t.Errorf("%q: got %q %q, want %q %q", tt.symbol, slug, quote, tt.slug, tt.quote)
		}
	}
}

func TestSymbolsAreBounded(t *testing.T) {
	s := symbols{assets: registry(t)}
	for i := range maxSymbols + 100 {
		s.find(fmt.Append(nil, "X", i))
	}
	if len(s.pairs) != maxSymbols {
		t.Errorf("got %d symbols, want %d", len(s.pairs), maxSymbols)
	}
	var st Stats
	for i := range 1000 {
		st.ignore(fmt.Append(nil, i))
	}
	if len(st.Ignored) > maxIgnored+1 {
		t.Errorf("got %d types, want at most %d", len(st.Ignored), maxIgnored+1)
	}
}

// frames are the received frames of a capture, read with encoding/json only.
func frames(t testing.TB, name string) (out [][]byte) {
	t.Helper()
	f, err := os.Open(dataFile(t, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		if !bytes.HasPrefix(lines.Bytes(), []byte(`{"t":"recv"`)) {
			continue
		}
		var line struct{ Data string }
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		out = append(out, []byte(line.Data))
	}
	return out
}

// TestCaptures compares what the codecs make of whole captures with what the
// slow decoders make of them: count, order and every value.
func TestCaptures(t *testing.T) {
	tests := []struct {
		file  string
		codec func(resolver) Codec
		slow  func([]byte, resolver) ([]market.Tick, error)
		least int
	}{
		{"feeds/coinbase-advanced-20260809-a.jsonl.gz", func(r resolver) Codec { return NewCoinbase(r) }, slowCoinbase, 150},
		{"feeds/binance-spot-20211012-multi.jsonl.gz", func(r resolver) Codec { return NewBinance(r) }, slowBinance, 2},
		{"feeds/binance-spot-20240808-btcusdt.jsonl.gz", func(r resolver) Codec { return NewBinance(r) }, slowBinance, 9757},
		{"feeds/binance-spot-20240808-ethusdt.jsonl.gz", func(r resolver) Codec { return NewBinance(r) }, slowBinance, 5000},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			assets := registry(t)
			codec := tt.codec(assets)
			var got, want []market.Tick
			for _, frame := range frames(t, tt.file) {
				var err error
				if got, err = codec.Decode(frame, 0, got); err != nil {
					t.Fatal(err)
				}
				// Ten megabytes of order book say nothing of prices.
				if bytes.HasPrefix(frame, level2) {
					continue
				}
				slow, err := tt.slow(frame, assets)
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, slow...)
			}
			equalLines(t, tickTexts(got), tickTexts(want))
			s := codec.Stats()
			if len(got) < tt.least || s.Malformed+s.Duplicates+s.Gaps+s.OutOfOrder+s.Unknown != 0 {
				t.Errorf("got %d ticks, want at least %d, and stats %+v", len(got), tt.least, s)
			}
		})
	}
}

// TestLargeFrameIsLetGo shows that a level2 snapshot that takes the long way
// through the parser does not stay in memory.
func TestLargeFrameIsLetGo(t *testing.T) {
	frame := []byte(`{"sequence_num":0,"channel":"l2_data","events":[` + strings.Repeat(`{"price_level":"1"},`, 50_000) + `{}]}`)
	c := NewCoinbase(registry(t))
	if _, err := c.Decode(frame, 0, nil); err != nil {
		t.Fatal(err)
	}
	if v, err := c.json.parse([]byte(`{"a":1}`)); err != nil || v == nil {
		t.Fatal(err)
	}
	n := testing.AllocsPerRun(1, func() { c.json = reader{}; c.Decode(frame, 0, nil) })
	c.json = reader{}
	if again := testing.AllocsPerRun(1, func() { c.Decode(frame, 0, nil) }); again < n-2 {
		t.Errorf("got %v allocations after a large frame, want %v as for a new parser", again, n)
	}
}
