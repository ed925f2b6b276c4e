package server

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"cryptointel/internal/eventloop"
	"cryptointel/protocol"
)

// recordings are the paths of the recorded files of one folder. Without them
// the test is skipped, in CI it fails.
func recordings(t *testing.T, folder string) []string {
	t.Helper()
	dir := os.Getenv("CRYPTOINTEL_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	paths, err := filepath.Glob(filepath.Join(dir, folder, "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		missing := "no recordings in " + filepath.Join(dir, folder) + ": set CRYPTOINTEL_DATA; not tested: replaying them"
		if os.Getenv("CI") == "true" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	return paths
}

// TestReplayCaptures drives the server from every capture of an exchange that
// has an adapter.
func TestReplayCaptures(t *testing.T) {
	for _, path := range recordings(t, "feeds") {
		decode := captureDecoder(path)
		if decode == nil {
			continue // TestReplayWithoutAdapter
		}
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			replayed(t, path, lastPrices(t, path, decode))
		})
	}
}

// TestReplayTables does the same with bars, trades and price files, of which
// some of the assets' names are spelled out here.
func TestReplayTables(t *testing.T) {
	coins := map[string]string{
		"Bitcoin": "bitcoin", "Ethereum": "ethereum", "Solana": "solana", "XRP": "ripple",
		"Dogecoin": "dogecoin", "Shiba Inu": "shiba-inu", "Pepe": "pepe",
	}
	for _, path := range slices.Concat(recordings(t, "candles"), recordings(t, "trades"), recordings(t, "prices")) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			decode := func(line []byte) []seen { return tableRow(line, coins) }
			asset := "bitcoin"
			for symbol, slug := range map[string]string{"ethusd": "ethereum", "ltcusd": "litecoin"} {
				if strings.Contains(path, symbol) {
					asset = slug
				}
			}
			want := lastPrices(t, path, decode)
			if price, ok := want[""]; ok { // one asset, named by the file
				delete(want, "")
				want[asset] = price
			}
			replayed(t, path, want)
		})
	}
}

// TestReplayWithoutAdapter shows that a capture which cannot be played is
// named before anything is served.
func TestReplayWithoutAdapter(t *testing.T) {
	for _, path := range recordings(t, "feeds") {
		if captureDecoder(path) != nil {
			continue
		}
		t.Run(filepath.Base(path), func(t *testing.T) {
			cfg := testConfig(eventloop.KindAuto)
			cfg.Replay = []string{path}
			s, err := New(cfg, quiet)
			if err == nil {
				s.Close()
				t.Fatal("New: no error")
			}
			if msg := err.Error(); !strings.Contains(msg, path) || !strings.Contains(msg, "no adapter for ") {
				t.Errorf("New: %v, want the file's name and that there is no adapter", err)
			}
		})
	}
}

// replayed plays a recording as fast as it goes and compares the prices at its
// end, as two clients see them, with want.
func replayed(t *testing.T, path string, want map[string]float64) {
	if len(want) == 0 {
		t.Fatal("found no price in the recording")
	}
	cfg := testConfig(eventloop.KindAuto)
	cfg.Replay, cfg.ReplaySpeed = []string{path}, 0
	cfg.Market.Assets = []string{"nkn:NKN:NKN"} // in one capture, not among the largest
	end := &logged{message: "replayed", came: make(chan struct{})}
	s, _ := beginLogged(t, cfg, slog.New(end))
	asset := slices.Min(slices.Collect(maps.Keys(want)))
	all, one := watch(t, s, "price:*"), watch(t, s, "price:"+asset)
	select {
	case <-end.came:
	case <-time.After(patience):
		t.Fatal("the replay does not end")
	}
	last := map[string]int64{}
	for slug := range want {
		p := s.broker.Last("price:" + slug)
		if p == nil {
			t.Fatalf("%s: no price", slug)
		}
		last[slug] = p.Offset
	}
	all.check(t, last, want)
	one.check(t, map[string]int64{asset: last[asset]}, map[string]float64{asset: want[asset]})
}

// A watcher follows a price channel. It reads all the time, as a client should.
type watcher struct {
	*peer
	progress chan struct{}
	offsets  map[string]int64
}

func watch(t *testing.T, s *Server, channel string) *watcher {
	t.Helper()
	c := connect(t, s)
	c.subscribe(t, `"`+channel+`"`)
	progress := make(chan struct{}, 1)
	return &watcher{pump(t, c, progress), progress, map[string]int64{}}
}

// check waits for the last offset of every asset: offsets rise, and the last
// price is the wanted one.
func (w *watcher) check(t *testing.T, last map[string]int64, want map[string]float64) {
	t.Helper()
	for missing := len(last); missing > 0; {
		select {
		case <-w.progress:
		case <-time.After(patience):
			t.Fatalf("waiting for offsets %v, have %v", last, w.offsets)
		}
		for _, text := range w.take() {
			if w.price(t, text, last, want) {
				missing--
			}
		}
	}
}

