package feed

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestLiveLife replaces a connection before it is too old, without a hole.
func TestLiveLife(t *testing.T) {
	b := &bed{name: "binance", venue: &venue{rest: answers("/api/v3/exchangeInfo", binanceInfo)}}
	start := time.Now() // the moment before any bubble; set inside
	var once sync.Once
	b.talk = func(ctx context.Context, _ int, c *talk) {
		once.Do(func() { start = time.Now() })
		c.await(1)
		c.say(binanceAck)
		for sleep(ctx, time.Second) == nil {
			if s := int(time.Since(start) / time.Second); s%30 == 0 && !c.say(aggTrade(s/30)) {
				return
			}
		}
	}
	b.run(t, func() { pass(24 * time.Hour) })
	gaps := b.gaps()
	if len(gaps) != 1 || gaps[0] < 22*time.Hour || gaps[0] > 23*time.Hour+30*time.Minute {
		t.Errorf("new connections after %v, want one before 23h30m", gaps)
	}
	s := b.status()
	if len(b.out.trades()) < 2870 || s.Stats.Gaps != 0 || s.Reconnects != 1 {
		t.Errorf("%d trades, %+v", len(b.out.trades()), s)
	}
}

func TestLiveConfig(t *testing.T) {
	set := func(change func(*LiveConfig)) LiveConfig {
		c := DefaultLiveConfig()
		change(&c)
		return c
	}
	tests := []struct {
		name  string
		cfg   LiveConfig
		names []string
		want  string // "" is fine
	}{
		{"default", DefaultLiveConfig(), LiveExchanges(), ""},
		{"loopback", set(func(c *LiveConfig) { c.OKX = Endpoint{"ws://127.0.0.1:1/x", "http://localhost:1"} }), nil, ""},
		{"mistyped", DefaultLiveConfig(), []string{"krakn"}, `no exchange "krakn"; did you mean kraken?`},
		{"mistyped", DefaultLiveConfig(), []string{"byebit"}, `did you mean bybit?`},
		{"plain", set(func(c *LiveConfig) { c.Bybit.URL = "ws://example.com" }), nil, `live.bybit.url is "ws://example.com": use wss://`},
		{"plain REST", set(func(c *LiveConfig) { c.Kraken.REST = "http://10.0.0.1" }), nil, `live.kraken.rest is "http://10.0.0.1": use https://`},
		{"scheme", set(func(c *LiveConfig) { c.Binance.URL = "https://x" }), nil, `live.binance.url is "https://x": want wss://host`},
		{"no host", set(func(c *LiveConfig) { c.Binance.URL = "wss://" }), nil, `want wss://host`},
		{"secret", set(func(c *LiveConfig) { c.Bitstamp.URL = "wss://me:hunter2@x" }), nil, `live.bitstamp.url has a user`},
		{"no quotes", set(func(c *LiveConfig) { c.Quotes = nil }), nil, `live.quotes is empty`},
		{"quote", set(func(c *LiveConfig) { c.Quotes = []string{"usd"} }), nil, `live.quotes: "usd" is no money`},
		{"asset", set(func(c *LiveConfig) { c.Assets = []string{"BTC", "nonesuch"} }), nil, `live.assets: no asset "nonesuch"`},
	}
	for _, tt := range tests {
		_, err := NewLive(tt.cfg, tt.names, registry(t), &ticks{}, LiveOptions{})
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: a secret in %v", tt.name, err)
		}
	}
}

// TestMajors holds that the built-in lists are of known assets.
func TestMajors(t *testing.T) {
	for _, name := range LiveExchanges() {
		if n := len(majorListings(name, &symbols{assets: registry(t)})); n < 15 {
			t.Errorf("%s: %d markets", name, n)
		}
	}
}

// TestLiveManySymbols spreads symbols over connections and paces messages.
func TestLiveManySymbols(t *testing.T) {
	var rows []string
	for _, a := range registry(t).All()[:300] {
		rows = append(rows, fmt.Sprintf(`"%s":{"wsname":"%s/USD","status":"online"}`, a.Slug, a.Ticker))
	}
	var mu sync.Mutex
	var when []time.Time
	b := &bed{name: "kraken", venue: &venue{rest: answers("/0/public/AssetPairs", `{"error":[],"result":{`+strings.Join(rows, ",")+`}}`)}}
	for _, a := range registry(t).All()[:300] {
		b.assets = append(b.assets, a.Slug)
	}
	b.talk = func(_ context.Context, _ int, c *talk) {
		for sleep(c.ctx, time.Second) == nil {
			c.say(`{"channel":"heartbeat"}`)
		}
		mu.Lock()
		defer mu.Unlock()
		when = append(when, c.when...)
	}
	b.run(t, func() {
		pass(13 * time.Second)
		if s := b.status(); s.Symbols < 250 || b.count().opened != 2 {
			t.Errorf("%d symbols on %d connections", s.Symbols, b.count().opened)
		}
	})
	slices.SortFunc(when, time.Time.Compare)
	if len(when) < 10 {
		t.Errorf("%d messages", len(when))
	}
	for i := 1; i < len(when); i++ {
		if d := when[i].Sub(when[i-1]); d < 240*time.Millisecond {
			t.Errorf("messages %v apart", d)
		}
	}
}
