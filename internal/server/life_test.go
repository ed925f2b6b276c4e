package server

import (
	"encoding/json"
	"math"
	"net"
	"net/http"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"go.uber.org/goleak"

	"cryptointel/internal/auth"
	"cryptointel/protocol"
)

// TestStartStop runs a whole server again and again, with everything that can
// be in it: its goroutines and descriptors come back.
func TestStartStop(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			others := goleak.IgnoreCurrent()
			life(t, kind) // opens what is open once for the whole process
			goleak.VerifyNone(t, others)
			before := descriptors(t)
			for range 5 {
				life(t, kind)
			}
			goleak.VerifyNone(t, others)
			cameBack(t, before)
		})
	}
}

// life is one server from start to stop, with connections that are open to
// the end.
func life(t *testing.T, kind string) {
	cfg := testConfig(kind)
	cfg.Loops, cfg.AdminListen = 2, "127.0.0.1:0"
	cfg.Feeds, cfg.TestChannels = []string{FeedDemo}, true
	s, stop := begin(t, cfg)
	token := signed(t, auth.TokenRequest{Subject: "user", Channels: []string{"*"}, Publish: []string{"*"}})
	var open []*socket
	for range 3 {
		c := connect(t, s)
		c.subscribe(t, `"price:*"`)
		c.send(t, `{"type":"auth","id":"auth","token":%q}`, token)
		c.until(t, func(m said) bool { return string(m.ID) == `"auth"` })
		open = append(open, c)
	}
	for _, url := range []string{"http://" + s.AdminAddr() + "/metrics", "http://" + s.Addr() + "/ws/stats"} {
		if code, _, body := call(t, "GET", url, "", ""); code != http.StatusOK {
			t.Errorf("GET %s: %d %s", url, code, body)
		}
	}
	stop()
	for _, c := range open {
		c.conn.Close()
	}
}

// descriptors is how many files and sockets this process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// cameBack checks that no more descriptors are open than before. Of another
// test's, the garbage collector may have closed one meanwhile.
func cameBack(t *testing.T, before int) {
	t.Helper()
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors are open, before it were %d", after, before)
	}
}

// TestDrain stops a server with connections: each is told when to reconnect,
// nobody new is let in, and who has not left by its time is closed.
func TestDrain(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(kind)
			clock := newHandClock(time.Now())
			cfg.Clock, cfg.DrainTime = clock, 30*time.Second
			s, stop := begin(t, cfg)
			stays, follows, leaves := connect(t, s), connect(t, s), connect(t, s)
			follows.subscribe(t, `"price:bitcoin"`)
			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				stop()
			}()
			for _, c := range []*socket{stays, follows, leaves} {
				told := c.next(t)
				if !strings.HasPrefix(told.text, `{"type":"system_status","data":{"status":"draining","reconnect":{"after_ms":`) {
					t.Errorf("got %s, want to be told about the drain", told.text)
				}
			}
			turnedAway(t, s)
			if err := leaves.write(ws.OpClose, []byte{1000 >> 8, 1000 & 255}); err != nil {
				t.Error(err)
			}
			if _, closed := leaves.end(t); closed != "1000" {
				t.Errorf("closed with %s, want 1000 as the client said", closed)
			}
			clock.now.Add(int64(cfg.DrainTime))
			s.loops.Wake()
			for _, c := range []*socket{stays, follows} {
				if last, closed := c.end(t); closed != "1012 DRAINING" || last.Error.Code != string(protocol.Draining) {
					t.Errorf("closed with %s after %s, want 1012 DRAINING after its error", closed, last.text)
				}
			}
			<-stopped
			if c, _, err := (dialer{}).dial(s.Addr()); err == nil {
				t.Errorf("the server still answers: %v", c)
			}
		})
	}
}

// turnedAway checks what a draining server says to who comes now.
func turnedAway(t *testing.T, s *Server) {
	t.Helper()
	if code, _, body := call(t, "GET", "http://"+s.Addr()+"/readyz", "", ""); code != http.StatusServiceUnavailable {
		t.Errorf("GET /readyz: %d %s, want 503", code, body)
	}
	c, resp, err := dialer{}.dial(s.Addr())
	if err != nil || c != nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("upgrade: %v, %v, want 503 with Retry-After", resp, err)
	}
}

// TestStats compares what the server says about itself with what its clients
// have done.
func TestStats(t *testing.T) {
	t.Parallel()
	cfg := testConfig(kinds[0])
	cfg.Loops = 2
	s, _ := begin(t, cfg)
	first, second := connect(t, s), connect(t, s)
	first.subscribe(t, `"price:bitcoin","price:ethereum","test:x"`)
	wantAuth(t, authenticate(t, second, signed(t, auth.TokenRequest{Subject: "u1"}), ""))
	second.send(t, `nonsense`)
	second.next(t)
	if err := s.broker.Publish(&protocol.Publication{Channel: "test:x", Type: protocol.TypeMarket, Data: []byte(`{}`)}); err != nil {
		t.Fatal(err)
	}
	first.next(t)
	code, _, body := call(t, "GET", "http://"+s.Addr()+"/ws/stats", "", "")
	var got stats
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != http.StatusOK {
		t.Fatalf("GET /ws/stats: %d, %v, %s", code, err, body)
	}
	want := stats{
		Version: version(), Connections: 2, Authenticated: 1, Subscriptions: 3, Opened: 2,
		MessagesIn: 3, Deliveries: 1, BytesIn: got.BytesIn, BytesOut: got.BytesOut,
		Errors: map[string]uint64{"INVALID_MESSAGE": 1}, Closes: map[string]uint64{},
		Epoch: s.broker.Epoch(), Oldest: 1, TicksDropped: map[string]uint64{},
		Delivery: got.Delivery, Feeds: []feedStats{},
		CPUSeconds: got.CPUSeconds, MemoryBytes: got.MemoryBytes, Goroutines: got.Goroutines,
	}
	var delivered uint64
	for _, b := range got.Delivery {
		delivered += b.Count
	}
	if delivered != 1 || got.CPUSeconds == 0 || got.MemoryBytes == 0 || got.Goroutines == 0 {
		t.Errorf("GET /ws/stats: %d deliveries have a latency, want 1; process %+v", delivered, got)
	}
	if !reflect.DeepEqual(got, want) || got.BytesIn == 0 || got.BytesOut == 0 {
		t.Errorf("GET /ws/stats:\ngot  %+v\nwant %+v", got, want)
	}
}

func TestTakenPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tt := range []struct {
		name string
		set  func(*Config)
		want string
	}{
		{"public", func(c *Config) { c.Listen = taken.Addr().String() }, "public listener: listen tcp " + taken.Addr().String()},
		{"admin", func(c *Config) { c.AdminListen = taken.Addr().String() }, "admin listener: listen tcp " + taken.Addr().String()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := testConfig(kinds[0])
			tt.set(&cfg)
			others, before := goleak.IgnoreCurrent(), descriptors(t)
			s, err := New(cfg, quiet)
			if err == nil {
				s.Close()
				t.Fatal("New: no error")
			}
			if !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("New: %v, want %s…", err, tt.want)
			}
			goleak.VerifyNone(t, others)
			cameBack(t, before)
		})
	}
}

// TestBadConfig shows that an error names the key, and what is wrong with it.
func TestBadConfig(t *testing.T) {
	for _, tt := range []struct {
		want string
		set  func(*Config)
	}{
		{"listen: ", func(c *Config) { c.Listen = "nowhere" }},
		{"admin-listen: ", func(c *Config) { c.AdminListen = "8080" }},
		{`feeds: no exchange "krakn"; did you mean kraken?`, func(c *Config) { c.Feeds = []string{"krakn"} }},
		{"listen: 0.0.0.0:0 can be reached from other machines", func(c *Config) { c.Listen = "0.0.0.0:0" }},
		{"eventloop is epoll, which cannot end TLS", func(c *Config) { c.TLS.Cert, c.TLS.Key, c.EventLoop = "x.pem", "y.pem", "epoll" }},
		{"feeds: demo is a simulation", func(c *Config) { c.Feeds = []string{FeedDemo, "kraken"} }},
		{"feeds: with nats-url one node makes the prices", func(c *Config) {
			c.NATS.URLs, c.Feeds = []string{"nats://127.0.0.1:4222"}, []string{FeedAuto}
		}},
		{"admin-listen is 127.0.0.1:8080, which listen has", func(c *Config) { c.Listen, c.AdminListen = "127.0.0.1:8080", "127.0.0.1:8080" }},
		{"admin-listen: ", func(c *Config) { c.AdminListen = "0.0.0.0:9090" }},
		{"replay-speed is -1", func(c *Config) { c.ReplaySpeed = -1 }},
		{"replay-speed is NaN", func(c *Config) { c.ReplaySpeed = math.NaN() }},
		{"replay-loop ", func(c *Config) { c.ReplayLoop, c.ReplaySpeed = true, 0 }},
		{"replay: open nothing.jsonl.gz", func(c *Config) { c.Replay = []string{"nothing.jsonl.gz"} }},
		{"loops is 300", func(c *Config) { c.Loops = 300 }},
		{`kind is "kqueue"`, func(c *Config) { c.EventLoop = "kqueue" }},
		{"status-every is -1s", func(c *Config) { c.StatusEvery = -time.Second }},
		{"drain-time is -1s", func(c *Config) { c.DrainTime = -time.Second }},
		{"limits.channels is -1", func(c *Config) { c.Limits.Session.Channels = -1 }},
		{"limits.idle_timeout is -1", func(c *Config) { c.Limits.Session.IdleTimeout = -1 }},
		{"limits.connections_per_ip is -1", func(c *Config) { c.Limits.Door.ConnectionsPerIP = -1 }},
		{"accept_rate is -1", func(c *Config) { c.Gateway.AcceptRate = -1 }},
		{`origins has "example.com"`, func(c *Config) { c.Gateway.Origins = []string{"example.com"} }},
		{"auth.leeway is 1m0s", func(c *Config) { c.Auth.Leeway = time.Minute }},
		{"the JWT secret has 5 bytes", func(c *Config) { c.Auth.Secret = "short" }},
		{"auth.anonymous_channels: ", func(c *Config) { c.Auth.AnonymousChannels = []string{"a b"} }},
		{"broker.log_entries is -1", func(c *Config) { c.Broker.LogEntries = -1 }},
		{"market.stale_after is -1s", func(c *Config) { c.Market.StaleAfter = -time.Second }},
		{"demo.rate is 0", func(c *Config) { c.Feeds, c.Demo.Rate = []string{FeedDemo}, 0 }},
	} {
		t.Run(tt.want, func(t *testing.T) {
			cfg := testConfig("auto")
			tt.set(&cfg)
			s, err := New(cfg, quiet)
			if err == nil {
				s.Close()
				t.Fatal("New: no error")
			}
			if msg := err.Error(); !strings.Contains(msg, tt.want) || strings.Contains(msg, "short") {
				t.Errorf("New: %q, want it to say %q", msg, tt.want)
			}
		})
	}
}

// TestCloseWithoutRun frees what New has opened.
func TestCloseWithoutRun(t *testing.T) {
	others, before := goleak.IgnoreCurrent(), descriptors(t)
	s, err := New(testConfig("auto"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	s.Close()
	goleak.VerifyNone(t, others)
	cameBack(t, before)
}
