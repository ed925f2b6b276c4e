package feedsim

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"cryptointel/internal/feed"
	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// codecs are the codecs of the house, which must understand all that the
// simulation says.
func codecs(t *testing.T) map[string]feed.Exchange {
	t.Helper()
	assets, err := market.NewRegistry(nil)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]feed.Exchange{
		"coinbase": feed.NewCoinbase(assets), "kraken": feed.NewKraken(assets), "binance": feed.NewBinance(assets),
		"okx": feed.NewOKX(assets), "bybit": feed.NewBybit(assets), "bitstamp": feed.NewBitstamp(assets),
	}
}

// body is a REST answer's body.
func body(t *testing.T, n *Network, x feed.Exchange, r feed.Request) []byte {
	t.Helper()
	if r.Path == "" {
		t.Fatal("no request")
	}
	resp, err := n.Client().Get(x.Rules().REST + r.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s: %s %v: %.200s", r.Path, resp.Status, err, b)
	}
	return b
}

// symbols asks the catalog, as a client begins.
func catalog(t *testing.T, n *Network, x feed.Exchange) (out []string) {
	t.Helper()
	list, err := x.Listings(body(t, n, x, x.Catalog()))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		if l.Asset != "bitcoin" && l.Asset != "ethereum" || !strings.HasPrefix(l.Quote, "USD") {
			t.Errorf("listing %+v", l)
		}
		out = append(out, l.Symbol)
	}
	return out
}

// connect subscribes a codec to all that its exchange offers.
func connect(t *testing.T, n *Network, x feed.Exchange, symbols []string) *client {
	t.Helper()
	tk := talks[x.Name()]
	tk.url, tk.ping = x.Rules().URL, string(x.Rules().Ping)
	c := dialTalk(t, n, tk)
	for _, m := range x.Subscribe(symbols) {
		c.say(string(m))
		time.Sleep(x.Rules().MessageGap)
	}
	return c
}

// decode runs all frames through a codec.
func decode(t *testing.T, x feed.Exchange, frames []string) (trades map[string]int, ticks []market.Tick) {
	t.Helper()
	trades = make(map[string]int)
	for _, f := range frames {
		before := len(ticks)
		var err error
		if ticks, err = x.Decode([]byte(f), protocol.Time(time.Now().UnixNano()), ticks); err != nil {
			t.Errorf("%v\n%.300s", err, f)
		}
		for _, k := range ticks[before:] {
			if k.Kind == market.Trade {
				trades[fmt.Sprintf("%s/%s %d %s %v", k.Asset, k.Quote, k.TradeID, k.PriceText, k.Size)]++
			} else if !k.Day.Has || k.Day.Volume <= 0 || k.Day.Low > k.Price || k.Day.High < k.Price {
				t.Errorf("ticker %+v", k)
			}
		}
	}
	return trades, ticks
}

// assetOf is a tape's asset and quote as the codecs say it.
func assetOf(t *tape) string {
	return map[string]string{"BTC": "bitcoin", "ETH": "ethereum"}[t.base] + "/" + t.quote
}

func TestCodecs(t *testing.T) {
	t.Parallel()
	for exchange := range codecs(t) {
		t.Run(exchange, func(t *testing.T) {
			t.Parallel()
			inside(t, Config{Exchanges: []string{exchange}}, func(t *testing.T, s *Sim, n *Network) {
				x := codecs(t)[exchange]
				c := connect(t, n, x, catalog(t, n, x))
				c.listen(time.Minute + time.Second/2)
				trades, ticks := decode(t, x, c.frames)
				for symbol, got := range c.seen() {
					asset := assetOf(s.exchanges[exchange].tapes[symbol])
					for _, k := range got {
						key := fmt.Sprintf("%s %d %s %v", asset, k.id, k.price, number(k.size))
						if trades[key] != 1 {
							t.Fatalf("%s was decoded %d times", key, trades[key])
						}
						delete(trades, key)
					}
				}
				if len(trades) > 0 {
					t.Errorf("decoded and never sent: %v", trades)
				}
				if st := x.Stats(); st.Malformed+st.Gaps+st.Missing+st.OutOfOrder+st.Unknown > 0 || len(ticks) < 50 {
					t.Errorf("%d ticks, stats %+v", len(ticks), st)
				}
				if b := s.Breaches(); len(b) > 0 {
					t.Errorf("breaches: %v", b)
				}
			})
		})
	}
}

