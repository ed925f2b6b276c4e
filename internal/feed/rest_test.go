package feed

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

const (
	coinbaseProducts = `{"products":[{"product_id":"BTC-USD","status":"online","product_type":"SPOT","alias":"","approximate_quote_24h_volume":"186637571.25"},
		{"product_id":"BTC-USDC","status":"online","product_type":"SPOT","alias":"BTC-USD"},{"product_id":"ETH-USD","status":"delisted"},
		{"product_id":"SOL-USD","status":"online","trading_disabled":true},{"product_id":"NOPE-USD","status":"online"},{"product_id":"BIT-26DEC-CDE","product_type":"FUTURE"}]}`
	krakenPairs = `{"error":[],"result":{"XXBTZUSD":{"altname":"XBTUSD","wsname":"XBT/USD","status":"online"},"XDGUSD":{"wsname":"XDG/USD","status":"online"},
		"ETHUSD":{"wsname":"ETH/USD","status":"cancel_only"},"NOPE":{"wsname":"NOPE/USD"},"ODD":{}}}`
	coinbaseBars = `{"candles":[{"start":"1700000400","low":"1","high":"4","open":"2","close":"3","volume":"10"},{"start":"1700000100","low":"1","high":"2","open":"1","close":"2","volume":"5"}]}`
	krakenBars   = `{"error":[],"result":{"XXBTZUSD":[[1700000100,"1","2","1","2","1.5","5",3],[1700000400,"2","4","1","3","0","0",0]],"last":1700000100}}`
	binanceBars  = `[[1700000100000,"1","2","1","2","5",1700000399999,"7.5",3,"0","0","0"],[1700000400000,"2","4","1","3","10",1700000699999,"30",4,"0","0","0"]]`
)

func TestListings(t *testing.T) {
	tests := []struct {
		x    Exchange
		body string
		want string
	}{
		{NewCoinbase(registry(t)), coinbaseProducts, "[{BTC-USD bitcoin USD 1.8663757125e+08}]"},
		{NewKraken(registry(t)), krakenPairs, "[{BTC/USD bitcoin USD 0} {DOGE/USD dogecoin USD 0}]"},
		{NewBinance(registry(t)), binanceInfo, "[{ETHUSDT ethereum USDT 0} {BTCUSDT bitcoin USDT 0} {BTCEUR bitcoin EUR 0} {SOLUSDT solana USDT 0}]"},
	}
	for _, tt := range tests {
		got, err := tt.x.Listings([]byte(tt.body))
		if fmt.Sprint(got) != tt.want || err != nil {
			t.Errorf("%s: got %v, %v, want %s", tt.x.Name(), got, err, tt.want)
		}
		for _, bad := range []string{"", "{}", "[]", "<html>", `{"error":["EGeneral:Too many requests"]}`, `{"products":[{"product_id":7}]}`, `{"symbols":7}`} {
			if got, err := tt.x.Listings([]byte(bad)); err == nil {
				t.Errorf("%s: %q gave %v", tt.x.Name(), bad, got)
			}
		}
	}
}

// TestRecordedProducts reads the recorded answer of Coinbase.
func TestRecordedProducts(t *testing.T) {
	body := recordedHTTP(t, "feeds/coinbase-advanced-20260809-a.jsonl.gz")
	got, err := NewCoinbase(registry(t)).Listings(body)
	if err != nil || len(got) < 200 {
		t.Fatalf("%d listings, %v", len(got), err)
	}
	for _, l := range got {
		if l.Symbol == "BTC-USDC" || l.Symbol == "ETH-USDC" {
			t.Errorf("%s is an alias", l.Symbol)
		}
	}
	if i := slices.IndexFunc(got, func(l Listing) bool { return l.Symbol == "BTC-USD" }); i < 0 || got[i].Asset != "bitcoin" || got[i].VolumeQuote != 186637571.25 {
		t.Errorf("BTC-USD is missing or wrong among %d", len(got))
	}
}

func TestBars(t *testing.T) {
	const start = 1700000100 * protocol.Second
	tests := []struct {
		x          Exchange
		path, body string
		volumes    [2]float64 // in dollars: at the close, at the mean, as told
	}{
		{NewCoinbase(registry(t)), "/api/v3/brokerage/market/products/BTC-USD/candles?granularity=FIVE_MINUTE&start=1700000100&end=1700104800&limit=350", coinbaseBars, [2]float64{10, 30}},
		{NewKraken(registry(t)), "/0/public/OHLC?pair=XBTUSD&interval=5&since=1700000100", krakenBars, [2]float64{7.5, 0}},
		{NewBinance(registry(t)), "/api/v3/klines?symbol=BTCUSDT&interval=5m&startTime=1700000100000&limit=1000", binanceBars, [2]float64{7.5, 30}},
	}
	symbols := map[string]string{"coinbase": "BTC-USD", "kraken": "BTC/USD", "binance": "BTCUSDT"}
	for _, tt := range tests {
		if got := tt.x.Bars(symbols[tt.x.Name()], start).Path; got != tt.path {
			t.Errorf("got  %s\nwant %s", got, tt.path)
		}
		got, err := tt.x.ParseBars("x", []byte(tt.body))
		want := []market.Candle{{Start: start, Open: 1, High: 2, Low: 1, Close: 2, Volume: tt.volumes[0]},
			{Start: start + 300*protocol.Second, Open: 2, High: 4, Low: 1, Close: 3, Volume: tt.volumes[1]}}
		if fmt.Sprint(got) != fmt.Sprint(want) || err != nil {
			t.Errorf("%s: got %v, %v\nwant %v", tt.x.Name(), got, err, want)
		}
		for _, bad := range []string{"", "<html>", strings.Replace(tt.body, `"4"`, `"x"`, 1), strings.Replace(tt.body, `1700000400`, `17x`, 1),
			strings.Replace(tt.body, `"4"`, `"0.5"`, 1), `{"error":["no"]}`} {
			if got, err := tt.x.ParseBars("x", []byte(bad)); err == nil && len(got) > 0 {
				t.Errorf("%s: %q gave %v", tt.x.Name(), bad, got)
			}
		}
	}
}

