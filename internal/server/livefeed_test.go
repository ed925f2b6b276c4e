package server

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cryptointel/internal/eventloop"
	"cryptointel/internal/feed"
	"cryptointel/internal/feedsim"
	"cryptointel/protocol"
)

// dataDir is where the recordings are; in CI they must be.
func dataDir(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("CRYPTOINTEL_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	if _, err := os.Stat(filepath.Join(dir, "feeds")); err != nil {
		missing := "no recordings in " + dir + ": set CRYPTOINTEL_DATA to the folder that holds feeds/"
		if os.Getenv("CI") != "" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	return dir
}

// exchangesOnLoopback serves simulated exchanges and points a configuration at
// them.
func exchangesOnLoopback(t testing.TB, cfg *Config, names ...string) *feedsim.Sim {
	t.Helper()
	sim, err := feedsim.New(feedsim.Config{Data: dataDir(t), Exchanges: names, Seed: 1}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	at := map[string]*feed.Endpoint{
		"coinbase": &cfg.Live.Coinbase, "kraken": &cfg.Live.Kraken, "binance": &cfg.Live.Binance,
		"okx": &cfg.Live.OKX, "bybit": &cfg.Live.Bybit, "bitstamp": &cfg.Live.Bitstamp,
	}
	for _, name := range names {
		h := httptest.NewServer(sim.Handler(name))
		t.Cleanup(h.Close)
		*at[name] = feed.Endpoint{URL: "ws" + strings.TrimPrefix(h.URL, "http") + "/ws", REST: h.URL}
	}
	cfg.Feeds = names
	return sim
}

// A quoted is the data of a price_update, as far as these tests look.
type quoted struct {
	Price   float64
	Stale   bool
	Sources []struct {
		Name, Quote string
		Price, Rate float64
		Outlier     bool
	}
}

func (q quoted) names() (names []string) {
	for _, s := range q.Sources {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	return names
}

func quoteOf(t testing.TB, m said) (q quoted) {
	t.Helper()
	if err := json.Unmarshal(m.Data, &q); err != nil {
		t.Fatalf("%s: %v", m.text, err)
	}
	return q
}

// TestLiveFeeds runs the server on six simulated exchanges over real sockets:
// one price out of all of them; one that goes down is told of, and when all
// are gone the price turns stale, and comes back with them.
func TestLiveFeeds(t *testing.T) {
	t.Parallel()
	cfg := testConfig(eventloop.KindAuto)
	cfg.Market.StaleAfter = 3 * time.Second
	cfg.StatusEvery = time.Second
	names := feed.LiveExchanges()
	sim := exchangesOnLoopback(t, &cfg, names...)
	s, _ := begin(t, cfg)
	c := connect(t, s)
	c.subscribe(t, `"price:bitcoin"`)
	all := quoteOf(t, c.until(t, func(m said) bool {
		return m.Type == protocol.TypePrice && len(quoteOf(t, m).Sources) == len(names)
	}))
	if !slices.Equal(all.names(), slices.Sorted(slices.Values(names))) {
		t.Errorf("sources are %v, want %v", all.names(), names)
	}
	low, high := all.Price, all.Price
	for _, x := range all.Sources {
		low, high = min(low, x.Price), max(high, x.Price)
		if x.Quote != "" && x.Rate == 0 {
			t.Errorf("%s quotes in %s, and no rate is told", x.Name, x.Quote)
		}
	}
	if all.Price < low || all.Price > high || high > low*1.05 {
		t.Errorf("the price %v is not one of %+v", all.Price, all.Sources)
	}
	for _, name := range names {
		sim.Do(feedsim.Fault{Exchange: name, Kind: feedsim.Outage, For: 6 * time.Second})
	}
	c.until(t, func(m said) bool { return m.Type == protocol.TypePrice && quoteOf(t, m).Stale })
	c.until(t, func(m said) bool {
		return m.Type == protocol.TypePrice && !quoteOf(t, m).Stale && len(quoteOf(t, m).Sources) > 0
	})
}

// TestSystemStatusNamesFeeds: system:status tells which feed is down.
func TestSystemStatusNamesFeeds(t *testing.T) {
	t.Parallel()
	cfg := testConfig(eventloop.KindAuto)
	cfg.StatusEvery = time.Second
	sim := exchangesOnLoopback(t, &cfg, "kraken", "coinbase")
	s, _ := begin(t, cfg)
	c := connect(t, s)
	c.subscribe(t, `"system:status"`)
	status := func(want string, feeds ...string) func(said) bool {
		return func(m said) bool {
			var st systemStatus
			if err := json.Unmarshal(m.Data, &st); err != nil || m.Channel != "system:status" {
				return false
			}
			var got []string
			for _, f := range st.Feeds {
				got = append(got, f.Name+" "+f.Status)
			}
			return st.Status == want && slices.Equal(got, feeds)
		}
	}
	c.until(t, status("ok", "kraken live", "coinbase live"))
	sim.Do(feedsim.Fault{Exchange: "kraken", Kind: feedsim.Outage, For: time.Hour})
	c.until(t, status("degraded", "kraken down", "coinbase live"))
}