// TestBars compares the bars that a codec reads with the trades that were made.
func TestBars(t *testing.T) {
	t.Parallel()
	for exchange := range codecs(t) {
		t.Run(exchange, func(t *testing.T) {
			inside(t, Config{Exchanges: []string{exchange}}, func(t *testing.T, s *Sim, n *Network) {
				time.Sleep(11 * time.Minute)
				x := codecs(t)[exchange]
				symbol := s.Symbols(exchange)[0]
				since := time.Now().Add(-6 * time.Hour)
				bars, err := x.ParseBars(symbol, body(t, n, x, x.Bars(symbol, protocol.Time(since.UnixNano()))))
				if err != nil || len(bars) < 70 {
					t.Fatalf("%d bars, %v", len(bars), err)
				}
				want := make(map[protocol.Time]market.Candle)
				for _, k := range s.Truth(exchange, symbol) {
					at, p := protocol.Time(k.Time.Truncate(barLength).UnixNano()), number(k.Price)
					b, ok := want[at]
					if !ok {
						b = market.Candle{Start: at, Open: p, High: p, Low: p}
					}
					b.High, b.Low, b.Close = max(b.High, p), min(b.Low, p), p
					want[at] = b
				}
				compared := 0
				for i, b := range bars {
					if i > 0 && b.Start <= bars[i-1].Start {
						t.Errorf("bar %d starts at %d, after %d", i, b.Start, bars[i-1].Start)
					}
					w, ok := want[b.Start]
					if !ok {
						continue
					}
					if compared++; b.Open != w.Open || b.High != w.High || b.Low != w.Low || b.Close != w.Close {
						t.Errorf("got %+v, want %+v", b, w)
					}
				}
				if compared < 2 {
					t.Errorf("%d bars have trades", compared)
				}
			})
		})
	}
}

// TestRefill loses frames and asks for what they held.
func TestRefill(t *testing.T) {
	t.Parallel()
	for _, exchange := range []string{"kraken", "binance", "okx"} {
		t.Run(exchange, func(t *testing.T) {
			inside(t, Config{Exchanges: []string{exchange}}, func(t *testing.T, s *Sim, n *Network) {
				x := codecs(t)[exchange]
				c := connect(t, n, x, s.Symbols(exchange))
				s.Do(Fault{Exchange: exchange, Kind: Drop, Frames: 12, At: time.Now().Add(10 * time.Second)})
				c.listen(40 * time.Second)
				var gaps []feed.Note
				for _, f := range c.frames {
					if _, err := x.Decode([]byte(f), protocol.Time(time.Now().UnixNano()), nil); err != nil {
						t.Fatal(err)
					}
					gaps = append(gaps, slices.DeleteFunc(slices.Clone(x.Notes()), func(n feed.Note) bool { return n.Kind != feed.Gap })...)
				}
				if len(gaps) == 0 {
					t.Fatal("no gap was noticed")
				}
				for _, g := range gaps {
					ticks, rest, err := x.ParseRefill(g, body(t, n, x, x.Refill(g)), protocol.Time(time.Now().UnixNano()))
					if err != nil || rest.Kind != feed.NoNote || int64(len(ticks)) != g.To-g.From+1 {
						t.Fatalf("gap %+v: %d ticks, %+v, %v", g, len(ticks), rest, err)
					}
					for i, k := range ticks {
						if k.TradeID != g.From+int64(i) || !k.Late {
							t.Errorf("gap %+v: tick %+v", g, k)
						}
					}
				}
			})
		})
	}
}
