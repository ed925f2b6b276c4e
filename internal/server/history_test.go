package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"cryptointel/internal/eventloop"
	"cryptointel/internal/market"
	"cryptointel/protocol"
)

const historyPath = "/api/v1/history/prices"

// A historyAnswer is what GET /api/v1/history/prices says.
type historyAnswer struct {
	Asset, Symbol, Interval string
	Candles                 []struct {
		Start                          int64
		Open, High, Low, Close, Volume float64
	}
	Next  int64
	Error struct {
		Code, Message string
	}
}

func history(t *testing.T, s *Server, query string) (code int, header http.Header, got historyAnswer) {
	t.Helper()
	code, header, body := call(t, "GET", "http://"+s.Addr()+historyPath+"?"+query, "", "")
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("%s: %d %s: %v", query, code, body, err)
	}
	return code, header, got
}

// TestHistoryOfTheDemo asks for the bars of a market that runs.
func TestHistoryOfTheDemo(t *testing.T) {
	t.Parallel()
	cfg := testConfig(eventloop.KindAuto)
	cfg.Feeds, cfg.Demo.Rate = []string{FeedDemo}, 500
	s, _ := begin(t, cfg)
	c := connect(t, s)
	c.subscribe(t, `"price:bitcoin"`)
	low, high := 1e18, 0.0
	for range 20 {
		var d struct{ Price float64 }
		if m := c.next(t); json.Unmarshal(m.Data, &d) != nil || d.Price <= 0 {
			t.Fatalf("got %s, want a price", m.text)
		}
		low, high = min(low, d.Price), max(high, d.Price)
	}
	for _, interval := range []string{"1m", "5m", "1h", "1d"} {
		code, header, got := history(t, s, "asset=BTC&interval="+interval)
		if code != http.StatusOK || got.Asset != "bitcoin" || got.Symbol != "BTC" || got.Interval != interval || len(got.Candles) == 0 {
			t.Fatalf("%s: %d %+v", interval, code, got)
		}
		if !strings.HasPrefix(header.Get("Cache-Control"), "public, max-age=") {
			t.Errorf("%s: Cache-Control is %q", interval, header.Get("Cache-Control"))
		}
		lowest, highest := 1e18, 0.0
		for _, b := range got.Candles {
			if b.Low > min(b.Open, b.Close) || b.High < max(b.Open, b.Close) || b.Low <= 0 || b.Volume < 0 {
				t.Errorf("%s: the bar %+v", interval, b)
			}
			lowest, highest = min(lowest, b.Low), max(highest, b.High)
		}
		if lowest > low || highest < high {
			t.Errorf("%s: the bars go from %v to %v, the prices went from %v to %v", interval, lowest, highest, low, high)
		}
	}
}

// seeded is a server with a day of five-minute bars of bitcoin, whose clock
// stands still, and the start of the first.
func seeded(t *testing.T) (s *Server, first protocol.Time, bars int) {
	t.Helper()
	clock := newHandClock(time.Date(2025, 12, 2, 12, 2, 30, 0, time.UTC))
	cfg := testConfig(eventloop.KindAuto)
	cfg.Clock = clock
	s, _ = begin(t, cfg)
	const five = 5 * protocol.Minute
	bars = 288
	first = clock.Now() - clock.Now()%five - protocol.Time(bars)*five
	var list []market.Candle
	for n := range bars {
		price := float64(43000 + n)
		list = append(list, market.Candle{Start: first + protocol.Time(n)*five, Open: price, High: price + 5, Low: price - 5, Close: price + 1, Volume: 1000})
	}
	s.market.Seed("bitcoin", "test", list)
	return s, first, bars
}

