package server

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cryptointel/internal/frame"
	"cryptointel/protocol"
)

// rfcPatience is how long a test waits for what must happen before it fails.
// No test that passes waits for it.
const rfcPatience = 60 * time.Second

// rfcClock stands still until it is moved by hand, so that nothing in a test
// happens because a deadline came.
type rfcClock struct{ now atomic.Int64 }

func (c *rfcClock) Now() protocol.Time { return protocol.Time(c.now.Load()) }

// rfcServer is a running server with one loop, so that what the loop has read
// can be counted.
type rfcServer struct {
	*Server
	clock *rfcClock
}

// advance moves the clock and makes the loop look at it.
func (s *rfcServer) advance(d time.Duration) {
	s.clock.now.Add(int64(d))
	s.loops.Wake()
}

// rfcStart runs a server on a free port of the loopback address until the test
// has ended.
func rfcStart(t testing.TB, kind string, change func(*Config)) *rfcServer {
	t.Helper()
	clock := &rfcClock{}
	clock.now.Store(time.Now().Truncate(time.Second).UnixNano())
	cfg := DefaultConfig()
	cfg.Listen, cfg.AdminListen = "127.0.0.1:0", ""
	cfg.EventLoop, cfg.Loops, cfg.Clock = kind, 1, clock
	cfg.TestChannels, cfg.DrainTime = false, 0
	cfg.Feeds, cfg.DataDir = nil, ""
	// All clients of a test have one address.
	cfg.Limits.Door.ConnectsPerMinutePerIP, cfg.Limits.Door.ConnectionsPerIP = 0, 0
	cfg.Gateway.AcceptRate = 0 // it would never refill
	if change != nil {
		change(&cfg)
	}
	srv, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the server ended with: %v", err)
		}
	})
	return &rfcServer{srv, clock}
}

func rfcEcho(c *Config) { c.Echo = true }

// bytesIn is how many bytes the loop has read from upgraded connections.
func (s *rfcServer) bytesIn(t testing.TB) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), rfcPatience)
	defer cancel()
	all, err := s.loops.Stats(ctx)
	if err != nil {
		t.Fatalf("ask the loop: %v", err)
	}
	return all[0].BytesIn
}

// waitIn waits until the loop has read so many bytes since it began. Each
// question is a turn of the loop, so this does not spin without progress.
func (s *rfcServer) waitIn(t testing.TB, want uint64) {
	t.Helper()
	for end := time.Now().Add(rfcPatience); s.bytesIn(t) < want; {
		if time.Now().After(end) {
			t.Fatalf("the server has read %d bytes, want %d", s.bytesIn(t), want)
		}
	}
}

// rfcFrame is one frame from the server. The payload of a close frame is only
// its code: the reason is for people.
type rfcFrame struct {
	Op      frame.Opcode
	Payload string
}

func rfcClose(code int) rfcFrame { return rfcFrame{frame.Close, fmt.Sprint(code)} }

func (f rfcFrame) String() string {
	if len(f.Payload) > 64 {
		return fmt.Sprintf("{%#x %q... of %d}", byte(f.Op), f.Payload[:64], len(f.Payload))
	}
	return fmt.Sprintf("{%#x %q}", byte(f.Op), f.Payload)
}

// rfcConn is a client that can send anything and checks what it gets.
type rfcConn struct {
	net.Conn
	r      *bufio.Reader
	closed bool // a close frame was sent
}

const rfcRequest = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// rfcTCP connects without a word.
func rfcTCP(t testing.TB, addr string) *rfcConn {
	t.Helper()
	d := net.Dialer{Timeout: rfcPatience}
	c, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(rfcPatience)); err != nil {
		t.Fatal(err)
	}
	return &rfcConn{Conn: c, r: bufio.NewReaderSize(c, 32<<10)}
}

// rfcDial connects and upgrades.
func rfcDial(t testing.TB, addr string) *rfcConn {
	t.Helper()
	c := rfcTCP(t, addr)
	c.send(t, []byte(rfcRequest))
	c.upgraded(t)
	return c
}

