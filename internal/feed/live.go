package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// LiveConfig sets the live feeds.
type LiveConfig struct {
	// Assets are the coins to follow, as slugs or tickers. Unset means the 50
	// largest known ones. Name them to follow others, or fewer.
	Assets []string `name:"assets" help:"Coins to follow at the exchanges, slugs or tickers. Unset: the 50 largest."`
	// Quotes are the moneys whose markets are followed, preferred ones first.
	// USD, USDT and USDC by default. The coins of those that are not USD are
	// followed too, since their price converts the others.
	Quotes []string `name:"quotes" help:"Moneys whose markets are followed." default:"USD,USDT,USDC"`

	// The addresses of the exchanges. Change them for a test server, a
	// regional address or a proxy that speaks the same protocol.
	Coinbase Endpoint `embed:"" prefix:"coinbase."`
	Kraken   Endpoint `embed:"" prefix:"kraken."`
	Binance  Endpoint `embed:"" prefix:"binance."`
	OKX      Endpoint `embed:"" prefix:"okx."`
	Bybit    Endpoint `embed:"" prefix:"bybit."`
	Bitstamp Endpoint `embed:"" prefix:"bitstamp."`
}

// An Endpoint is where an exchange is. Unset fields are its public addresses.
// TLS is required unless the host is this machine.
type Endpoint struct {
	// URL is that of the WebSocket, with its path.
	URL string `name:"url" help:"WebSocket address, wss://host/path. Unset: the public one."`
	// REST is the root of the REST API, https://host.
	REST string `name:"rest" help:"Root of the REST API, https://host. Unset: the public one."`
}

// DefaultLiveConfig returns the defaults.
func DefaultLiveConfig() LiveConfig {
	return LiveConfig{Quotes: []string{"USD", "USDT", "USDC"}}
}

// largest is how many assets are followed when none are named.
const largest = 50

// LiveExchanges are the names that NewLive knows.
func LiveExchanges() []string {
	return []string{"coinbase", "kraken", "binance", "okx", "bybit", "bitstamp"}
}

func (c LiveConfig) endpoint(name string) Endpoint {
	switch name {
	case "coinbase":
		return c.Coinbase
	case "kraken":
		return c.Kraken
	case "binance":
		return c.Binance
	case "okx":
		return c.OKX
	case "bybit":
		return c.Bybit
	}
	return c.Bitstamp
}

func newExchange(name string, assets resolver) Exchange {
	switch name {
	case "coinbase":
		return NewCoinbase(assets)
	case "kraken":
		return NewKraken(assets)
	case "binance":
		return NewBinance(assets)
	case "okx":
		return NewOKX(assets)
	case "bybit":
		return NewBybit(assets)
	case "bitstamp":
		return NewBitstamp(assets)
	}
	return nil
}

// Validate names the setting that is wrong, and its value. What the registry
// decides (whether an asset is known), NewLive finds.
func (c LiveConfig) Validate() error {
	if len(c.Quotes) == 0 {
		return errors.New("live.quotes is empty: name at least one, such as USD")
	}
	for _, q := range c.Quotes {
		if !isQuote(q) {
			return fmt.Errorf("live.quotes: %q is no money that is known here; use some of %s", q, strings.Join(quotes, " "))
		}
	}
	for _, name := range LiveExchanges() {
		e := c.endpoint(name)
		if err := checkAddress("live."+name+".url", e.URL, "wss", "ws"); err != nil {
			return err
		}
		if err := checkAddress("live."+name+".rest", e.REST, "https", "http"); err != nil {
			return err
		}
	}
	return nil
}

// checkAddress holds that an address is encrypted or this machine's.
func checkAddress(key, address, secure, plain string) error {
	if address == "" {
		return nil
	}
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return fmt.Errorf("%s is not an address: want %s://host", key, secure)
	case u.Host == "" || u.Scheme != secure && u.Scheme != plain:
		return fmt.Errorf("%s is %q: want %s://host", key, u.Redacted(), secure)
	case u.User != nil || u.Fragment != "":
		return fmt.Errorf("%s has a user or a fragment: public data needs neither", key)
	case u.Scheme == plain && !thisMachine(u.Hostname()):
		return fmt.Errorf("%s is %q: use %s://, since prices that travel in the clear can be forged (%s:// is for this machine only)",
			key, address, secure, plain)
	}
	return nil
}

