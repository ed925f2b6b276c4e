package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// A press publishes on all channels of a run. Channel c belongs to publisher
// c modulo their number, which alone numbers and sends its publications: so
// they arrive in order.
type press struct {
	publishers []*publisher
	channels   int
	base       int64 // numbers are written as base + n, so that runs differ
	fan        []int // subscribers by channel

	expected atomic.Int64 // deliveries of the publications not refused
	sent     atomic.Int64
	answered atomic.Int64
	refused  atomic.Int64
}

// A publisher is one connection to the publish API. One goroutine sends;
// another reads the answers.
type publisher struct {
	press    *press
	conn     net.Conn
	requests []request     // by channel; only its own are made
	next     []int64       // number of the next publication, by channel
	underway chan underway // requests without an answer; its size is the pipeline
	done     chan struct{} // closed when answers are no longer read

	mu      sync.Mutex // guards the fields below
	calls   hist       // time to the answer
	reasons map[string]uint64
	err     error // why answers are no longer read
}

type underway struct {
	channel int
	at      int64 // ns
}

// newPress connects to the publish API. close must be called.
func newPress(ctx context.Context, e endpoint, token string, channels []string, fan []int, l Load) (*press, error) {
	p := &press{channels: len(channels), fan: fan, base: firstSeq + rand.Int64N(8*firstSeq)}
	for k := range min(l.Publishers, len(channels)) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp4", e.addr.String())
		if err != nil {
			p.close()
			return nil, fmt.Errorf("bench: publish: %w", err)
		}
		b := &publisher{press: p, conn: conn, requests: make([]request, len(channels)), next: make([]int64, len(channels)),
			underway: make(chan underway, l.Pipeline), done: make(chan struct{}), reasons: map[string]uint64{}}
		for c := k; c < len(channels); c += l.Publishers {
			b.requests[c] = newRequest(e, token, channels[c], l.Pad)
			b.next[c] = 1
		}
		p.publishers = append(p.publishers, b)
		go b.answers() // ends when conn is closed; close waits for it
	}
	return p, nil
}

// close ends the connections and waits for their readers.
func (p *press) close() {
	for _, b := range p.publishers {
		b.conn.Close()
		<-b.done
	}
}

// answers reads the answers until the connection ends.
func (b *publisher) answers() {
	defer close(b.done)
	rd := bufio.NewReader(b.conn)
	for {
		res, err := http.ReadResponse(rd, nil)
		if err != nil {
			b.mu.Lock()
			b.err = fmt.Errorf("bench: publish: the connection ended: %w", err)
			b.mu.Unlock()
			return
		}
		b.answer(res)
	}
}

func (b *publisher) answer(res *http.Response) {
	body, _ := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	res.Body.Close()
	u := <-b.underway
	b.mu.Lock()
	b.calls.add(nanos() - u.at)
	if res.StatusCode/100 != 2 {
		b.reasons[fmt.Sprintf("%s %.120s", res.Status, body)]++
	}
	b.mu.Unlock()
	if res.StatusCode/100 != 2 {
		b.press.refused.Add(1)
		b.press.expected.Add(-int64(b.press.fan[u.channel]))
	}
	b.press.answered.Add(1)
}