func TestRefillRequests(t *testing.T) {
	gap := Note{Kind: Gap, From: 5, To: 9, After: 1700000000500 * protocol.Millisecond, Before: 1700000002500 * protocol.Millisecond}
	for x, want := range map[Exchange][2]string{
		NewCoinbase(registry(t)): {"BTC-USD", "/api/v3/brokerage/market/products/BTC-USD/ticker?limit=1000&start=1700000000&end=1700000003"},
		NewKraken(registry(t)):   {"DOGE/USD", "/0/public/Trades?count=1000&pair=XDGUSD&since=1700000000499000000"},
		NewBinance(registry(t)):  {"BTCUSDT", "/api/v3/aggTrades?symbol=BTCUSDT&fromId=5&limit=5"},
	} {
		gap.Symbol = want[0]
		if got := x.Refill(gap).Path; got != want[1] {
			t.Errorf("got  %s\nwant %s", got, want[1])
		}
	}
}

// recordedHTTP is the body of the REST answer in a capture.
func recordedHTTP(t testing.TB, name string) []byte {
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
	for d := json.NewDecoder(z); ; {
		var line struct{ T, Data string }
		if err := d.Decode(&line); err != nil {
			t.Fatal(err)
		}
		if line.T == "http" {
			return []byte(line.Data)
		}
	}
}

// refillBody writes trades as an exchange's REST API does.
func refillBody(exchange string, ids []int) string {
	var out []string
	for _, id := range ids {
		at := 1700000000 + id
		switch exchange {
		case "coinbase":
			out = append(out, fmt.Sprintf(`{"trade_id":"%d","product_id":"BTC-USD","price":"2","size":"1","time":"2023-11-14T22:%02d:%02dZ","side":"BUY"}`, id, 13+(20+id)/60, (20+id)%60))
		case "kraken":
			out = append(out, fmt.Sprintf(`["2","1",%d.5,"b","l","",%d]`, at, id))
		case "binance":
			out = append(out, fmt.Sprintf(`{"a":%d,"p":"2","q":"1","T":%d}`, id, at*1000))
		}
	}
	switch list := strings.Join(out, ","); exchange {
	case "coinbase":
		return `{"trades":[` + list + `],"best_bid":"1"}`
	case "kraken":
		return `{"error":[],"result":{"XXBTZUSD":[` + list + `],"last":"1700000000"}}`
	default:
		return "[" + list + "]"
	}
}

