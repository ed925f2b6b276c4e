package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"cryptointel/internal/eventloop"
	"cryptointel/protocol"
)

// TestDemo watches the simulated market.
func TestDemo(t *testing.T) {
	t.Parallel()
	cfg := testConfig(eventloop.KindAuto)
	cfg.Feeds, cfg.Demo.Rate = []string{FeedDemo}, 500
	s, _ := begin(t, cfg)
	c := connect(t, s)
	c.subscribe(t, `"price:*"`)
	assets, moves := map[string]int64{}, 0
	for len(assets) < 50 || moves < 50 {
		m := c.next(t)
		var d struct {
			Asset string
			Price float64
			Demo  bool
		}
		if err := json.Unmarshal(m.Data, &d); err != nil || m.Type != protocol.TypePrice || !d.Demo || d.Price <= 0 {
			t.Fatalf("got %s, want a price of the demo", m.text)
		}
		if m.Offset <= assets[d.Asset] {
			t.Fatalf("%s: offset %d follows %d", d.Asset, m.Offset, assets[d.Asset])
		}
		if assets[d.Asset] > 0 {
			moves++
		}
		assets[d.Asset] = m.Offset
	}
	if len(assets) != 50 {
		t.Errorf("%d assets, want 50", len(assets))
	}
	for asset, demo := range demoPrices(t, s) {
		if _, ok := assets[asset]; !ok || !demo {
			t.Errorf("GET /api/v1/prices has %s, demo %v", asset, demo)
		}
	}
}

// demoPrices are the assets of GET /api/v1/prices, each with its mark.
func demoPrices(t *testing.T, s *Server) map[string]bool {
	t.Helper()
	code, _, body := call(t, "GET", "http://"+s.Addr()+"/api/v1/prices", "", "")
	var answer struct {
		Prices []struct {
			Asset string
			Demo  bool
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || code != http.StatusOK || len(answer.Prices) != 50 {
		t.Fatalf("GET /api/v1/prices: %d, %v, %.300s", code, err, body)
	}
	all := map[string]bool{}
	for _, p := range answer.Prices {
		all[p.Asset] = p.Demo
	}
	return all
}

// TestTestChannels follows the channels that move once a second, on the wall
// clock, through a reconnect.
func TestTestChannels(t *testing.T) {
	t.Parallel()
	cfg := testConfig(eventloop.KindAuto)
	cfg.TestChannels = true
	s, _ := begin(t, cfg)
	stays, first := connect(t, s), connect(t, s)
	stays.subscribe(t, `"test:state"`)
	epoch := first.subscribe(t, `"test:log"`).Epoch

	n, offset := nextEntry(t, first)
	first.conn.Close()
	var last said
	for range 2 { // seconds in which nobody follows the log
		last = stays.until(t, func(m said) bool { return !m.Snapshot })
	}
	var state struct {
		N     int64
		Price float64
	}
	if err := json.Unmarshal(last.Data, &state); err != nil || state.Price != float64(100+state.N%60)+0.5 || state.N <= n {
		t.Errorf("test:state says %s: %v", last.text, err)
	}

	second := connect(t, s)
	second.send(t, `{"type":"subscribe","channels":["test:log"],"since":"%s-%d"}`, epoch, offset)
	if ack := second.next(t); ack.Recovered == nil || !*ack.Recovered {
		t.Fatalf("resume: %s", ack.text)
	}
	for n++; n <= state.N+1; n++ { // up to one that is live
		if got, _ := nextEntry(t, second); got != n {
			t.Fatalf("entry %d, want %d", got, n)
		}
	}
}

// nextEntry reads the next entry of test:log: its second and offset.
func nextEntry(t *testing.T, c *socket) (n, offset int64) {
	t.Helper()
	m := c.until(t, func(m said) bool { return m.Type == protocol.TypeSignal })
	var d struct {
		ID         string
		Confidence float64
		Metadata   struct{ N int64 }
	}
	err := json.Unmarshal(m.Data, &d)
	n = d.Metadata.N
	if err != nil || d.ID != fmt.Sprint("test-", n) || d.Confidence != float64(n%10)/10 {
		t.Fatalf("got %s: %v", m.text, err)
	}
	return n, m.Offset
}

// TestMissedSeconds jumps ahead: every second has its entry in test:log, save
// those of a pause that is too long.
func TestMissedSeconds(t *testing.T) {
	t.Parallel()
	clock := newHandClock(time.Unix(1_800_000_000, 0))
	cfg := testConfig(eventloop.KindAuto)
	cfg.Clock, cfg.TestChannels, cfg.Limits.Session.IdleTimeout = clock, true, 0
	s, _ := begin(t, cfg)
	c := connect(t, s)
	c.subscribe(t, `"test:log"`)
	clock.now.Add(int64(5 * time.Second))
	for n := int64(1_800_000_001); n <= 1_800_000_005; n++ {
		if got, _ := nextEntry(t, c); got != n {
			t.Fatalf("entry %d, want %d", got, n)
		}
	}
	clock.now.Add(int64(time.Hour))
	want := int64(1_800_003_605 - maxMissed)
	if got, _ := nextEntry(t, c); got != want {
		t.Errorf("after an hour's sleep the first entry is %d, want %d", got, want)
	}
}

// TestPublishedSignals sends signals through the API to those who follow.
func TestPublishedSignals(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(kind)
			cfg.Auth.AnonymousChannels = []string{"signals:*"}
			s, _ := begin(t, cfg)
			token := publisher(t)
			all, high := connect(t, s), connect(t, s)
			all.subscribe(t, `"signals:all"`)
			high.subscribe(t, `"signals:high"`)
			post := func(body string) (int, string) {
				code, _, answer := call(t, "POST", "http://"+s.Addr()+"/api/v1/publish", token, body)
				return code, answer
			}
			signal := `{"type":"signal_alert","data":{"id":%q,"type":"price_spike","entities":["bitcoin"],"confidence":%v}}`
			for _, step := range []struct {
				id         string
				confidence float64
				code       int
				answer     string
			}{
				{"a", 0.9, 200, `{"id":"a","offset":1}`},
				{"b", 0.5, 200, `{"id":"b","offset":2}`},
				{"a", 0.9, 200, `{"id":"a","offset":1}`}, // again: nothing is delivered
				{"a", 0.8, 409, ``},
				{"c", 0.8, 200, `{"id":"c","offset":3}`},
			} {
				code, answer := post(fmt.Sprintf(signal, step.id, step.confidence))
				if code != step.code || step.answer != "" && answer != step.answer {
					t.Errorf("publish %s with %v: %d %s, want %d %s", step.id, step.confidence, code, answer, step.code, step.answer)
				}
			}
			equal(t, "signals:all", deliveries(t, all, 3), "a 1 after 0, b 2 after 1, c 3 after 2")
			equal(t, "signals:high", deliveries(t, high, 2), "a 1 after 0, c 3 after 1")
		})
	}
}

// deliveries are the next n signals of a connection: id, offset, prev.
func deliveries(t *testing.T, c *socket, n int) (text string) {
	t.Helper()
	for range n {
		m := c.until(t, func(m said) bool { return m.Type != "caught_up" })
		var d struct{ ID string }
		if err := json.Unmarshal(m.Data, &d); err != nil || m.Type != protocol.TypeSignal {
			t.Fatalf("got %s: %v", m.text, err)
		}
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf("%s %d after %d", d.ID, m.Offset, m.Prev)
	}
	return text
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
