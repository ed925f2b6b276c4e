package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"
)

// A fakeServer speaks just enough of the protocol: first frame, auth,
// subscribe, ping, publish. Its faults are what the generator has to notice.
type fakeServer struct {
	*httptest.Server
	compress bool                                                 // it agrees to permessage-deflate
	refuse   func(n int) bool                                     // connection n from 0 is answered with 503
	deny     string                                               // error code that answers every subscribe
	deliver  func(n int, history []string, frame string) []string // what connection n gets for a publication
	publish  func(n int, w http.ResponseWriter) (refused bool)    // the n-th publication
	ws       sync.WaitGroup                                       // handlers of hijacked connections

	mu        sync.Mutex // guards the fields below
	clients   []*fakeClient
	connects  int
	published int
	freed     int
	tokens    []string
	bearers   map[string]int
	pings     int
	pinged    chan struct{} // one for each ping, if not nil
}

type fakeClient struct {
	n       int
	subs    []string
	out     chan string
	history []string // frames it should have had
}

func startFake(t *testing.T, f *fakeServer) *fakeServer {
	t.Helper()
	f.bearers = map[string]int{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ws", f.serveWS)
	mux.HandleFunc("POST /api/v1/publish", f.servePublish)
	mux.HandleFunc("POST /debug/free", func(http.ResponseWriter, *http.Request) {
		f.mu.Lock()
		f.freed++
		f.mu.Unlock()
	})
	f.Server = httptest.NewServer(mux)
	t.Cleanup(func() {
		f.Close()
		f.ws.Wait()
	})
	return f
}

func (f *fakeServer) target() Target {
	t := DefaultTarget()
	t.URL = "ws" + strings.TrimPrefix(f.URL, "http") + "/ws"
	t.Sources = 2
	t.Token = "secret"
	return t
}

func (f *fakeServer) serveWS(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	n := f.connects
	f.connects++
	f.mu.Unlock()
	if f.refuse != nil && f.refuse(n) {
		http.Error(w, "full", http.StatusServiceUnavailable)
		return
	}
	f.ws.Add(1)
	defer f.ws.Done()
	mode := websocket.CompressionDisabled
	if f.compress {
		mode = websocket.CompressionNoContextTakeover
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"cryptointel.v1"}, CompressionMode: mode, CompressionThreshold: 1000})
	if err != nil {
		return
	}
	defer conn.CloseNow()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := &fakeClient{n: n, out: make(chan string, 1<<14)}
	c.out <- `{"type":"system_status","data":{"status":"connected"}}`
	f.ws.Go(func() {
		for {
			select {
			case m := <-c.out:
				conn.Write(ctx, websocket.MessageText, []byte(m))
			case <-ctx.Done():
				return
			}
		}
	})
	for {
		_, b, err := conn.Read(ctx)
		if err != nil {
			f.leave(c)
			return
		}
		f.command(c, b)
	}
}

func (f *fakeServer) leave(c *fakeClient) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clients = slices.DeleteFunc(f.clients, func(x *fakeClient) bool { return x == c })
}

func (f *fakeServer) command(c *fakeClient, b []byte) {
	var m struct {
		Type, Token, Instance string
		Channels              []string
	}
	if err := json.Unmarshal(b, &m); err != nil {
		c.out <- `{"type":"error","error":{"code":"INVALID_MESSAGE"}}`
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case m.Type == "auth":
		f.tokens = append(f.tokens, m.Token+" "+m.Instance)
		c.out <- `{"type":"ack","for":"auth","user":"u"}`
	case m.Type == "subscribe" && f.deny != "":
		c.out <- `{"type":"error","error":{"code":"` + f.deny + `"}}`
	case m.Type == "subscribe":
		c.subs = m.Channels
		f.clients = append(f.clients, c)
		c.out <- `{"type":"ack","for":"subscribe","channels":[]}`
		// The value another run has left behind.
		c.out <- `{"type":"price_update","channel":"` + m.Channels[0] + `","data":{"metadata":{"sent_ns":1,"seq":12}},"snapshot":true}`
	case string(b) == `{"type":"ping"}`:
		f.pings++
		if f.pinged != nil {
			f.pinged <- struct{}{}
		}
		c.out <- `{"type":"pong"}`
	}
}

func (f *fakeServer) servePublish(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	var m struct {
		Type, Channel string
		Data          json.RawMessage
	}
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bearers[r.Header.Get("Authorization")]++
	n := f.published
	f.published++
	if f.publish != nil && f.publish(n, w) {
		return
	}
	frame := fmt.Sprintf(`{"type":%q,"channel":%q,"offset":%d,"ts":1,"data":%s}`, m.Type, m.Channel, n, m.Data)
	for _, c := range f.clients {
		if slices.Contains(c.subs, m.Channel) {
			f.show(c, frame)
		}
	}
	fmt.Fprintf(w, `{"offset":%d}`, n)
}

func (f *fakeServer) show(c *fakeClient, frame string) {
	frames := []string{frame}
	if f.deliver != nil {
		frames = f.deliver(c.n, c.history, frame)
	}
	c.history = append(c.history, frame)
	for _, m := range frames {
		c.out <- m
	}
}
