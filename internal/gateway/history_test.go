package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cryptointel/protocol"
)

// archive is a fake history of minutes that begins an hour before noon and
// ends with the one that runs at noon.
type archive struct {
	asked []candleQuery
	err   error
}

func (a *archive) Candles(asset, interval string, from, to protocol.Time, limit int) ([]Candle, error) {
	a.asked = append(a.asked, candleQuery{asset, interval, from, to, limit})
	if a.err != nil {
		return nil, a.err
	}
	var found []Candle
	for i := range 61 {
		start := protocol.Time(noon.UnixNano()) + protocol.Time(i-60)*protocol.Minute
		if start >= from && start < to {
			p := float64(i)
			found = append(found, Candle{start, p, p + 2, p - 0.5, p + 1, 1e6 + p})
		}
	}
	if from == 0 {
		return found[max(0, len(found)-limit):], nil
	}
	return found[:min(limit, len(found))], nil
}

func withHistory(c *Config, p *Parts) {
	readable(c, p)
	p.History = new(archive)
}

func getHistory(h *harness, query string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/api/v1/history/prices", nil)
	r.URL.RawQuery = query
	h.ServeHTTP(w, r)
	return w
}

// at is a time of the archive as unix milliseconds.
func at(minutesBeforeNoon int) int64 {
	return noon.Add(-time.Duration(minutesBeforeNoon) * time.Minute).UnixMilli()
}

func TestHistoryAnswer(t *testing.T) {
	w := getHistory(newHarness(t, withHistory), "asset=BTC&limit=1")
	want := fmt.Sprintf(`{"asset":"bitcoin","symbol":"BTC","interval":"1m","candles":[{"start":%d,"open":60,"high":62,"low":59.5,"close":61,"volume":1000060}]}`, at(0))
	if w.Code != 200 || w.Body.String() != want {
		t.Errorf("got %d %s, want %s", w.Code, w.Body, want)
	}
}

func TestHistoryQueries(t *testing.T) {
	iso := func(minutes int) string { return noon.Add(-time.Duration(minutes) * time.Minute).Format(time.RFC3339) }
	tests := []struct {
		name, query string
		starts      []int64 // first and last
		count       int
		next        int64
		cache       string
	}{
		{"all", "asset=bitcoin", []int64{at(60), at(0)}, 61, 0, "public, max-age=5"},
		{"by ticker", "asset=btc&interval=1m", []int64{at(60), at(0)}, 61, 0, "public, max-age=5"},
		{"the latest", "asset=bitcoin&limit=2", []int64{at(1), at(0)}, 2, 0, "public, max-age=5"},
		{"the latest before", fmt.Sprintf("asset=bitcoin&limit=2&to=%d", at(10)), []int64{at(12), at(11)}, 2, 0, "public, max-age=60"},
		{"the first", "asset=bitcoin&from=0&limit=2", []int64{at(60), at(59)}, 2, at(58), "public, max-age=5"},
		{"a page", fmt.Sprintf("asset=bitcoin&from=%d&limit=3", at(50)), []int64{at(50), at(48)}, 3, at(47), "public, max-age=5"},
		{"the last page", fmt.Sprintf("asset=bitcoin&from=%d&limit=3", at(2)), []int64{at(2), at(0)}, 3, 0, "public, max-age=5"},
		{"a stretch", "asset=bitcoin&from=" + iso(20) + "&to=" + iso(15), []int64{at(20), at(16)}, 5, 0, "public, max-age=60"},
		{"another time zone", "asset=bitcoin&from=2026-11-22T13:50:00%2B02:00&to=" + iso(0), []int64{at(10), at(1)}, 10, 0, "public, max-age=5"},
		{"nothing there", "asset=bitcoin&from=1000&to=2000", nil, 0, 0, "public, max-age=60"},
		{"the most", "asset=bitcoin&limit=5000", []int64{at(60), at(0)}, 61, 0, "public, max-age=5"},
	}
	h := newHarness(t, withHistory)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := getHistory(h, tt.query)
			var got struct {
				Candles []struct{ Start int64 }
				Next    int64
			}
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
				t.Fatalf("got %d %s, %v", w.Code, w.Body, err)
			}
			var starts []int64
			if n := len(got.Candles); n > 0 {
				starts = []int64{got.Candles[0].Start, got.Candles[n-1].Start}
			}
			if len(got.Candles) != tt.count || !reflect.DeepEqual(starts, tt.starts) || got.Next != tt.next {
				t.Errorf("got %d %v, next %d, want %d %v, %d", len(got.Candles), starts, got.Next, tt.count, tt.starts, tt.next)
			}
			if cache := w.Header().Get("Cache-Control"); cache != tt.cache {
				t.Errorf("got %s, want %s", cache, tt.cache)
			}
		})
	}
}

