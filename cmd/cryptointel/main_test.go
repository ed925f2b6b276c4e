package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"cryptointel/internal/auth"
	"cryptointel/protocol"
)

// patience is how long a test waits for what must come before it fails. No
// test that passes waits for it.
const patience = 60 * time.Second

const secret = "a secret of at least thirty-two bytes"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve is a running server's program and public address. It ends with the
// test, and well.
func serve(t *testing.T, args ...string) (p *program, addr string) {
	t.Helper()
	t.Setenv(secretVariable, secret)
	p = start(t, "", append([]string{"serve", "--listen=127.0.0.1:0", "--admin-listen=", "--drain-time=0s", "--no-test-channels", "--feeds=", "--data-dir="}, args...)...)
	t.Cleanup(func() {
		p.stop()
		p.exits(t, 0)
	})
	return p, p.out.await(t, `public ws://(\S+)/ws`)[0]
}

func TestUsage(t *testing.T) {
	t.Setenv("CRYPTOINTEL_DATA_DIR", "")
	t.Setenv("CRYPTOINTEL_TOKEN", "") // one of the developer's own
	os.Unsetenv("CRYPTOINTEL_TOKEN")
	t.Setenv(secretVariable, secret)
	for _, tt := range []struct {
		args string
		want string
	}{
		{"", "expected one of"},
		{"dance", "unexpected argument dance"},
		{"serve --dance", "unknown flag --dance"},
		{"serve --loops=many", "--loops: expected"},
		{"serve --loops=300", "loops is 300"},
		{"serve --limits=3", "did you mean"},
		{"serve --eventloop=kqueue", "--eventloop must be one of"},
		{"serve --data-dir= --feeds=krakn", `feeds: no exchange "krakn"; did you mean kraken?`},
		{"serve --limits.channels=-1", "limits.channels is -1"},
		{"serve --listen=nowhere", `listen: "nowhere" is not an address`},
		{"serve --config=/nowhere.yaml", "/nowhere.yaml: no such file"},
		{"serve --replay=/nowhere.jsonl.gz", "open /nowhere.jsonl.gz: no such file"},
		{"serve a.jsonl.gz", `unexpected argument "`},
		{"demo --demo.rate=0", "demo.rate is 0"},
		{"token", "missing flags: --sub"},
		{"token --sub=u1 --ttl=0s", "the time to live is 0s"},
		{"token --sub=u1 --channels=A/B", "ch claim"},
		{"publish", "missing flags: --token"},
		{"publish --token=x --url=:", "is not an address such as http"},
		{"tail", `expected "<channels> ..."`},
		{"tail --max-rate=fast price:bitcoin", "--max-rate: expected"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			out, errs := runs(t, 2, "{}", strings.Fields(tt.args)...)
			if !strings.Contains(errs, tt.want) || !strings.HasPrefix(errs, "cryptointel: ") || out != "" {
				t.Errorf("it said %q and %q, want %s", out, errs, tt.want)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	for _, args := range []string{"--help", "serve --help", "token --help"} {
		out, errs := runs(t, 0, "", strings.Fields(args)...)
		if !strings.HasPrefix(out, "Usage: cryptointel") || errs != "" {
			t.Errorf("%s: it said %q and %q", args, out, errs)
		}
	}
	if out, _ := runs(t, 0, "", "--help"); strings.Contains(out, "conformance-echo") {
		t.Error("help lists a hidden command")
	}
}

// TestToken shows that the token is all that is printed, and what it grants.
func TestToken(t *testing.T) {
	t.Setenv(secretVariable, secret)
	cfg := auth.DefaultConfig()
	cfg.Secret = secret
	v, err := auth.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args string
		want string
	}{
		{"--sub=u1", "u1 [price:* market:* signals:*] []  1h0m0s"},
		{"--sub=u1 --channels=price:*,signals:* --ttl=5m --publish --admin", "u1 [price:* signals:*] [*] write 5m0s"},
	} {
		out, errs := runs(t, 0, "", append([]string{"token"}, strings.Fields(tt.args)...)...)
		g, err := v.Verify(strings.TrimSuffix(out, "\n"), time.Now())
		if err != nil || errs != "" {
			t.Errorf("token %s: %v; it said %q and %q", tt.args, err, out, errs)
			continue
		}
		got := fmt.Sprint(g.Subject, " ", g.Channels, " ", g.Publish, " ", g.Admin, " ", time.Duration(g.Expires-g.Issued))
		if got != tt.want {
			t.Errorf("token %s: got %s, want %s", tt.args, got, tt.want)
		}
	}
}

func TestTokenSecret(t *testing.T) {
	for _, tt := range []struct{ secret, want string }{
		{"", "set CRYPTOINTEL_JWT_SECRET to the server's secret"},
		{"hunter2", "the JWT secret has 7 bytes"},
	} {
		t.Setenv(secretVariable, tt.secret)
		out, errs := runs(t, 2, "", "token", "--sub=u1")
		if !strings.Contains(errs, tt.want) || strings.Contains(errs, "hunter2") || out != "" {
			t.Errorf("it said %q and %q, want %s", out, errs, tt.want)
		}
	}
}

// TestPublishAndTail takes messages from standard input through a server to
// standard output.
func TestPublishAndTail(t *testing.T) {
	_, addr := serve(t)
	token, _ := runs(t, 0, "", "token", "--sub=u1", "--publish")
	token = strings.TrimSpace(token)
	publish := func(code int, lines ...string) (out, errs string) {
		return runs(t, code, strings.Join(lines, "\n"), "publish", "--url=http://"+addr+"/api/v1/publish", "--token="+token)
	}
	tail := func(args ...string) *program {
		return start(t, "", append([]string{"tail", "--url=ws://" + addr + "/ws", "--token=" + token}, args...)...)
	}
	signal := `{"type":"signal_alert","data":{"id":"%s","type":"price_spike","confidence":0.9}}`
	out, errs := publish(1, fmt.Sprintf(signal, "a"), "", "nonsense", fmt.Sprintf(signal, "b"),
		`{"type":"market_data","channel":"test:x","data":{"n":1}}`)
	if want := "{\"id\":\"a\",\"offset\":1}\n{\"id\":\"b\",\"offset\":2}\n"; !strings.HasPrefix(out, want) {
		t.Errorf("publish printed %q, want %q", out, want)
	}
	if !strings.HasPrefix(errs, `line 3: {"error":{"code":"INVALID_MESSAGE"`) || !strings.Contains(errs, "1 messages were refused") {
		t.Errorf("publish said %q, want that line 3 was refused", errs)
	}

	p := tail("-n1", "test:x") // its value is there
	p.exits(t, 0)
	channels(t, p.out.String(), "test:x")

	p = tail("-n3", "--all", "--since=old-1", "signals:all")
	epoch := p.out.await(t, `"epoch":"(\w+)"`)[0]
	publish(0, fmt.Sprintf(signal, "c"), fmt.Sprintf(signal, "d"), fmt.Sprintf(signal, "e"))
	p.exits(t, 0)

	p = tail("-n3", "--since="+epoch+"-1", "signals:high", "test:x")
	p.exits(t, 0)
	channels(t, p.out.String(), "signals:high", "signals:high", "signals:high")
}

// channels compares the channels of printed deliveries.
func channels(t *testing.T, out string, want ...string) {
	t.Helper()
	var got []string
	for line := range strings.Lines(out) {
		var m struct{ Type, Channel string }
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Errorf("tail printed %q: %v", line, err)
		}
		got = append(got, m.Channel)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("tail printed deliveries of %v, want %v", got, want)
	}
}

func TestTailFails(t *testing.T) {
	_, addr := serve(t)
	none, err := net.Listen("tcp", "127.0.0.1:0") // an address where nobody is
	if err != nil {
		t.Fatal(err)
	}
	none.Close()
	for _, tt := range []struct{ addr, args, want string }{
		{none.Addr().String(), "price:bitcoin", "connection refused"},
		{addr, "--token=garbage price:bitcoin", "the server closed the connection: 4401 INVALID_TOKEN"},
	} {
		_, errs := runs(t, 1, "", append([]string{"tail", "--url=ws://" + tt.addr + "/ws"}, strings.Fields(tt.args)...)...)
		if !strings.Contains(errs, tt.want) {
			t.Errorf("tail %s said %q, want %s", tt.args, errs, tt.want)
		}
	}
	_, errs := runs(t, 1, "{}", "publish", "--token=x", "--url=http://"+none.Addr().String())
	if !strings.Contains(errs, "connection refused") {
		t.Errorf("publish said %q", errs)
	}
}

// TestTailEnds stops the server under a tail, and a tail itself.
func TestTailEnds(t *testing.T) {
	t.Setenv("CRYPTOINTEL_DRAIN_TIME", "1ms")
	p := start(t, "", "serve", "--listen=127.0.0.1:0", "--admin-listen=", "--no-test-channels", "--feeds=", "--data-dir=")
	addr := p.out.await(t, `public ws://(\S+)/ws`)[0]
	stopped, left := start(t, "", "tail", "--all", "--url=ws://"+addr+"/ws", "price:bitcoin"), start(t, "", "tail", "--all", "--url=ws://"+addr+"/ws", "price:bitcoin")
	for _, x := range []*program{stopped, left} {
		x.out.await(t, `"type":"ack"`)
	}
	stopped.stop()
	stopped.exits(t, 0)
	p.stop()
	left.exits(t, 1)
	left.errs.await(t, "the server closed the connection: 1012 DRAINING")
	p.exits(t, 0)
}

// TestServeFile runs a server from a file and sees its settings from outside.
func TestServeFile(t *testing.T) {
	path := written(t, "limits:\n  channels: 3\n  message_burst: 4\nauth:\n  anonymous_channels: [test:*]\n")
	t.Setenv("CRYPTOINTEL_LIMITS_MESSAGE_BURST", "5")
	_, addr := serve(t, "--config="+path, "--limits.filters=0")
	conn, _, err := websocket.Dial(t.Context(), "ws://"+addr+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	_, b, err := conn.Read(t.Context())
	var first struct {
		Data struct {
			Limits struct {
				Channels int
				Filters  int
				Burst    int `json:"message_burst"`
				Bytes    int `json:"message_bytes"`
			}
		}
	}
	if err == nil {
		err = json.Unmarshal(b, &first)
	}
	want := "{Channels:3 Filters:0 Burst:5 Bytes:65536}"
	if got := fmt.Sprintf("%+v", first.Data.Limits); err != nil || got != want {
		t.Errorf("first frame: limits are %s, want %s; %v", got, want, err)
	}
}

func TestTakenPort(t *testing.T) {
	_, addr := serve(t)
	p := start(t, "", "serve", "--admin-listen=", "--feeds=", "--data-dir=", "--listen="+addr)
	if code := <-p.ended; code != 1 || !strings.Contains(p.errs.String(), "public listener: listen tcp "+addr) {
		t.Errorf("exit code %d, it said %q", code, p.errs)
	}
}

// TestDemo does what the greeting says.
func TestDemo(t *testing.T) {
	t.Setenv(secretVariable, "")
	p := start(t, "", "demo", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--drain-time=0s")
	m := p.out.await(t, `public +ws://(\S+)/ws\n +admin +http://(\S+)/metrics\n +token +(\S+)\n`)
	addr, admin, token := m[0], m[1], m[2]
	tail := start(t, "", "tail", "-n2", "--url=ws://"+addr+"/ws", "price:bitcoin")
	tail.exits(t, 0)
	channels(t, tail.out.String(), "price:bitcoin", "price:bitcoin")
	if !strings.Contains(tail.out.String(), `"demo":true`) {
		t.Errorf("no mark of the demo in %s", tail.out)
	}
	runs(t, 0, `{"type":"signal_alert","data":{"id":"a","type":"price_spike"}}`,
		"publish", "--token="+token, "--url=http://"+addr+"/api/v1/publish")
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://" + admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); !strings.Contains(string(b), "cryptointel_market_assets_with_price 50") {
		t.Errorf("/metrics has not 50 assets with a price: %.500s", b)
	}
	p.stop()
	p.exits(t, 0)
}

func TestEcho(t *testing.T) {
	for _, kind := range []string{"epoll", "portable"} {
		t.Run(kind, func(t *testing.T) {
			p := start(t, "", "conformance-echo", "--listen=127.0.0.1:0", "--eventloop="+kind)
			addr := p.out.await(t, `echo ws://(\S+)/`)[0]
			conn, _, err := websocket.Dial(t.Context(), "ws://"+addr+"/any/path", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.CloseNow()
			conn.SetReadLimit(-1)
			large := bytes.Repeat([]byte{0, 255}, 1<<20)
			for _, m := range []struct {
				kind websocket.MessageType
				text []byte
			}{{websocket.MessageText, []byte("nonsense")}, {websocket.MessageBinary, large}, {websocket.MessageText, []byte{}}} {
				if err := conn.Write(t.Context(), m.kind, m.text); err != nil {
					t.Fatal(err)
				}
				kind, b, err := conn.Read(t.Context())
				if err != nil || kind != m.kind || !bytes.Equal(b, m.text) {
					t.Errorf("%v of %d bytes comes back as %v of %d bytes: %v", m.kind, len(m.text), kind, len(b), err)
				}
			}
			if err := conn.Close(websocket.StatusNormalClosure, ""); err != nil {
				t.Errorf("close: %v", err)
			}
			p.stop()
			p.exits(t, 0)
		})
	}
}

func TestExitCode(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, 0}, {context.Canceled, 0}, {fmt.Errorf("x: %w", context.Canceled), 0},
		{io.EOF, 1}, {usageError{io.EOF}, 2}, {fmt.Errorf("x: %w", usageError{io.EOF}), 2},
		{&protocol.Error{Code: protocol.Internal}, 1},
	} {
		if got := exitCode(tt.err, io.Discard); got != tt.want {
			t.Errorf("exitCode(%v) = %d, want %d", tt.err, got, tt.want)
		}
	}
}
