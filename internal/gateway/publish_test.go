package gateway

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"cryptointel/protocol"
)

// post publishes body with the token and returns status and answer.
func post(h http.Handler, token, body string) (int, string) {
	r := httptest.NewRequest(http.MethodPost, "/api/v1/publish", strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

const errorTail = `","timestamp":"2026-11-22T12:00:00.000Z","retryable":false}}`

func failure(code, message string) string {
	return `{"error":{"code":"` + code + `","message":"` + message + errorTail
}

func TestPublishAnswers(t *testing.T) {
	price := func(data string) string { return `{"type":"price_update","data":` + data + `}` }
	signal := func(data string) string { return `{"type":"signal_alert","data":` + data + `}` }
	to := func(kind, channel, data string) string {
		return `{"type":"` + kind + `","channel":"` + channel + `","data":` + data + `}`
	}
	const all = "ann:*"
	tests := []struct {
		name, token, body string
		status            int
		answer            string // the beginning of it
	}{
		{"test channel", all, to("price_update", "test:c1", `{"price":1}`), 200, `{"id":"test:c1-1","offset":1}`},
		{"any type on a test channel", all, to("signal_alert", "test:c1", `{}`), 200, `{"id":"test:c1-1","offset":1}`},
		{"market channel", all, to("market_data", "market:volume", `{}`), 200, `{"id":"market:volume-1","offset":1}`},
		{"price by slug", all, price(`{"asset":"bitcoin","price":1}`), 200, `{"id":"price:bitcoin-1","offset":1}`},
		{"price by ticker", all, price(`{"symbol":"BTC","price":1}`), 200, `{"id":"price:bitcoin-1","offset":1}`},
		{"price by channel", all, to("price_update", "price:btc", `{"price":1}`), 200, `{"id":"price:bitcoin-1","offset":1}`},
		{"signal", all, signal(`{"id":"a-1","type":"price_spike"}`), 200, `{"id":"a-1","offset":1}`},
		{"white space around", all, "\n " + to("price_update", "test:c1", `{}`) + "\r\n", 200, `{"id"`},
		{"unknown fields of the message", all, `{"extra":[{"a":1}],"type":"market_data","channel":"market:summary","data":{}}`, 200, `{"id"`},
		{"empty array", all, `[]`, 200, `[]`},
		{"array", all, `[` + to("price_update", "test:a", `{}`) + `,7,` + to("price_update", "test:b", `{}`) + `]`, 200,
			`[{"id":"test:a-1","offset":1},` + failure("INVALID_MESSAGE", "a message must be an object") + `,{"id":"test:b-2","offset":2}]`},

		{"no token", "", to("price_update", "test:c1", `{}`), 401, `{"error":{"code":"UNAUTHORIZED"`},
		{"bad token", "x", `{}`, 401, failure("INVALID_TOKEN", "the token is not good")},
		{"expired token", "expired", `{}`, 401, `{"error":{"code":"EXPIRED_TOKEN"`},
		{"verifier's own trouble is not told", "broken", `{}`, 401, failure("INVALID_TOKEN", "the token is not accepted")},
		{"no claim pub", "ann:", `{}`, 403, `{"error":{"code":"FORBIDDEN"`},
		{"channel not covered", "ann:test:a", to("price_update", "test:b", `{}`), 403, failure("FORBIDDEN", "the token's pub does not cover 'test:b'")},
		{"forbidden before existence", "ann:test:a", to("price_update", "test:log", `{}`), 403, `{"error":{"code":"FORBIDDEN"`},
		{"price not covered", "ann:price:ethereum", price(`{"asset":"BTC","price":1}`), 403, failure("FORBIDDEN", "the token's pub does not cover 'price:BTC'")},
		{"unknown asset not covered", "ann:price:ethereum", price(`{"asset":"nope","price":1}`), 403, failure("FORBIDDEN", "the token's pub does not cover 'price:nope'")},
		{"price covered by slug", "ann:price:bitcoin", price(`{"asset":"BTC","price":1}`), 200, `{"id"`},
		{"signal type not covered", "ann:signals:type:a", signal(`{"type":"b"}`), 403, failure("FORBIDDEN", "the token's pub does not cover 'signals:type:b'")},
		{"signal type covered", "ann:signals:type:a", signal(`{"type":"a"}`), 200, `{"id":"a-`},

		{"server's own channels", all, to("price_update", "test:state", `{}`), 400, `{"error":{"code":"INVALID_CHANNEL"`},
		{"server's own log", all, to("signal_alert", "test:log", `{}`), 400, `{"error":{"code":"INVALID_CHANNEL"`},
		{"market data elsewhere", all, to("market_data", "price:bitcoin", `{}`), 400, `{"error":{"code":"INVALID_CHANNEL"`},
		{"market data nowhere", all, `{"type":"market_data","data":{}}`, 400, `{"error":{"code":"INVALID_MESSAGE"`},
		{"price to a market", all, to("price_update", "market:summary", `{"asset":"bitcoin","price":1}`), 400, `{"error":{"code":"INVALID_CHANNEL"`},
		{"signal with a channel", all, to("signal_alert", "signals:all", `{"type":"a"}`), 400, `{"error":{"code":"INVALID_CHANNEL"`},
		{"channel with a capital", all, to("price_update", "test:C1", `{}`), 400, `{"error":{"code":"INVALID_CHANNEL"`},
		{"channel with a star", all, to("price_update", "test:*", `{}`), 400, `{"error":{"code":"INVALID_CHANNEL"`},
		{"channel that is a number", all, `{"type":"price_update","channel":1,"data":{}}`, 400, failure("INVALID_MESSAGE", "channel must be a string")},
		{"unknown asset", all, price(`{"asset":"nope","price":1}`), 400, failure("INVALID_CHANNEL", "no asset 'nope'; GET /api/v1/assets lists them")},
		{"no asset", all, price(`{"price":1}`), 400, failure("INVALID_MESSAGE", "data.asset (or symbol) is missing")},
		{"asset and symbol differ", all, price(`{"asset":"bitcoin","symbol":"ETH","price":1}`), 400, failure("INVALID_MESSAGE", "asset, symbol and channel name different assets")},
		{"no price", all, price(`{"asset":"bitcoin"}`), 400, failure("INVALID_MESSAGE", "data.price must be a positive number (USD)")},
		{"price as text", all, price(`{"asset":"bitcoin","price":"1"}`), 400, `{"error":{"code":"INVALID_MESSAGE"`},
		{"price of zero", all, price(`{"asset":"bitcoin","price":0}`), 400, `{"error":{"code":"INVALID_MESSAGE"`},
		{"price below zero", all, price(`{"asset":"bitcoin","price":-1}`), 400, `{"error":{"code":"INVALID_MESSAGE"`},
		{"price beyond float64", all, price(`{"asset":"bitcoin","price":1e999}`), 400, `{"error":{"code":"INVALID_MESSAGE"`},
		{"price in another case", all, price(`{"asset":"bitcoin","Price":1}`), 400, `{"error":{"code":"INVALID_MESSAGE"`},
		{"time without a zone", all, price(`{"asset":"bitcoin","price":1,"timestamp":"2025-12-02T12:30:00"}`), 400, `{"error":{"code":"INVALID_MESSAGE"`},

		{"cut off at an element", all, `[`, 400, failure("INVALID_MESSAGE", "the body cannot be read: not valid JSON")},
		{"cut off at data", all, `[{"data": `, 400, failure("INVALID_MESSAGE", "the body cannot be read: not valid JSON")},
		{"many keys", all, to("price_update", "test:a", manyKeys(4000)), 200, `{"id"`},
		{"many keys, one twice", all, to("price_update", "test:a", strings.Replace(manyKeys(4000), `"k3999"`, `"k17"`, 1)), 400, failure("INVALID_MESSAGE", "the body cannot be read: an object has the same key twice")},
		{"not JSON", all, `{"type":`, 400, failure("INVALID_MESSAGE", "the body cannot be read: not valid JSON")},
		{"nothing", all, ``, 400, `{"error":{"code":"INVALID_MESSAGE"`},
		{"a string", all, `"x"`, 400, failure("INVALID_MESSAGE", "send one message object, or an array of them")},
		{"two objects", all, `{}{}`, 400, `{"error":{"code":"INVALID_MESSAGE"`},
		{"no type", all, `{"data":{}}`, 400, `{"error":{"code":"INVALID_MESSAGE"`},
		{"unknown type", all, `{"type":"trade","data":{}}`, 400, `{"error":{"code":"UNKNOWN_TYPE"`},
		{"type not a string", all, `{"type":["price_update"],"data":{}}`, 400, `{"error":{"code":"UNKNOWN_TYPE"`},
		{"no data", all, `{"type":"price_update","channel":"test:a"}`, 400, failure("INVALID_MESSAGE", "data must be an object")},
		{"data is a list", all, to("price_update", "test:a", `[]`), 400, failure("INVALID_MESSAGE", "data must be an object")},
		{"data is null", all, to("price_update", "test:a", `null`), 400, failure("INVALID_MESSAGE", "data must be an object")},
		{"duplicate key", all, `{"type":"price_update","type":"market_data"}`, 400, failure("INVALID_MESSAGE", "the body cannot be read: an object has the same key twice")},
		{"duplicate key, escaped, deep", all, to("price_update", "test:a", `{"m":[{"k":1,"\u006b":2}]}`), 400, failure("INVALID_MESSAGE", "the body cannot be read: an object has the same key twice")},
		{"NUL", all, to("price_update", "test:a", `{"k":"\u0000"}`), 400, failure("INVALID_MESSAGE", "the body cannot be read: a string holds the character NUL")},
		{"raw NUL", all, to("price_update", "test:a", "{\"k\":\"\x00\"}"), 400, `{"error":{"code":"INVALID_MESSAGE"`},
		{"NUL between tokens", all, "\x00{}", 400, `{"error":{"code":"INVALID_MESSAGE"`},
		{"lone surrogate", all, to("price_update", "test:a", `{"k":"\ud800"}`), 400, failure("INVALID_MESSAGE", "the body cannot be read: a string holds a lone surrogate or bytes that are not UTF-8")},
		{"surrogates the wrong way round", all, to("price_update", "test:a", `{"k":"\udc00\ud800"}`), 400, failure("INVALID_MESSAGE", "the body cannot be read: a string holds a lone surrogate or bytes that are not UTF-8")},
		{"not UTF-8", all, to("price_update", "test:a", "{\"k\":\"\xff\"}"), 400, failure("INVALID_MESSAGE", "the body cannot be read: a string holds a lone surrogate or bytes that are not UTF-8")},
		{"a surrogate in UTF-8", all, to("price_update", "test:a", "{\"k\":\"\xed\xa0\x80\"}"), 400, failure("INVALID_MESSAGE", "the body cannot be read: a string holds a lone surrogate or bytes that are not UTF-8")},
		{"a long number", all, to("price_update", "test:a", `{"k":`+strings.Repeat("9", 65)+`}`), 200, `{"id"`},
		{"a number beyond float64", all, to("price_update", "test:a", `{"k":`+strings.Repeat("9", 400)+`}`), 400, failure("INVALID_MESSAGE", "the body cannot be read: a number is out of range")},
		{"depth 32", all, to("price_update", "test:a", `{"k":`+strings.Repeat("[", 30)+strings.Repeat("]", 30)+`}`), 200, `{"id"`},
		{"depth 33", all, to("price_update", "test:a", `{"k":`+strings.Repeat("[", 31)+strings.Repeat("]", 31)+`}`), 400, failure("INVALID_MESSAGE", "the body cannot be read: nested more than 32 deep")},
		{"depth bomb", all, strings.Repeat("[", 500_000), 400, `{"error":{"code":"INVALID_MESSAGE"`},
		{"101 messages", all, "[" + strings.Repeat("{},", 100) + "{}]", 400, failure("INVALID_MESSAGE", "an array has more than 100 messages")},
		{"a large message", all, to("price_update", "test:a", `{"k":"`+strings.Repeat("x", 64<<10)+`"}`), 413, failure("MESSAGE_TOO_LARGE", "the message has more than 64 KiB")},
		{"a large message in an array", all, `[` + to("price_update", "test:a", `{"k":"`+strings.Repeat("x", 64<<10)+`"}`) + `]`, 200, `[` + failure("MESSAGE_TOO_LARGE", "the message has more than 64 KiB")},
		{"a large body", all, strings.Repeat(" ", 1<<20+1), 413, failure("MESSAGE_TOO_LARGE", "the body has more than 1 MiB")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, answer := post(newHarness(t, nil), tt.token, tt.body)
			if status != tt.status || !strings.HasPrefix(answer, tt.answer) {
				t.Errorf("got %d %s\nwant %d %s", status, answer, tt.status, tt.answer)
			}
			if !json.Valid([]byte(answer)) {
				t.Errorf("the answer is not JSON: %s", answer)
			}
		})
	}
}

func TestPublishedState(t *testing.T) {
	tests := []struct {
		name, body string
		want       protocol.Publication
	}{
		{"as it came", `{"type":"price_update","channel":"test:c1","data":{"price":1.50,"metadata":{"b":1e2,"a":"\u00e9\/"}}}`,
			protocol.Publication{Channel: "test:c1", Type: "price_update", Price: 1.5, Data: []byte(`{"price":1.50,"metadata":{"b":1e2,"a":"\u00e9\/"}}`)}},
		{"compacted", "{\"type\":\"market_data\",\"channel\":\"market:summary\",\"data\":\r\n{ \"a b\" : [ 1 ,\t2 ], \"c\":\"\\\" , \" }\n}",
			protocol.Publication{Channel: "market:summary", Type: "market_data", Data: []byte(`{"a b":[1,2],"c":"\" , "}`)}},
		{"an escaped channel", `{"type":"price_update","channel":"test\u003ac1","data":{"price":"x"}}`,
			protocol.Publication{Channel: "test:c1", Type: "price_update", Data: []byte(`{"price":"x"}`)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t, nil)
			post(h, "ann:*", tt.body)
			if want := []protocol.Publication{tt.want}; !reflect.DeepEqual(h.sink.states, want) {
				t.Errorf("got %+v, want %+v", h.sink.states, want)
			}
		})
	}
}

