package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"cryptointel/conformance"
	"cryptointel/internal/auth"
	"cryptointel/protocol"
)

// handClock stands still until it is moved.
type handClock struct{ now atomic.Int64 }

func newHandClock(t time.Time) *handClock {
	c := &handClock{}
	c.now.Store(t.UnixNano())
	return c
}

func (c *handClock) Now() protocol.Time { return protocol.Time(c.now.Load()) }

// live is the running server as conformance.Server: real sockets, a clock that
// is moved by hand.
type live struct {
	t     *testing.T
	cfg   Config
	clock *handClock
	srv   *Server // nil before it is needed
	peers map[int]*peer
	step  protocol.Time // coarse, or fine once there is a max_rate

	opening   atomic.Int64 // the connection whose session is named next
	published uint64
	progress  chan struct{} // a peer has read something
}

// A peer reads its socket to the end and keeps what it got.
type peer struct {
	*socket
	ended chan struct{}

	mu       sync.Mutex // guards the fields below
	got      int64      // bytes of frames
	messages []string
	why      string
	err      error
}

func newLive(t *testing.T, kind string, loops int) *live {
	l := &live{t: t, cfg: testConfig(kind), clock: newHandClock(conformance.Start),
		peers: map[int]*peer{}, step: coarse, progress: make(chan struct{}, 1)}
	l.cfg.Loops, l.cfg.Clock, l.cfg.Epoch = loops, l.clock, conformance.Epoch
	l.cfg.Limits = DefaultConfig().Limits // the first frame tells them
	l.cfg.Sessions = func() string { return fmt.Sprint("s", l.opening.Load()) }
	return l
}

func (l *live) Set(key, value string) error {
	n, _ := strconv.Atoi(value)
	d, _ := time.ParseDuration(value)
	limits := &l.cfg.Limits.Session
	switch key {
	case "anonymous":
		l.cfg.Auth.AnonymousChannels = strings.Split(value, ",")
	case "log_entries":
		l.cfg.Broker.LogEntries = n
	case "limits.channels":
		limits.Channels = n
	case "limits.messages_per_minute":
		limits.MessagesPerMinute = n
	case "limits.message_burst":
		limits.MessageBurst = n
	case "limits.message_bytes":
		limits.MessageBytes = n
	case "limits.idle_timeout":
		limits.IdleTimeout = d
	case "limits.auth_timeout":
		limits.AuthTimeout = d
	default:
		return fmt.Errorf("no setting %q", key)
	}
	return nil
}

func (l *live) started() *Server {
	if l.srv == nil {
		l.srv, _ = begin(l.t, l.cfg)
	}
	return l.srv
}

func (l *live) Open(conn int) error {
	l.opening.Store(int64(conn))
	s, resp, err := dialer{}.dial(l.started().Addr())
	if err != nil {
		return err
	}
	if s == nil {
		return fmt.Errorf("upgrade refused: %s", resp.Status)
	}
	l.peers[conn] = pump(l.t, s, l.progress)
	return l.settle()
}

// pump reads a socket from now on.
func pump(t testing.TB, s *socket, progress chan<- struct{}) *peer {
	t.Helper()
	if err := s.conn.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	p := &peer{socket: s, ended: make(chan struct{})}
	go p.readAll(progress)
	t.Cleanup(func() {
		p.conn.Close()
		<-p.ended
	})
	return p
}

// take returns what was read since the last call.
func (p *peer) take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	got := p.messages
	p.messages = nil
	return got
}

// readAll is the peer's goroutine. What a frame brings is kept, and answered,
// before the frame is counted: who knows the count may look.
func (p *peer) readAll(progress chan<- struct{}) {
	defer close(p.ended)
	for err := error(nil); err == nil; {
		m, isText, size, failed := p.frame()
		err = failed
		p.mu.Lock()
		if isText {
			p.messages = append(p.messages, m)
		}
		p.got += size
		p.why, p.err = p.closed, err
		p.mu.Unlock()
		select {
		case progress <- struct{}{}:
		default:
		}
	}
}

// Send is nothing once the server has closed: there is nobody to say it to.
func (l *live) Send(conn int, message string) error {
	p := l.peers[conn]
	if l.Closed(conn) != "" {
		return nil
	}
	if strings.Contains(message, "max_rate") {
		l.step = fine
	}
	if err := p.write(ws.OpText, []byte(message)); err != nil {
		return err
	}
	return l.settle()
}

func (l *live) Leave(conn, code int) error {
	if err := l.peers[conn].write(ws.OpClose, []byte{byte(code >> 8), byte(code)}); err != nil {
		return err
	}
	return l.settle()
}

func (l *live) Publish(message string) error {
	var m struct {
		Type, Channel string
		Data          json.RawMessage
	}
	if err := json.Unmarshal([]byte(message), &m); err != nil {
		return err
	}
	l.started()
	l.published++
	p := &protocol.Publication{Channel: m.Channel, Type: m.Type, Data: m.Data}
	publish := l.publishState
	if m.Type == protocol.TypeSignal {
		publish = l.publishEntry
	}
	if err := publish(p); err != nil {
		return err
	}
	return l.settle()
}

