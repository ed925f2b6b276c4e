package bench

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// A trial is one server under one load: connections are opened, then each rate
// and the flood is measured.
type trial struct {
	name    string // begins the titles of the report
	dialer  *dialer
	loops   int
	n, held int // connections, descriptors others need meanwhile
	publish endpoint
	token   string
	load    Load
	rates   []float64
	pid     int   // 0: memory is not reported
	cpu     clock // nil: CPU is not reported
}

// run adds the sections of the trial to r and returns those of its loads.
func (t *trial) run(ctx context.Context, r *report) ([]*section, error) {
	p, err := newPool(t.dialer, t.loops, t.n, t.held)
	if err != nil {
		return nil, err
	}
	defer p.close()
	if err := t.connect(ctx, p, r); err != nil {
		return nil, err
	}
	pr, err := newPress(ctx, t.publish, t.token, t.dialer.channels, p.fan(), t.load)
	if err != nil {
		return nil, err
	}
	defer pr.close()
	var loads []*section
	for _, rate := range t.rates {
		s := r.section("%s, %g publications/s for %s", t.name, rate, t.load.Duration)
		loads = append(loads, s)
		if err := t.rate(ctx, p, pr, rate, s); err != nil {
			return nil, err
		}
	}
	if t.load.Flood > 0 {
		s := r.section("%s, flood with %d under way for %s", t.name, t.load.Flood, t.load.Duration)
		loads = append(loads, s)
		if err := t.flood(ctx, p, pr, s); err != nil {
			return nil, err
		}
	}
	return loads, nil
}

func (t *trial) connect(ctx context.Context, p *pool, r *report) error {
	s := r.section("%s, %d connections", t.name, t.n)
	before, err := t.memory()
	if err != nil {
		return err
	}
	start := time.Now()
	g, err := p.open(ctx, t.n)
	if err != nil {
		return err
	}
	took := time.Since(start)
	s.count("connections", uint64(p.ready()))
	s.failures("failed", g.failures)
	if p.ready() == 0 {
		return ErrNoConnection
	}
	s.add("connections a second", float64(g.done)/took.Seconds(), "1/s")
	s.times("ready after", &g.readies)
	after, err := t.memory()
	if err == nil && t.pid != 0 {
		s.add("memory a connection (RssAnon, uncollected)", (after-before)/float64(p.ready()), "B")
	}
	return err
}

func (t *trial) memory() (float64, error) {
	if t.pid == 0 {
		return 0, nil
	}
	return rssAnon(t.pid)
}

func (t *trial) rate(ctx context.Context, p *pool, pr *press, rate float64, s *section) error {
	if t.load.Warm > 0 {
		_, err := t.measure(ctx, p, pr, func(ctx context.Context, _ *outcome) error {
			_, err := pr.paced(ctx, rate, t.load.Warm)
			return err
		})
		if err != nil {
			return err
		}
	}
	o, err := t.measure(ctx, p, pr, func(ctx context.Context, o *outcome) (err error) {
		o.pacing, err = pr.paced(ctx, rate, t.load.Duration)
		return err
	})
	if err != nil {
		return err
	}
	return o.report(s)
}

func (t *trial) flood(ctx context.Context, p *pool, pr *press, s *section) error {
	play := func(d time.Duration) func(context.Context, *outcome) error {
		return func(ctx context.Context, o *outcome) (err error) {
			o.stalls, err = pr.flood(ctx, t.load.Flood, d, p.received)
			return err
		}
	}
	if t.load.Warm > 0 {
		if _, err := t.measure(ctx, p, pr, play(t.load.Warm)); err != nil {
			return err
		}
	}
	o, err := t.measure(ctx, p, pr, play(t.load.Duration))
	if err != nil {
		return err
	}
	s.count("stalls", o.stalls)
	return o.report(s)
}

// An outcome is what one load came to.
type outcome struct {
	*tally
	subscribers int // of the only channel; 0: there are several
	pacing      *pacing
	stalls      uint64
	calls       *hist
	reasons     map[string]uint64
	sent        int64
	refused     int64
	expected    int64
	wall        time.Duration
	busy        time.Duration // until the last delivery
	own         time.Duration // the generator's CPU
	cpu         time.Duration // the server's CPU
	hasCPU      bool
}

// lost is how many deliveries did not come, or were skipped because the reader
// was behind: a state channel owes it only the newest value then.
func (o *outcome) lost() int64 { return o.expected - int64(o.received-o.duplicates) }

