package feed

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

func writeFile(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func zipped(t *testing.T, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const (
	captureHead = `{"t":"header","exchange":"BINANCE","source":"x"}
{"t":"connect","conn":"1","ts":"1723161253.9","url":"wss://stream.binance.com:9443/stream"}
`
	captureTrade = `{"t":"recv","conn":"1","ts":"%s","data":"{\"e\":\"trade\",\"s\":\"BTCUSDT\",\"t\":%d,\"p\":\"61837.63\",\"q\":\"0.02\",\"T\":%d}"}` + "\n"
)

// twoTrades are recorded at 1723161254 and two seconds on, each 1300 ms after
// the recorder's clock.
var twoTrades = captureHead + fmt.Sprintf(captureTrade, "1723161254", 10, 1723161255300) +
	`{"t":"http","ts":"1723161255","url":"x","data":"{}"}` + "\n" +
	fmt.Sprintf(captureTrade, "1723161256.000000001", 11, 1723161257300)

func replay(t *testing.T, cfg ReplayConfig) (*Replay, *ticks, *fakeClock) {
	t.Helper()
	out, c := &ticks{}, &fakeClock{now: now0}
	r, err := NewReplay(cfg, registry(t), out, c, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return r, out, c
}

// TestReplayTimes shows where ticks lie in time at each speed, in ms from the
// beginning of Run.
func TestReplayTimes(t *testing.T) {
	tests := []struct {
		speed       float64
		waits       []protocol.Time
		first, last protocol.Time // Received
	}{
		{1, []protocol.Time{0, 2000}, 0, 2000},
		{0.5, []protocol.Time{0, 4000}, 0, 2000},
		{10, []protocol.Time{0, 200}, -1800, 200},
		{0, nil, -2000, 0},
	}
	file := writeFile(t, "c.jsonl.gz", zipped(t, twoTrades))
	for _, tt := range tests {
		r, out, c := replay(t, ReplayConfig{Files: []string{file}, Speed: tt.speed})
		if err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range c.waits {
			c.waits[i] /= protocol.Millisecond
		}
		if fmt.Sprint(c.waits) != fmt.Sprint(tt.waits) {
			t.Errorf("speed %v: got waits %v, want %v", tt.speed, c.waits, tt.waits)
		}
		for i, want := range []protocol.Time{tt.first, tt.last} {
			k := out.all[i]
			if got := (k.Received - now0) / protocol.Millisecond; got != want {
				t.Errorf("speed %v: tick %d got received %d, want %d", tt.speed, i, got, want)
			}
			if ahead := (k.Time - k.Received + 1) / protocol.Millisecond; ahead != 1300 {
				t.Errorf("speed %v: got the exchange %d ms ahead, want 1300", tt.speed, ahead)
			}
		}
	}
}

func TestReplayLoop(t *testing.T) {
	r, out, c := replay(t, ReplayConfig{Files: []string{writeFile(t, "c.jsonl.gz", zipped(t, twoTrades))}, Speed: 10, Loop: true})
	ctx, cancel := context.WithCancel(t.Context())
	c.after = func() {
		if len(out.all) == 6 {
			cancel()
		}
	}
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
	for i := 1; i < len(out.all); i++ {
		if out.all[i].Time <= out.all[i-1].Time {
			t.Errorf("tick %d goes back in time", i)
		}
	}
	if len(out.all) != 6 {
		t.Errorf("got %d ticks, want 6", len(out.all))
	}
}

func TestReplayMergesFromOwnBeginnings(t *testing.T) {
	trades := writeFile(t, "binance-ethusdt-2020.csv", []byte("time_s,price,qty,side\n1605499846,400,1,ANY\n1605499847,401,1,ANY\n1605499849,402,1,ANY\n"))
	capture := writeFile(t, "c.jsonl.gz", zipped(t, twoTrades))
	r, out, _ := replay(t, ReplayConfig{Files: []string{capture, trades}, Speed: 1})
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, k := range out.all {
		got = append(got, fmt.Sprintf("%s %s %d", k.Asset, k.PriceText, (k.Received-now0)/protocol.Second))
	}
	equalLines(t, got, []string{"bitcoin 61837.63 0", "ethereum 400 0", "ethereum 401 1", "bitcoin 61837.63 2", "ethereum 402 3"})
}

// TestReplayErrors compares what is said of files that cannot be played.
func TestReplayErrors(t *testing.T) {
	cut := zipped(t, twoTrades+strings.Repeat(fmt.Sprintf(captureTrade, "1723161257", 12, 1723161257300), 1000))
	header := func(exchange, url string) []byte {
		return zipped(t, fmt.Sprintf("{\"t\":\"header\",\"exchange\":%q}\n{\"t\":\"connect\",\"ts\":\"1\",\"url\":%q}\n", exchange, url))
	}
	tests := []struct {
		name, file string
		content    []byte
		want       string
	}{
		{"not gzip", "a.jsonl.gz", []byte("{}"), "a.jsonl.gz is not a gzip file"},
		{"empty", "a.csv", nil, "a.csv line 1: the file is empty"},
		{"unknown", "a.csv", []byte("x,y\n"), `a.csv line 1: "x,y" begins no recording`},
		{"no header", "a.jsonl.gz", zipped(t, "{\"t\":\"recv\"}\n"), "line 1: a capture begins with its header"},
		{"header cut", "a.jsonl.gz", zipped(t, "{\"t\":\"hea"), "line 1: the header line: "},
		{"header only", "a.jsonl.gz", zipped(t, "{\"t\":\"header\",\"exchange\":\"BINANCE\"}\n"), "line 1: the file ends before its first record"},
		{"no frames", "a.jsonl.gz", zipped(t, captureHead), "line 2: no record in the file"},
		{"kraken", "a.jsonl.gz", header("KRAKEN", "wss://ws.kraken.com"), "line 2: no adapter for KRAKEN v1 (wss://ws.kraken.com); this version replays captures of COINBASE (Advanced Trade), KRAKEN (v2), BINANCE (spot), OKX, BYBIT and BITSTAMP"},
		{"unknown exchange", "a.jsonl.gz", header("GEMINI", "wss://api.gemini.com/v2/marketdata"), "line 2: no adapter for GEMINI; this version"},
		{"old coinbase", "a.jsonl.gz", header("COINBASE", "wss://ws-feed.pro.coinbase.com"), "no adapter for Coinbase Exchange (wss://ws-feed.pro.coinbase.com); this version"},
		{"futures", "a.jsonl.gz", header("BINANCE", "wss://fstream.binance.com/ws"), "no adapter for Binance futures"},
		{"cut off gzip", "a.jsonl.gz", cut[:len(cut)-40], ": the file is cut off"},
		{"cut off line", "a.jsonl.gz", zipped(t, twoTrades+`{"t":"recv","con`), "a.jsonl.gz line 6: the file is cut off"},
		{"only bad lines", "binance-btcusdt.csv", []byte("time_s,price,qty,side\nx,1,1,ANY\n"), "line 2: the file is cut off"},
		{"no symbol", "prices.csv", []byte("time_s,price,qty,side\n1,1,1,ANY\n"), `no known symbol in the file name "prices"`},
		{"no interval", "binance-btcusdt.csv", []byte("time_ms,open,high,low,close,volume\n1,1,1,1,1,1\n"), "no length of bar"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := ReplayConfig{Files: []string{writeFile(t, tt.file, tt.content)}}
			out := &ticks{}
			r, err := NewReplay(cfg, registry(t), out, &fakeClock{now: now0}, quiet)
			if err == nil {
				err = r.Run(t.Context())
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if len(out.all) > 0 {
				t.Errorf("got %d ticks before the error, want none", len(out.all))
			}
		})
	}
	if _, err := NewReplay(ReplayConfig{Files: []string{"/no/such.jsonl.gz"}}, registry(t), nil, nil, quiet); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want that the file does not exist", err)
	}
	for _, cfg := range []ReplayConfig{{}, {Files: []string{"x"}, Speed: -1}, {Files: []string{"x"}, Loop: true}} {
		if _, err := NewReplay(cfg, nil, nil, nil, quiet); err == nil {
			t.Errorf("%+v: want an error", cfg)
		}
	}
}

func TestBadLineIsSkipped(t *testing.T) {
	lines := strings.SplitAfter(twoTrades, "\n")
	content := strings.Join(lines[:3], "") + "{bad\n" + `{"t":"recv","ts":"1723161255","data":"{"}` + "\n" + strings.Join(lines[3:], "")
	r, out, _ := replay(t, ReplayConfig{Files: []string{writeFile(t, "c.jsonl.gz", zipped(t, content))}, Speed: 1})
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := r.Reports()[0]
	if len(out.all) != 2 || got.BadLines != 2 || got.Records != 2 || got.Stats.Malformed != 1 || got.Stats.Ticks != 2 {
		t.Errorf("got %d ticks and %+v", len(out.all), got)
	}
}

func TestTables(t *testing.T) {
	tests := []struct{ file, content, want string }{
		{"coinbase-btcusd-1m-2018.csv", "time_ms,open,high,low,close,volume\n1522800000000,7424.91,7425,7422,7423.10,7.5\n",
			"coinbase bitcoin/USD 7423.10=7423.1 size 7.5 at 1522800060000000000 bar 7425 7422"},
		{"btcperp-1h-2022.csv", "time_ms,open,high,low,close,volume\n1522800000000,1,1,1,1,1\n",
			"recorded bitcoin/USD 1=1 size 1 at 1522803600000000000 bar 1 1"},
		{"binance-btcusdt-2020.csv", "time_s,price,qty,side\n1605499846,15993.5,0.02,ANY\n",
			"binance bitcoin/USDT 15993.5=15993.5 size 0.02 at 1605499846000000000"},
		{"kraken-rest-xbtusdt-2025-a.jsonl", `["105433.60000","0.00027625","1762795433.9717445","b","l","",10218208]` + "\n",
			"kraken bitcoin/USDT 105433.60000=105433.6 size 0.00027625 at 1762795433971744500 id 10218208"},
		{"meme.csv", "time_s,coin,price_usd\n1714831500,Shiba Inu,2.5e-05\n1714831500,No Such,1\n",
			"recorded shiba-inu/USD 2.5e-05=2.5e-05 at 1714831500000000000"},
	}
	for _, tt := range tests {
		rec, err := openRecording(writeFile(t, tt.file, []byte(tt.content)), registry(t), quiet)
		if err != nil {
			t.Fatal(err)
		}
		_, got, err := rec.record(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		equalLines(t, tickTexts(got), []string{tt.want})
		rec.close()
	}
}

func TestParseSeconds(t *testing.T) {
	tests := []struct {
		text string
		want protocol.Time
	}{
		{"1786309548.1743748", 1786309548174374800}, {"1723161253.937085768", 1723161253937085768},
		{"1", 1e9}, {"1.0000000019", 1e9 + 1}, {"", 0}, {"x", 0}, {"-1", 0}, {"1.x", 0}, {"1.-1", 0}, {"1e9", 0}, {"99999999999", 0}, {"0.5", 0},
	}
	for _, tt := range tests {
		if got, err := parseSeconds(tt.text); got != tt.want || (err == nil) != (tt.want != 0) {
			t.Errorf("%q: got %d %v, want %d", tt.text, got, err, tt.want)
		}
	}
}

// TestRecordings plays every recording there is into a market.
func TestRecordings(t *testing.T) {
	var files []string
	for _, pattern := range []string{"feeds/*.gz", "candles/*.gz", "trades/*", "prices/*.gz"} {
		f, err := filepath.Glob(filepath.Join(dataFile(t, "."), pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f...)
	}
	if len(files) < 20 {
		t.Fatalf("found %d recordings, want at least 20", len(files))
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			playRecording(t, file)
		})
	}
}

func playRecording(t *testing.T, file string) {
	c := &fakeClock{now: now0}
	pub := &published{}
	m, err := market.New(market.DefaultConfig(), registry(t), pub, c.Now)
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReplay(ReplayConfig{Files: []string{file}}, registry(t), marketSink{m}, c, quiet)
	base := filepath.Base(file)
	if strings.HasPrefix(base, "coinbase-exchange") || strings.HasPrefix(base, "kraken-v1") {
		if err == nil || !strings.Contains(err.Error(), "no adapter for") || !strings.Contains(err.Error(), file) {
			t.Errorf("got %v, want that there is no adapter", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	rep, s := r.Reports()[0], m.Stats()
	t.Logf("%d records, %d ticks, %d unknown, %d published, dropped %v", rep.Records, rep.Stats.Ticks, rep.Stats.Unknown, s.Published, s.Dropped)
	if rep.BadLines+rep.Stats.Malformed+rep.Stats.Gaps != 0 || rep.Stats.Ticks == 0 || s.Ticks != rep.Stats.Ticks || s.Published == 0 {
		t.Errorf("got %+v and %+v", rep, s)
	}
	// Coinbase's tickers carry the frame's time, later than trades that
	// come after them: those are old. A meme coin can lose half in an hour.
	if d := s.Dropped; d["future"]+d["bad_price"]+d["bad_time"]+d["unknown_asset"]+d["behind"] != 0 || s.Published+s.Confirmed+s.Late < s.Ticks/2 {
		t.Errorf("dropped %v of %d", d, s.Ticks)
	}
	if rep.Stats.Unknown > rep.Stats.Ticks/3 {
		t.Errorf("%d of %d ticks for unknown coins", rep.Stats.Unknown, rep.Records)
	}
}

// published counts publications.
type published struct {
	n    int
	last protocol.Publication
}

func (p *published) Publish(pub protocol.Publication) { p.n, p.last = p.n+1, pub }

// TestReplayOnTheWallClock runs a paced replay with the real clock, in a
// bubble where time is fake.
func TestReplayOnTheWallClock(t *testing.T) {
	file := writeFile(t, "c.jsonl.gz", zipped(t, twoTrades))
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		out := &ticks{}
		r, err := NewReplay(ReplayConfig{Files: []string{file}, Speed: 1}, registry(t), out, WallClock{}, quiet)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begin).Round(time.Millisecond); d != 2*time.Second {
			t.Errorf("took %v, want 2s", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Run(ctx); err != nil || len(out.all) != 3 {
			t.Errorf("stopped half way: got %v and %d ticks, want nil and 3", err, len(out.all))
		}
	})
}

// FuzzCapture feeds lines to a capture: it must never panic, and what is not
// JSON must be an error.
func FuzzCapture(f *testing.F) {
	for line := range strings.Lines(twoTrades) {
		f.Add([]byte(line))
	}
	f.Add([]byte(`{"t":"recv","ts":1723161254.5,"data":"{}"}`))
	assets := registry(f)
	f.Fuzz(func(t *testing.T, line []byte) {
		c := &capture{exchange: "BINANCE", assets: assets}
		at, out, err := c.parse(line, nil)
		m, slowErr := object(line)
		if slowErr != nil || bytes.ContainsRune(line, '\\') || bytes.ContainsRune(line, 0xFFFD) {
			return
		}
		if recv := str(m, "t") == "recv"; err == nil && recv != (at != 0) || err != nil && len(out) != 0 {
			t.Errorf("got time %d, %d ticks, error %v", at, len(out), err)
		}
	})
}