// TestHistoryPages reads a day of bars, whole and page by page.
func TestHistoryPages(t *testing.T) {
	t.Parallel()
	s, first, bars := seeded(t)
	_, _, whole := history(t, s, "asset=bitcoin&interval=5m")
	if len(whole.Candles) != bars || whole.Next != 0 {
		t.Fatalf("%d bars, next %d, want %d and no more", len(whole.Candles), whole.Next, bars)
	}
	for n, b := range whole.Candles {
		want := float64(43000 + n)
		if b.Start != int64(first)/1e6+int64(n)*300_000 || b.Open != want || b.High != want+5 || b.Low != want-5 || b.Close != want+1 || b.Volume != 1000 {
			t.Fatalf("bar %d is %+v", n, b)
		}
	}
	var pages historyAnswer
	for from := fmt.Sprint(whole.Candles[0].Start); ; from = fmt.Sprint(pages.Next) {
		_, _, page := history(t, s, "asset=BTC&interval=5m&limit=100&from="+from)
		pages.Candles, pages.Next = append(pages.Candles, page.Candles...), page.Next
		if page.Next == 0 {
			break
		}
	}
	if fmt.Sprint(pages.Candles) != fmt.Sprint(whole.Candles) {
		t.Errorf("the pages have %d bars, the whole %d", len(pages.Candles), len(whole.Candles))
	}
	at := time.Unix(0, int64(first)).UTC()
	query := url.Values{"asset": {"btc"}, "interval": {"5m"}, "from": {at.Add(time.Hour).Format(time.RFC3339)}, "to": {at.Add(2 * time.Hour).Format(time.RFC3339)}}
	if _, _, got := history(t, s, query.Encode()); len(got.Candles) != 12 || got.Candles[0].Open != 43012 {
		t.Errorf("an hour of bars: %+v", got)
	}
	if _, _, got := history(t, s, "asset=bitcoin&interval=5m&limit=3"); len(got.Candles) != 3 || got.Candles[2].Open != float64(43000+bars-1) {
		t.Errorf("the newest three: %+v", got)
	}
	_, _, hours := history(t, s, "asset=bitcoin&interval=1h")
	if n := len(hours.Candles); n != 24 || hours.Candles[1].High-hours.Candles[1].Low != 21 || hours.Candles[1].Volume != 12_000 {
		t.Errorf("%d hours: %+v", n, hours.Candles)
	}
	if code, _, got := history(t, s, "asset=ethereum"); code != http.StatusOK || got.Candles == nil || len(got.Candles) > 0 {
		t.Errorf("an asset without bars: %d %+v, want an empty list", code, got)
	}
}

// TestHistoryMistakes names the parameter that is wrong, and what to use.
func TestHistoryMistakes(t *testing.T) {
	t.Parallel()
	s, _, _ := seeded(t)
	for query, want := range map[string]string{
		"":                                    "asset is missing",
		"asset=":                              "asset is missing",
		"asset=nope":                          "no asset 'nope'",
		"asset=<script>alert(1)</script>":     "no asset",
		"asset=bitcoin&asset=ethereum":        "asset is given more than once",
		"asset=bitcoin&interval=2m":           "use 1m, 5m, 1h or 1d",
		"asset=bitcoin&interval=":             "use 1m, 5m, 1h or 1d",
		"asset=bitcoin&limit=0":               "use 1 to 5000",
		"asset=bitcoin&limit=5001":            "use 1 to 5000",
		"asset=bitcoin&limit=1e3":             "use 1 to 5000",
		"asset=bitcoin&from=yesterday":        "use RFC 3339",
		"asset=bitcoin&to=-1":                 "use a time from 1970",
		"asset=bitcoin&from=9999999999999999": "use a time from 1970 to 2200",
		"asset=bitcoin&from=2025-12-02T12:00:00Z&to=2025-12-02T11:00:00Z": "from must be before to",
		"asset=bitcoin&since=1": "no parameter 'since'",
		"asset=%zz":             "cannot be read",
	} {
		query = strings.ReplaceAll(query, "<script>alert(1)</script>", url.QueryEscape("<script>alert(1)</script>"))
		code, header, got := history(t, s, query)
		if code != http.StatusBadRequest || !strings.Contains(got.Error.Message, want) {
			t.Errorf("%q: %d %+v, want 400 and %q", query, code, got.Error, want)
		}
		if header.Get("Cache-Control") != "no-store" {
			t.Errorf("%q: Cache-Control is %q", query, header.Get("Cache-Control"))
		}
	}
	if code, header, _ := call(t, "POST", "http://"+s.Addr()+historyPath+"?asset=bitcoin", "", ""); code != http.StatusMethodNotAllowed || header.Get("Allow") == "" {
		t.Errorf("POST: %d, Allow %q", code, header.Get("Allow"))
	}
}
