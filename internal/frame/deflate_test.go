package frame

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// TestDeflate is what RFC 7692 says of frames where it was negotiated: RSV1 on
// the first frame of a message, on no other, and no other bit.
func TestDeflate(t *testing.T) {
	const hello = "\xf2\x48\xcd\xc9\xc9\x07\x00"
	one := []said{{Text | packed, hello}}
	cases := []struct {
		name  string
		in    stream
		limit int
		want  []said
		code  int
	}{
		{"7.2.3.1 one frame", stream{}.zipped(Text, hello), 0, one, 0},
		{"7.2.3.1 fragments", stream{}.zippedPart(Text, hello[:3]).with(Continuation, hello[3:]), 0, one, 0},
		{"control among fragments", stream{}.zippedPart(Text, hello[:3]).with(Ping, "p").with(Continuation, hello[3:]), 0,
			[]said{{Ping, "p"}, one[0]}, 0},
		{"a plain one after", stream{}.zipped(Text, hello).with(Text, "Hello"), 0, []said{one[0], {Text, "Hello"}}, 0},
		{"a plain one in parts after", stream{}.zippedPart(Text, hello).with(Continuation, "").part(Text, "He").with(Continuation, "llo"), 0,
			[]said{one[0], {Text, "Hello"}}, 0},
		{"plain must be UTF-8", stream{}.zipped(Text, "\xff").with(Text, "\xff"), 0, []said{{Text | packed, "\xff"}}, InvalidUTF8},
		{"plain parts must be UTF-8", stream{}.zippedPart(Text, "\xff").with(Continuation, "\xfe").part(Text, "\xff"), 0,
			[]said{{Text | packed, "\xff\xfe"}}, InvalidUTF8},
		{"binary", stream{}.zipped(Binary, hello), 0, []said{{Binary | packed, hello}}, 0},
		{"an empty payload", stream{}.zipped(Text, ""), 0, []said{{Text | packed, ""}}, 0},
		{"at the limit", stream{}.zipped(Text, hello), len(hello), one, 0},
		{"over the limit on the wire", stream{}.zipped(Text, hello), len(hello) - 1, nil, TooLarge},

		{"on a continuation", stream{}.zippedPart(Text, "a").zipped(Continuation, "b"), 0, nil, ProtocolError},
		{"on a continuation of a plain one", stream{}.part(Text, "a").zipped(Continuation, "b"), 0, nil, ProtocolError},
		{"on a ping", stream{}.zipped(Ping, ""), 0, nil, ProtocolError},
		{"on a pong", stream{}.zipped(Pong, ""), 0, nil, ProtocolError},
		{"on a close", stream{}.zipped(Close, ""), 0, nil, ProtocolError},
		{"rsv2", stream{}.raw(0xA1, 0x80, 1, 2, 3, 4), 0, nil, ProtocolError},
		{"rsv3", stream{}.raw(0x91, 0x80, 1, 2, 3, 4), 0, nil, ProtocolError},
		{"rsv1 and rsv3", stream{}.raw(0xD1, 0x80, 1, 2, 3, 4), 0, nil, ProtocolError},
		{"rsv1 on opcode 3", stream{}.raw(0xC3, 0x80, 1, 2, 3, 4), 0, nil, ProtocolError},
		{"a new message inside", stream{}.zippedPart(Text, "a").zipped(Text, "b"), 0, nil, ProtocolError},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			expectFrom(t, Reader{Deflate: true}, c.in, c.limit, c.want, c.code)
		})
	}
}

// TestDeflateFromCoder reads what coder/websocket sends when it compresses, and
// it reads what AppendCompressed makes.
func TestDeflateFromCoder(t *testing.T) {
	said := strings.Repeat(`{"type":"subscribe","channels":["price:*"]}`, 50)
	wire := make(chan net.Conn, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
			"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"+
			"Sec-WebSocket-Accept: "+accept(r.Header.Get("Sec-WebSocket-Key"))+"\r\n\r\n")
		wire <- c
	}))
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	client, _, err := websocket.Dial(ctx, srv.URL, &websocket.DialOptions{CompressionMode: websocket.CompressionNoContextTakeover, CompressionThreshold: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseNow()
	c := <-wire
	defer c.Close()
	if err := client.Write(ctx, websocket.MessageText, []byte(said)); err != nil {
		t.Fatal(err)
	}
	m := readOne(t, c)
	plain, err := io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(m.Payload), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))))
	if !m.Compressed || m.Op != Text || string(plain) != said || err != nil {
		t.Errorf("got %v %v, %.80q, %v", m.Op, m.Compressed, plain, err)
	}
	if _, err := c.Write(AppendCompressed(nil, Text, m.Payload)); err != nil {
		t.Fatal(err)
	}
	if _, got, err := client.Read(ctx); string(got) != said || err != nil {
		t.Errorf("the client got %.80q, %v", got, err)
	}
}

// readOne reads a message from a client that is allowed to compress.
func readOne(t *testing.T, c net.Conn) Message {
	t.Helper()
	r, buf := Reader{Deflate: true}, make([]byte, 100)
	for {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		r.Feed(slices.Clone(buf[:n]))
		if m, ok, err := r.Next(1 << 16); ok || err != nil {
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
	}
}

// accept is the answer to a handshake's key (RFC 6455, section 1.3).
func accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}
