package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// channelNames are test:b0 and up.
func channelNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("test:b%d", i)
	}
	return names
}

// runConnect is ConnectConfig.Run.
func runConnect(ctx context.Context, c ConnectConfig, w io.Writer) error {
	r := &report{Command: "connect"}
	err := c.measure(ctx, r)
	return finish(r, w, c.JSON, err)
}

// finish prints r, also when err has cut it short: it says why.
func finish(r *report, w io.Writer, file string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return errors.Join(err, r.write(w, file))
}

func (c ConnectConfig) measure(ctx context.Context, r *report) error {
	d, err := c.dialer(c.Auth, []string{"test:bench"}, 1)
	if err != nil {
		return err
	}
	total := max(int(c.Rate*c.Duration.Seconds()), 1)
	held := total // at once; those that close overlap for their patience at most
	if !c.Keep {
		held = min(total, int(c.Rate*c.Patience.Seconds()))
	}
	p, err := newPool(d, c.Loops, c.Base+held, 0)
	if err != nil {
		return err
	}
	defer p.close()
	if err := c.openBase(ctx, p, r); err != nil {
		return err
	}
	use, err := (&trial{cpu: c.serverClock()}).usage()
	if err != nil {
		return err
	}
	start := time.Now()
	s := &stretch{upTo: c.Base + total, rate: c.Rate, drop: !c.Keep}
	if err := p.run(ctx, s, nil); err != nil {
		return err
	}
	o := &outcome{wall: time.Since(start), tally: p.tally()}
	if err := use(o); err != nil {
		return err
	}
	return c.report(p, o, r)
}

// serverClock is nil without a process id.
func (t Target) serverClock() clock {
	if t.PID == 0 {
		return nil
	}
	return processClock(t.PID)
}

func (c ConnectConfig) openBase(ctx context.Context, p *pool, r *report) error {
	if c.Base == 0 {
		return nil
	}
	start := time.Now()
	g, err := p.open(ctx, c.Base)
	if err != nil {
		return err
	}
	s := r.section("%d connections, as fast as answered", c.Base)
	s.count("connections", uint64(p.ready()))
	s.failures("failed", g.failures)
	s.add("connections a second", float64(g.done)/time.Since(start).Seconds(), "1/s")
	if p.ready() == 0 {
		return ErrNoConnection
	}
	return nil
}

func (c ConnectConfig) report(p *pool, o *outcome, r *report) error {
	g := p.settled()
	s := r.section("%g connections/s for %s beside %d open", c.Rate, c.Duration, c.Base)
	s.count("connections", g.done)
	s.failures("failed", g.failures)
	s.failures("lost", o.tally.failures)
	s.times("upgraded after", &g.upgrades)
	s.times("first frame after", &g.frames)
	s.times("subscribed after", &g.readies)
	s.add("generator late p99", millis(g.lag.quantile(.99)), "ms")
	if o.hasCPU && g.done > 0 {
		s.add("server CPU a connection", float64(o.cpu.Microseconds())/float64(g.done), "µs")
		s.add("server cores used", o.cpu.Seconds()/o.wall.Seconds(), "")
	}
	s.add("generator cores used", o.own.Seconds()/o.wall.Seconds(), "")
	if g.done == 0 {
		return ErrNoConnection
	}
	return nil
}

// trial is the load l on n connections that follow subs of the channels.
func (t Target) trial(l Load, rates []float64, n int, channels []string, subs int) (*trial, error) {
	d, err := t.dialer(l.Auth, channels, subs)
	if err != nil {
		return nil, err
	}
	to, err := publishEndpoint(l.PublishURL, d.to)
	if err != nil {
		return nil, err
	}
	token, err := t.publisherToken()
	if err != nil {
		return nil, err
	}
	return &trial{name: "server", dialer: d, loops: t.Loops, n: n, publish: to, token: token,
		load: l, rates: rates, pid: t.PID, cpu: t.serverClock()}, nil
}

