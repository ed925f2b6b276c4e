package server

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"
	"github.com/gobwas/ws"

	"cryptointel/internal/eventloop"
)

const deflateAgreed = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

// offering is an upgrade that offers permessage-deflate.
func offering() knock {
	return knock{header: http.Header{"Sec-Websocket-Extensions": {"permessage-deflate; client_max_window_bits"}}}
}

// A squeezed message is one as it came: its bytes on the wire, and its text.
type squeezed struct {
	wire       []byte
	text       string
	compressed bool
}

// raw reads one text frame of a connection that may get compressed ones.
func raw(t testing.TB, c *socket) (m squeezed) {
	t.Helper()
	h, err := ws.ReadHeader(c.in)
	if err != nil || h.OpCode != ws.OpText || !h.Fin || h.Masked || h.Rsv2() || h.Rsv3() {
		t.Fatalf("got %+v, %v, want a text frame", h, err)
	}
	m.wire, m.compressed = make([]byte, h.Length), h.Rsv1()
	if _, err := io.ReadFull(c.in, m.wire); err != nil {
		t.Fatal(err)
	}
	if m.text = string(m.wire); m.compressed {
		// The four bytes that the sender leaves out, and an empty last block.
		b, err := io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(m.wire), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))))
		if err != nil {
			t.Fatalf("inflate: %v", err)
		}
		m.text = string(b)
	}
	return m
}

// rawUntil reads on to the first message of a type.
func rawUntil(t testing.TB, c *socket, kind string) squeezed {
	t.Helper()
	for {
		m := raw(t, c)
		if strings.HasPrefix(m.text, `{"type":"`+kind+`"`) {
			return m
		}
	}
}

// deflated is a message as a client compresses it.
func deflated(t testing.TB, message []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(message); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\x00\x00\xff\xff"))
}

// squeeze sends a message as one compressed frame.
func (s *socket) squeeze(t testing.TB, message string) {
	t.Helper()
	f := ws.NewFrame(ws.OpText, true, deflated(t, []byte(message)))
	f.Header.Rsv = ws.Rsv(true, false, false)
	b, err := ws.CompileFrame(ws.MaskFrame(f))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.conn.Write(b); err != nil {
		t.Fatal(err)
	}
}

// prose is a JSON object of at least so many bytes, such as prices are.
func prose(bytes int) string {
	var b strings.Builder
	b.WriteString(`{"sources":[`)
	for n := 0; b.Len() < bytes; n++ {
		fmt.Fprintf(&b, `{"name":"exchange-%d","price":%d.25,"age_ms":%d},`, n%7, 43000+n, n*13)
	}
	return strings.TrimSuffix(b.String(), ",") + `]}`
}

// TestCompressCohort has plain and compressing clients follow the same
// channels: all read the same, and those who compress get the same bytes.
func TestCompressCohort(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s, _ := begin(t, testConfig(kind))
			var plain, small []*socket
			for range 3 {
				p, c := knock{}.upgraded(t, s), offering().upgraded(t, s)
				for _, x := range []*socket{p, c} {
					x.send(t, `{"type":"subscribe","channels":["test:cohort"]}`)
					rawUntil(t, x, "ack")
				}
				plain, small = append(plain, p), append(small, c)
			}
			token := publisher(t)
			for _, size := range []int{4000, 200, 60_000, 1100} {
				body := `{"type":"market_data","channel":"test:cohort","data":` + prose(size) + `}`
				if code, _, answer := call(t, "POST", "http://"+s.Addr()+"/api/v1/publish", token, body); code != http.StatusOK {
					t.Fatalf("publish: %d %s", code, answer)
				}
				compressSame(t, plain, small, size)
			}
			stats, err := s.loops.Stats(t.Context())
			if err != nil || stats[0].Shard.Deflated != 3 {
				t.Errorf("%d messages were compressed, %v, want each of the three long ones once", stats[0].Shard.Deflated, err)
			}
		})
	}
}

func compressSame(t *testing.T, plain, small []*socket, size int) {
	t.Helper()
	want := raw(t, plain[0])
	if want.compressed || !strings.Contains(want.text, prose(size)) {
		t.Fatalf("the plain client got %.200s, compressed %v", want.text, want.compressed)
	}
	first := raw(t, small[0])
	for i := range plain {
		if i > 0 {
			if got := raw(t, plain[i]); got.compressed || got.text != want.text {
				t.Errorf("plain client %d got %.200s", i, got.text)
			}
			if got := raw(t, small[i]); !bytes.Equal(got.wire, first.wire) || got.compressed != first.compressed {
				t.Errorf("compressing client %d got other bytes than the first", i)
			}
		}
	}
	long := size >= 1024
	if first.text != want.text || first.compressed != long || long && len(first.wire) > len(want.wire)/2 {
		t.Errorf("%d bytes: compressed %v into %d, equal %v", len(want.wire), first.compressed, len(first.wire), first.text == want.text)
	}
}

