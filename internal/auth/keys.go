package auth

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"cryptointel/protocol"
)

// How hard the endpoint of a key set is asked.
const (
	askEvery   = 30 * time.Second // between fetches for tokens whose key is unknown
	askWait    = 2 * time.Second  // how long such a token may wait for its fetch
	firstRetry = 5 * time.Second
	lastRetry  = time.Minute
)

// Keys are the public keys that an issuer publishes at a URL. Run fetches
// them; a Verifier looks at the newest. While the endpoint is down, the last
// keys hold. Safe for concurrent use.
type Keys struct {
	url        *url.URL // nil without a key set
	refresh    time.Duration
	overlap    time.Duration
	algorithms []string
	client     *http.Client
	log        *slog.Logger

	newest atomic.Pointer[keySet] // nil before the first
	wake   chan struct{}          // of capacity 1: somebody asked for a fetch

	mu     sync.Mutex // guards the fields below
	asked  time.Time  // the last time that somebody asked
	round  *round     // the latest fetch: waiting to start, running or over
	ended  bool       // Run is over
	counts KeyStatus

	// Run's own.
	failures int       // in a row
	told     time.Time // when a failure was last logged
	rest     []skipped // as last logged
}

// A round is one fetch. Whoever waits for it closes nothing.
type round struct {
	asked  time.Time
	done   chan struct{} // closed when it is over
	failed bool          // guarded by Keys.mu
	next   time.Time     // the fetch after a failed one; guarded by Keys.mu
}

// KeyStatus says how a key set fares.
type KeyStatus struct {
	Current int // keys that the endpoint gives
	Retired int // keys that it gave before and that still hold
	Fetches uint64
	Failed  uint64    // fetches that gave no usable set
	Fetched time.Time // the last good fetch, zero before it
}

// Open is New for a configuration that may name a key set's URL. It fetches
// nothing: until Run of the returned Keys has, tokens that need one of those
// keys are refused with INTERNAL and when to come back.
func Open(cfg Config, log *slog.Logger) (*Verifier, *Keys, error) {
	keys := &Keys{refresh: cfg.JWKSRefresh, overlap: cfg.JWKSOverlap, log: log, wake: make(chan struct{}, 1)}
	v, err := verifierOf(cfg)
	if err != nil || cfg.JWKSURL == "" {
		return v, keys, err
	}
	keys.url, _ = url.Parse(cfg.JWKSURL) // validate has
	keys.client = newClient(nil)
	keys.algorithms = slices.DeleteFunc(slices.Clone(remoteAlgorithms), func(alg string) bool {
		return len(cfg.Algorithms) > 0 && !slices.Contains(cfg.Algorithms, alg)
	})
	v.remote = keys
	return v, keys, nil
}

// Status counts. It may be called at any time.
func (k *Keys) Status() KeyStatus {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, set := k.counts, k.newest.Load()
	s.Current = len(set.current())
	s.Retired = len(set.all()) - s.Current
	return s
}

// Run fetches the keys at once, then regularly and when a token names one that
// is not known, until ctx is done. It returns at once when no URL is set.
func (k *Keys) Run(ctx context.Context) error {
	if k.url == nil {
		return nil
	}
	defer k.end()
	next := k.fetchRound(ctx)
	for {
		wait := next
		if ends := k.newest.Load().ends(); !ends.IsZero() && ends.Before(wait) {
			wait = ends
		}
		timer := time.NewTimer(time.Until(wait))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-k.wake:
			timer.Stop()
			next = k.fetchRound(ctx)
		case <-timer.C:
			if wait.Equal(next) {
				next = k.fetchRound(ctx)
			} else {
				k.prune()
			}
		}
	}
}

