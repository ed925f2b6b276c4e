package feed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// restTimeout bounds one request with its answer.
	restTimeout = 15 * time.Second
	// restBytes bounds an answer: the longest catalog has 4 MB.
	restBytes = 32 << 20
	// limitedPause is how long an exchange that says "too much" is left alone
	// when it does not say for how long; each time in a row twice as long, up
	// to limitedMost.
	limitedPause = 10 * time.Second
	limitedMost  = 2 * time.Minute
	// longestPause bounds what an exchange can say.
	longestPause = 15 * time.Minute

	userAgent = "cryptointel"
)

// A pacer keeps a least time between steps. Any goroutine may use it.
type pacer struct {
	gap time.Duration

	mu   sync.Mutex // guards next
	next time.Time
}

// wait returns when it is the caller's turn.
func (p *pacer) wait(ctx context.Context) error {
	p.mu.Lock()
	at := time.Now()
	if p.next.After(at) {
		at = p.next
	}
	p.next = at.Add(p.gap)
	p.mu.Unlock()
	return sleep(ctx, time.Until(at))
}

// hold lets nobody's turn come before d has passed.
func (p *pacer) hold(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if until := time.Now().Add(d); until.After(p.next) {
		p.next = until
	}
}

// sleep waits for d or for the end of ctx, whose error it then returns.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// A limitError says that an exchange finds that we ask too much.
type limitError struct {
	said string
	wait time.Duration // as the exchange asks; 0 when it does not say
}

func (e *limitError) Error() string { return "the exchange limits us: " + e.said }

// pause is how long to stay away, after so many attempts in a row.
func (e *limitError) pause(attempts int) time.Duration {
	if e.wait <= 0 {
		return min(limitedPause<<min(attempts, 10), limitedMost)
	}
	return min(e.wait, longestPause)
}

// limitedBy reads an answer's status: nil when it is not about limits. 418 is
// Binance's word for a banned address.
func limitedBy(r *http.Response) *limitError {
	switch r.StatusCode {
	case http.StatusTooManyRequests, http.StatusTeapot:
	case http.StatusServiceUnavailable, http.StatusForbidden:
		if r.Header.Get("Retry-After") == "" {
			return nil
		}
	default:
		return nil
	}
	e := &limitError{said: "HTTP " + r.Status}
	if s, err := strconv.ParseUint(r.Header.Get("Retry-After"), 10, 31); err == nil {
		e.wait = time.Duration(s) * time.Second
	} else if at, err := http.ParseTime(r.Header.Get("Retry-After")); err == nil {
		e.wait = time.Until(at)
	}
	return e
}

// A rest is an exchange's REST API. Any goroutine may use it.
type rest struct {
	base   string // without a slash at its end
	client *http.Client
	pace   pacer
	errors atomic.Uint64
}

// get fetches what a request asks for. An error is counted; a limit holds back
// all requests to this exchange.
func (r *rest) get(ctx context.Context, req Request) ([]byte, error) {
	if err := r.pace.wait(ctx); err != nil {
		return nil, err
	}
	body, err := r.fetch(ctx, req)
	if err == nil || ctx.Err() != nil {
		return body, err
	}
	r.errors.Add(1)
	if limit := (*limitError)(nil); errors.As(err, &limit) {
		r.pace.hold(limit.pause(0))
	}
	return nil, err
}

func (r *rest) fetch(ctx context.Context, req Request) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, restTimeout)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+req.Path, nil)
	if err != nil {
		return nil, err
	}
	q.Header.Set("User-Agent", userAgent)
	q.Header.Set("Accept", "application/json")
	a, err := r.client.Do(q)
	if err != nil {
		return nil, err
	}
	defer a.Body.Close()
	if limit := limitedBy(a); limit != nil {
		return nil, fmt.Errorf("GET %s: %w", q.URL.Redacted(), limit)
	}
	body, err := io.ReadAll(io.LimitReader(a.Body, restBytes+1))
	switch {
	case a.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("GET %s: HTTP %s: %.200q", q.URL.Redacted(), a.Status, body)
	case err != nil:
		return nil, fmt.Errorf("GET %s: %w", q.URL.Redacted(), err)
	case len(body) > restBytes:
		return nil, fmt.Errorf("GET %s: the answer has more than %d bytes", q.URL.Redacted(), restBytes)
	}
	return body, nil
}