func TestParseRefill(t *testing.T) {
	tests := []struct {
		frame  func(ids ...int) string
		x      Exchange
		symbol string
	}{
		{func(ids ...int) string {
			var out []string
			for _, id := range ids {
				out = append(out, coinbaseTradeText("BTC-USD", id, "2"))
			}
			return fmt.Sprintf(coinbaseTradeFrame, 0, strings.Join(out, ","))
		}, NewCoinbase(registry(t)), "BTC-USD"},
		{func(ids ...int) string { return krakenFrame("update", "BTC/USD", ids...) }, NewKraken(registry(t)), "BTC/USD"},
		{func(ids ...int) string { return aggTrade(ids[0]) }, NewBinance(registry(t)), "BTCUSDT"},
	}
	for _, tt := range tests {
		name := tt.x.Name()
		tt.x.Decode([]byte(tt.frame(10)), 0, nil)
		tt.x.Notes()
		tt.x.Decode([]byte(tt.frame(20)), 0, nil)
		notes := slices.Clone(tt.x.Notes())
		notes = slices.DeleteFunc(notes, func(n Note) bool { return n.Kind != Gap })
		if len(notes) != 1 || notes[0].From != 11 || notes[0].To != 19 || notes[0].Symbol != tt.symbol || notes[0].After == 0 || notes[0].Before <= notes[0].After {
			t.Fatalf("%s: got notes %+v", name, notes)
		}
		ask := func(gap Note, ids ...int) ([]string, Note) {
			t.Helper()
			got, rest, err := tt.x.ParseRefill(gap, []byte(refillBody(name, ids)), 99)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			var out []string
			for _, k := range got {
				if !k.Late || k.Received != 99 || k.Price != 2 || k.Size != 1 || k.Asset != "bitcoin" {
					t.Errorf("%s: got %+v", name, k)
				}
				out = append(out, fmt.Sprint(k.TradeID))
			}
			return out, rest
		}
		got, rest := ask(notes[0], 9, 14, 12, 11, 10, 13)
		if fmt.Sprint(got) != "[11 12 13 14]" || rest.From != 15 || rest.To != 19 || rest.Kind != Gap {
			t.Errorf("%s: got %v, rest %+v", name, got, rest)
		}
		// The same again gives nothing twice.
		if got, again := ask(notes[0], 11, 12, 13, 14); got != nil || again.From != 15 {
			t.Errorf("%s: got %v, rest %+v", name, got, again)
		}
		if got, rest = ask(rest, 15, 16, 17, 18, 19, 20); len(got) != 5 || rest != (Note{}) {
			t.Errorf("%s: got %v, rest %+v", name, got, rest)
		}
		if _, _, err := tt.x.ParseRefill(notes[0], []byte(`<html>`), 0); err == nil {
			t.Errorf("%s: HTML was taken", name)
		}
		if s := tt.x.Stats(); s.Missing != 9 || s.Recovered != 9 {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// TestArrivals plays random losses, repeats and refills: no trade comes twice,
// and what was not refilled is exactly what is missing.
func TestArrivals(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		p, st, n := &pair{symbol: "X"}, &Stats{}, &notes{}
		came := make(map[int64]int)
		var gaps []Note
		last := int64(r.IntN(100) + 1)
		for range 200 {
			var what arrival
			id := last
			switch r.IntN(10) {
			case 0: // some are lost
				id = last + 1 + int64(r.IntN(8))
			case 1: // something is repeated
				id = max(1, last-int64(r.IntN(12)))
			case 2:
				(&symbols{pairs: map[string]*pair{"X": p}}).reopen()
				continue
			case 3:
				if len(gaps) == 0 {
					continue
				}
				g := gaps[r.IntN(len(gaps))]
				var answer []market.Tick
				for id := g.From - 2; id <= g.To+2; id++ {
					if r.IntN(3) > 0 {
						answer = append(answer, market.Tick{TradeID: id})
					}
				}
				r.Shuffle(len(answer), func(i, j int) { answer[i], answer[j] = answer[j], answer[i] })
				ticks, _ := p.refill(g, answer, st)
				for _, k := range ticks {
					came[k.TradeID]++
				}
				continue
			default:
				id = last + 1
			}
			what = p.arrive(&p.lastTrade, id, protocol.Time(id), st, n)
			if what != seen {
				came[id]++
			}
			if p.lastTrade > last || what == fresh {
				last = p.lastTrade
			}
			gaps = append(gaps, n.take()...)
		}
		checkArrivals(t, seed, p, st, came)
	}
}

func checkArrivals(t *testing.T, seed uint64, p *pair, st *Stats, came map[int64]int) {
	t.Helper()
	lowest := p.lastTrade
	for id, times := range came {
		lowest = min(lowest, id)
		if times != 1 {
			t.Fatalf("seed %d: trade %d came %d times", seed, id, times)
		}
	}
	var missing uint64
	for id := lowest; id <= p.lastTrade; id++ {
		if came[id] == 0 {
			missing++
		}
	}
	var remembered uint64
	for _, h := range p.missing {
		remembered += uint64(h.to-h.from) + 1
	}
	if st.Missing-st.Recovered != missing || len(p.missing) < maxHoles && remembered != missing {
		t.Fatalf("seed %d: %d missing, counted %d-%d, remembered %d", seed, missing, st.Missing, st.Recovered, remembered)
	}
}

// FuzzREST reads whatever REST may send: an error or something sensible.
func FuzzREST(f *testing.F) {
	for _, body := range []string{coinbaseProducts, krakenPairs, binanceInfo, coinbaseBars, krakenBars, binanceBars,
		refillBody("coinbase", []int{11, 12}), refillBody("kraken", []int{11, 12}), refillBody("binance", []int{11, 12})} {
		f.Add([]byte(body))
	}
	assets := registry(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		for symbol, x := range map[string]Exchange{"BTC-USD": NewCoinbase(assets), "BTC/USD": NewKraken(assets), "BTCUSDT": NewBinance(assets)} {
			if list, err := x.Listings(body); (err == nil) != (len(list) > 0) {
				t.Errorf("%s: %d listings and error %v", x.Name(), len(list), err)
			}
			bars, err := x.ParseBars(symbol, body)
			for i, b := range bars {
				if err != nil || b.Low <= 0 || b.High < b.Low || i > 0 && b.Start <= bars[i-1].Start {
					t.Errorf("%s: bar %+v and error %v", x.Name(), b, err)
				}
			}
			gap := Note{Kind: Gap, Symbol: symbol, From: 11, To: 19}
			ticks, _, err := x.ParseRefill(gap, body, 0)
			if len(ticks) > 0 {
				t.Errorf("%s: %d ticks of a gap that is none, error %v", x.Name(), len(ticks), err)
			}
		}
	})
}