// fetchRound fetches once and says when the next time is.
func (k *Keys) fetchRound(ctx context.Context) (next time.Time) {
	r := k.begin()
	keys, rest, err := k.fetch(ctx)
	now := time.Now()
	if err != nil {
		next = now.Add(k.retryIn())
		if ctx.Err() == nil {
			k.tellFailure(err, next)
		}
	} else {
		next = now.Add(k.refresh - rand.N(k.refresh/10)) // not all nodes at once
		k.install(keys, rest, now)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.counts.Fetches++
	if err != nil {
		k.counts.Failed++
	} else {
		k.counts.Fetched = now
	}
	r.failed, r.next = err != nil, next
	close(r.done)
	return next
}

// begin takes the round that somebody waits for, or starts one of its own.
func (k *Keys) begin() *round {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.openLocked() {
		k.round = &round{asked: time.Now(), done: make(chan struct{})}
	}
	select { // whatever was asked until here is this round
	case <-k.wake:
	default:
	}
	return k.round
}

// openLocked reports whether the latest round is not over.
func (k *Keys) openLocked() bool {
	if k.round == nil {
		return false
	}
	select {
	case <-k.round.done:
		return false
	default:
		return true
	}
}

// retryIn is how long to wait after a failure: longer each time, and never the
// same for two nodes.
func (k *Keys) retryIn() time.Duration {
	wait := min(firstRetry<<min(k.failures, 10), lastRetry, k.refresh)
	k.failures++
	return wait/2 + rand.N(wait/2)
}

// install makes the keys the newest, and tells when that changes something.
func (k *Keys) install(given []key, rest []skipped, now time.Time) {
	old := k.newest.Load()
	set := old.next(given, now, k.overlap)
	k.newest.Store(set)
	if set != old || k.failures > 0 {
		current := len(set.current())
		k.log.Info("token keys fetched", "url", k.shown(), "keys", current, "retired", len(set.keys)-current, "failures_before", k.failures)
	}
	k.failures, k.told = 0, time.Time{}
	k.tellSkipped(rest)
}

func (k *Keys) tellSkipped(rest []skipped) {
	if slices.Equal(rest, k.rest) {
		return
	}
	k.rest = rest
	for _, s := range rest {
		k.log.Warn("token key not used", "url", k.shown(), "kid", s.kid, "why", s.why)
	}
}

// tellFailure logs the first failure in a row, then one a minute.
func (k *Keys) tellFailure(err error, next time.Time) {
	if !k.told.IsZero() && time.Since(k.told) < time.Minute {
		return
	}
	k.told = time.Now()
	retryIn := time.Until(next).Round(time.Millisecond).String()
	if set := k.newest.Load(); set != nil {
		k.log.Warn("token keys not fetched, the last ones hold", "url", k.shown(), "keys", len(set.current()), "err", err, "retry_in", retryIn)
		return
	}
	k.log.Warn("token keys not fetched, tokens that need them are refused until then", "url", k.shown(), "err", err, "retry_in", retryIn)
}

// prune lets go of the keys whose overlap is over.
func (k *Keys) prune() {
	old := k.newest.Load()
	set := old.next(old.current(), time.Now(), k.overlap)
	k.newest.Store(set)
	k.log.Info("token keys retired", "url", k.shown(), "keys", len(set.current()), "retired", len(set.all())-len(set.current()))
}

// end lets nobody wait for a round that will not come.
func (k *Keys) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ended = true
	if k.openLocked() {
		k.round.failed = true
		close(k.round.done)
	}
}

// await asks for a fetch, unless one is under way or the last was asked for a
// moment ago, and waits for it. All that wait do so for the same 2 s: with a
// slow endpoint, a storm of tokens with invented keys costs its judges 2 s in
// 30, and the endpoint one request.
func (k *Keys) await() {
	r := k.join(time.Now())
	if r == nil {
		return
	}
	timer := time.NewTimer(time.Until(r.asked.Add(askWait)))
	defer timer.Stop()
	select {
	case <-r.done:
	case <-timer.C:
	}
}

// join returns the round to wait for, nil for none.
func (k *Keys) join(now time.Time) *round {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.ended:
		return nil
	case k.openLocked():
		return k.round
	case !k.asked.IsZero() && now.Sub(k.asked) < askEvery:
		return nil
	}
	k.asked = now
	k.round = &round{asked: now, done: make(chan struct{})}
	select {
	case k.wake <- struct{}{}:
	default:
	}
	return k.round
}

// unsure reports whether a key that is not known may exist all the same,
// because the latest fetch failed or is not over, and when to ask again.
func (k *Keys) unsure() (retry protocol.Time, unsure bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.round == nil || k.openLocked():
		return protocol.Second, true
	case !k.round.failed:
		return 0, false
	}
	wait := min(max(time.Until(k.round.next), time.Second), lastRetry)
	return protocol.Time(wait.Truncate(time.Millisecond) + time.Millisecond), true // not a moment early
}

// mayHave reports whether the endpoint could have a key for such a token.
func (k *Keys) mayHave(h header) bool {
	return slices.Contains(k.algorithms, h.alg) && (!h.hasKid || h.kid != "")
}

// shown is the URL without its query, which may hold what is nobody's business.
func (k *Keys) shown() string {
	return (&url.URL{Scheme: k.url.Scheme, Host: k.url.Host, Path: k.url.Path}).String()
}
