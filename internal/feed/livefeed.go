package feed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

const (
	// deskRetry is how often a catalog or history that failed is asked for
	// again; deskRefresh how often the catalog is looked at for new markets.
	deskRetry   = time.Minute
	deskRefresh = 12 * time.Hour
	// seedSpan is how much history is asked for.
	seedSpan = 24 * 60 * protocol.Minute
	// seedTries is how often one asset's history is asked for.
	seedTries = 5
	// logGap is the least time between two log lines about the same trouble.
	logGap = time.Minute
)

// A liveFeed is what the connections to one exchange share: the limits of an
// address, the catalog, the log. Its fields do not change after construction
// but for those below mu.
type liveFeed struct {
	name   string
	desk   Exchange // catalog and history only; owned by run
	rules  Rules
	url    string
	assets resolver
	wanted map[string]int // slugs and their order
	quotes []string
	client *http.Client
	clock  clock
	rand   func() float64
	seeder Seeder
	out    sink
	log    *slog.Logger

	connects, messages pacer
	rest               rest
	troubles           troubles
	returned           chan struct{} // prices come again after a bar and more without

	mu    sync.Mutex // guards the fields below
	slots []*slot
	why   string // there is no slot
	since protocol.Time
}

func newLiveFeed(name string, cfg LiveConfig, assets resolver, wanted map[string]int, out sink, o LiveOptions) *liveFeed {
	x, at := newExchange(name, assets), cfg.endpoint(name)
	rules := x.Rules()
	f := &liveFeed{
		name: name, desk: x, rules: rules, url: cmp.Or(at.URL, rules.URL),
		assets: assets, wanted: wanted, quotes: cfg.Quotes,
		client: o.Client, clock: o.Clock, rand: o.Rand, seeder: o.Seeder, out: out,
		log:      o.Log.With("exchange", name),
		connects: pacer{gap: rules.ConnectGap}, messages: pacer{gap: rules.MessageGap},
		since: o.Clock.Now(), returned: make(chan struct{}, 1),
	}
	f.rest.base, f.rest.client = strings.TrimRight(cmp.Or(at.REST, rules.REST), "/"), o.Client
	f.rest.pace.gap = rules.RequestGap
	return f
}

// run follows the exchange until ctx is done or the sink fails.
func (f *liveFeed) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return f.tend(ctx, g) })
	return g.Wait()
}

// tend finds out which markets there are, opens their connections, fetches
// their history, and looks again from time to time, and when there is a hole
// in it.
func (f *liveFeed) tend(ctx context.Context, g *errgroup.Group) error {
	known := make(map[string]bool) // symbols
	var history []seed
	hole := false
	for {
		list, err := f.catalog(ctx, len(known) == 0)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		history = append(history, f.open(ctx, g, list, known)...)
		if hole && err == nil {
			history, hole = f.seeds(f.choose(list), slices.Collect(maps.Keys(known))), false
		}
		history = f.fetch(ctx, history)
		pause := deskRefresh
		if err != nil || len(history) > 0 {
			pause = deskRetry
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		case <-f.returned:
			hole = true
		}
	}
}

// back says that prices come again after a while without.
func (f *liveFeed) back(silent time.Duration) {
	if silent < time.Duration(barSpan) {
		return
	}
	select {
	case f.returned <- struct{}{}:
	default: // said before
	}
}

// catalog is the exchange's markets. When they cannot be had, the error says
// why, and at first the built-in ones stand in.
func (f *liveFeed) catalog(ctx context.Context, first bool) (list []Listing, err error) {
	body, err := f.rest.get(ctx, f.desk.Catalog())
	if err == nil {
		list, err = f.desk.Listings(body)
	}
	if err == nil {
		return list, nil
	}
	using := "the markets followed so far"
	if first {
		list, using = majorListings(f.name, &symbols{assets: f.assets}), "the built-in list of majors"
	}
	if n, ok := f.troubles.speak("catalog"); ok && ctx.Err() == nil {
		f.log.Warn("exchange catalog unavailable", "using", using, "err", err, "failures", n)
	}
	return list, err
}

// open adds the wanted markets that are new to the connections, opening more
// where it takes more, and returns whose history to fetch.
func (f *liveFeed) open(ctx context.Context, g *errgroup.Group, list []Listing, known map[string]bool) []seed {
	list = f.choose(list)
	var fresh []string
	for _, l := range list {
		if !known[l.Symbol] {
			known[l.Symbol] = true
			fresh = append(fresh, l.Symbol)
		}
	}
	if len(known) == 0 {
		f.log.Error("exchange has none of the wanted markets", "quotes", strings.Join(f.quotes, ","))
		f.mu.Lock()
		f.why = "the exchange has none of the wanted markets"
		f.mu.Unlock()
	}
	if len(fresh) == 0 {
		return nil
	}
	f.log.Info("exchange markets", "symbols", len(known), "new", len(fresh))
	f.place(ctx, g, slices.Clone(fresh))
	return f.seeds(list, fresh)
}

// choose keeps what is wanted, the largest assets first.
func (f *liveFeed) choose(list []Listing) []Listing {
	var out []Listing
	for _, l := range list {
		if _, ok := f.wanted[l.Asset]; ok && slices.Contains(f.quotes, l.Quote) {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b Listing) int {
		return cmp.Or(f.wanted[a.Asset]-f.wanted[b.Asset],
			slices.Index(f.quotes, a.Quote)-slices.Index(f.quotes, b.Quote), cmp.Compare(a.Symbol, b.Symbol))
	})
	return slices.CompactFunc(out, func(a, b Listing) bool { return a.Symbol == b.Symbol })
}

