package feedsim

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Recordings are the trades that the simulated exchanges repeat. They are
// immutable: several Sims may share them.
type Recordings struct{ by map[string]*recording }

// A recording is the trades of one symbol in one file.
type recording struct {
	trades []recorded
	span   time.Duration // from the first trade to where a repetition begins
}

type recorded struct {
	at    time.Duration // since the first
	time  time.Time
	id    int64
	price float64
	size  string
	side  string // "buy" or "sell", as the exchange tells it
}

// files are what is read, and how a trade is found in a line.
var files = []struct {
	name string
	has  string // what a line with trades contains
	read func(line []byte, add func(symbol string, r recorded)) error
}{
	{"feeds/coinbase-advanced-20260809-a.jsonl.gz", `\"market_trades\"`, readCoinbase},
	{"feeds/binance-spot-20240808-btcusdt.jsonl.gz", `@trade\"`, readBinance},
	{"feeds/binance-spot-20240808-ethusdt.jsonl.gz", `@trade\"`, readBinance},
	{"feeds/okx-v5-20220513-a.jsonl.gz", `\"tradeId\"`, readOKX},
	{"feeds/bybit-v5-20260809-a.jsonl.gz", `\"publicTrade.`, readBybit},
	{"feeds/bitstamp-v2-20220105-a.jsonl.gz", `\"event\":\"trade\"`, readBitstamp},
	{"trades/kraken-rest-xbtusdt-20251110-a.jsonl.gz", "[", readKraken},
}

// Load reads the recordings of a data directory (CRYPTOINTEL_DATA).
func Load(dir string) (*Recordings, error) {
	r := &Recordings{by: make(map[string]*recording)}
	for _, f := range files {
		exchange, _, _ := strings.Cut(filepath.Base(f.name), "-")
		add := func(symbol string, t recorded) {
			key := exchange + " " + symbol
			if r.by[key] == nil {
				r.by[key] = &recording{}
			}
			r.by[key].trades = append(r.by[key].trades, t)
		}
		err := readLines(filepath.Join(dir, f.name), f.has, func(line []byte) error { return f.read(line, add) })
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("feedsim: no recording %s in %q: set CRYPTOINTEL_DATA to the directory of recorded market data"+
				" (its README.md lists the files and where each comes from): %w", f.name, dir, err)
		}
		if err != nil {
			return nil, fmt.Errorf("feedsim: read %s: %w", f.name, err)
		}
	}
	for _, rec := range r.by {
		rec.finish()
	}
	return r, nil
}

// finish orders the trades and finds how long a repetition takes.
func (r *recording) finish() {
	slices.SortStableFunc(r.trades, func(a, b recorded) int { return cmp.Compare(a.id, b.id) })
	r.trades = slices.CompactFunc(r.trades, func(a, b recorded) bool { return a.id == b.id })
	first := r.trades[0].time
	for i := range r.trades {
		r.trades[i].at = r.trades[i].time.Sub(first)
		if i > 0 { // Exchanges' clocks go back a little at times.
			r.trades[i].at = max(r.trades[i].at, r.trades[i-1].at)
		}
	}
	last := r.trades[len(r.trades)-1].at
	r.span = last + max(last/time.Duration(len(r.trades)), time.Second)
}

// readLines calls read for each line of a gzip file that contains has.
func readLines(path, has string, read func(line []byte) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(z)
	lines.Buffer(make([]byte, 0, 64<<10), 64<<20)
	for n := 1; lines.Scan(); n++ {
		if !bytes.Contains(lines.Bytes(), []byte(has)) {
			continue
		}
		if err := read(lines.Bytes()); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return lines.Err()
}

// frame unwraps a received frame into v. It is false for any other line.
func frame(line []byte, v any) (envelope, bool, error) {
	var e envelope
	if err := json.Unmarshal(line, &e); err != nil || e.T != "recv" {
		return e, false, err
	}
	return e, true, json.Unmarshal([]byte(e.Data), v)
}

type envelope struct {
	T    string `json:"t"`
	Conn string `json:"conn"`
	Data string `json:"data"`
}

// trade fills in what came as text.
func trade(id, price, size, side string, at time.Time) (recorded, error) {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return recorded{}, err
	}
	p, s := number(price), number(size)
	if side = strings.ToLower(side); !(p > 0 && s > 0) || math.IsInf(p+s, 0) || side != "buy" && side != "sell" {
		return recorded{}, fmt.Errorf("a trade of %q at %q, %q", size, price, side)
	}
	return recorded{time: at, id: n, price: p, size: size, side: side}, nil
}

