package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"cryptointel/internal/auth"
	"cryptointel/internal/eventloop"
	"cryptointel/internal/gateway"
	"cryptointel/protocol"
)

// patience is how long a test waits for what must come before it fails. No
// test that passes waits for it.
const patience = 60 * time.Second

const testSecret = "a secret of at least thirty-two bytes"

var quiet = slog.New(slog.DiscardHandler)

// kinds are the connection layers that every test of behaviour runs on.
var kinds = []string{eventloop.KindEpoll, eventloop.KindPortable}

// testConfig is a server on a free port that says nothing of its own accord
// and counts no addresses: all clients of a test have the same.
func testConfig(kind string) Config {
	cfg := DefaultConfig()
	cfg.Listen, cfg.AdminListen = "127.0.0.1:0", ""
	cfg.EventLoop, cfg.Loops = kind, 1
	cfg.TestChannels, cfg.StatusEvery, cfg.DrainTime = false, 0, 0
	cfg.Feeds, cfg.DataDir = nil, ""
	cfg.Auth.Secret = testSecret
	cfg.Limits.Door = gateway.Limits{}
	return cfg
}

// begin runs a server until the test ends, or until stop, which waits for its
// end.
func begin(t testing.TB, cfg Config) (s *Server, stop func()) {
	t.Helper()
	return beginLogged(t, cfg, quiet)
}

func beginLogged(t testing.TB, cfg Config, log *slog.Logger) (s *Server, stop func()) {
	t.Helper()
	s, err := New(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Error("Run does not end")
		}
	})
	t.Cleanup(stop)
	healthy(t, s)
	return s, stop
}

// healthy waits until the server answers: from then on it hears what is
// published.
func healthy(t testing.TB, s *Server) {
	t.Helper()
	if code, _, body := call(t, "GET", "http://"+s.Addr()+"/healthz", "", ""); code != http.StatusOK {
		t.Fatalf("GET /healthz: %d %s", code, body)
	}
}

// call makes one HTTP request, with a token when there is one.
func call(t testing.TB, method, url, token, body string) (code int, header http.Header, answer string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := &http.Client{Timeout: patience}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	client.CloseIdleConnections()
	return resp.StatusCode, resp.Header, string(b)
}

