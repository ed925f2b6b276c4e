package feed

import (
	"fmt"
	"strings"
	"testing"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

const bitstampTime = 1641343699596000

func bitstampTradeFrame(symbol string, id int) string {
	return fmt.Sprintf(`{"data":{"id":%d,"timestamp":"1641343699","amount":0.0792,"amount_str":"0.07920000","price":3805.4,"price_str":"3805.40","type":0,"microtimestamp":"%d","buy_order_id":1,"sell_order_id":2},"channel":"live_trades_%s","event":"trade"}`, id, bitstampTime+id, symbol)
}

func TestBitstamp(t *testing.T) {
	eth := func(id int) string { return bitstampTradeFrame("ethusd", id) }
	one := func(id int) []string { return []string{fmt.Sprintf("ethereum/USD:3805.40@%d", id)} }
	bad := func(old, new string) step {
		return step{frame: strings.Replace(eth(1), old, new, 1), bad: true}
	}
	tests := []struct {
		name  string
		steps []step
		stats Stats
	}{
		{name: "ids of all markets", steps: []step{
			{frame: eth(10), want: one(10)}, {frame: bitstampTradeFrame("xrpeur", 11), want: []string{"ripple/EUR:3805.40@11"}},
			{frame: eth(17), want: one(17)}, {frame: eth(17)}, {frame: eth(12)},
		}, stats: Stats{Duplicates: 2}},
		{name: "not ours", steps: []step{
			{frame: bitstampTradeFrame("nopeusd", 1)}, {frame: bitstampTradeFrame("btcusd-perp", 1)},
			{frame: strings.Replace(eth(1), "live_trades", "live_orders", 1)},
			{frame: `{"data":{"timestamp":"1","bids":[],"asks":[]},"channel":"diff_order_book_ethusd","event":"data"}`},
			{frame: `{"event":"bts:heartbeat","channel":"","data":{"status":"success"}}`}, {frame: `{}`},
		}, stats: Stats{Unknown: 2, Ignored: map[string]uint64{"trade": 1, "data": 1, "bts:heartbeat": 1, "unknown": 1}}},
		{name: "malformed", steps: []step{
			{frame: ``, bad: true}, {frame: `[]`, bad: true}, {frame: `{"event":"trade","channel":"live_trades_ethusd"}`, bad: true},
			bad(`"price_str"`, `"price_text"`), bad(`"3805.40"`, `"1_0"`), bad(`"amount_str":"0.07920000"`, `"amount_str":1`),
			bad(`"id":1`, `"id":"1"`), bad(`"id":1`, `"id":0`), bad(`"id":1`, `"id":1.5`), bad(`"microtimestamp":"1641343699596001"`, `"microtimestamp":"x"`),
			{frame: eth(1), want: one(1)},
		}, stats: Stats{Malformed: 10}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := NewBitstamp(registry(t))
			playSteps(t, b, tt.steps)
			wantStats(t, b, tt.stats)
		})
	}
	got, err := NewBitstamp(registry(t)).Decode([]byte(eth(4)), 77, nil)
	want := []market.Tick{{Exchange: "bitstamp", Asset: "ethereum", Quote: "USD", Price: 3805.4, PriceText: "3805.40", Size: 0.0792,
		Time: (bitstampTime + 4) * protocol.Microsecond, Received: 77, TradeID: 4}}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %+v %v\nwant %+v", got, err, want)
	}
}

// TestNumberingBeginsAnew: a lower id is a repeat, unless it is a minute later
// than the newest trade. One absurd id must not silence a symbol for good.
func TestNumberingBeginsAnew(t *testing.T) {
	b := NewBitstamp(registry(t))
	later := func(id, seconds int) string {
		return strings.Replace(bitstampTradeFrame("ethusd", id), fmt.Sprint(bitstampTime+id), fmt.Sprint(bitstampTime+seconds*1e6), 1)
	}
	playSteps(t, b, []step{
		{frame: later(1e9, 0), want: []string{"ethereum/USD:3805.40@1000000000"}},
		{frame: later(3, 60)},
		{frame: later(4, 61), want: []string{"ethereum/USD:3805.40@4"}},
		{frame: later(5, 61), want: []string{"ethereum/USD:3805.40@5"}},
	})
	wantStats(t, b, Stats{Duplicates: 1})
	wantNotes(t, b)
}