// price checks one message, and reports whether it is an asset's last.
func (w *watcher) price(t *testing.T, text string, last map[string]int64, want map[string]float64) bool {
	t.Helper()
	var m struct {
		Type   string
		Offset int64
		Data   struct {
			Asset string
			Price float64
			Demo  bool
		}
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil || m.Data.Demo || m.Type != protocol.TypePrice {
		t.Fatalf("got %s: %v", text, err)
	}
	asset := m.Data.Asset
	if m.Offset <= w.offsets[asset] {
		t.Fatalf("%s: offset %d follows %d", asset, m.Offset, w.offsets[asset])
	}
	w.offsets[asset] = m.Offset
	if m.Offset != last[asset] {
		return false
	}
	if m.Data.Price != want[asset] {
		t.Errorf("%s: last price is %v, want %v", asset, m.Data.Price, want[asset])
	}
	return true
}

// A logged is a log handler that waits for a message.
type logged struct {
	message string
	came    chan struct{}
}

func (l *logged) Enabled(context.Context, slog.Level) bool { return true }
func (l *logged) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logged) WithGroup(string) slog.Handler            { return l }

func (l *logged) Handle(_ context.Context, r slog.Record) error {
	if r.Message == l.message {
		close(l.came)
	}
	return nil
}

// A seen is a price in a recording.
type seen struct {
	asset string
	price string
	at    time.Time
	id    int64 // of a trade
}