// TestCompressLog compresses entries of the log, live and read again.
func TestCompressLog(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(kind)
			cfg.Auth.AnonymousChannels = []string{"signals:*"}
			s, _ := begin(t, cfg)
			c := offering().upgraded(t, s)
			c.send(t, `{"type":"subscribe","channels":["signals:all"]}`)
			var ack said
			if err := json.Unmarshal([]byte(rawUntil(t, c, "ack").text), &ack); err != nil {
				t.Fatal(err)
			}
			text := strings.Repeat("Unusual price movement. ", 200)
			body := fmt.Sprintf(`{"type":"signal_alert","data":{"id":"long","type":"price_spike","entities":["bitcoin"],"description":%q}}`, text)
			if code, _, answer := call(t, "POST", "http://"+s.Addr()+"/api/v1/publish", publisher(t), body); code != http.StatusOK {
				t.Fatalf("publish: %d %s", code, answer)
			}
			live := rawUntil(t, c, "signal_alert")
			again := offering().upgraded(t, s)
			again.send(t, `{"type":"subscribe","channels":["signals:all"],"since":"%s-%d"}`, ack.Epoch, ack.From)
			replayed := rawUntil(t, again, "signal_alert")
			if !live.compressed || live.text != replayed.text || !strings.Contains(live.text, text) {
				t.Errorf("live %.100s, compressed %v; again %.100s, compressed %v", live.text, live.compressed, replayed.text, replayed.compressed)
			}
		})
	}
}

// TestCompressCommands takes commands that clients compress.
func TestCompressCommands(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s, _ := begin(t, testConfig(kind))
			c := offering().in(t, s)
			pad := rfcRepeat("padding ", 50_000)
			for n := range 5 {
				c.squeeze(t, fmt.Sprintf(`{"type":"subscribe","id":%d,"channels":["test:%d"],"x":%q}`, n, n, pad))
				if m := c.next(t); m.Type != "ack" || string(m.ID) != fmt.Sprint(n) {
					t.Fatalf("got %s, want ack %d", m.text, n)
				}
			}
			c.squeeze(t, `{"type":"ping"}`)
			if m := c.next(t); m.text != `{"type":"pong"}` {
				t.Errorf("got %s, want a pong", m.text)
			}
			// Fragments of one compressed message: only the first is marked.
			b := deflated(t, fmt.Appendf(nil, `{"type":"ping","id":"f","x":%q}`, pad))
			in := rfcBytes{}.part(1, string(b[:20])).part(0, "").part(0, string(b[20:50])).say(0, string(b[50:]))
			in[0] |= 0x40
			if _, err := c.conn.Write(in); err != nil {
				t.Fatal(err)
			}
			if m := c.next(t); m.Type != "pong" || string(m.ID) != `"f"` {
				t.Errorf("got %s, want pong f", m.text)
			}
			c.send(t, `{"type":"ping","id":"plain"}`) // compressing is never a duty
			if m := c.next(t); m.Type != "pong" || string(m.ID) != `"plain"` {
				t.Errorf("got %s, want pong plain", m.text)
			}
		})
	}
}

// TestCompressOff declines the extension, and all goes on without.
func TestCompressOff(t *testing.T) {
	for _, on := range []bool{true, false} {
		cfg := testConfig(eventloop.KindAuto)
		cfg.Gateway.Compression = on
		s, _ := begin(t, cfg)
		c, resp, err := offering().try(s)
		if err != nil || c == nil {
			t.Fatal(resp, err)
		}
		defer c.conn.Close()
		want := map[bool]string{true: deflateAgreed}[on]
		if got := resp.Header.Get("Sec-WebSocket-Extensions"); got != want {
			t.Errorf("compression %v: the extensions are %q, want %q", on, got, want)
		}
		c.send(t, `{"type":"subscribe","channels":["test:off"]}`)
		rawUntil(t, c, "ack")
		s.say(t, "test:off", prose(5000))
		if m := raw(t, c); m.compressed != on || !strings.Contains(m.text, prose(5000)) {
			t.Errorf("compression %v: got %.200s, compressed %v", on, m.text, m.compressed)
		}
		got, wire := coderReads(t, s, websocket.CompressionNoContextTakeover)
		if !strings.Contains(got, prose(5000)) || (wire < 4000) != on {
			t.Errorf("compression %v: coder/websocket read %.200s in %d bytes", on, got, wire)
		}
	}
}

