package feed

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// The three codecs satisfy the whole interface.
var (
	_ Exchange = (*OKX)(nil)
	_ Exchange = (*Bybit)(nil)
	_ Exchange = (*Bitstamp)(nil)
)

// captureFile is the name of an exchange's capture, without its directory.
func captureFile(exchange string) string {
	return map[string]string{
		"okx":      "feeds/okx-v5-20220513-a.jsonl.gz",
		"bybit":    "feeds/bybit-v5-20260809-a.jsonl.gz",
		"bitstamp": "feeds/bitstamp-v2-20220105-a.jsonl.gz",
	}[exchange]
}

// capturedFrame is a received frame with the URL it came over.
type capturedFrame struct {
	url, data string
}

// capturedFrames are the frames of a capture, read with encoding/json only.
func capturedFrames(t testing.TB, name string) (out []capturedFrame) {
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
	urls := make(map[string]string)
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var line struct{ T, Conn, URL, Data string }
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		switch line.T {
		case "connect":
			urls[line.Conn] = line.URL
		case "recv":
			out = append(out, capturedFrame{urls[line.Conn], line.Data})
		}
	}
	return out
}

// recordedTicks plays a capture the way --replay does.
func recordedTicks(t *testing.T, name string) ([]market.Tick, Stats) {
	t.Helper()
	rec, err := openRecording(dataFile(t, name), registry(t), quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer rec.close()
	var all []market.Tick
	for {
		_, ticks, err := rec.record(t.Context(), nil)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, ticks...)
	}
	if rec.bad > 0 {
		t.Errorf("%d bad lines, the last: %v", rec.bad, rec.lastBad)
	}
	return all, rec.parse.stats()
}

// TestSpotCaptures compares what a replay makes of whole captures with what
// the slow decoders make of their spot frames.
func TestSpotCaptures(t *testing.T) {
	tests := []struct {
		exchange string
		slow     func([]byte, resolver) ([]market.Tick, error)
		want     int // ticks
		ignored  map[string]uint64
	}{
		// Acks of 9 channels, some twice; the books of three instruments.
		// Two derivatives: a ticker and a trade of each.
		{"okx", slowOKX, 18 + 44, map[string]uint64{"subscribe": 18, "books": 188, "derivative": 4}},
		{"bybit", slowBybit, 47 + 8, nil},
		{"bitstamp", slowBitstamp, 3, map[string]uint64{"bts:subscription_succeeded": 20, "data": 485}},
	}
	for _, tt := range tests {
		t.Run(tt.exchange, func(t *testing.T) {
			assets := registry(t)
			got, stats := recordedTicks(t, captureFile(tt.exchange))
			var want []market.Tick
			for _, f := range capturedFrames(t, captureFile(tt.exchange)) {
				if strings.HasSuffix(f.url, "/linear") {
					continue
				}
				slow, err := tt.slow([]byte(f.data), assets)
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, slow...)
			}
			equalLines(t, tickTexts(got), tickTexts(want))
			if len(got) != tt.want || stats.Malformed+stats.Duplicates+stats.Gaps+stats.OutOfOrder+stats.Unknown != 0 {
				t.Errorf("got %d ticks, want %d, and stats %+v", len(got), tt.want, stats)
			}
			if tt.ignored != nil && fmt.Sprint(stats.Ignored) != fmt.Sprint(tt.ignored) {
				t.Errorf("ignored %v, want %v", stats.Ignored, tt.ignored)
			}
		})
	}
}

// TestPerpetualsMakeNoPrice plays the linear connection of the Bybit capture:
// neither a codec that knows the URL nor one that does not takes a tick.
func TestPerpetualsMakeNoPrice(t *testing.T) {
	codecs := []*Bybit{newBybitDerivatives(registry(t)), NewBybit(registry(t))}
	frames := 0
	for _, f := range capturedFrames(t, captureFile("bybit")) {
		if !strings.HasSuffix(f.url, "/linear") {
			continue
		}
		frames++
		for _, c := range codecs {
			if ticks, err := c.Decode([]byte(f.data), 0, nil); err != nil || len(ticks) > 0 {
				t.Fatalf("%.200s: got %v %v", f.data, ticks, err)
			}
		}
	}
	for _, c := range codecs {
		if n := c.Stats().Ignored["derivative"]; frames < 1000 || n < 300 {
			t.Errorf("%d frames, %d counted as derivatives", frames, n)
		}
	}
}

// wantNotes compares what an exchange's frames said.
func wantNotes(t *testing.T, e Exchange, want ...Note) {
	t.Helper()
	if got := e.Notes(); !slices.Equal(got, want) {
		t.Errorf("got notes  %+v\nwant %+v", got, want)
	}
	if again := e.Notes(); len(again) > 0 {
		t.Errorf("told twice: %+v", again)
	}
}

