package protocol

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// assets is a Directory of three assets; one has no ticker of its own.
type assets map[string]string

func (a assets) Slug(name string) (string, bool) {
	slug, ok := a[name]
	return slug, ok
}

var someAssets = assets{
	"bitcoin": "bitcoin", "BTC": "bitcoin", "btc": "bitcoin",
	"ethereum": "ethereum", "ETH": "ethereum", "eth": "ethereum",
	"usd-coin": "usd-coin",
}

const (
	noSuchChannel = "no such channel; see docs/protocol.md section 1 for the list"
	useSignals    = "use signals:all, signals:high, signals:type:{type} or signals:entity:{entity}"
	useTest       = "a test channel is test: and a word of a-z 0-9 - _ ."
	badLength     = "a channel name has 1 to 128 characters"
	badCharacter  = "a channel name has only a-z 0-9 - _ . : *"
)

func noAsset(name string) string { return "no asset '" + name + "'; GET /api/v1/assets lists them" }

// channelCases is the grammar of channels; a case without why is accepted.
var channelCases = []struct {
	name string
	in   string
	want Channel
	why  string
}{
	{"price by slug", "price:bitcoin", Channel{"price:bitcoin", "price:bitcoin", State}, ""},
	{"price by ticker in capitals", "price:BTC", Channel{"price:BTC", "price:bitcoin", State}, ""},
	{"price by ticker", "price:btc", Channel{"price:btc", "price:bitcoin", State}, ""},
	{"price of an asset with a hyphen", "price:usd-coin", Channel{"price:usd-coin", "price:usd-coin", State}, ""},
	{"all prices", AllPrices, Channel{AllPrices, AllPrices, State}, ""},
	{"market summary", "market:summary", Channel{"market:summary", "market:summary", State}, ""},
	{"market volume", "market:volume", Channel{"market:volume", "market:volume", State}, ""},
	{"market sentiment", "market:sentiment", Channel{"market:sentiment", "market:sentiment", State}, ""},
	{"all signals", "signals:all", Channel{"signals:all", "signals:all", Log}, ""},
	{"high signals", "signals:high", Channel{"signals:high", "signals:high", Log}, ""},
	{"signals of a type", "signals:type:price_spike", Channel{"signals:type:price_spike", "signals:type:price_spike", Log}, ""},
	{"signals of an entity", "signals:entity:bitcoin", Channel{"signals:entity:bitcoin", "signals:entity:bitcoin", Log}, ""},
	{"signals of a ticker", "signals:entity:BTC", Channel{"signals:entity:BTC", "signals:entity:bitcoin", Log}, ""},
	{"signals of what is no asset", "signals:entity:sec.gov", Channel{"signals:entity:sec.gov", "signals:entity:sec.gov", Log}, ""},
	{"system status", "system:status", Channel{"system:status", "system:status", State}, ""},
	{"test state", "test:state", Channel{"test:state", "test:state", State}, ""},
	{"test log", "test:log", Channel{"test:log", "test:log", Log}, ""},
	{"test by name", "test:load-1_a.b", Channel{"test:load-1_a.b", "test:load-1_a.b", State}, ""},
	{"128 bytes", "test:" + strings.Repeat("x", 123), Channel{"test:" + strings.Repeat("x", 123), "test:" + strings.Repeat("x", 123), State}, ""},

	{"no name", "", Channel{}, badLength},
	{"129 bytes", "test:" + strings.Repeat("x", 124), Channel{}, badLength},
	{"space", "price: bitcoin", Channel{}, badCharacter},
	{"slash", "price/bitcoin", Channel{}, badCharacter},
	{"not ASCII", "price:bitcöin", Channel{}, badCharacter},
	{"NUL", "price:bitcoin\x00", Channel{}, badCharacter},
	{"line break", "price:bitcoin\n", Channel{}, badCharacter},
	{"only a star", "*", Channel{}, noSuchChannel},
	{"unknown family", "weather:paris", Channel{}, noSuchChannel},
	{"family in capitals", "PRICE:bitcoin", Channel{}, noSuchChannel},
	{"the log's own name", LogChannel, Channel{}, useSignals},
	{"family alone", "price", Channel{}, noAsset("")},
	{"no asset named", "price:", Channel{}, noAsset("")},
	{"unknown asset", "price:nope", Channel{}, noAsset("nope")},
	{"ticker in mixed case", "price:Btc", Channel{}, noAsset("Btc")},
	{"slug in capitals", "price:BITCOIN", Channel{}, noAsset("BITCOIN")},
	{"asset and more", "price:bitcoin:usd", Channel{}, noAsset("bitcoin:usd")},
	{"star within an asset", "price:bit*", Channel{}, noAsset("bit*")},
	{"two stars", "price:**", Channel{}, noAsset("**")},
	{"unknown market channel", "market:weather", Channel{}, noSuchChannel},
	{"all market channels", "market:*", Channel{}, noSuchChannel},
	{"market alone", "market", Channel{}, noSuchChannel},
	{"all signals by star", "signals:*", Channel{}, useSignals},
	{"unknown signals channel", "signals:low", Channel{}, useSignals},
	{"signals in capitals", "signals:ALL", Channel{}, useSignals},
	{"more behind all", "signals:all:x", Channel{}, useSignals},
	{"no type", "signals:type:", Channel{}, useSignals},
	{"type by star", "signals:type:*", Channel{}, useSignals},
	{"type in capitals", "signals:type:SPIKE", Channel{}, useSignals},
	{"type of two words", "signals:type:a:b", Channel{}, useSignals},
	{"no entity", "signals:entity:", Channel{}, useSignals},
	{"entity by star", "signals:entity:*", Channel{}, useSignals},
	{"unknown entity in capitals", "signals:entity:NOPE", Channel{}, useSignals},
	{"entity of two words", "signals:entity:a:b", Channel{}, useSignals},
	{"more behind status", "system:status:x", Channel{}, noSuchChannel},
	{"all of system", "system:*", Channel{}, noSuchChannel},
	{"test alone", "test", Channel{}, useTest},
	{"no test name", "test:", Channel{}, useTest},
	{"test in capitals", "test:A", Channel{}, useTest},
	{"test by star", "test:*", Channel{}, useTest},
	{"test of two words", "test:a:b", Channel{}, useTest},
	{"more behind test:log", "test:log:x", Channel{}, useTest},
	{"watchlists are not served yet", "watchlist:me", Channel{}, noSuchChannel},
}

