package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"cryptointel/internal/market"
)

// A venue is an exchange in memory: what is dialled ends at its handler.
type venue struct {
	t      testing.TB
	conns  chan net.Conn
	closed chan struct{}
	server *http.Server
	client *http.Client

	// talk speaks to the n-th connection (from 0) until it returns.
	talk func(ctx context.Context, n int, c *talk)
	// rest answers what is no upgrade.
	rest http.HandlerFunc
	// upgrade, when set, answers upgrades itself.
	upgrade http.HandlerFunc
	// refuse, when it says why, lets the n-th dial fail.
	refuse func(n int) error

	mu       sync.Mutex // guards the fields below
	dials    []time.Time
	upgrades []time.Time
	asked    []string // REST paths
	serving  sync.WaitGroup
	closing  sync.Once
}

// A talk is one connection as the exchange sees it.
type talk struct {
	*websocket.Conn
	t    testing.TB
	ctx  context.Context
	mu   sync.Mutex
	got  []string // messages of the client
	when []time.Time
}

func (v *venue) Accept() (net.Conn, error) {
	select {
	case c := <-v.conns:
		return c, nil
	case <-v.closed:
		return nil, net.ErrClosed
	}
}

func (v *venue) Close() error   { v.closing.Do(func() { close(v.closed) }); return nil }
func (v *venue) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// start opens the venue; stop it with its stop.
func (v *venue) start(t testing.TB) {
	v.t, v.conns, v.closed = t, make(chan net.Conn), make(chan struct{})
	if v.rest == nil {
		v.rest = func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no REST today", 500) }
	}
	v.server = &http.Server{Handler: v}
	v.client = &http.Client{Transport: &http.Transport{DialContext: v.dial, DialTLSContext: v.dial}}
	v.serving.Go(func() { v.server.Serve(v) })
}

func (v *venue) stop() {
	v.client.CloseIdleConnections()
	v.server.Close()
	v.serving.Wait()
}

func (v *venue) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	v.mu.Lock()
	n := len(v.dials)
	v.dials = append(v.dials, time.Now())
	v.mu.Unlock()
	if v.refuse != nil {
		if err := v.refuse(n); err != nil {
			return nil, err
		}
	}
	ours, theirs := net.Pipe()
	select {
	case v.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (v *venue) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "" {
		v.mu.Lock()
		v.asked = append(v.asked, r.URL.RequestURI())
		v.mu.Unlock()
		w.Header().Set("Connection", "close")
		v.rest(w, r)
		return
	}
	v.mu.Lock()
	n := len(v.upgrades)
	v.upgrades = append(v.upgrades, time.Now())
	v.mu.Unlock()
	if v.upgrade != nil {
		v.upgrade(w, r)
		return
	}
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		v.t.Errorf("upgrade: %v", err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &talk{Conn: ws, t: v.t, ctx: ctx}
	var reading sync.WaitGroup
	reading.Go(func() { defer cancel(); c.listen() })
	v.talk(ctx, n, c)
	ws.CloseNow()
	reading.Wait()
}

func (c *talk) listen() {
	for {
		_, b, err := c.Read(context.Background())
		if err != nil {
			return
		}
		c.mu.Lock()
		c.got, c.when = append(c.got, string(b)), append(c.when, time.Now())
		c.mu.Unlock()
	}
}

// messages are what the client has sent.
func (c *talk) messages() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.got)
}

// say sends frames. The client may be gone.
func (c *talk) say(frames ...string) bool {
	for _, f := range frames {
		if c.Write(c.ctx, websocket.MessageText, []byte(f)) != nil {
			return false
		}
	}
	return true
}

// await waits for the n-th message of the client.
func (c *talk) await(n int) bool {
	for len(c.messages()) < n {
		if sleep(c.ctx, 10*time.Millisecond) != nil {
			return false
		}
	}
	return true
}

// stay waits for the client to go.
func (c *talk) stay() { <-c.ctx.Done() }

// catch is a sink that several goroutines may use.
type catch struct {
	mu   sync.Mutex
	all  []market.Tick
	fail error
}

func (s *catch) Deliver(_ context.Context, t []market.Tick) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, t...)
	return s.fail
}

// trades are the trade ids in the order of their delivery, late ones marked.
func (s *catch) trades() (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.all {
		if k.Kind == market.Trade {
			out = append(out, fmt.Sprint(k.TradeID, map[bool]string{true: "late"}[k.Late]))
		}
	}
	return out
}

// journal keeps log lines.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, string(b))
	return len(b), nil
}

func (j *journal) count(words string) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.lines {
		if strings.Contains(l, words) {
			n++
		}
	}
	return n
}

// A bed is a feed of one exchange on a venue, inside a synctest bubble.
type bed struct {
	*venue
	name   string
	assets []string
	seeder Seeder
	out    catch
	log    journal
	live   *Live
	ended  chan error
	cancel context.CancelFunc
}

// run starts the feed, lets play look at it, and takes everything down.
func (b *bed) run(t *testing.T, play func()) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b.start(t)
		cfg := DefaultLiveConfig()
		cfg.Assets = b.assets
		if cfg.Assets == nil {
			cfg.Assets, cfg.Quotes = []string{"BTC", "ETH"}, []string{"USD", "USDT"}
		}
		var err error
		b.live, err = NewLive(cfg, []string{b.name}, registry(t), &b.out, LiveOptions{
			Client: b.client, Seeder: b.seeder, Rand: func() float64 { return 0.5 },
			Log: slog.New(slog.NewTextHandler(&b.log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		b.cancel, b.ended = cancel, make(chan error, 1)
		go func() { b.ended <- b.live.Run(ctx) }()
		play()
		cancel()
		if err := <-b.ended; err != nil && !errors.Is(err, errSink) {
			t.Errorf("Run: %v", err)
		}
		b.stop()
		synctest.Wait()
	})
}

// A tally is how often the venue was dialled and connected to.
type tally struct{ dials, opened int }

func (v *venue) count() tally {
	v.mu.Lock()
	defer v.mu.Unlock()
	return tally{len(v.dials), len(v.upgrades)}
}

// gaps are the times between connections.
func (v *venue) gaps() (out []time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := 1; i < len(v.upgrades); i++ {
		out = append(out, v.upgrades[i].Sub(v.upgrades[i-1]))
	}
	return out
}

func (b *bed) status() FeedStatus { return b.live.Status()[0] }

// answers gives each path its answer by the first prefix that fits.
func answers(pairs ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(pairs); i += 2 {
			if strings.HasPrefix(r.URL.RequestURI(), pairs[i]) {
				fmt.Fprint(w, pairs[i+1])
				return
			}
		}
		http.Error(w, "no such path "+r.URL.Path, 404)
	}
}