func TestBitstampNotes(t *testing.T) {
	b := NewBitstamp(registry(t))
	for _, f := range []string{
		`{"event":"bts:subscription_succeeded","channel":"live_trades_ethusd","data":{}}`,
		`{"event":"bts:subscription_succeeded","channel":"diff_order_book_ethusd","data":{}}`,
		`{"event":"bts:request_reconnect","channel":"","data":""}`,
		`{"event":"bts:error","channel":"live_trades_nopeusd","data":{"code":null,"message":"Bad subscription string."}}`,
		`{"event":"bts:error","channel":"","data":{"code":4,"message":"Too many requests."}}`,
		`{"event":"bts:error","channel":"","data":""}`,
	} {
		if _, err := b.Decode([]byte(f), now0, nil); err != nil {
			t.Fatal(err)
		}
	}
	wantNotes(t, b, Note{Kind: Subscribed, Symbol: "ethusd"}, Note{Kind: Moving, Text: "bts:request_reconnect"},
		Note{Kind: Refused, Symbol: "nopeusd", Text: "Bad subscription string."},
		Note{Kind: Limited, Text: "Too many requests."}, Note{Kind: Refused})
}

func bitstampTransactions(ids ...int) []byte {
	var all []string
	for _, id := range ids {
		all = append(all, fmt.Sprintf(`{"date":"1641343700","tid":"%d","amount":"0.05937585","type":"0","price":"3805.40"}`, id))
	}
	return []byte(`[` + strings.Join(all, ",") + `]`)
}

func TestBitstampRefill(t *testing.T) {
	b := NewBitstamp(registry(t))
	eth := func(id int) string { return bitstampTradeFrame("ethusd", id) }
	playSteps(t, b, []step{{frame: eth(10), want: []string{"ethereum/USD:3805.40@10"}}})
	b.Reset()
	playSteps(t, b, []step{{frame: eth(11), want: []string{"ethereum/USD:3805.40@11"}}})
	wantNotes(t, b) // the next id leaves no place for a loss
	b.Reset()
	playSteps(t, b, []step{{frame: eth(20), want: []string{"ethereum/USD:3805.40@20"}}})
	said := b.Notes()
	if len(said) != 1 || said[0].From != 12 || said[0].To != 19 || said[0].Text != uncounted {
		t.Fatalf("got %+v", said)
	}
	gap := said[0]
	if _, _, err := b.ParseRefill(gap, bitstampTransactions(15, 10), 99); err == nil {
		t.Error("an answer that is too early: want an error")
	}
	got, rest, err := b.ParseRefill(gap, bitstampTransactions(20, 16, 14, 11, 10), 99)
	if err != nil || fmt.Sprint(ids(got)) != "[14 16]" || rest != (Note{}) || !got[0].Late ||
		got[0].Time != 1641343700*protocol.Second || got[0].Received != 99 || got[0].PriceText != "3805.40" {
		t.Errorf("got %+v, rest %+v, %v", got, rest, err)
	}
	wantStats(t, b, Stats{Gaps: 1, Missing: 2, Recovered: 2})
	for _, body := range []string{``, `{}`, `{"status":"error","reason":"Too many requests"}`, `[{"tid":"1"}]`, `[]`} {
		if _, rest, err := b.ParseRefill(gap, []byte(body), 0); err == nil || rest != gap {
			t.Errorf("%s: got rest %+v and %v, want the gap and an error", body, rest, err)
		}
	}
}

func TestBitstampListingsAndBars(t *testing.T) {
	b := NewBitstamp(registry(t))
	got, err := b.Listings([]byte(`[{"pair":"BTC/USD","last":"93000","volume":"100","vwap":"92000"},{"pair":"ETH/EUR","last":"3000","volume":"2"},
		{"pair":"BTC/USD-PERP","last":"1","volume":"1"},{"pair":"NOPE/USD","last":"1"},{"pair":"XRP/USD","last":"0.00"},{"pair":7}]`))
	want := []Listing{{"btcusd", "bitcoin", "USD", 9200000}, {"etheur", "ethereum", "EUR", 6000}}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v %v\nwant %v", got, err, want)
	}
	if _, err := b.Listings([]byte(`{"error":"Not found"}`)); err == nil || !strings.Contains(err.Error(), "Not found") {
		t.Errorf("got %v, want what Bitstamp says", err)
	}
	bars, err := b.ParseBars("btcusd", []byte(`{"data":{"pair":"BTC/USD","ohlc":[
		{"timestamp":"1641343500","open":"10","high":"12","low":"9","close":"12","volume":"3"},
		{"timestamp":"1641343800","open":"12","high":"12","low":"12","close":"12","volume":"0"}]}}`))
	wantBars := []market.Candle{
		{Start: 1641343500 * protocol.Second, Open: 10, High: 12, Low: 9, Close: 12, Volume: 33},
		{Start: 1641343800 * protocol.Second, Open: 12, High: 12, Low: 12, Close: 12},
	}
	if err != nil || fmt.Sprint(bars) != fmt.Sprint(wantBars) {
		t.Errorf("got  %v %v\nwant %v", bars, err, wantBars)
	}
	for _, body := range []string{`{"data":{}}`, `{"data":{"ohlc":[{"timestamp":"1641343501"}]}}`} {
		if _, err := b.ParseBars("", []byte(body)); err == nil {
			t.Errorf("%s: want an error", body)
		}
	}
}