func readCoinbase(line []byte, add func(string, recorded)) error {
	var f struct {
		Channel string `json:"channel"`
		Events  []struct {
			Trades []struct {
				Product string    `json:"product_id"`
				ID      string    `json:"trade_id"`
				Price   string    `json:"price"`
				Size    string    `json:"size"`
				Side    string    `json:"side"`
				Time    time.Time `json:"time"`
			} `json:"trades"`
		} `json:"events"`
	}
	if _, ok, err := frame(line, &f); !ok || err != nil || f.Channel != "market_trades" {
		return err
	}
	for _, e := range f.Events {
		for _, t := range e.Trades {
			r, err := trade(t.ID, t.Price, t.Size, t.Side, t.Time)
			if err != nil {
				return err
			}
			add(t.Product, r)
		}
	}
	return nil
}

func readBinance(line []byte, add func(string, recorded)) error {
	var f struct {
		Data struct {
			Symbol string `json:"s"`
			Side   string `json:"S"` // absent; keeps encoding/json from taking s twice
			ID     int64  `json:"t"`
			At     int64  `json:"T"`
			Price  string `json:"p"`
			Size   string `json:"q"`
			Maker  bool   `json:"m"`
			Best   bool   `json:"M"`
		} `json:"data"`
	}
	if _, ok, err := frame(line, &f); !ok || err != nil {
		return err
	}
	d := f.Data
	side := "buy"
	if d.Maker {
		side = "sell"
	}
	r, err := trade(strconv.FormatInt(d.ID, 10), d.Price, d.Size, side, time.UnixMilli(d.At))
	if err == nil {
		add(d.Symbol, r)
	}
	return err
}

func readOKX(line []byte, add func(string, recorded)) error {
	var f struct {
		Data []struct {
			Inst string `json:"instId"`
			ID   string `json:"tradeId"`
			Px   string `json:"px"`
			Sz   string `json:"sz"`
			Side string `json:"side"`
			TS   int64  `json:"ts,string"`
		} `json:"data"`
	}
	if _, ok, err := frame(line, &f); !ok || err != nil {
		return err
	}
	for _, t := range f.Data {
		r, err := trade(t.ID, t.Px, t.Sz, t.Side, time.UnixMilli(t.TS))
		if err != nil {
			return err
		}
		add(t.Inst, r)
	}
	return nil
}

// readBybit takes the spot connection's trades; the capture's other
// connection is linear.
func readBybit(line []byte, add func(string, recorded)) error {
	var f struct {
		Data []struct {
			Symbol string `json:"s"`
			Side   string `json:"S"`
			ID     string `json:"i"`
			At     int64  `json:"T"`
			Price  string `json:"p"`
			Volume string `json:"v"`
		} `json:"data"`
	}
	e, ok, err := frame(line, &f)
	if !ok || err != nil || e.Conn != "BYBIT.ws.3" {
		return err
	}
	for _, t := range f.Data {
		r, err := trade(t.ID, t.Price, t.Volume, t.Side, time.UnixMilli(t.At))
		if err != nil {
			return err
		}
		add(t.Symbol, r)
	}
	return nil
}

func readBitstamp(line []byte, add func(string, recorded)) error {
	var f struct {
		Channel string `json:"channel"`
		Data    struct {
			ID     int64  `json:"id"`
			Amount string `json:"amount_str"`
			Price  string `json:"price_str"`
			Type   int    `json:"type"`
			Micros int64  `json:"microtimestamp,string"`
		} `json:"data"`
	}
	if _, ok, err := frame(line, &f); !ok || err != nil {
		return err
	}
	d := f.Data
	r, err := trade(strconv.FormatInt(d.ID, 10), d.Price, d.Amount, sides[d.Type&1], time.UnixMicro(d.Micros))
	if err == nil {
		add(strings.TrimPrefix(f.Channel, "live_trades_"), r)
	}
	return err
}

// sides are Bitstamp's: 0 is a buy.
var sides = [2]string{"buy", "sell"}

func readKraken(line []byte, add func(string, recorded)) error {
	var row []json.RawMessage
	if err := json.Unmarshal(line, &row); err != nil || len(row) != 7 {
		return cmp.Or(err, errors.New("a trade has seven fields"))
	}
	var price, size, at, side string
	for i, s := range []*string{&price, &size, &at, &side} {
		if err := json.Unmarshal(row[i], s); err != nil {
			return err
		}
	}
	whole, fraction, _ := strings.Cut(at, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return err
	}
	ns, err := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	if err != nil {
		return err
	}
	r, err := trade(string(row[6]), price, size, map[string]string{"b": "buy", "s": "sell"}[side], time.Unix(sec, ns))
	if err == nil {
		add("XBT/USDT", r)
	}
	return err
}