// signed is a token for a subject, valid for an hour.
func signed(t testing.TB, r auth.TokenRequest) string {
	t.Helper()
	if r.TTL == 0 {
		r.TTL = time.Hour
	}
	token, err := auth.Sign([]byte(testSecret), r, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// publisher is a token that may publish everything.
func publisher(t testing.TB) string {
	return signed(t, auth.TokenRequest{Subject: "publisher", Publish: []string{"*"}})
}

// A socket is the far end of a WebSocket connection. It speaks in frames of
// another library than the server's, so that close codes and control frames
// can be seen.
type socket struct {
	conn net.Conn
	in   *bufio.Reader

	writing sync.Mutex   // one frame at a time
	sent    atomic.Int64 // bytes of frames
	closed  string       // the server's close frame: "4408 AUTH_TIMEOUT"
}

// A dialer is how a socket connects; its zero value will do.
type dialer struct {
	from   string // local address
	header http.Header
}

// dial upgrades a connection. What is not answered with 101 is returned.
func (d dialer) dial(addr string) (*socket, *http.Response, error) {
	var from net.Addr
	if d.from != "" {
		from = &net.TCPAddr{IP: net.ParseIP(d.from)}
	}
	conn, err := (&net.Dialer{LocalAddr: from, Timeout: patience}).Dial("tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	s := &socket{conn: conn, in: bufio.NewReader(conn)}
	resp, err := s.upgrade(addr, d.header)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		conn.Close()
		return nil, resp, err
	}
	return s, resp, nil
}

func (s *socket) upgrade(addr string, header http.Header) (*http.Response, error) {
	req, err := http.NewRequest("GET", "http://"+addr+"/ws", nil)
	if err != nil {
		return nil, err
	}
	if header != nil {
		req.Header = header.Clone()
	}
	for k, v := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-Websocket-Version": "13",
		"Sec-Websocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-Websocket-Protocol": protocol.Subprotocol,
	} {
		req.Header.Set(k, v)
	}
	if err := s.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if err := req.Write(s.conn); err != nil {
		return nil, err
	}
	return http.ReadResponse(s.in, req)
}

// connect is a socket that has had its first frame and closes with the test.
func connect(t testing.TB, s *Server) *socket {
	t.Helper()
	return connectWith(t, s, dialer{})
}

func connectWith(t testing.TB, s *Server, d dialer) *socket {
	t.Helper()
	c, resp, err := d.dial(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if c == nil {
		t.Fatalf("upgrade refused: %s", resp.Status)
	}
	t.Cleanup(func() { c.conn.Close() })
	if first := c.next(t); first.Type != protocol.TypeStatus {
		t.Fatalf("first frame is %s", first.text)
	}
	return c
}

// write sends one frame.
func (s *socket) write(op ws.OpCode, payload []byte) error {
	b, err := ws.CompileFrame(ws.MaskFrame(ws.NewFrame(op, true, payload)))
	if err != nil {
		return err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	s.sent.Add(int64(len(b)))
	_, err = s.conn.Write(b)
	return err
}

// frame reads one frame and answers it when it is a control frame. The error
// after the server's close frame is io.EOF; the server has then closed its
// side.
func (s *socket) frame() (message string, isText bool, size int64, err error) {
	h, err := ws.ReadHeader(s.in)
	if err == io.EOF && s.closed != "" {
		s.conn.Close()
		return "", false, 0, io.EOF
	}
	if err != nil {
		return "", false, 0, fmt.Errorf("the connection broke: %w", err)
	}
	if h.Masked || !h.Fin || h.Length > 1<<24 {
		return "", false, 0, fmt.Errorf("frame with the header %+v", h)
	}
	payload := make([]byte, h.Length)
	if _, err := io.ReadFull(s.in, payload); err != nil {
		return "", false, 0, fmt.Errorf("the connection broke: %w", err)
	}
	size = int64(ws.HeaderSize(h)) + h.Length
	if h.OpCode == ws.OpText {
		return string(payload), true, size, nil
	}
	return "", false, size, s.control(h.OpCode, payload)
}

func (s *socket) control(op ws.OpCode, payload []byte) error {
	switch op {
	case ws.OpPing:
		return s.write(ws.OpPong, payload)
	case ws.OpPong:
		return nil
	case ws.OpClose:
		if len(payload) < 2 {
			return fmt.Errorf("close frame %q", payload)
		}
		code, reason := ws.ParseCloseFrameData(payload)
		s.closed = strings.TrimSpace(fmt.Sprint(uint16(code), " ", reason))
		_ = s.write(ws.OpClose, payload[:2]) // the server may have gone
		return nil
	}
	return fmt.Errorf("frame of the kind %d", op)
}

// A said is what the tests look at in a message from the server.
type said struct {
	text string

	Type, Channel, For, Epoch, Reason string
	ID                                json.RawMessage
	Offset, Prev, From, Head          int64
	Snapshot                          bool
	Recovered                         *bool
	Channels                          []string
	At                                map[string]struct{ From int64 }
	Data                              json.RawMessage
	Errors                            []struct{ Channel, Code string }
	Error                             struct{ Code, Message string }
}

// send writes a text message.
func (s *socket) send(t testing.TB, format string, a ...any) {
	t.Helper()
	if err := s.write(ws.OpText, fmt.Appendf(nil, format, a...)); err != nil {
		t.Fatalf("send: %v", err)
	}
}

// next waits for the next message.
func (s *socket) next(t testing.TB) said {
	t.Helper()
	m, err := s.message()
	if err != nil {
		t.Fatalf("waiting for a message: %v, close %q", err, s.closed)
	}
	return m
}

func (s *socket) message() (m said, err error) {
	if err := s.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return m, err
	}
	for isText := false; !isText; {
		if m.text, isText, _, err = s.frame(); err != nil {
			return m, err
		}
	}
	return m, json.Unmarshal([]byte(m.text), &m)
}

// subscribe follows channels (JSON, what is inside the list) and returns the
// ack.
func (s *socket) subscribe(t testing.TB, channels string) said {
	t.Helper()
	s.send(t, `{"type":"subscribe","channels":[%s]}`, channels)
	ack := s.next(t)
	if ack.Type != "ack" || len(ack.Errors) > 0 {
		t.Fatalf("subscribe %s: got %s", channels, ack.text)
	}
	return ack
}

// until reads on to the first message of which ok is true.
func (s *socket) until(t testing.TB, ok func(said) bool) said {
	t.Helper()
	for {
		if m := s.next(t); ok(m) {
			return m
		}
	}
}

// end reads on until the server has closed, and returns its last message with
// the close code and reason.
func (s *socket) end(t testing.TB) (last said, closed string) {
	t.Helper()
	for {
		m, err := s.message()
		switch err {
		case nil:
			last = m
		case io.EOF:
			return last, s.closed
		default:
			t.Fatalf("waiting for the close: %v, after %s", err, last.text)
		}
	}
}