// TestSubscribe looks at the messages that are sent: valid JSON, within the
// exchange's limits, every symbol in the right number of them.
func TestSubscribe(t *testing.T) {
	symbols := make([]string, 120)
	for i := range symbols {
		symbols[i] = fmt.Sprintf("C%03d-USDT", i)
	}
	tests := []struct {
		e        Exchange
		messages int
		first    string // what the first message begins with
		most     int    // bytes of a message
	}{
		{NewOKX(nil), 3, `{"args":[{"channel":"tickers","instId":"C000-USDT"},{"channel":"trades","instId":"C000-USDT"},`, 64 << 10},
		{NewBybit(nil), 120, `{"args":["tickers.C000-USDT","publicTrade.C000-USDT"],"op":"subscribe","req_id":"C000-USDT"}`, 21_000},
		{NewBitstamp(nil), 120, `{"data":{"channel":"live_trades_C000-USDT"},"event":"bts:subscribe"}`, 1000},
	}
	for _, tt := range tests {
		got := tt.e.Subscribe(symbols)
		if len(got) != tt.messages || !strings.HasPrefix(string(got[0]), tt.first) {
			t.Errorf("%s: got %d messages, want %d; the first is %.200s", tt.e.Name(), len(got), tt.messages, got[0])
		}
		var all strings.Builder
		for _, m := range got {
			if !json.Valid(m) || len(m) > tt.most {
				t.Errorf("%s: a message of %d bytes: %.100s", tt.e.Name(), len(m), m)
			}
			all.Write(m)
		}
		for _, s := range symbols {
			if !strings.Contains(all.String(), s) {
				t.Errorf("%s: %s is in no message", tt.e.Name(), s)
			}
		}
		if len(tt.e.Subscribe(nil)) != 0 {
			t.Errorf("%s: a message for no symbols", tt.e.Name())
		}
	}
}

// TestRules: a ping comes before the exchange ends a silent connection, and
// its answer before the deadline.
func TestRules(t *testing.T) {
	for _, e := range []Exchange{NewOKX(nil), NewBybit(nil), NewBitstamp(nil)} {
		r := e.Rules()
		if r.PingEvery >= r.Silence || r.Silence <= 0 || len(r.Ping) == 0 || r.FrameBytes != 1<<20 || r.MaxSymbols <= 0 {
			t.Errorf("%s: %+v", e.Name(), r)
		}
		if !strings.HasPrefix(r.URL, "wss://") || !strings.HasPrefix(r.REST, "https://") || strings.HasSuffix(r.REST, "/") {
			t.Errorf("%s: URLs %s and %s", e.Name(), r.URL, r.REST)
		}
		if r.ConnectGap <= 0 || r.MessageGap <= 0 || r.RequestGap <= 0 {
			t.Errorf("%s: no gap: %+v", e.Name(), r)
		}
	}
}

// since is a time that requests for bars are made with.
const since = 1786300000 * protocol.Second

func TestRequests(t *testing.T) {
	gap := Note{Kind: Gap, Symbol: "A B", From: 5, To: 9}
	lost := gap
	lost.Text = outOfReach
	stamp := NewBitstamp(registry(t))
	stamp.now = now0
	recent, old := gap, gap
	recent.After, old.After = now0-54*protocol.Minute, now0-56*protocol.Minute
	tests := []struct{ got, want string }{
		{NewOKX(nil).Catalog().Path, "/api/v5/market/tickers?instType=SPOT"},
		{NewOKX(nil).Bars("BTC-USDT", since).Path, "/api/v5/market/candles?bar=5m&limit=300&instId=BTC-USDT"},
		{NewOKX(nil).Refill(gap).Path, "/api/v5/market/history-trades?instId=A+B&type=1&after=10&limit=100"},
		{NewBybit(nil).Catalog().Path, "/v5/market/tickers?category=spot"},
		{NewBybit(nil).Bars("BTCUSDT", since).Path, "/v5/market/kline?category=spot&symbol=BTCUSDT&interval=5&start=1786300000000&limit=1000"},
		{NewBybit(nil).Refill(gap).Path, "/v5/market/recent-trade?category=spot&limit=60&symbol=A+B"},
		{NewBybit(nil).Refill(lost).Path, ""},
		{stamp.Catalog().Path, "/api/v2/ticker/"},
		{stamp.Bars("btcusd", since).Path, "/api/v2/ohlc/btcusd/?step=300&limit=1000&exclude_current_candle=true&start=1786300000"},
		{stamp.Refill(recent).Path, "/api/v2/transactions/A%20B/?time=hour"},
		{stamp.Refill(old).Path, "/api/v2/transactions/A%20B/?time=day"},
		{stamp.Refill(lost).Path, ""},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("got %s, want %s", tt.got, tt.want)
		}
	}
}
