package eventloop

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"cryptointel/internal/hub"
	"cryptointel/internal/session"
	"cryptointel/protocol"
)

// noAssets is a directory of nothing: test channels need none.
type noAssets struct{}

func (noAssets) Slug(string) (string, bool) { return "", false }

type wallClock struct{}

func (wallClock) Now() protocol.Time { return protocol.Time(time.Now().UnixNano()) }

// A node is a group with real shards behind a door that agrees to compression
// when the client offers it.
type node struct {
	*Group
	url string
}

func startNode(t *testing.T, kind string) node {
	t.Helper()
	ses := session.DefaultConfig()
	ses.Anonymous = append(ses.Anonymous, "test:*")
	g, err := New(config(kind, 2), Parts{
		Shard: func(int) Shard {
			cfg, d := hub.DefaultConfig(), new(Deflater)
			cfg.Session, cfg.Directory, cfg.Epoch = &ses, noAssets{}, "e1"
			cfg.Deflate, cfg.Inflate = d.Deflate, d.Inflate
			return hub.New(cfg, wallClock{}.Now())
		},
		Clock: wallClock{}, Handler: &fakeHandler{released: make(chan uint64, 100)}, Log: discard,
	})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		h := hub.Hello{Session: "s", Deflate: r.Header.Get("Sec-WebSocket-Extensions") != ""}
		head := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		if h.Deflate {
			head += "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
		}
		sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		io.WriteString(c, head+"Sec-WebSocket-Accept: "+base64.StdEncoding.EncodeToString(sum[:])+"\r\n\r\n")
		rest, _ := rw.Reader.Peek(rw.Reader.Buffered())
		if err := g.Adopt(c, append([]byte(nil), rest...), h); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(start(t, g))
	return node{g, srv.URL}
}

func (n node) dial(t *testing.T, mode websocket.CompressionMode) *websocket.Conn {
	t.Helper()
	c, _, err := websocket.Dial(t.Context(), n.url, &websocket.DialOptions{CompressionMode: mode, CompressionThreshold: 1})
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(1 << 20)
	t.Cleanup(func() { c.CloseNow() })
	return c
}

func say(t *testing.T, c *websocket.Conn, message string) {
	t.Helper()
	if err := c.Write(t.Context(), websocket.MessageText, []byte(message)); err != nil {
		t.Fatal(err)
	}
}

// hear reads up to the first message that has part in it.
func hear(t *testing.T, c *websocket.Conn, part string) string {
	t.Helper()
	for {
		_, b, err := c.Read(t.Context())
		if err != nil {
			t.Fatalf("waiting for %s: %v", part, err)
		}
		if strings.Contains(string(b), part) {
			return string(b)
		}
	}
}

// TestCompressed: coder/websocket reads what the loops compress, they read what
// it does, and one who negotiated nothing gets the same in plain.
func TestCompressed(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			if kind == KindEpoll && runtime.GOOS != "linux" {
				t.Skip("epoll needs Linux")
			}
			n := startNode(t, kind)
			clients := []*websocket.Conn{n.dial(t, websocket.CompressionDisabled)}
			for range 3 {
				clients = append(clients, n.dial(t, websocket.CompressionNoContextTakeover))
			}
			for _, c := range clients {
				say(t, c, `{"type":"subscribe","channels":["test:c"]}`)
				hear(t, c, `"ack"`)
			}
			data := prices(3000)
			for i := range 5 {
				now := wallClock{}.Now()
				n.Publish(&protocol.Publication{Channel: "test:c", Type: protocol.TypePrice, Offset: now.Micros() + int64(i), TS: now.Millis(), Data: data})
			}
			for i, c := range clients {
				for range 5 {
					if got := hear(t, c, `"price_update"`); !strings.Contains(got, string(data)) {
						t.Fatalf("client %d got %.200s", i, got)
					}
				}
			}
			n.counted(t)
		})
	}
}

// counted looks at the numbers of TestCompressed.
func (n node) counted(t *testing.T) {
	t.Helper()
	loops, err := n.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var sum hub.Stats
	for _, l := range loops {
		sum.Deflated += l.Shard.Deflated
		sum.Inflated += l.Shard.Inflated
		sum.Compressing += l.Shard.Compressing
		sum.Deliveries += l.Shard.Deliveries
		sum.DeflateIn += l.Shard.DeflateIn
		sum.DeflateOut += l.Shard.DeflateOut
		sum.Latency.Add(l.Shard.Latency)
	}
	observed := uint64(0)
	for _, c := range sum.Latency.Counts {
		observed += c
	}
	// Each loop compresses each publication once; three clients on two loops.
	if sum.Inflated != 3 || sum.Compressing != 3 || sum.Deliveries != 20 || observed != 20 ||
		sum.Deflated < 5 || sum.Deflated > 10 || sum.DeflateOut*3 > sum.DeflateIn {
		t.Errorf("%d latencies, %+v", observed, sum)
	}
	if q := sum.Latency.Quantile(0.5); q <= 0 || q > protocol.Time(patient) {
		t.Errorf("the median latency is %d ns", q)
	}
}

// TestBombs: a small frame that inflates to a megabyte ends the connection with
// 1009, and only that.
func TestBombs(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			if kind == KindEpoll && runtime.GOOS != "linux" {
				t.Skip("epoll needs Linux")
			}
			n := startNode(t, kind)
			good := n.dial(t, websocket.CompressionNoContextTakeover)
			for i := range 5 {
				bad := n.dial(t, websocket.CompressionNoContextTakeover)
				hear(t, bad, `"connected"`)
				say(t, bad, strings.Repeat(" ", 1<<20))
				hear(t, bad, "MESSAGE_TOO_LARGE")
				if _, _, err := bad.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
					t.Errorf("bomb %d: %v", i, err)
				}
			}
			say(t, good, fmt.Sprintf(`{"type":"ping","pad":"%s"}`, strings.Repeat("x", 10_000)))
			hear(t, good, `"pong"`)
		})
	}
}

// A tickingClock moves by a millisecond each time it is looked at.
type tickingClock struct{ now protocol.Time }

func (c *tickingClock) Now() protocol.Time {
	c.now += protocol.Millisecond
	return c.now
}

// A slowWriter is sockets of which only writing matters.
type slowWriter struct{ sockets }

func (slowWriter) write(_ hub.Slot, b []byte) (int, bool, error) { return len(b), false, nil }

// A timekeeper is a shard that always has something to write, and notes when it
// was told that it was written.
type timekeeper struct {
	Shard
	told []protocol.Time
}

func (s *timekeeper) Next(int) (hub.Slot, []byte, bool) { return 0, []byte("x"), true }

func (s *timekeeper) Wrote(_ hub.Slot, _ int, _ bool, now protocol.Time) {
	s.told = append(s.told, now)
}

// TestClockDuringSlice: what was written late in a slice is not said to have
// been written at its beginning, and the clock is not asked for each write.
func TestClockDuringSlice(t *testing.T) {
	shard, clock := &timekeeper{}, &tickingClock{}
	l := newLoop(0, config(KindPortable, 1), Parts{Shard: func(int) Shard { return shard }, Clock: clock, Log: discard})
	l.sock, l.now = slowWriter{}, clock.Now()
	l.write()
	for i, at := range shard.told {
		if want := protocol.Time(1+(i+1)/clockEvery) * protocol.Millisecond; at != want {
			t.Fatalf("write %d at %d, want %d", i, at, want)
		}
	}
	if len(shard.told) != l.slice {
		t.Errorf("%d writes, want %d", len(shard.told), l.slice)
	}
}
