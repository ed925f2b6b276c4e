// Package feedsim is a test server that speaks the protocols of the exchanges
// (Coinbase Advanced Trade, Kraken v2, Binance, OKX v5, Bybit v5, Bitstamp v2)
// from recordings, and misbehaves on demand. It tells what the exchanges
// traded, so that a test can compare it with what arrived.
//
// What is real and what is not: trades repeat the recorded ones (times
// between them, sizes, sides, the moves of the price), moved to the present,
// in a loop that does not end; prices are scaled to one level an asset and
// drift, ids go on. Symbols without a recording borrow one (the listings say
// which). No Kraken v2 recording exists: its frames are made after the
// documented examples, its trades are recorded Kraken REST trades. Acks,
// snapshots, heartbeats, pings, refusals and limits follow the exchanges'
// documentation as far as it says. Order books do not exist here.
//
// All time is the time package's: it runs in real time, and inside
// testing/synctest over the Network, which needs no sockets.
package feedsim

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config says what is simulated.
type Config struct {
	// Data is the directory of the recordings (CRYPTOINTEL_DATA). Not read
	// when Recordings is set.
	Data string
	// Recordings are loaded ones, to share between simulations.
	Recordings *Recordings
	// Exchanges limits the simulation to these. Unset means all six.
	Exchanges []string
	// Seed decides the faults and the drift of the prices: the same seed and
	// the same client see the same. Print it when a test fails.
	Seed uint64
	// Speed makes trades come that much faster, for tests of throughput. Unset
	// means 1: about 60 trades a second over all exchanges.
	Speed float64
	// Faults are the kinds that are planned by the seed. Unset means none;
	// AllFaults is all. Do brings one about at once.
	Faults []Kind
	// Every is the mean time between two planned faults of one exchange.
	// Unset means 20 s.
	Every time.Duration
	// Duration is how long faults are planned for, from New on. What has found
	// no connection by then is not done. Unset means 10 minutes.
	Duration time.Duration
}

// A Sim is simulated exchanges. Any number of goroutines may use it.
type Sim struct {
	cfg       Config
	log       *slog.Logger
	start     time.Time
	exchanges map[string]*exchange

	ctx   context.Context // of all connections; ended by Close
	close context.CancelFunc
	conns sync.WaitGroup

	mu    sync.Mutex // guards the fields below
	done  []Fault
	conn  uint64 // the newest connection's number
	ended bool
}

// latency is the time from a trade to its frame.
const latency = 20 * time.Millisecond

// warmUp is how long the exchanges have traded when a simulation begins, at
// least: snapshots and refills reach back.
const warmUp = 5 * time.Minute

// venues are the exchanges that can be simulated.
func venues() map[string]venue {
	return map[string]venue{
		"coinbase": coinbase{}, "kraken": kraken{}, "binance": binance{},
		"okx": okx{}, "bybit": bybit{}, "bitstamp": bitstamp{},
	}
}

// New returns exchanges that have traded for some minutes. Nothing runs until
// somebody connects.
func New(cfg Config, log *slog.Logger) (*Sim, error) {
	if cfg.Recordings == nil {
		r, err := Load(cfg.Data)
		if err != nil {
			return nil, err
		}
		cfg.Recordings = r
	}
	cfg.Speed = cmp.Or(cfg.Speed, 1)
	cfg.Every = cmp.Or(cfg.Every, 20*time.Second)
	cfg.Duration = cmp.Or(cfg.Duration, 10*time.Minute)
	all := venues()
	if cfg.Exchanges == nil {
		cfg.Exchanges = slices.Sorted(maps.Keys(all))
	}
	s := &Sim{cfg: cfg, log: log, start: time.Now().Round(0), exchanges: make(map[string]*exchange)}
	s.ctx, s.close = context.WithCancel(context.Background())
	for _, name := range cfg.Exchanges {
		v, ok := all[name]
		if !ok {
			return nil, fmt.Errorf("feedsim: no exchange %q; there are %s", name, strings.Join(slices.Sorted(maps.Keys(all)), ", "))
		}
		x, err := newExchange(s, name, v)
		if err != nil {
			return nil, err
		}
		s.exchanges[name] = x
	}
	return s, nil
}

// Close ends all connections, waits for them, and refuses new ones.
func (s *Sim) Close() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.close()
	s.conns.Wait()
}

// drift moves all prices of an asset alike: half a percent in minutes, two in
// hours.
func (s *Sim) drift(at time.Time) float64 {
	t := at.Sub(s.start).Seconds()
	phase := float64(s.cfg.Seed%360) * math.Pi / 180
	return 1 + 0.02*math.Sin(t/3600+phase) + 0.005*math.Sin(t/97+2*phase)
}

// Handler serves an exchange's WebSocket (on any path) and REST API. It panics
// when there is no such exchange: the names are the test's own.
func (s *Sim) Handler(exchange string) http.Handler { return s.named(exchange) }

func (s *Sim) named(exchange string) *exchange {
	x, ok := s.exchanges[exchange]
	if !ok {
		panic(fmt.Sprintf("feedsim: exchange %q is not simulated", exchange))
	}
	return x
}

// Symbols are an exchange's symbols as its WebSocket spells them.
func (s *Sim) Symbols(exchange string) []string {
	return slices.Clone(s.named(exchange).order)
}

// Truth returns every trade that the exchange has made in a symbol until now,
// delivered or not, oldest first, from some minutes before New on. The ids are
// what a gap is judged by: Binance's are those of aggTrade. It is nil when
// there is no such symbol.
func (s *Sim) Truth(exchange, symbol string) []Trade {
	t := s.named(exchange).tapes[symbol]
	if t == nil {
		return nil
	}
	n, _ := t.upTo(time.Now())
	return slices.Clone(t.trades(0, n))
}

// Start is when the simulation began: Truth also holds older trades.
func (s *Sim) Start() time.Time { return s.start }

// Stats are what an exchange has seen of its clients.
type Stats struct {
	Connects  uint64 // accepted WebSocket connections
	Open      int    // of them now
	Refused   uint64 // connection attempts that a limit or an outage turned away
	Messages  uint64 // received
	Frames    uint64 // sent
	Requests  uint64 // REST
	Throttled uint64 // REST requests that were answered 429
}

// Stats returns the counts so far.
func (s *Sim) Stats(exchange string) Stats {
	x := s.named(exchange)
	x.mu.Lock()
	defer x.mu.Unlock()
	st := x.stats
	st.Open = len(x.conns)
	return st
}