// Whoever follows next sees each candle once.
func TestHistoryPages(t *testing.T) {
	h := newHarness(t, withHistory)
	next, seen := int64(1), 0
	for page := 0; next != 0; page++ {
		var got struct {
			Candles []struct{ Start int64 }
			Next    int64
		}
		w := getHistory(h, fmt.Sprintf("asset=bitcoin&limit=7&from=%d", next))
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		for _, c := range got.Candles {
			if c.Start != at(60-seen) {
				t.Fatalf("candle %d starts at %d, want %d", seen, c.Start, at(60-seen))
			}
			seen++
		}
		if next = got.Next; page > 10 {
			t.Fatal("the pages do not end")
		}
	}
	if seen != 61 {
		t.Errorf("saw %d candles, want 61", seen)
	}
}

func TestHistoryRefusals(t *testing.T) {
	tests := []struct{ name, query, code, says string }{
		{"no asset", "", "INVALID_MESSAGE", "asset is missing: name one by slug or ticker"},
		{"an empty asset", "asset=", "INVALID_MESSAGE", "asset is missing"},
		{"an unknown asset", "asset=nope", "INVALID_CHANNEL", "no asset 'nope'; GET /api/v1/assets lists them"},
		{"an unknown interval", "asset=bitcoin&interval=2m", "INVALID_MESSAGE", "interval is '2m': use 1m, 5m, 1h or 1d"},
		{"an empty interval", "asset=bitcoin&interval=", "INVALID_MESSAGE", "interval is '': use"},
		{"a limit of none", "asset=bitcoin&limit=0", "INVALID_MESSAGE", "limit is '0': use 1 to 5000"},
		{"too large a limit", "asset=bitcoin&limit=5001", "INVALID_MESSAGE", "limit is '5001': use 1 to 5000"},
		{"a limit that is no number", "asset=bitcoin&limit=1e3", "INVALID_MESSAGE", "limit is '1e3'"},
		{"a limit beyond numbers", "asset=bitcoin&limit=99999999999999999999", "INVALID_MESSAGE", "limit is"},
		{"no time", "asset=bitcoin&from=yesterday", "INVALID_MESSAGE", "from is 'yesterday': use RFC 3339"},
		{"seconds", "asset=bitcoin&to=-5", "INVALID_MESSAGE", "to is '-5': use a time from 1970"},
		{"nanoseconds", "asset=bitcoin&from=1764678600123456789", "INVALID_MESSAGE", "numbers are milliseconds"},
		{"a plus that became a space", "asset=bitcoin&from=2026-11-22T13:50:00+02:00", "INVALID_MESSAGE", "from is"},
		{"backwards", "asset=bitcoin&from=2000&to=1000", "INVALID_MESSAGE", "from must be before to"},
		{"the future", "asset=bitcoin&from=2100-01-01T00:00:00Z", "INVALID_MESSAGE", "from must be before to"},
		{"a misspelt parameter", "asset=bitcoin&intervall=1h", "INVALID_MESSAGE", "there is no parameter 'intervall': use asset, interval"},
		{"a parameter twice", "asset=bitcoin&asset=ethereum", "INVALID_MESSAGE", "asset is given more than once"},
		{"a broken escape", "asset=%zz", "INVALID_MESSAGE", "percent-encode"},
		{"a semicolon", "asset=bitcoin;limit=1", "INVALID_MESSAGE", "percent-encode"},
		{"script", "asset=%3Cscript%3E", "INVALID_CHANNEL", `no asset '\u003cscript\u003e'`},
	}
	h := newHarness(t, withHistory)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := getHistory(h, tt.query)
			if w.Code != 400 || !strings.Contains(w.Body.String(), `"code":"`+tt.code+`"`) || !strings.Contains(w.Body.String(), tt.says) {
				t.Errorf("got %d %s, want 400 %s with %q", w.Code, w.Body, tt.code, tt.says)
			}
			if w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("an error may be cached: %v", w.Header())
			}
		})
	}
	if asked := h.parts.History.(*archive).asked; len(asked) > 0 {
		t.Errorf("bad queries reached the history: %+v", asked)
	}
}

