package market

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cryptointel/protocol"
)

var _ protocol.Directory = (*Registry)(nil)

func registry(t testing.TB, extra ...string) *Registry {
	t.Helper()
	r, err := NewRegistry(extra)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestBuiltInAssets(t *testing.T) {
	all := registry(t).All()
	if len(all) < 300 {
		t.Errorf("got %d assets, want at least 300", len(all))
	}
	seen := make(map[string]bool)
	for i, a := range all {
		if seen[a.Slug] {
			t.Errorf("slug %q comes twice", a.Slug)
		}
		seen[a.Slug] = true
		if a.Rank != i+1 {
			t.Errorf("%s: got rank %d, want %d", a.Slug, a.Rank, i+1)
		}
	}
	for line := range strings.Lines(string(assetsCSV)) {
		source := strings.TrimSpace(line[strings.LastIndexByte(line, ',')+1:])
		switch source {
		case "source", "snapshot-2026-01", "coins-400", "general":
		default:
			t.Errorf("unknown source in line %q", line)
		}
	}
}

func TestResolve(t *testing.T) {
	r := registry(t, "link:FNSA:Finschia", "other-bitcoin:BTC:Other Bitcoin", "bitcoin:BTC:Bitcoin!")
	tests := []struct{ name, want string }{
		{"bitcoin", "bitcoin"},
		{"BTC", "bitcoin"},
		{"btc", "bitcoin"},
		{"Btc", ""},
		{"Bitcoin", ""},
		{"other-bitcoin", "other-bitcoin"},
		{"SOL", "solana"}, // wrapped-solana has the same ticker
		{"wrapped-solana", "wrapped-solana"},
		{"USDC", "usd-coin"},
		{"LINK", "chainlink"},
		{"link", "link"}, // a slug wins over chainlink's ticker
		{"fnsa", "link"},
		{"1INCH", "1inch"},
		{"", ""},
		{"nope", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, ok := r.Resolve(tt.name)
			if a.Slug != tt.want || ok != (tt.want != "") {
				t.Errorf("Resolve(%q): got %q %v, want %q", tt.name, a.Slug, ok, tt.want)
			}
		})
	}
	want := Asset{Slug: "bitcoin", Ticker: "BTC", Name: "Bitcoin!", Rank: 1}
	if got, _ := r.Resolve("btc"); got != want {
		t.Errorf("a configured asset changes the built-in one: got %+v, want %+v", got, want)
	}
	if got, ok := r.ByName("sHIBA inu"); !ok || got.Slug != "shiba-inu" {
		t.Errorf("ByName: got %+v %v", got, ok)
	}
}

func TestExtraAssets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "more.csv")
	if err := os.WriteFile(file, []byte("slug,ticker,name\nmine,MINE,\"Mine, all\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if a, ok := registry(t, file).Resolve("MINE"); !ok || a.Name != "Mine, all" {
		t.Errorf("from a file: got %+v %v", a, ok)
	}
	for _, bad := range []string{"nofile.csv", "Up:UP:Up", "low:low:Low", "x:X:", ":X:x", "a b:AB:ab"} {
		if _, err := NewRegistry([]string{bad}); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%q: got error %v, want one that names it", bad, err)
		}
	}
}