// publish sends the next publication of a channel, stamped with at. It waits
// while the pipeline is full.
func (b *publisher) publish(ctx context.Context, channel int, at int64) error {
	select {
	case b.underway <- underway{channel, nanos()}:
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
	r := &b.requests[channel]
	r.stamp(at, b.press.base+b.next[channel])
	b.next[channel]++
	b.press.expected.Add(int64(b.press.fan[channel]))
	b.press.sent.Add(1)
	if _, err := b.conn.Write(r.bytes); err != nil {
		return fmt.Errorf("bench: publish: %w", err)
	}
	return nil
}

// take gives and forgets what the publishers have counted.
func (p *press) take() (calls *hist, reasons map[string]uint64) {
	calls, reasons = new(hist), map[string]uint64{}
	for _, b := range p.publishers {
		b.mu.Lock()
		calls.merge(&b.calls)
		for why, n := range b.reasons {
			reasons[why] += n
		}
		b.calls, b.reasons = hist{}, map[string]uint64{}
		b.mu.Unlock()
	}
	return calls, reasons
}

// nextNumber is the number of the next publication on the first channel.
func (p *press) nextNumber() int64 { return p.publishers[0].next[0] }

// pacing is how well a rate was kept.
type pacing struct {
	lag    hist   // how late publications were released
	unsent uint64 // publications given up because requests queued
}

// paced publishes rate publications a second for d, over the channels in turn,
// whether or not answers come in time (an open loop). A publication is stamped
// when it is released: a slow publish API counts as latency.
func (p *press) paced(ctx context.Context, rate float64, d time.Duration) (*pacing, error) {
	g, ctx := errgroup.WithContext(ctx)
	queues := make([]chan underway, len(p.publishers))
	for i, b := range p.publishers {
		queues[i] = make(chan underway, 1<<12)
		g.Go(func() error {
			for u := range queues[i] {
				if err := b.publish(ctx, u.channel, u.at); err != nil {
					return err
				}
			}
			return nil
		})
	}
	pc := new(pacing)
	g.Go(func() error {
		defer func() {
			for _, q := range queues {
				close(q)
			}
		}()
		return p.release(ctx, rate, d, queues, pc)
	})
	return pc, g.Wait()
}

// release puts publications into the publishers' queues when they are due.
func (p *press) release(ctx context.Context, rate float64, d time.Duration, queues []chan underway, pc *pacing) error {
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := range int(rate * d.Seconds()) {
		due := start.Add(time.Duration(float64(i) / rate * 1e9))
		if wait := time.Until(due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		now := time.Now()
		pc.lag.add(int64(now.Sub(due)))
		channel := i % p.channels
		select {
		case queues[channel%len(queues)] <- underway{channel, now.UnixNano()}:
		default:
			pc.unsent++
		}
	}
	return nil
}

// flood keeps window publications under way for d: a publication is under way
// until all its subscribers have it. received counts deliveries. When nothing
// comes for a second what is under way is given up; stalls counts that.
func (p *press) flood(ctx context.Context, window int, d time.Duration, received func() uint64) (stalls uint64, err error) {
	w := &floodgate{press: p, received: received, base: int64(received()) - p.expected.Load(),
		room: int64(window * max(p.meanFan(), 1)), until: time.Now().Add(d)}
	g, ctx := errgroup.WithContext(ctx)
	for i, b := range p.publishers {
		g.Go(func() error {
			for c := i; time.Now().Before(w.until); c += len(p.publishers) {
				if c >= p.channels {
					c = i
				}
				if err := w.wait(ctx); err != nil {
					return err
				}
				if err := b.publish(ctx, c, nanos()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err = g.Wait()
	return w.stalls.Load(), err
}

func (p *press) meanFan() (n int) {
	for _, f := range p.fan {
		n += f
	}
	return n / len(p.fan)
}

// A floodgate lets a flood's publications through while there is room.
type floodgate struct {
	press    *press
	received func() uint64
	base     int64 // received minus expected when the flood began
	room     int64 // deliveries
	until    time.Time
	givenUp  atomic.Int64
	stalls   atomic.Uint64
}

func (w *floodgate) missing() int64 {
	return w.press.expected.Load() - (int64(w.received()) - w.base) - w.givenUp.Load()
}

// wait returns when there is room.
func (w *floodgate) wait(ctx context.Context) error {
	last, since := w.received(), time.Now()
	for w.missing() >= w.room {
		if err := pause(ctx, 50*time.Microsecond); err != nil {
			return err
		}
		if n := w.received(); n != last {
			last, since = n, time.Now()
		} else if time.Since(since) > time.Second {
			w.stalls.Add(1)
			w.givenUp.Add(max(w.missing(), 0))
		}
	}
	return nil
}

// drain waits until every answer and every delivery has come, or until nothing
// has come for quiet.
func (p *press) drain(ctx context.Context, missing func() int64, quiet time.Duration) error {
	last, since := missing(), time.Now()
	for p.answered.Load() < p.sent.Load() || missing() > 0 {
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
		if n := missing(); n != last {
			last, since = n, time.Now()
		} else if time.Since(since) > quiet {
			return nil
		}
	}
	return nil
}

var errNoPublication = errors.New("bench: every publication was refused")

func nanos() int64 { return time.Now().UnixNano() }

// pause waits for d, or less when ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