func TestPublishedPrice(t *testing.T) {
	h := newHarness(t, nil)
	post(h, "ann:*", `[{"type":"price_update","data":{"symbol":"ETH","price":2300.5,"volume_24h":7e9,"timestamp":"2025-12-02T12:30:00Z","sources":[1]}},
		{"type":"price_update","data":{"asset":"bitcoin","price":1,"volume_24h":null}}]`)
	want := []Quote{
		{Issuer: "ann", Asset: "ethereum", Price: 2300.5, Volume24h: 7e9, At: protocol.Time(time.Date(2025, 12, 2, 12, 30, 0, 0, time.UTC).UnixNano())},
		{Issuer: "ann", Asset: "bitcoin", Price: 1, At: protocol.Time(noon.UnixNano())},
	}
	if !reflect.DeepEqual(h.sink.prices, want) {
		t.Errorf("got %+v, want %+v", h.sink.prices, want)
	}
}

func TestPublishedSignal(t *testing.T) {
	tests := []struct {
		name, data string
		want       string // data
		about      protocol.Signal
	}{
		{"the least", `{"id":"x","type":"a"}`,
			`{"id":"x","type":"a","timestamp":"2026-11-22T12:00:00.000Z","status":"active"}`,
			protocol.Signal{ID: "x", Type: "a"}},
		{"everything, in another order, with more", `{"metadata":{ "price_change":5.20, "x":[{}] },"unknown":{"a":1},"replaces":"w","status":"corrected","sources":["coinbase","kraken"],
			"timestamp":"2025-12-02T12:30:01Z","description":"<b>","title":"t\u2028","severity":"high","confidence":0.80,"entities":["ETH","bitcoin","ethereum","some-dao"],"symbol":"ETH","type":"price_spike","id":"price_spike-ethereum-1"}`,
			`{"id":"price_spike-ethereum-1","type":"price_spike","symbol":"ETH","entities":["ethereum","bitcoin","some-dao"],"confidence":0.8,"severity":"high","title":"t\u2028","description":"\u003cb\u003e","timestamp":"2025-12-02T12:30:01Z","sources":["coinbase","kraken"],"status":"corrected","replaces":"w","metadata":{"price_change":5.20,"x":[{}]}}`,
			protocol.Signal{ID: "price_spike-ethereum-1", Type: "price_spike", Entities: []string{"ethereum", "bitcoin", "some-dao"}, Sources: []string{"coinbase", "kraken"}, Severity: "high", Confidence: .8, HasConfidence: true, High: true}},
		{"not high", `{"id":"x","type":"a","confidence":0.79,"severity":null}`,
			`{"id":"x","type":"a","confidence":0.79,"timestamp":"2026-11-22T12:00:00.000Z","status":"active"}`,
			protocol.Signal{ID: "x", Type: "a", Confidence: .79, HasConfidence: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t, nil)
			status, answer := post(h, "ann:*", `{"type":"signal_alert","data":`+tt.data+`}`)
			if status != 200 || len(h.sink.log) != 1 {
				t.Fatalf("got %d %s", status, answer)
			}
			e := h.sink.log[0]
			want := &protocol.Publication{Channel: protocol.LogChannel, Type: protocol.TypeSignal, Data: []byte(tt.want), Signal: &tt.about}
			if e.Issuer != "ann" || !reflect.DeepEqual(e.Publication, want) {
				t.Errorf("got  %s %+v\nwant %s %+v", e.Publication.Data, e.Publication.Signal, want.Data, want.Signal)
			}
			read, err := protocol.ParseSignal(e.Publication.Data)
			if err != nil {
				t.Fatal(err)
			}
			read.High = tt.about.High
			if !reflect.DeepEqual(*read, tt.about) {
				t.Errorf("the data reads as %+v, want %+v", *read, tt.about)
			}
		})
	}
}

