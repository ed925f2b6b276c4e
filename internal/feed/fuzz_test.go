package feed

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"cryptointel/internal/market"
)

// fuzzCodec compares a codec with its slow twin on whatever the fuzzer finds.
func fuzzCodec(f *testing.F, files []string, seeds []string, decode func([]byte) ([]market.Tick, error), slow func([]byte) ([]market.Tick, error)) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	for _, name := range files {
		kinds := make(map[string]bool)
		for _, frame := range frames(f, name) {
			m, _ := object(frame[:min(len(frame), 20_000)])
			if kind := fmt.Sprint(str(m, "channel"), str(m, "stream"), str(m, "topic"), str(m, "event"), m["arg"]); m != nil && len(frame) < 3000 && !kinds[kind] {
				kinds[kind] = true
				f.Add(frame)
			}
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		got, err := decode(frame)
		if err != nil && len(got) != 0 {
			t.Fatalf("an error and %d ticks", len(got))
		}
		// The parser takes some text that is not JSON, and keys and strings
		// with escapes and bad UTF-8 are the two decoders' own affair.
		if !json.Valid(frame) || bytes.ContainsRune(frame, '\\') || bytes.ContainsRune(frame, 0xFFFD) {
			return
		}
		want, wantErr := slow(frame)
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("got error %v, want %v", err, wantErr)
		}
		equalLines(t, tickTexts(got), tickTexts(want))
	})
}

func FuzzCoinbase(f *testing.F) {
	assets := registry(f)
	fuzzCodec(f, []string{"feeds/coinbase-advanced-20260809-a.jsonl.gz"},
		[]string{`{"channel":"ticker_batch","timestamp":"2026-01-01T00:00:00Z","sequence_num":0,"events":[{"tickers":[{"product_id":"BTC-USDT","price":"1e3"}]}]}`},
		func(b []byte) ([]market.Tick, error) { return NewCoinbase(assets).Decode(b, 0, nil) },
		func(b []byte) ([]market.Tick, error) {
			if _, ok := level2Sequence(b); ok {
				return nil, nil
			}
			return slowCoinbase(b, assets)
		})
}

func FuzzBinance(f *testing.F) {
	assets := registry(f)
	fuzzCodec(f, []string{"feeds/binance-spot-20211012-multi.jsonl.gz", "feeds/binance-spot-20240808-btcusdt.jsonl.gz"},
		[]string{`{"e":"24hrTicker","E":1723161255342,"s":"BTCUSDT","c":"9","o":"8","h":"10","l":"1","v":"1","q":"9","p":"1","P":"2","C":1}`},
		func(b []byte) ([]market.Tick, error) { return NewBinance(assets).Decode(b, 0, nil) },
		func(b []byte) ([]market.Tick, error) {
			if bytes.Contains(b, []byte(`[`)) { // arrays are in TestBinance
				return NewBinance(assets).Decode(b, 0, nil)
			}
			return slowBinance(b, assets)
		})
}