// runChannels is ChannelsConfig.Run.
func runChannels(ctx context.Context, c ChannelsConfig, w io.Writer) error {
	r := &report{Command: "channels"}
	t, err := c.trial(c.Load, c.PublishRate, c.N, channelNames(c.Channels), c.Subs)
	if err != nil {
		return err
	}
	_, err = t.run(ctx, r)
	return finish(r, w, c.JSON, err)
}

// runFanout is FanoutConfig.Run.
func runFanout(ctx context.Context, c FanoutConfig, w io.Writer) error {
	r := &report{Command: "fanout"}
	if c.AgainstPlain > 0 {
		return finish(r, w, c.JSON, c.againstPlain(ctx, r))
	}
	t, err := c.trial(c.Load, c.PublishRate, c.N, []string{"test:bench"}, 1)
	if err != nil {
		return err
	}
	server, err := t.run(ctx, r)
	if err == nil && c.Floor {
		err = c.compare(ctx, r, t, server)
	}
	return finish(r, w, c.JSON, err)
}

// againstPlain measures connections without and with compression in turn, so
// that what else the machine does meets both, and adds the ratios of the
// medians for each load.
func (c FanoutConfig) againstPlain(ctx context.Context, r *report) error {
	var runs [2][][]*section // without and with; by turn, by load
	for turn := range 2 * c.AgainstPlain {
		with := turn % 2
		target := c.Target
		target.Compress = with == 1
		t, err := target.trial(c.Load, c.PublishRate, c.N, []string{"test:bench"}, 1)
		if err != nil {
			return err
		}
		t.name = [2]string{"plain", "compressed"}[with]
		if turn > 0 { // the server is still closing the connections of the last
			if err := pause(ctx, time.Second); err != nil {
				return err
			}
		}
		loads, err := t.run(ctx, r)
		if err != nil {
			return err
		}
		runs[with] = append(runs[with], loads)
	}
	for i, s := range runs[0][0] {
		addMedians(r.section("compressed over plain, medians of %d: %s", c.AgainstPlain, s.Title), runs, i)
	}
	return nil
}

// addMedians compares the runs' figures under load i.
func addMedians(s *section, runs [2][][]*section, i int) {
	for _, name := range []string{figureCPU, "bytes a delivery", figureLast + " p50", figureLast + " p99"} {
		var medians [2]float64
		for with, turns := range runs {
			var values []float64
			for _, loads := range turns {
				if v, ok := loads[i].value(name); ok {
					values = append(values, v)
				}
			}
			if len(values) > 0 {
				medians[with] = median(values)
			}
		}
		if medians[0] > 0 && medians[1] > 0 {
			s.add(name+", compressed/plain", medians[1]/medians[0], "")
		}
	}
}

// compare measures the floor under the same loads and adds the ratios.
func (c FanoutConfig) compare(ctx context.Context, r *report, t *trial, server []*section) error {
	// The server is still closing the connections of its own trial.
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	f, err := startFloor(ctx, c.FloorCommand, c.PID)
	if err != nil {
		return err
	}
	defer f.stop()
	e, err := parseEndpoint("ws://"+f.addr+"/", "ws")
	if err != nil {
		return err
	}
	bare, d := *t, *t.dialer
	d.to, d.deflate, d.upgrade, d.bare, d.token = e, false, e.upgradeRequest(false), true, nil
	bare.name, bare.dialer, bare.publish, bare.token = "floor", &d, e, ""
	bare.held, bare.pid, bare.cpu = f.held*t.n, 0, f.cpu
	floor, err := bare.run(ctx, r)
	if err != nil {
		return err
	}
	for i, s := range server {
		addRatios(s, floor[i])
	}
	return nil
}

// addRatios adds the server's figures over the floor's to the server's.
func addRatios(server, floor *section) {
	for _, name := range []string{figureCPU, figureLast + " p50", figureLast + " p99"} {
		a, ok := server.value(name)
		b, has := floor.value(name)
		if ok && has && b > 0 {
			server.add(name+", server/floor", a/b, "")
		}
	}
}
