package protocol

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestAppendDelivery(t *testing.T) {
	pub := func(kind string, data string) *Publication {
		return &Publication{Type: kind, Offset: 7, TS: 1764678600123, Data: []byte(data)}
	}
	price, market := pub(TypePrice, `{"price":1}`), pub(TypeMarket, `{}`)
	entry := pub(TypeSignal, `{"id":"a"}`)
	entry.Signal = &Signal{}
	for _, c := range []struct {
		name string
		in   Delivery
		want string
	}{
		{"state", Delivery{Channel: "price:BTC", Pub: price},
			`{"type":"price_update","channel":"price:BTC","offset":7,"ts":1764678600123,"data":{"price":1}}`},
		{"state has no prev", Delivery{Channel: "price:BTC", Pub: price, Prev: 3},
			`{"type":"price_update","channel":"price:BTC","offset":7,"ts":1764678600123,"data":{"price":1}}`},
		{"snapshot", Delivery{Channel: "market:volume", Pub: market, Snapshot: true},
			`{"type":"market_data","channel":"market:volume","snapshot":true,"offset":7,"ts":1764678600123,"data":{}}`},
		{"log", Delivery{Channel: "signals:all", Pub: entry, Prev: 3},
			`{"type":"signal_alert","channel":"signals:all","offset":7,"prev":3,"ts":1764678600123,"data":{"id":"a"}}`},
		{"first of a log", Delivery{Channel: "signals:all", Pub: entry},
			`{"type":"signal_alert","channel":"signals:all","offset":7,"prev":0,"ts":1764678600123,"data":{"id":"a"}}`},
		{"merged", Delivery{Channel: "price:*", Pub: price, Merge: &Merge{N: 3, Open: 2, High: 2.5, Low: 1e-7, Priced: true}},
			`{"type":"price_update","channel":"price:*","offset":7,"ts":1764678600123,"conflated":{"n":3,"o":2,"h":2.5,"l":0.0000001},"data":{"price":1}}`},
		{"merged without prices", Delivery{Channel: "market:volume", Pub: market, Merge: &Merge{N: 3}},
			`{"type":"market_data","channel":"market:volume","offset":7,"ts":1764678600123,"conflated":{"n":3},"data":{}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := AppendDelivery([]byte("x"), c.in)
			if string(got) != "x"+c.want {
				t.Errorf("\n got %s\nwant x%s", got, c.want)
			}
			fields(t, got[1:])
		})
	}
}

func TestAppendFrames(t *testing.T) {
	badFilter := &Error{Code: InvalidFilter, Message: `filter: unknown key '<a>'`}
	limited := func(after Time) *Error { return &Error{Code: RateLimited, Message: "slow down", RetryAfter: after} }
	const at = `"timestamp":"2025-12-02T12:30:00.000Z"`
	for _, c := range []struct{ name, got, want string }{
		{"pong to the literal", string(AppendPong(nil, Command{}, start)), `{"type":"pong"}`},
		{"pong with id", string(AppendPong(nil, Command{ID: []byte(`"x"`)}, start)), `{"type":"pong","id":"x","ts":1764678600000}`},
		{"pong with t", string(AppendPong(nil, Command{T: []byte("1.50e3")}, start)), `{"type":"pong","t":1.50e3,"ts":1764678600000}`},
		{"pong with both", string(AppendPong(nil, Command{ID: []byte("4"), T: []byte("0")}, start)), `{"type":"pong","id":4,"t":0,"ts":1764678600000}`},
		{"mark", string(AppendPosition(nil, "mark", "signals:all", 184610, 184467)),
			`{"type":"mark","channel":"signals:all","offset":184610,"prev":184467}`},
		{"caught up", string(AppendPosition(nil, "caught_up", "signals:all", 0, 0)),
			`{"type":"caught_up","channel":"signals:all","offset":0,"prev":0}`},
		{"unsubscribed", string(AppendUnsubscribed(nil, "signals:all", Forbidden)),
			`{"type":"unsubscribed","channel":"signals:all","reason":"FORBIDDEN"}`},
		{"error", string(AppendError(nil, nil, "", &Error{Code: Draining, Message: "bye"}, start)),
			`{"type":"error","error":{"code":"DRAINING","message":"bye",` + at + `,"retryable":true}}`},
		{"error with id and channel", string(AppendError(nil, []byte("7"), "a<b", badFilter, start)),
			`{"type":"error","id":7,"channel":"a\u003cb","error":{"code":"INVALID_FILTER","message":"filter: unknown key '\u003ca\u003e'",` + at + `,"retryable":false}}`},
		{"error that says when", string(AppendError(nil, nil, "", limited(4200*Millisecond), start)),
			`{"type":"error","error":{"code":"RATE_LIMITED","message":"slow down",` + at + `,"retryable":true,"retry_after_ms":4200}}`},
		{"a wait is never 0 ms", string(AppendError(nil, nil, "", limited(1), start)),
			`{"type":"error","error":{"code":"RATE_LIMITED","message":"slow down",` + at + `,"retryable":true,"retry_after_ms":1}}`},
		{"error object", string(AppendErrorObject(nil, limited(0), start+Second/2)),
			`{"code":"RATE_LIMITED","message":"slow down","timestamp":"2025-12-02T12:30:00.500Z","retryable":true}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.got != c.want {
				t.Errorf("\n got %s\nwant %s", c.got, c.want)
			}
			fields(t, []byte(c.got))
		})
	}
}

func TestErrorText(t *testing.T) {
	err := error(&Error{Code: RateLimited, Message: "slow down"})
	if got, want := err.Error(), "RATE_LIMITED: slow down"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestMerge holds that a merge tells what its prices did: where they opened,
// how high and low they went. A publication without a price only counts.
func TestMerge(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		var m Merge
		var prices []float64
		n := r.IntN(6)
		for range n {
			price := 0.0
			if r.IntN(4) > 0 {
				price = math.Round(r.ExpFloat64()*1e4) / 100
			}
			if m.Add(price); price != 0 {
				prices = append(prices, price)
			}
		}
		want := Merge{N: n}
		if len(prices) > 0 {
			want = Merge{n, prices[0], slices.Max(prices), slices.Min(prices), true}
		}
		if m != want {
			t.Fatalf("%v of %d\n got %+v\nwant %+v", prices, n, m, want)
		}
	}
}

func TestTime(t *testing.T) {
	at := 1764678600*Second + 123*Millisecond + 456*Microsecond + 789
	if got, want := at.Millis(), int64(1764678600123); got != want {
		t.Errorf("Millis: got %d, want %d", got, want)
	}
	if got, want := at.Micros(), int64(1764678600123456); got != want {
		t.Errorf("Micros: got %d, want %d", got, want)
	}
	if Minute != 60*Second {
		t.Errorf("Minute is %d", Minute)
	}
}

func TestIsLog(t *testing.T) {
	if bitcoin.IsLog() || !spike.IsLog() {
		t.Errorf("a price is of the log: %v, a signal: %v", bitcoin.IsLog(), spike.IsLog())
	}
}