func (l *live) publishState(p *protocol.Publication) error {
	var price struct{ Price float64 }
	if err := json.Unmarshal(p.Data, &price); err != nil {
		return err
	}
	p.Price = price.Price
	return l.srv.broker.Publish(p)
}

func (l *live) publishEntry(p *protocol.Publication) error {
	s, refused := protocol.ParseSignal(p.Data)
	if refused != nil {
		return refused
	}
	s.High = s.Confidence >= 0.8
	p.Signal = s
	if p.Channel == "" {
		p.Channel = protocol.LogChannel
	}
	_, err := l.srv.broker.Append(l.t.Context(), "transcript", p, nil)
	return err
}

// The points at which the server may have something to do: deadlines are
// looked at once a second, and the shortest period of max_rate divides all
// others. A clock that stops at each of them stops at each deadline.
const (
	coarse = protocol.Second
	fine   = 50 * protocol.Millisecond
)

func (l *live) Advance(d time.Duration) error {
	l.started()
	for now, end := l.clock.Now(), l.clock.Now()+protocol.Time(d); now < end; {
		now = min(now-now%l.step+l.step, end)
		l.clock.now.Store(int64(now))
		l.srv.loops.Wake()
		if err := l.settle(); err != nil {
			return err
		}
	}
	return nil
}

func (l *live) Token(claims string) (string, error) {
	var m struct {
		Sub string
		Ch  []string
		Flt json.RawMessage
		TTL string
	}
	if err := json.Unmarshal([]byte(claims), &m); err != nil {
		return "", err
	}
	ttl, err := time.ParseDuration(m.TTL)
	if err != nil {
		return "", err
	}
	r := auth.TokenRequest{Subject: m.Sub, Channels: m.Ch, TTL: ttl}
	if m.Flt != nil {
		f, refused := protocol.ParseFilter(m.Flt)
		if refused != nil {
			return "", refused
		}
		r.Filter = f
	}
	return auth.Sign([]byte(testSecret), r, time.Unix(0, int64(l.clock.Now())))
}

func (l *live) Received(conn int) []string { return l.peers[conn].take() }

func (l *live) Closed(conn int) string {
	p := l.peers[conn]
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.why
}

// settle waits until the server has done all it will do at this moment: it has
// read what was sent, shown what was published and judged the tokens, and the
// peers have all it has written.
//
// A loop answers a question in the middle of its turn, so one look is not
// enough. What it read before the first look may bring a token to be verified
// after it; the second look sees that until the verdict is on its way to the
// loop; and by the third look the verdict has come out or waits to be written.
// The third also is in a turn that began after the second, so the clock that
// was set before has been seen, and what it made due.
func (l *live) settle() error {
	ctx, cancel := context.WithTimeout(l.t.Context(), patience)
	defer cancel()
	for calm := 0; calm < 3; {
		is, err := l.look(ctx)
		if err != nil {
			return fmt.Errorf("the peers say %+v: %w", l.want(), err)
		}
		calm++
		if is != l.want() || l.srv.judge.pending() > 0 {
			calm = 0
			if err := l.await(ctx, is); err != nil {
				return err
			}
		}
	}
	return nil
}

// A balance is what has gone through the server.
type balance struct {
	opened, in, out, published uint64
	waiting                    int // frames not written, and sockets not ready for more
}

// look is the balance as the loops see it.
func (l *live) look(ctx context.Context) (b balance, err error) {
	loops, err := l.srv.loops.Stats(ctx)
	for _, s := range loops {
		b.opened += s.Shard.Opened
		b.in += s.BytesIn
		b.out += s.BytesOut
		b.published += s.Publications
		b.waiting += s.Shard.BacklogFrames + s.Shard.Slow
	}
	return b, err
}

// want is the balance as the peers see it.
func (l *live) want() balance {
	b := balance{opened: uint64(len(l.peers)), published: l.published * uint64(l.srv.loops.Loops())}
	for _, p := range l.peers {
		p.mu.Lock()
		b.out += uint64(p.got)
		p.mu.Unlock()
		b.in += uint64(p.sent.Load())
	}
	return b
}

// await waits for a peer that has not read what was written; everything else
// that is missing is on its way through the server, and asking again is
// waiting for it.
func (l *live) await(ctx context.Context, is balance) error {
	if err := l.broken(); err != nil {
		return err
	}
	if is.out == l.want().out {
		return nil
	}
	select {
	case <-l.progress:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the server says %+v, the peers %+v: %w", is, l.want(), ctx.Err())
	}
}

func (l *live) broken() error {
	for conn, p := range l.peers {
		p.mu.Lock()
		err := p.err
		p.mu.Unlock()
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("connection %d: %w", conn, err)
		}
	}
	return nil
}