// upgraded reads the answer to the handshake.
func (c *rfcConn) upgraded(t testing.TB) {
	t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatalf("read the handshake's answer: %v", err)
	}
	if got := resp.Header.Get("Sec-WebSocket-Accept"); resp.StatusCode != 101 || got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("handshake: got %s, accept %q", resp.Status, got)
	}
}

func (c *rfcConn) send(t testing.TB, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatalf("write %d bytes: %v", len(b), err)
	}
}

// next reads one frame, which must be what a server may send: whole, unmasked,
// without reserved bits, its length in the shortest form.
func (c *rfcConn) next() (f rfcFrame, err error) {
	var head [2]byte
	if _, err := io.ReadFull(c.r, head[:1]); err != nil {
		return f, err
	}
	if _, err := io.ReadFull(c.r, head[1:]); err != nil {
		return f, rfcNoEOF(err)
	}
	f.Op = frame.Opcode(head[0] & 0x0f)
	if head[0]&0xf0 != 0x80 || head[1]&0x80 != 0 {
		return f, fmt.Errorf("a frame begins with % x", head)
	}
	n, err := c.length(int(head[1]))
	if err != nil {
		return f, err
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(c.r, payload); err != nil {
		return f, rfcNoEOF(err)
	}
	f.Payload = string(payload)
	if f.Op == frame.Close && n > 0 {
		f.Payload = fmt.Sprint(binary.BigEndian.Uint16(payload))
	}
	return f, nil
}

func (c *rfcConn) length(short int) (int, error) {
	size := map[int]int{126: 2, 127: 8}[short]
	if size == 0 {
		return short, nil
	}
	var ext [8]byte
	if _, err := io.ReadFull(c.r, ext[8-size:]); err != nil {
		return 0, rfcNoEOF(err)
	}
	n := int(binary.BigEndian.Uint64(ext[:]))
	if n < 126 || size == 8 && n <= 0xffff {
		return 0, fmt.Errorf("length %d in %d bytes", n, size)
	}
	return n, nil
}

func rfcNoEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// rest reads all frames up to the end of the connection, which must be in
// order: no reset. A close frame is answered as RFC 6455 wants.
func (c *rfcConn) rest() (got []rfcFrame, err error) {
	for {
		f, err := c.next()
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		got = append(got, f)
		if f.Op == frame.Close && !c.closed {
			c.closed = true
			if _, err := c.Write(rfcBytes{}.say(frame.Close, "\x03\xe8")); err != nil {
				return got, fmt.Errorf("answer the close: %w", err)
			}
		}
	}
}

// rfcBytes is what a client sends.
type rfcBytes []byte

var rfcKey = [4]byte{0x37, 0xfa, 0x21, 0x3d}

// say adds a whole frame.
func (b rfcBytes) say(op frame.Opcode, payload string) rfcBytes {
	return frame.AppendMasked(b, op, true, rfcKey, []byte(payload))
}

// part adds a frame that another must follow.
func (b rfcBytes) part(op frame.Opcode, payload string) rfcBytes {
	return frame.AppendMasked(b, op, false, rfcKey, []byte(payload))
}

// first adds a masked frame with any first byte.
func (b rfcBytes) first(first byte, payload string) rfcBytes {
	at := len(b)
	b = b.say(frame.Text, payload)
	b[at] = first
	return b
}

// raw adds bytes as they are.
func (b rfcBytes) raw(s string) rfcBytes { return append(b, s...) }

// text adds whole text messages.
func (b rfcBytes) text(messages ...string) rfcBytes {
	for _, m := range messages {
		b = b.say(frame.Text, m)
	}
	return b
}

func rfcTexts(messages ...string) (want []rfcFrame) {
	for _, m := range messages {
		want = append(want, rfcFrame{frame.Text, m})
	}
	return want
}

func rfcRepeat(s string, n int) string { return strings.Repeat(s, n/len(s)+1)[:n] }