// measure runs play and counts from the first publication to the last
// delivery.
func (t *trial) measure(ctx context.Context, p *pool, pr *press, play func(context.Context, *outcome) error) (*outcome, error) {
	o := &outcome{sent: -pr.sent.Load(), refused: -pr.refused.Load(), expected: -pr.expected.Load()}
	if len(t.dialer.channels) == 1 {
		o.subscribers = pr.fan[0]
	}
	pr.take()
	had := int64(p.received())
	missing := func() int64 { return o.expected + pr.expected.Load() - (int64(p.received()) - had) }
	use, err := t.usage()
	if err != nil {
		return nil, err
	}
	start := nanos()
	s := &stretch{base: pr.base, first: pr.nextNumber()}
	err = p.run(ctx, s, func(ctx context.Context) error {
		if err := play(ctx, o); err != nil {
			return err
		}
		return pr.drain(ctx, missing, time.Second)
	})
	if err != nil {
		return nil, err
	}
	o.wall = time.Duration(nanos() - start)
	o.tally = p.tally()
	o.busy = time.Duration(max(o.lastAt-start, 1))
	o.sent, o.refused, o.expected = o.sent+pr.sent.Load(), o.refused+pr.refused.Load(), o.expected+pr.expected.Load()
	o.calls, o.reasons = pr.take()
	return o, use(o)
}

// usage notes the CPU time used so far; the function it returns writes what was
// used since into an outcome.
func (t *trial) usage() (func(*outcome) error, error) {
	own, cpu := ownClock(), t.cpu
	if cpu == nil {
		cpu = own
	}
	own0, err := own()
	if err != nil {
		return nil, err
	}
	cpu0, err := cpu()
	if err != nil {
		return nil, err
	}
	return func(o *outcome) error {
		own1, _ := own()
		cpu1, err := cpu()
		o.own, o.cpu, o.hasCPU = own1-own0, cpu1-cpu0, t.cpu != nil
		return err
	}, nil
}

// Figures that ratios are made of.
const (
	figureCPU  = "server CPU a delivery"
	figureLast = "last receive"
)

// report adds o's figures. It returns an error when nothing was published.
func (o *outcome) report(s *section) error {
	s.add("published", float64(o.sent-o.refused), "")
	if o.refused > 0 {
		s.add("publications refused", float64(o.refused), "")
		s.failures("refused", o.reasons)
	}
	o.reportOrder(s)
	s.add("deliveries a second", float64(o.received)/o.busy.Seconds(), "1/s")
	s.times("latency", &o.latency)
	if o.subscribers > 0 {
		s.times(figureLast, o.lastReceive(o.subscribers))
	}
	o.reportUse(s)
	s.times("publish call", o.calls)
	if o.pacing != nil {
		s.add("generator late p99", millis(o.pacing.lag.quantile(.99)), "ms")
		if o.pacing.unsent > 0 {
			s.count("publications given up", o.pacing.unsent)
		}
	}
	if o.sent > 0 && o.sent == o.refused {
		return errNoPublication
	}
	return nil
}

func (o *outcome) reportOrder(s *section) {
	s.add("deliveries expected", float64(o.expected), "")
	s.count("deliveries received", o.received)
	s.add("lost or skipped", float64(o.lost()), "")
	s.count("duplicates", o.duplicates)
	s.count("out of order", o.late)
	if o.strangers > 0 {
		s.count("of another publisher", o.strangers)
	}
	s.failures("connection", o.tally.failures)
}

func (o *outcome) reportUse(s *section) {
	if o.received == 0 {
		return
	}
	n := float64(o.received)
	if o.hasCPU {
		s.add(figureCPU, float64(o.cpu.Nanoseconds())/1000/n, "µs")
		s.add("server cores used", o.cpu.Seconds()/o.wall.Seconds(), "")
	}
	s.add("generator cores used", o.own.Seconds()/o.wall.Seconds(), "")
	s.add("bytes a delivery", float64(o.bytes)/n, "B")
	if o.packed > 0 {
		s.add("frames compressed", 100*float64(o.packed)/float64(o.frames), "%")
	}
	s.add("deliveries a read", n/float64(o.reads), "")
}

// publishEndpoint is where to publish: the given URL, or the usual path of the
// server at to.
func publishEndpoint(given string, to endpoint) (endpoint, error) {
	if given != "" {
		return parseEndpoint(given, "http")
	}
	to.path = "/api/v1/publish"
	return to, nil
}

// publisherToken is the token that publishes, or "".
func (t Target) publisherToken() (string, error) {
	if t.Token != "" || t.TokenFor == nil {
		return strings.TrimSpace(t.Token), nil
	}
	token, err := t.TokenFor(Publisher)
	if err != nil {
		return "", fmt.Errorf("bench: make the publisher's token: %w", err)
	}
	return token, nil
}

// dialer makes connections that follow subs of the channels.
func (t Target) dialer(auth bool, channels []string, subs int) (*dialer, error) {
	e, err := parseEndpoint(t.URL, "ws")
	if err != nil {
		return nil, err
	}
	d := &dialer{to: e, sources: t.Sources, window: t.Concurrency / t.Loops, patience: t.Patience,
		heartbeat: t.Heartbeat, deflate: t.Compress, upgrade: e.upgradeRequest(t.Compress), channels: channels, subs: subs}
	if auth {
		d.token = t.TokenFor
	}
	return d, nil
}