// place hands symbols to the connections that have room, and opens others for
// the rest. A symbol never moves: its codec knows what was seen of it.
func (f *liveFeed) place(ctx context.Context, g *errgroup.Group, symbols []string) {
	f.mu.Lock()
	slots := slices.Clone(f.slots)
	f.mu.Unlock()
	for _, s := range slots {
		n := min(len(symbols), f.rules.MaxSymbols-s.placed)
		if n <= 0 {
			continue
		}
		s.placed += n
		select {
		case s.more <- symbols[:n:n]:
		case <-ctx.Done():
			return
		}
		symbols = symbols[n:]
	}
	for len(symbols) > 0 {
		n := min(len(symbols), max(f.rules.MaxSymbols, 1))
		s := newSlot(f, symbols[:n:n])
		symbols = symbols[n:]
		f.mu.Lock()
		f.slots = append(f.slots, s)
		f.mu.Unlock()
		g.Go(func() error { return s.run(ctx) })
	}
}

// A seed is an asset whose history is wanted, and the symbol to ask for.
type seed struct {
	asset, symbol string
	tries         int
}

// seeds picks one symbol an asset: that of the preferred quote.
func (f *liveFeed) seeds(list []Listing, fresh []string) (out []seed) {
	if f.seeder == nil {
		return nil
	}
	last := ""
	for _, l := range list {
		if l.Asset != last && slices.Contains(fresh, l.Symbol) && f.desk.Bars(l.Symbol, 0).Path != "" {
			out = append(out, seed{asset: l.Asset, symbol: l.Symbol})
		}
		last = l.Asset
	}
	return out
}

// fetch brings history in and returns what must be tried again.
func (f *liveFeed) fetch(ctx context.Context, list []seed) (again []seed) {
	failures := 0
	for i, s := range list {
		// When several fail in a row it is not about the symbol.
		if failures == 3 {
			return append(again, list[i:]...)
		}
		err := f.history(ctx, s)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			failures = 0
			continue
		}
		failures++
		if s.tries++; s.tries < seedTries {
			again = append(again, s)
		}
		if n, ok := f.troubles.speak("history"); ok {
			f.log.Warn("exchange history unavailable", "symbol", s.symbol, "err", err, "failures", n)
		}
	}
	return again
}

func (f *liveFeed) history(ctx context.Context, s seed) error {
	now := f.clock.Now()
	body, err := f.rest.get(ctx, f.desk.Bars(s.symbol, now-seedSpan))
	if err != nil {
		return err
	}
	bars, err := f.desk.ParseBars(s.symbol, body)
	if err != nil {
		return err
	}
	// A bar that is not over is not history yet.
	bars = slices.DeleteFunc(bars, func(c market.Candle) bool { return c.Start+barSpan > now })
	if len(bars) > 0 {
		f.seeder.Seed(s.asset, f.name, bars)
	}
	return nil
}

// status puts the connections' states together: the worst is the feed's.
func (f *liveFeed) status() FeedStatus {
	f.mu.Lock()
	slots := slices.Clone(f.slots)
	out := FeedStatus{Exchange: f.name, State: FeedConnecting, Why: f.why, Since: f.since}
	f.mu.Unlock()
	if len(slots) > 0 {
		out.State, out.Why = FeedLive, ""
	}
	for i, s := range slots {
		one := s.status()
		if i == 0 || worse(one.State, out.State) {
			out.State, out.Why, out.Since = one.State, one.Why, one.Since
		}
		out.Symbols += one.Symbols
		out.LastFrame = max(out.LastFrame, one.LastFrame)
		out.Reconnects += one.Reconnects
		out.Refilled += one.Refilled
		out.RefillFailed += one.RefillFailed
		out.RefillWaiting += one.RefillWaiting
		out.Stats.add(one.Stats)
	}
	out.RESTErrors = f.rest.errors.Load()
	return out
}

func worse(a, b string) bool {
	order := []string{FeedLive, FeedConnecting, FeedDown}
	return slices.Index(order, a) > slices.Index(order, b)
}

// add puts another codec's counts to these.
func (s *Stats) add(o Stats) {
	s.Frames += o.Frames
	s.Ticks += o.Ticks
	s.Malformed += o.Malformed
	s.Duplicates += o.Duplicates
	s.Gaps += o.Gaps
	s.Missing += o.Missing
	s.Recovered += o.Recovered
	s.OutOfOrder += o.OutOfOrder
	s.Unknown += o.Unknown
	for k, n := range o.Ignored {
		if s.Ignored == nil {
			s.Ignored = make(map[string]uint64)
		}
		s.Ignored[k] += n
	}
}

// troubles lets each kind of trouble be told of once a minute, with how often
// it happened meanwhile.
type troubles struct {
	mu    sync.Mutex // guards the fields below
	kinds map[string]*trouble
}

type trouble struct {
	told  time.Time
	count uint64
}

// speak counts one and reports whether it is time to say so.
func (t *troubles) speak(kind string) (count uint64, now bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.kinds[kind]
	if k == nil {
		k = &trouble{}
		if t.kinds == nil {
			t.kinds = make(map[string]*trouble)
		}
		t.kinds[kind] = k
	}
	k.count++
	if !k.told.IsZero() && time.Since(k.told) < logGap {
		return k.count, false
	}
	count, k.count, k.told = k.count, 0, time.Now()
	return count, true
}

// errSink marks what the sink said: it ends the feed, all else is tried again.
var errSink = errors.New("feed: the sink failed")

func sinkError(err error) error { return fmt.Errorf("%w: %w", errSink, err) }