func TestParseChannel(t *testing.T) {
	for _, c := range channelCases {
		t.Run(c.name, func(t *testing.T) {
			var want *Error
			if c.why != "" {
				want = &Error{Code: InvalidChannel, Message: "'" + c.in[:min(128, len(c.in))] + "': " + c.why}
			}
			got, err := ParseChannel(c.in, someAssets)
			if got != c.want || !reflect.DeepEqual(err, want) {
				t.Errorf("%q\n got %+v, %v\nwant %+v, %v", c.in, got, err, c.want, want)
			}
		})
	}
}

// grammar is protocol.md section 1 as one expression; {asset} is checked
// against the directory.
var grammar = regexp.MustCompile(`^(?:` + strings.Join([]string{
	`price:(?:\*|(?P<asset>[A-Z0-9._-]+|[a-z0-9._-]+))`,
	`market:(?:summary|volume|sentiment)`,
	`signals:(?:all|high|type:[a-z0-9._-]+|entity:(?:[a-z0-9._-]+|(?P<ticker>[A-Z0-9._-]+)))`,
	`system:status`,
	`test:[a-z0-9._-]+`,
}, "|") + `)$`)

// slowChannel is ParseChannel by expression.
func slowChannel(name string, dir assets) (Channel, bool) {
	m := grammar.FindStringSubmatch(name)
	if m == nil || len(name) > 128 || strings.HasSuffix(name, "\n") {
		return Channel{}, false
	}
	for _, must := range m[1:] {
		if _, known := dir[must]; must != "" && !known {
			return Channel{}, false
		}
	}
	ch := Channel{Name: name, Canonical: name}
	if strings.HasPrefix(name, "signals:") || name == "test:log" {
		ch.Kind = Log
	}
	at := strings.LastIndexByte(name, ':') + 1
	if slug, known := dir[name[at:]]; known && (strings.HasPrefix(name, "price:") || strings.HasPrefix(name, "signals:entity:")) {
		ch.Canonical = name[:at] + slug
	}
	return ch, true
}

