package feed

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"cryptointel/internal/market"
	"cryptointel/protocol"
)

const (
	// backoffBase and backoffMost: the n-th attempt in a row waits for a
	// random time up to base·2^n, at most most.
	backoffBase = time.Second
	backoffMost = time.Minute
	// stable is how long a connection must last for the count to start over.
	// One that brought prices for useful halves it: what fails now
	// and then is not what refuses us.
	stable = time.Minute
	useful = 10 * time.Second
	// beatEvery is how often deadlines are looked at.
	beatEvery = 500 * time.Millisecond
)

// A slot is one place for a connection: its symbols, the codec that knows what
// was seen of them, and what is done when the connection ends. The goroutine
// of run owns it; others send to its channels and ask for status.
type slot struct {
	feed    *liveFeed
	x       Exchange
	symbols []string
	tries   int // attempts in a row that led to nothing lasting
	limits  int // how many of them the exchange called too many
	ticks   []market.Tick
	refills refills
	placed  int // symbols that were given to it; owned by the feed's tend

	more    chan []string // further symbols
	answers chan refilled // of the request for missing trades
	wg      sync.WaitGroup

	linked bool      // there was a connection
	priced time.Time // when the first price of the connection came
	latest time.Time // when the newest price came, of whichever connection

	mu  sync.Mutex // guards the fields below
	now FeedStatus
}

func newSlot(f *liveFeed, symbols []string) *slot {
	return &slot{
		feed: f, x: newExchange(f.name, f.assets), symbols: symbols, placed: len(symbols),
		more: make(chan []string, 4), answers: make(chan refilled, 1),
		now: FeedStatus{State: FeedConnecting, Since: f.clock.Now(), Symbols: len(symbols)},
	}
}

// run keeps a connection until ctx is done or the sink fails.
func (s *slot) run(ctx context.Context) error {
	defer s.wg.Wait()
	for ctx.Err() == nil {
		err := s.connect(ctx)
		if errors.Is(err, errSink) {
			return err
		}
		if ctx.Err() != nil {
			break
		}
		if err := s.pause(ctx, s.backoff(err)); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// connect opens a connection and lives with it to its end, which is told.
func (s *slot) connect(ctx context.Context) error {
	if len(s.symbols) == 0 {
		err := errors.New("the exchange refuses all markets asked for")
		s.unreachable(err)
		return &limitError{said: err.Error(), wait: longestPause}
	}
	l, err := s.feed.dial(ctx, s.x.Subscribe(s.symbols))
	if err != nil {
		if ctx.Err() == nil {
			s.unreachable(err)
		}
		return err
	}
	err = s.session(ctx, l)
	if !s.priced.IsZero() && time.Since(s.priced) > useful {
		s.tries, s.limits = s.tries/2, s.limits/2
	}
	if ctx.Err() == nil && !errors.Is(err, errSink) {
		s.gone(err)
	}
	return err
}

// backoff is how long to wait before the next attempt: full jitter, and what
// the exchange asks for on top.
func (s *slot) backoff(why error) time.Duration {
	most := backoffMost
	if s.tries < 6 {
		most = min(most, backoffBase<<s.tries)
	}
	s.tries++
	d := time.Duration(s.feed.rand() * float64(most))
	if limit := (*limitError)(nil); errors.As(why, &limit) {
		d += limit.pause(s.limits)
		s.limits++
	}
	return d
}

// pause waits while there is no connection. What is missing is asked for
// meanwhile.
func (s *slot) pause(ctx context.Context, d time.Duration) error {
	t, beat := time.NewTimer(d), time.NewTicker(beatEvery)
	defer t.Stop()
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			s.set(FeedConnecting, s.status().Why)
			return nil
		case <-beat.C:
			s.ask(ctx)
			s.note()
		case a := <-s.answers:
			if err := s.refill(ctx, a); err != nil {
				return err
			}
		case list := <-s.more:
			s.symbols = append(s.symbols, list...)
		}
	}
}

// deliver hands ticks on.
func (s *slot) deliver(ctx context.Context, ticks []market.Tick) error {
	if len(ticks) == 0 {
		return nil
	}
	if err := s.feed.out.Deliver(ctx, ticks); err != nil {
		return sinkError(err)
	}
	return nil
}

// refuse gives a symbol up.
func (s *slot) refuse(n Note) {
	i := slices.Index(s.symbols, n.Symbol)
	if n.Symbol != "" && i < 0 {
		return // said before
	}
	if i >= 0 {
		s.symbols = slices.Delete(slices.Clone(s.symbols), i, i+1)
	}
	if count, ok := s.feed.troubles.speak("refused"); ok {
		s.feed.log.Warn("exchange refuses a market", "symbol", n.Symbol, "why", n.Text, "count", count)
	}
}

// unreachable says why no connection came about.
func (s *slot) unreachable(err error) {
	s.set(FeedDown, err.Error())
	s.note()
	if n, ok := s.feed.troubles.speak("unreachable"); ok {
		s.feed.log.Warn("exchange unreachable", "url", s.feed.url, "err", err, "attempts", n)
	}
}

// gone says why a connection ended.
func (s *slot) gone(err error) {
	s.set(FeedDown, err.Error())
	s.note()
	if n, ok := s.feed.troubles.speak("lost"); ok {
		s.feed.log.Warn("exchange connection lost", "url", s.feed.url, "err", err, "times", n)
	}
}

// set changes the state.
func (s *slot) set(state, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now.State != state {
		s.now.State, s.now.Since = state, s.feed.clock.Now()
	}
	s.now.Why = why
}

// reconnected counts a connection.
func (s *slot) reconnected() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.linked {
		s.now.Reconnects++
	}
	s.linked = true
}

// note copies what others may ask for.
func (s *slot) note() {
	stats := s.x.Stats()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.Stats, s.now.Symbols = stats, len(s.symbols)
	s.now.Refilled, s.now.RefillFailed, s.now.RefillWaiting = s.refills.done, s.refills.failed, len(s.refills.jobs)
	if s.refills.asking {
		s.now.RefillWaiting++
	}
}

// heard notes when a frame came.
func (s *slot) heard(at protocol.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.LastFrame = max(s.now.LastFrame, at)
}

func (s *slot) status() FeedStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}
