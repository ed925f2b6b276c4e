package market

import (
	"bytes"
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

//go:embed assets.csv
var assetsCSV []byte

// An Asset is one coin the system knows.
type Asset struct {
	Slug   string // canonical id, as CoinGecko spells it: "bitcoin"
	Ticker string // upper case: "BTC"; several assets may share one
	Name   string
	Rank   int // 1 is the largest; says who owns a shared ticker
}

// A Registry is the assets by their names. It is immutable: any number of
// goroutines may use it.
type Registry struct {
	all      []Asset
	spelling map[string]int // slugs, and tickers in both cases, to an index of all
	names    map[string]int // names in lower case
}

// NewRegistry returns the built-in assets and the extra ones. An extra entry
// is "slug:TICKER:Name" or the path of a CSV file with the columns slug,
// ticker, name (further columns are ignored). Extra assets rank after the
// built-in ones; an extra slug that is built in replaces ticker and name.
func NewRegistry(extra []string) (*Registry, error) {
	list, err := parseAssets(nil, bytes.NewReader(assetsCSV))
	if err != nil {
		return nil, fmt.Errorf("market: built-in assets: %w", err)
	}
	for _, entry := range extra {
		if list, err = addExtra(list, entry); err != nil {
			return nil, fmt.Errorf("market: assets %q: %w", entry, err)
		}
	}
	return index(list), nil
}

func addExtra(list []Asset, entry string) ([]Asset, error) {
	if p := strings.SplitN(entry, ":", 3); len(p) == 3 {
		return addAsset(list, p[0], p[1], p[2])
	}
	f, err := os.Open(entry)
	if err != nil {
		return nil, fmt.Errorf("neither slug:TICKER:Name nor a readable file: %w", err)
	}
	defer f.Close()
	return parseAssets(list, f)
}

func parseAssets(list []Asset, r io.Reader) ([]Asset, error) {
	rows := csv.NewReader(r)
	rows.FieldsPerRecord = -1
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		line, _ := rows.FieldPos(0)
		if line == 1 && row[0] == "slug" {
			continue
		}
		if len(row) < 3 {
			return nil, fmt.Errorf("line %d: want slug,ticker,name", line)
		}
		if list, err = addAsset(list, row[0], row[1], row[2]); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
	}
}

// addAsset appends an asset or, when list has its slug, changes it in place.
func addAsset(list []Asset, slug, ticker, name string) ([]Asset, error) {
	slug, ticker, name = strings.TrimSpace(slug), strings.TrimSpace(ticker), strings.TrimSpace(name)
	if !channelWord(slug) {
		return nil, fmt.Errorf("slug %q: want 1 to 100 of a-z 0-9 . - _", slug)
	}
	if !channelWord(strings.ToLower(ticker)) || ticker != strings.ToUpper(ticker) {
		return nil, fmt.Errorf("ticker %q: want 1 to 100 of A-Z 0-9 . - _", ticker)
	}
	if name == "" {
		return nil, fmt.Errorf("asset %q has no name", slug)
	}
	for i := range list {
		if list[i].Slug == slug {
			list[i].Ticker, list[i].Name = ticker, name
			return list, nil
		}
	}
	return append(list, Asset{Slug: slug, Ticker: ticker, Name: name, Rank: len(list) + 1}), nil
}

// channelWord reports whether s can stand after "price:" in a channel name.
func channelWord(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 100
}

// index builds the lookup. Larger assets come first and keep what they have;
// slugs are entered before all tickers, so a slug is never shadowed.
func index(list []Asset) *Registry {
	r := &Registry{all: list, spelling: make(map[string]int, 3*len(list)), names: make(map[string]int, len(list))}
	for i, a := range list {
		r.spelling[a.Slug] = i
	}
	for i, a := range list {
		enter(r.spelling, a.Ticker, i)
		enter(r.spelling, strings.ToLower(a.Ticker), i)
		enter(r.names, strings.ToLower(a.Name), i)
	}
	return r
}

func enter(m map[string]int, key string, i int) {
	if _, taken := m[key]; !taken {
		m[key] = i
	}
}

// Resolve finds an asset by its slug or by its ticker, all upper or all lower
// case. A shared ticker is the larger asset's; a slug wins over a ticker.
func (r *Registry) Resolve(name string) (Asset, bool) {
	i, ok := r.spelling[name]
	if !ok {
		return Asset{}, false
	}
	return r.all[i], true
}

// Slug is Resolve for those who want only the slug: it makes a Registry a
// protocol.Directory.
func (r *Registry) Slug(name string) (slug string, ok bool) {
	a, ok := r.Resolve(name)
	return a.Slug, ok
}

// ByName finds an asset by its full name in any case: "Shiba Inu". Of equal
// names it is the larger asset.
func (r *Registry) ByName(name string) (Asset, bool) {
	i, ok := r.names[strings.ToLower(name)]
	if !ok {
		return Asset{}, false
	}
	return r.all[i], true
}

// All lists the assets, the largest first. The slice is the caller's.
func (r *Registry) All() []Asset { return append([]Asset(nil), r.all...) }
