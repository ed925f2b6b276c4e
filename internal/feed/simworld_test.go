package feed

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cryptointel/internal/feedsim"
	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// A place is one market of an exchange: which asset's price it makes.
type place struct{ exchange, symbol, asset, quote string }

// places are the markets of the simulated exchanges, told here once more, so
// that a wrong symbol map shows.
func places() []place {
	return []place{
		{"coinbase", "BTC-USD", "bitcoin", "USD"}, {"coinbase", "ETH-USD", "ethereum", "USD"},
		{"kraken", "BTC/USD", "bitcoin", "USD"}, {"kraken", "BTC/USDT", "bitcoin", "USDT"}, {"kraken", "ETH/USD", "ethereum", "USD"},
		{"binance", "BTCUSDT", "bitcoin", "USDT"}, {"binance", "ETHUSDT", "ethereum", "USDT"},
		{"okx", "BTC-USDT", "bitcoin", "USDT"}, {"okx", "ETH-USDT", "ethereum", "USDT"},
		{"bybit", "BTCUSDT", "bitcoin", "USDT"}, {"bybit", "ETHUSDT", "ethereum", "USDT"},
		{"bitstamp", "btcusd", "bitcoin", "USD"}, {"bitstamp", "ethusd", "ethereum", "USD"},
	}
}

// A world is the six exchanges, the feeds that follow them, and a market.
type world struct {
	t     testing.TB
	sim   *feedsim.Sim
	live  *Live
	desk  *desk
	wires *wires
	log   journal
	end   time.Time // what was traded until then is judged
}

// A plan says what a world is like.
type plan struct {
	seed     uint64
	faults   []feedsim.Kind
	duration time.Duration
	// bug, when set, sits between the feeds and the sink: what a broken feed
	// would do. The observer must find it.
	bug func(ticks []market.Tick) []market.Tick
	// early, when set, runs before the feeds do.
	early func(w *world)
}

// simulate lets play run a world inside a bubble, takes it down, and hands it
// to judge while the simulation can still be asked.
func (p plan) simulate(t *testing.T, play, judge func(w *world)) {
	t.Helper()
	recordings := simRecordings(t)
	synctest.Test(t, func(t *testing.T) {
		sim, err := feedsim.New(feedsim.Config{
			Recordings: recordings, Seed: p.seed, Faults: p.faults, Duration: p.duration,
		}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		network := sim.Network()
		defer network.Close()
		w := &world{t: t, sim: sim, wires: newWires(network.Dial)}
		w.start(p)
		if p.early != nil {
			p.early(w)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- w.live.Run(ctx) }()
		sweeps := w.desk.sweeps(ctx)
		play(w)
		w.end = time.Now()
		pass(10 * time.Second) // what was made last is on its way
		cancelled := time.Now()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		sweeps.Wait()
		if took := time.Since(cancelled); took > 0 {
			t.Errorf("the feeds took %v to end, want no time", took)
		}
		judge(w)
		w.wires.client.CloseIdleConnections()
	})
}

func (w *world) start(p plan) {
	reg := registry(w.t)
	w.desk = &desk{bug: p.bug}
	m, err := market.New(market.DefaultConfig(), reg, &w.desk.seen, WallClock{}.Now)
	if err != nil {
		w.t.Fatal(err)
	}
	h, err := market.OpenHistory(market.DefaultHistoryConfig(), "", slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	m.Keep(h)
	w.desk.market = m
	var mu sync.Mutex
	jitter := rand.New(rand.NewPCG(p.seed, 1))
	w.live, err = NewLive(DefaultLiveConfig(), LiveExchanges(), reg, w.desk, LiveOptions{
		Client: w.wires.client, Seeder: w.desk, Log: slog.New(slog.NewTextHandler(&w.log, nil)),
		Rand: func() float64 {
			mu.Lock()
			defer mu.Unlock()
			return jitter.Float64()
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// settle waits until all feeds are live again and nothing is asked for any
// more: the longest silence, the longest backoff and the slowest refill fit
// into it several times.
func (w *world) settle() {
	w.t.Helper()
	for deadline := time.Now().Add(6 * time.Minute); !w.settled(); pass(time.Second) {
		if time.Now().After(deadline) {
			for _, s := range w.live.Status() {
				w.t.Errorf("not settled: %s is %s, %q, with %d refills waiting", s.Exchange, s.State, s.Why, s.RefillWaiting)
			}
			return
		}
	}
}

func (w *world) settled() bool {
	for _, s := range w.live.Status() {
		if s.State != FeedLive || s.RefillWaiting > 0 {
			return false
		}
	}
	return true
}

// simRecordings are loaded once: reading them takes longer than a simulation.
var simLoaded = struct {
	once sync.Once
	r    *feedsim.Recordings
	err  error
}{}

func simRecordings(t testing.TB) *feedsim.Recordings {
	t.Helper()
	path := dataFile(t, filepath.Join("feeds", "bybit-v5-20260809-a.jsonl.gz"))
	simLoaded.once.Do(func() { simLoaded.r, simLoaded.err = feedsim.Load(filepath.Dir(filepath.Dir(path))) })
	if errors.Is(simLoaded.err, fs.ErrNotExist) && os.Getenv("CI") != "true" {
		t.Skip(simLoaded.err)
	}
	if simLoaded.err != nil {
		t.Fatal(simLoaded.err)
	}
	return simLoaded.r
}

// A desk is the sink, as the server has it: one tick at a time.
type desk struct {
	bug  func([]market.Tick) []market.Tick
	seen observer

	mu     sync.Mutex // serialises the market
	market *market.Market
}

func (d *desk) Deliver(_ context.Context, ticks []market.Tick) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bug != nil {
		ticks = d.bug(ticks)
	}
	for _, k := range ticks {
		d.seen.tick(k)
		d.market.Observe(k)
	}
	return nil
}

func (d *desk) Seed(asset, exchange string, bars []market.Candle) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.market.Seed(asset, exchange, bars)
}

// sweeps sweeps the market every second until ctx ends.
func (d *desk) sweeps(ctx context.Context) *sync.WaitGroup {
	var wg sync.WaitGroup
	wg.Go(func() {
		for sleep(ctx, time.Second) == nil {
			d.mu.Lock()
			d.market.Sweep(protocol.Time(time.Now().UnixNano()))
			d.mu.Unlock()
		}
	})
	return &wg
}

// An observer keeps all that reached the sink and all that was published. The
// desk's lock guards it.
type observer struct {
	ticks []got
	shown []shown
}

type got struct {
	at time.Time
	market.Tick
}

type shown struct {
	at time.Time
	protocol.Publication
}

func (o *observer) tick(k market.Tick) { o.ticks = append(o.ticks, got{time.Now(), k}) }

func (o *observer) Publish(p protocol.Publication) { o.shown = append(o.shown, shown{time.Now(), p}) }

// of are the ticks of a place, in the order of their delivery.
func (o *observer) of(p place) (out []got) {
	for _, g := range o.ticks {
		if g.Exchange == p.exchange && g.Asset == p.asset && g.Quote == p.quote {
			out = append(out, g)
		}
	}
	return out
}

// dialer is how a network is reached.
type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

func clientOver(d dialer) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: d, DialTLSContext: d, MaxIdleConnsPerHost: 4}}
}