// lastPrices finds, without any of the server's code, each asset's newest
// price in dollars: of prices with one time the later in the file, and within
// a line the higher trade id.
func lastPrices(t *testing.T, path string, decode func(line []byte) []seen) map[string]float64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in := io.Reader(f)
	if strings.HasSuffix(path, ".gz") {
		if in, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	last := map[string]seen{}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		found := decode(lines.Bytes())
		slices.SortFunc(found, func(a, b seen) int { return cmp.Compare(a.id, b.id) })
		for _, s := range found {
			if !s.at.Before(last[s.asset].at) {
				last[s.asset] = s
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	prices := map[string]float64{}
	for asset, s := range last {
		if prices[asset], err = strconv.ParseFloat(s.price, 64); err != nil {
			t.Fatalf("%s: %v", asset, err)
		}
	}
	return prices
}

// captureDecoder reads the lines of a capture, nil when its exchange has no
// adapter.
func captureDecoder(path string) func(line []byte) []seen {
	switch name := filepath.Base(path); {
	case strings.HasPrefix(name, "coinbase-advanced-"):
		return coinbaseLine
	case strings.HasPrefix(name, "binance-spot-"):
		return binanceLine
	case strings.HasPrefix(name, "okx-v5-"):
		return okxLine
	case strings.HasPrefix(name, "bybit-v5-"):
		return bybitLine
	case strings.HasPrefix(name, "bitstamp-v2-"):
		return bitstampLine
	}
	return nil
}

var products = map[string]string{
	"BTC-USD": "bitcoin", "ETH-USD": "ethereum",
	"BTCUSDT": "bitcoin", "ETHUSDT": "ethereum", "NKNUSDT": "nkn",
	"SOLUSDT": "solana", "DOGEUSDT": "dogecoin", "BTC-USDT": "bitcoin", "live_trades_ethusd": "ethereum",
}

// envelope is the frame in a line; nil when it cannot hold a price.
func envelope(line []byte, words ...string) []byte {
	if !slices.ContainsFunc(words, func(w string) bool { return bytes.Contains(line, []byte(w)) }) {
		return nil
	}
	var e struct{ T, Data string }
	if json.Unmarshal(line, &e) != nil || e.T != "recv" {
		return nil
	}
	return []byte(e.Data)
}

func coinbaseLine(line []byte) (out []seen) {
	var frame struct {
		Channel   string
		Timestamp time.Time
		Events    []struct {
			Tickers []struct {
				Product string `json:"product_id"`
				Price   string
			}
			Trades []struct {
				Product string `json:"product_id"`
				Price   string
				Time    time.Time
				ID      int64 `json:"trade_id,string"`
			}
		}
	}
	data := envelope(line, `\"ticker\"`, `\"market_trades\"`)
	if data == nil || json.Unmarshal(data, &frame) != nil {
		return nil
	}
	for _, e := range frame.Events {
		for _, k := range e.Tickers {
			out = append(out, seen{products[k.Product], k.Price, frame.Timestamp, 0})
		}
		for _, k := range e.Trades {
			out = append(out, seen{products[k.Product], k.Price, k.Time, k.ID})
		}
	}
	return out
}

// binanceLine looks keys up by their exact spelling, which a struct's fields
// would not: e and E, t and T are different ones.
func binanceLine(line []byte) []seen {
	data := envelope(line, `\"trade\"`, `\"aggTrade\"`)
	var wrapped struct{ Data json.RawMessage }
	if data == nil || json.Unmarshal(data, &wrapped) != nil {
		return nil
	}
	if wrapped.Data != nil {
		data = wrapped.Data
	}
	var event map[string]json.RawMessage
	var kind, symbol, price string
	var ms int64
	if json.Unmarshal(data, &event) != nil {
		return nil
	}
	for key, to := range map[string]any{"e": &kind, "s": &symbol, "p": &price, "T": &ms} {
		if json.Unmarshal(event[key], to) != nil {
			return nil
		}
	}
	if products[symbol] == "" || kind != "trade" && kind != "aggTrade" {
		return nil
	}
	return []seen{{products[symbol], price, time.UnixMilli(ms), 0}}
}

// millis is a time in milliseconds, as text or a number.
func millis(n json.Number) time.Time {
	ms, _ := n.Int64()
	return time.UnixMilli(ms)
}

func okxLine(line []byte) (out []seen) {
	var frame struct {
		Data []struct {
			Inst    string `json:"instId"`
			Last    string
			Px      string
			Ts      json.Number
			TradeID json.Number `json:"tradeId"`
		}
	}
	data := envelope(line, `\"tickers\"`, `\"trades\"`)
	if data == nil || json.Unmarshal(data, &frame) != nil {
		return nil
	}
	for _, k := range frame.Data {
		id, _ := k.TradeID.Int64()
		if asset := products[k.Inst]; asset != "" {
			out = append(out, seen{asset, cmp.Or(k.Px, k.Last), millis(k.Ts), id})
		}
	}
	return out
}

// bybitLine reads the connection to the spot market; the other one in the
// recording has perpetuals.
func bybitLine(line []byte) (out []seen) {
	var frame struct {
		Ts   json.Number
		Data json.RawMessage
	}
	data := envelope(line, `\"tickers.`, `\"publicTrade.`)
	if data == nil || !bytes.Contains(line, []byte(`"BYBIT.ws.3"`)) || json.Unmarshal(data, &frame) != nil {
		return nil
	}
	var ticker struct{ Symbol, LastPrice string }
	if json.Unmarshal(frame.Data, &ticker) == nil && ticker.LastPrice != "" {
		return []seen{{products[ticker.Symbol], ticker.LastPrice, millis(frame.Ts), 0}}
	}
	var trades []map[string]any
	if json.Unmarshal(frame.Data, &trades) != nil {
		return nil
	}
	for _, k := range trades {
		id, _ := strconv.ParseInt(k["i"].(string), 10, 64)
		out = append(out, seen{products[k["s"].(string)], k["p"].(string), time.UnixMilli(int64(k["T"].(float64))), id})
	}
	return out
}

func bitstampLine(line []byte) []seen {
	var frame struct {
		Event, Channel string
		Data           struct {
			Price string      `json:"price_str"`
			At    json.Number `json:"microtimestamp"`
			ID    int64
		}
	}
	data := envelope(line, `\"trade\"`)
	if data == nil || json.Unmarshal(data, &frame) != nil || frame.Event != "trade" || products[frame.Channel] == "" {
		return nil
	}
	us, _ := frame.Data.At.Int64()
	return []seen{{products[frame.Channel], frame.Data.Price, time.UnixMicro(us), frame.Data.ID}}
}

// tableRow reads a line of bars, trades or coins' prices; only the coins named
// are looked at, and a file about one asset leaves its name empty.
func tableRow(line []byte, coins map[string]string) []seen {
	if line[0] == '[' {
		var f []any
		if json.Unmarshal(line, &f) != nil {
			return nil
		}
		return []seen{{"", f[0].(string), seconds(f[2].(string)), 0}}
	}
	f := strings.Split(string(line), ",")
	switch _, err := strconv.ParseFloat(f[0], 64); {
	case err != nil: // the head
		return nil
	case len(f) == 6:
		return []seen{{"", f[4], seconds(f[0]), 0}}
	case len(f) == 4:
		return []seen{{"", f[1], seconds(f[0]), 0}}
	case coins[f[1]] == "":
		return nil
	}
	return []seen{{coins[f[1]], f[2], seconds(f[0]), 0}}
}

// seconds is a decimal time, in whatever unit the file has: only the order
// counts.
func seconds(s string) time.Time {
	whole, fraction, _ := strings.Cut(s, ".")
	sec, _ := strconv.ParseInt(whole, 10, 64)
	ns, _ := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	return time.Unix(sec, ns)
}