// A counted connection counts what it reads.
type counted struct {
	net.Conn
	read *atomic.Int64
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.read.Add(int64(n))
	return n, err
}

// coderReads is a long publication as coder/websocket reads it, and the bytes
// on the wire. What it sends is compressed, too, as its mode has it.
func coderReads(t *testing.T, s *Server, mode websocket.CompressionMode) (text string, wire int64) {
	t.Helper()
	var read atomic.Int64
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		return counted{c, &read}, err
	}}}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws://"+s.Addr()+"/ws", &websocket.DialOptions{HTTPClient: client, CompressionMode: mode, CompressionThreshold: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	c.SetReadLimit(1 << 20)
	channel := fmt.Sprint("test:coder-", mode) // its own: another's last value would come with the ack
	if err := c.Write(ctx, websocket.MessageText, []byte(`{"type":"subscribe","channels":["`+channel+`"]}`)); err != nil {
		t.Fatal(err)
	}
	var before int64
	for {
		_, b, err := c.Read(ctx)
		switch {
		case err != nil:
			t.Fatal(err)
		case bytes.HasPrefix(b, []byte(`{"type":"ack"`)):
			before = read.Load()
			s.say(t, channel, prose(5000))
		case bytes.Contains(b, []byte(`"channel":"`+channel+`"`)):
			return string(b), read.Load() - before
		}
	}
}

// TestCompressCoder reads with a library of its own making, in each of its
// modes.
func TestCompressCoder(t *testing.T) {
	for _, kind := range kinds {
		s, _ := begin(t, testConfig(kind))
		for mode, small := range map[websocket.CompressionMode]bool{
			websocket.CompressionDisabled: false, websocket.CompressionNoContextTakeover: true, websocket.CompressionContextTakeover: true,
		} {
			text, wire := coderReads(t, s, mode)
			if !strings.Contains(text, prose(5000)) || (wire < 2500) != small {
				t.Errorf("%s, mode %v: read %d bytes from %d", kind, mode, len(text), wire)
			}
		}
	}
}

// TestCompressNode has Node's ws client, which offers compression of its own
// accord, follow a channel.
func TestCompressNode(t *testing.T) {
	node := nodeReady(t)
	script := filepath.Join("testdata", "node", "deflate.js")
	if _, err := os.ReadFile(script); err != nil { // so that a change makes the test run again
		t.Fatal(err)
	}
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			s, _ := begin(t, testConfig(kind))
			cmd := exec.CommandContext(t.Context(), node, script, "ws://"+s.Addr()+"/ws", "test:node")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			compressNode(t, s, json.NewDecoder(out))
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			stats, err := s.loops.Stats(t.Context())
			if err != nil || stats[0].Shard.Inflated != 1 {
				t.Errorf("%d compressed commands came, %v, want 1", stats[0].Shard.Inflated, err)
			}
		})
	}
}

// compressNode publishes when Node follows, and checks what it prints.
func compressNode(t *testing.T, s *Server, lines *json.Decoder) {
	t.Helper()
	var short, long = `{"n":1}`, prose(20_000)
	want := []string{long, short}
	for {
		var l struct {
			Got, Channel, Extensions, Error string
			Bytes, Wire, Code               int
			Data                            json.RawMessage
		}
		if err := lines.Decode(&l); err != nil {
			t.Fatalf("node ended: %v", err)
		}
		switch {
		case l.Got == "open" && l.Extensions == "":
			t.Errorf("no extension was agreed on")
		case l.Got == "ack":
			s.say(t, "test:node", long)
		case l.Channel == "test:node":
			if string(l.Data) != want[0] || (l.Wire < l.Bytes/2) != (want[0] == long) {
				t.Errorf("got %.100s, %d bytes from %d, want %.100s", l.Data, l.Bytes, l.Wire, want[0])
			}
			if want = want[1:]; len(want) > 0 {
				s.say(t, "test:node", want[0])
			}
		case l.Got == "close" && (l.Code != 1000 || len(want) > 0):
			t.Errorf("closed with %d, still wanted %.100s", l.Code, want)
			return
		case l.Got == "close":
			return
		case l.Error != "":
			t.Fatal(l.Error)
		}
	}
}
