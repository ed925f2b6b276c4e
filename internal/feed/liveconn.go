package feed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"cryptointel/protocol"
)

const (
	// handshakeTimeout bounds connecting, TLS and upgrade together.
	handshakeTimeout = 15 * time.Second
	// sendTimeout bounds one message to the exchange.
	sendTimeout = 10 * time.Second
	// frameQueue is how many frames may wait; then the socket does.
	frameQueue = 1024
	sendQueue  = 64
)

// A frame is what came, and when on both clocks.
type arrived struct {
	data []byte
	at   protocol.Time // the feed's clock
	got  time.Time     // for deadlines
}

// A link is one connection to an exchange: a goroutine reads it, one writes.
// The slot that opened it owns it.
type link struct {
	ws     *websocket.Conn
	frames chan arrived // closed when the connection is over
	sends  chan []byte
	end    error // why it is over; valid once frames is closed
	opened time.Time
	gone   chan struct{} // closed when nobody wants its frames any more
	cancel context.CancelFunc
	wg     sync.WaitGroup

	sign       atomic.Int64 // UnixNano of the last control frame
	subscribed atomic.Int64 // UnixNano of when all subscriptions were sent; 0 before
}

// dial connects and begins to send the first messages. It waits for the
// exchange's turn first. The link ends with ctx.
func (f *liveFeed) dial(ctx context.Context, first [][]byte) (*link, error) {
	if err := f.connects.wait(ctx); err != nil {
		return nil, err
	}
	l := &link{
		frames: make(chan arrived, frameQueue), sends: make(chan []byte, sendQueue),
		gone: make(chan struct{}),
	}
	touch := func() { l.sign.Store(time.Now().UnixNano()) }
	handshake, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	ws, answer, err := websocket.Dial(handshake, f.url, &websocket.DialOptions{
		HTTPClient:     f.client,
		HTTPHeader:     http.Header{"User-Agent": {userAgent}},
		OnPingReceived: func(context.Context, []byte) bool { touch(); return true },
		OnPongReceived: func(context.Context, []byte) { touch() },
	})
	if err != nil {
		return nil, refusedUpgrade(answer, err)
	}
	ws.SetReadLimit(f.rules.FrameBytes)
	l.ws, l.opened = ws, time.Now()
	ctx, l.cancel = context.WithCancel(ctx)
	l.wg.Go(func() { l.read(ctx, f) })
	l.wg.Go(func() { l.write(ctx, f, first) })
	return l, nil
}

// refusedUpgrade says what an exchange answered instead of an upgrade.
func refusedUpgrade(answer *http.Response, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %v", handshakeTimeout)
	}
	if answer == nil || answer.StatusCode == http.StatusSwitchingProtocols {
		// Without what the layers in between are called.
		if u := (*url.Error)(nil); errors.As(err, &u) {
			return u.Err
		}
		return err
	}
	if limit := limitedBy(answer); limit != nil {
		return limit
	}
	if answer.StatusCode == http.StatusUnavailableForLegalReasons || answer.StatusCode == http.StatusForbidden {
		return fmt.Errorf("HTTP %s: the exchange does not serve this address or region", answer.Status)
	}
	return fmt.Errorf("HTTP %s: no upgrade to WebSocket", answer.Status)
}

// read hands on what comes until the connection is over.
func (l *link) read(ctx context.Context, f *liveFeed) {
	defer close(l.frames)
	for {
		_, data, err := l.ws.Read(ctx)
		if err != nil {
			l.end = readError(err, f.rules.FrameBytes)
			return
		}
		select {
		case l.frames <- arrived{data, f.clock.Now(), time.Now()}:
		case <-l.gone:
		case <-ctx.Done():
			l.end = ctx.Err()
			return
		}
	}
}

func readError(err error, limit int64) error {
	if errors.Is(err, websocket.ErrMessageTooBig) {
		return fmt.Errorf("a frame of more than %d bytes, which is more than this feed asks for", limit)
	}
	if c := (websocket.CloseError{}); errors.As(err, &c) {
		return fmt.Errorf("the exchange closed the connection: %d %.100q", c.Code, c.Reason)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the exchange cut the connection")
	}
	return err
}

// write sends the subscriptions and then what else there is to send, paced.
func (l *link) write(ctx context.Context, f *liveFeed, first [][]byte) {
	for _, message := range first {
		if !l.send(ctx, f, message) {
			return
		}
	}
	l.subscribed.Store(time.Now().UnixNano())
	for {
		select {
		case message := <-l.sends:
			if message == nil {
				l.wg.Go(func() { l.ping(ctx, f) })
			} else if !l.send(ctx, f, message) {
				return
			}
		case <-l.gone:
			return
		case <-ctx.Done():
			return
		}
	}
}

// send writes one message. Failing ends the connection, which the reader sees.
func (l *link) send(ctx context.Context, f *liveFeed, message []byte) bool {
	if f.messages.wait(ctx) != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	if err := l.ws.Write(ctx, websocket.MessageText, message); err != nil {
		l.ws.CloseNow()
		return false
	}
	return true
}

// ping asks for a pong. That none comes shows as silence.
func (l *link) ping(ctx context.Context, f *liveFeed) {
	if f.messages.wait(ctx) != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, pongWithin)
	defer cancel()
	l.ws.Ping(ctx)
}

// post queues a message, nil for a ping; false when too many wait.
func (l *link) post(message []byte) bool {
	select {
	case l.sends <- message:
		return true
	default:
		return false
	}
}

// lastSign is when the connection last showed life by control frames.
func (l *link) lastSign() time.Time {
	if n := l.sign.Load(); n != 0 {
		return time.Unix(0, n)
	}
	return l.opened
}

// since is how long ago all subscriptions were sent; negative before.
func (l *link) since(now time.Time) time.Duration {
	n := l.subscribed.Load()
	if n == 0 {
		return -1
	}
	return now.Sub(time.Unix(0, n))
}

// drop ends the connection at once and waits for its goroutines.
func (l *link) drop() {
	l.cancel()
	l.ws.CloseNow()
	l.wg.Wait()
}

// goodbye is how long an exchange has to answer our close: one that says
// nothing more does not answer that either.
const goodbye = 2 * time.Second

// leave ends the connection as the protocol wants it, and waits.
func (l *link) leave() {
	close(l.gone)
	late := time.AfterFunc(goodbye, l.cancel)
	defer late.Stop()
	l.ws.Close(websocket.StatusNormalClosure, "")
	l.drop()
}