// A list that is given is published, though it is empty; of entities only what
// is left of them.
func TestEmptyLists(t *testing.T) {
	h := newHarness(t, nil)
	post(h, "ann:*", `{"type":"signal_alert","data":{"id":"x","type":"a","entities":[],"sources":[ ]}}`)
	want := `{"id":"x","type":"a","timestamp":"2026-11-22T12:00:00.000Z","sources":[],"status":"active"}`
	if got := string(h.sink.log[0].Publication.Data); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRefusedSignals(t *testing.T) {
	many := strings.TrimSuffix(strings.Repeat(`"a",`, 21), ",")
	for _, data := range []string{
		`{}`, `{"type":""}`, `{"type":"A"}`, `{"type":"a-b"}`, `{"type":1}`, `{"type":"` + strings.Repeat("a", 65) + `"}`,
		`{"type":"a","id":""}`, `{"type":"a","id":1}`, `{"type":"a","id":"a b"}`, `{"type":"a","id":"é"}`, `{"type":"a","id":"` + strings.Repeat("a", 129) + `"}`,
		`{"type":"a","entities":"bitcoin"}`, `{"type":"a","entities":[1]}`, `{"type":"a","entities":["B c"]}`, `{"type":"a","entities":[""]}`, `{"type":"a","entities":[` + many + `]}`,
		`{"type":"a","confidence":1.01}`, `{"type":"a","confidence":-0.1}`, `{"type":"a","confidence":"0.5"}`,
		`{"type":"a","severity":"HIGH"}`, `{"type":"a","severity":""}`, `{"type":"a","status":"new"}`, `{"type":"a","status":"corrected"}`,
		`{"type":"a","timestamp":"yesterday"}`, `{"type":"a","timestamp":1764678600}`, `{"type":"a","timestamp":"0001-01-01T00:00:00Z"}`,
		`{"type":"a","sources":[""]}`, `{"type":"a","sources":[{"name":"x"}]}`, `{"type":"a","sources":[` + many + `]}`,
		`{"type":"a","metadata":[]}`, `{"type":"a","metadata":1}`, `{"type":"a","title":1}`, `{"type":"a","symbol":"` + strings.Repeat("a", 33) + `"}`,
		`{"type":"a","description":"` + strings.Repeat("a", 8193) + `"}`, `{"type":"a","replaces":[]}`,
	} {
		h := newHarness(t, nil)
		status, answer := post(h, "ann:*", `{"type":"signal_alert","data":`+data+`}`)
		if status != 400 || !strings.Contains(answer, "INVALID_MESSAGE") || len(h.sink.log) > 0 {
			t.Errorf("%.80s: got %d %s", data, status, answer)
		}
	}
}

// A publisher that repeats a signal must be recognised, whatever was filled in
// for it, and whatever order its fields are in.
func TestSignalContent(t *testing.T) {
	clock := noon
	h := newHarness(t, func(_ *Config, p *Parts) { p.Now = func() time.Time { clock = clock.Add(time.Second); return clock } })
	content := func(data string) [16]byte {
		h.sink.log = nil
		post(h, "ann:*", `{"type":"signal_alert","data":`+data+`}`)
		return h.sink.log[0].Content
	}
	first := content(`{"id":"x","type":"a","metadata":{"k":1}}`)
	if again := content(`{ "metadata": {"k": 1}, "type":"a", "id":"x", "ignored":true}`); again != first {
		t.Error("the same signal has another content")
	}
	if other := content(`{"id":"x","type":"a","metadata":{"k":2}}`); other == first {
		t.Error("another signal has the same content")
	}
}

func TestPublishFailures(t *testing.T) {
	tests := []struct {
		name   string
		err    error
		status int
		want   string
		retry  string
	}{
		{"conflict", &protocol.Error{Code: protocol.Conflict, Message: "same id"}, 409, "CONFLICT", ""},
		{"wrapped", errors.Join(&protocol.Error{Code: protocol.RateLimited, Message: "slow", RetryAfter: 1500 * protocol.Millisecond}), 429, `"retry_after_ms":1500`, "2"},
		{"outage", errors.New("dial 10.0.0.7: refused"), 500, "INTERNAL", ""},
	}
	for _, tt := range tests {
		for _, body := range []string{
			`{"type":"price_update","channel":"test:a","data":{}}`,
			`{"type":"price_update","data":{"asset":"bitcoin","price":1}}`,
			`{"type":"signal_alert","data":{"type":"a"}}`,
		} {
			t.Run(tt.name, func(t *testing.T) {
				h := newHarness(t, nil)
				h.sink.err = tt.err
				r := httptest.NewRequest(http.MethodPost, "/api/v1/publish", strings.NewReader(body))
				r.Header.Set("Authorization", "Bearer ann:*")
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				if got := w.Body.String(); w.Code != tt.status || !strings.Contains(got, tt.want) || strings.Contains(got, "10.0.0.7") || w.Header().Get("Retry-After") != tt.retry {
					t.Errorf("got %d %q %s", w.Code, w.Header().Get("Retry-After"), got)
				}
			})
		}
	}
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(`,"k` + strconv.Itoa(i) + `":0`)
	}
	return "{" + b.String()[1:] + "}"
}