func FuzzParseChannel(f *testing.F) {
	for _, c := range channelCases {
		f.Add(c.in)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got, err := ParseChannel(name, someAssets)
		want, ok := slowChannel(name, someAssets)
		if got != want || (err == nil) != ok {
			t.Fatalf("%q\n got %+v, %v\nwant %+v, %v", name, got, err, want, ok)
		}
		if err != nil {
			if err.Code != InvalidChannel {
				t.Fatalf("%q is refused with %s", name, err.Code)
			}
			return
		}
		again, err := ParseChannel(got.Canonical, someAssets)
		if canonical := (Channel{got.Canonical, got.Canonical, got.Kind}); again != canonical || err != nil {
			t.Fatalf("%q: the canonical %q is %+v, %v", name, got.Canonical, again, err)
		}
	})
}

func TestPublishableChannel(t *testing.T) {
	for name, want := range map[string]bool{
		"market:summary": true, "market:volume": true, "market:sentiment": true,
		"test:c1": true, "test:load-1_a.b": true, "test:" + strings.Repeat("x", 123): true,
		"": false, "market:weather": false, "market:": false, "market:*": false,
		"price:bitcoin": false, "price:*": false, "signals:all": false, "signals": false,
		"system:status": false, "watchlist:me": false,
		"test": false, "test:": false, "test:*": false, "test:A": false, "test:a:b": false,
		"test:state": false, "test:log": false, "test:" + strings.Repeat("x", 124): false,
	} {
		if got := PublishableChannel(name); got != want {
			t.Errorf("PublishableChannel(%q) = %v, want %v", name, got, want)
		}
	}
}

// FuzzPublishable holds that what clients may publish to, they may follow.
func FuzzPublishable(f *testing.F) {
	for _, c := range channelCases {
		f.Add(c.in)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if !PublishableChannel(name) {
			return
		}
		ch, err := ParseChannel(name, someAssets)
		if want := (Channel{name, name, State}); ch != want || err != nil {
			t.Fatalf("%q can be published to, but followed as %+v, %v", name, ch, err)
		}
	})
}

func TestShows(t *testing.T) {
	entry := func(channel string, s Signal) *Publication { return &Publication{Channel: channel, Signal: &s} }
	plain := entry(LogChannel, Signal{Type: "price_spike", Entities: []string{"bitcoin", "ethereum"}})
	high := entry(LogChannel, Signal{Type: "volume", High: true})
	test := entry(TestLogChannel, Signal{Type: "price_spike", Entities: []string{"bitcoin"}, High: true})
	for _, c := range []struct {
		canonical         string
		plain, high, test bool
	}{
		{"signals:all", true, true, false},
		{"signals:high", false, true, false},
		{"signals:type:price_spike", true, false, false},
		{"signals:type:volume", false, true, false},
		{"signals:type:price", false, false, false},
		{"signals:entity:bitcoin", true, false, false},
		{"signals:entity:ethereum", true, false, false},
		{"signals:entity:solana", false, false, false},
		{"test:log", false, false, true},
		{"signals", false, false, false},
		{"watchlist:me", false, false, false},
		{"price:bitcoin", false, false, false},
	} {
		t.Run(c.canonical, func(t *testing.T) {
			got := [3]bool{Shows(c.canonical, plain), Shows(c.canonical, high), Shows(c.canonical, test)}
			if want := [3]bool{c.plain, c.high, c.test}; got != want {
				t.Errorf("shows a plain, a high, a test entry: got %v, want %v", got, want)
			}
		})
	}
}