func TestHistoryTrouble(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status int
	}{
		{errors.New("open /data/candles.db"), 500},
		{&protocol.Error{Code: protocol.Draining, Message: "going away"}, 503},
	} {
		h := newHarness(t, func(c *Config, p *Parts) { withHistory(c, p); p.History = &archive{err: tt.err} })
		if w := getHistory(h, "asset=bitcoin"); w.Code != tt.status || strings.Contains(w.Body.String(), "candles.db") {
			t.Errorf("got %d %s, want %d", w.Code, w.Body, tt.status)
		}
	}
	if w := getHistory(newHarness(t, readable), "asset=bitcoin"); w.Code != 404 {
		t.Errorf("without a history: got %d %s", w.Code, w.Body)
	}
}

// When all places are taken a request waits, but not for long.
func TestHistoryCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, withHistory)
		for range maxReading {
			h.reading <- struct{}{}
		}
		begun := time.Now()
		w := getHistory(h, "asset=bitcoin")
		if took := time.Since(begun); w.Code != 429 || w.Header().Get("Retry-After") == "" || took != readingWait {
			t.Errorf("got %d %s after %v", w.Code, w.Body, took)
		}
		go func() {
			time.Sleep(time.Second)
			<-h.reading
		}()
		if w := getHistory(h, "asset=bitcoin"); w.Code != 200 {
			t.Errorf("got %d %s, want 200", w.Code, w.Body)
		}
		h.reading <- struct{}{} // what the answer gave back
		gone, leave := context.WithCancel(t.Context())
		leave()
		if err := h.beginReading(gone); err == nil {
			t.Error("a client that is gone takes a place")
		}
	})
}

// FuzzCandleQuery: what is not refused is within the bounds that the history is
// promised.
func FuzzCandleQuery(f *testing.F) {
	for _, s := range []string{
		"asset=bitcoin", "asset=BTC&interval=1h&from=2025-12-02T12:30:00Z&to=1795348800000&limit=7", "asset=bitcoin&from=0",
		"asset=bitcoin&from=-1", "asset=%62tc&limit=0005", "a;b", "asset=eth&to=2026-11-22T12:00:00%2B02:00", "asset=bitcoin&from=2200-12-31T23:59:59.999Z&to=2201-01-01T00:00:00Z",
	} {
		f.Add(s)
	}
	h := newHarness(f, withHistory)
	f.Fuzz(func(t *testing.T, raw string) {
		q, refuse := h.candleQuery(raw)
		if refuse != nil {
			if refuse.Message == "" || len(refuse.Message) > 512 {
				t.Fatalf("%q: refused with %q", raw, refuse.Message)
			}
			return
		}
		values, err := url.ParseQuery(raw)
		if err != nil {
			t.Fatalf("took %q, which is no query: %v", raw, err)
		}
		_, known := h.sink.Slug(values.Get("asset"))
		if !known || q.limit < 1 || q.limit > mostCandles || intervalLength(q.interval) == 0 || q.from < 0 || q.from >= q.to {
			t.Fatalf("%q: took %+v", raw, q)
		}
		if values.Has("from") == (q.from == 0) {
			t.Fatalf("%q: from is %v", raw, q.from)
		}
	})
}