func thisMachine(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// assetList is the assets that can be followed.
type assetList interface {
	resolver
	All() []market.Asset // the largest first
}

// A Seeder takes an asset's five-minute bars of the last day, so that windows
// and charts do not begin empty. Seed may be called from several goroutines.
type Seeder interface {
	Seed(asset, exchange string, bars []market.Candle)
}

// LiveOptions are what the feeds stand on. The zero value is the real world.
type LiveOptions struct {
	// Client makes the REST requests and the WebSocket upgrades.
	Client *http.Client
	// Clock stamps what is received. Deadlines go by package time.
	Clock clock
	// Rand draws from [0,1) for jitter; any goroutine may call it.
	Rand func() float64
	// Seeder takes history; nil does without.
	Seeder Seeder
	Log    *slog.Logger
}

func (o LiveOptions) filled() LiveOptions {
	if o.Client == nil {
		// Nothing of a public feed is worth following to another place.
		o.Client = &http.Client{CheckRedirect: func(r *http.Request, via []*http.Request) error {
			return fmt.Errorf("redirected to %s, which is not followed", r.URL.Redacted())
		}}
	}
	if o.Clock == nil {
		o.Clock = WallClock{}
	}
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Live follows exchanges: one goroutine tree each, all of which Run waits for.
// An exchange that cannot be reached is told of, tried again, and silent
// meanwhile: no price is made up.
type Live struct {
	feeds []*liveFeed // immutable
}

// NewLive prepares to follow the named exchanges. Nothing is opened yet. With
// no names there is nothing to run.
func NewLive(cfg LiveConfig, names []string, assets assetList, out sink, opts LiveOptions) (*Live, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	wanted, err := wantedAssets(cfg, assets)
	if err != nil {
		return nil, err
	}
	l, opts := &Live{}, opts.filled()
	for i, name := range names {
		if !slices.Contains(LiveExchanges(), name) {
			return nil, fmt.Errorf("feeds: no exchange %q; did you mean %s? (There are %s.)",
				name, nearest(name, LiveExchanges()), strings.Join(LiveExchanges(), ", "))
		}
		if !slices.Contains(names[:i], name) {
			l.feeds = append(l.feeds, newLiveFeed(name, cfg, assets, wanted, out, opts))
		}
	}
	return l, nil
}

// wantedAssets are the slugs to follow, with their place in the order.
func wantedAssets(cfg LiveConfig, assets assetList) (map[string]int, error) {
	names := cfg.Assets
	if len(names) == 0 {
		for i, a := range assets.All() {
			if i < largest {
				names = append(names, a.Slug)
			}
		}
	}
	wanted := make(map[string]int)
	for _, name := range slices.Concat(names, cfg.Quotes) {
		if name == "USD" {
			continue
		}
		a, ok := assets.Resolve(name)
		if !ok && slices.Contains(cfg.Assets, name) {
			return nil, fmt.Errorf("live.assets: no asset %q (use a slug or a ticker such as bitcoin or BTC; market.assets adds others)", name)
		}
		if _, had := wanted[a.Slug]; ok && !had {
			wanted[a.Slug] = len(wanted)
		}
	}
	return wanted, nil
}

// Run follows the exchanges until ctx is done, and then returns nil. An error
// is the sink's.
func (l *Live) Run(ctx context.Context) error {
	g, inner := errgroup.WithContext(ctx)
	for _, f := range l.feeds {
		g.Go(func() error { return f.run(inner) })
	}
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("live: %w", err)
	}
	return nil
}

// The states of a feed.
const (
	FeedConnecting = "connecting" // on its way, or not all of it there yet
	FeedLive       = "live"       // prices come
	FeedDown       = "down"       // no connection; Why says why
)

// A FeedStatus is how an exchange's feed is doing.
type FeedStatus struct {
	Exchange      string
	State         string
	Why           string        // of a feed that is not live
	Since         protocol.Time // of the state
	Symbols       int           // followed
	LastFrame     protocol.Time // 0 before the first
	Reconnects    uint64        // connections after the first, planned ones included
	Stats         Stats         // of the codec
	Refilled      uint64        // missing trades that REST gave
	RefillFailed  uint64        // missing trades that nobody gave
	RefillWaiting int           // gaps that are still asked for
	RESTErrors    uint64
}

// Silent is how long nothing has come, 0 before the first frame.
func (s FeedStatus) Silent(now protocol.Time) time.Duration {
	if s.LastFrame == 0 || now < s.LastFrame {
		return 0
	}
	return time.Duration(now - s.LastFrame)
}

// Status is the state of every feed, in the order of NewLive's names. It is at
// most half a second old.
func (l *Live) Status() []FeedStatus {
	var out []FeedStatus
	for _, f := range l.feeds {
		out = append(out, f.status())
	}
	return out
}

// nearest is the candidate that takes the fewest changes.
func nearest(name string, candidates []string) string {
	return slices.MinFunc(candidates, func(a, b string) int { return distance(name, a) - distance(name, b) })
}

// distance counts the insertions, deletions and replacements between two
// names.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
