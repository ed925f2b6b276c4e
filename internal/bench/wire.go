package bench

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"cryptointel/internal/frame"
)

// An endpoint is an address on this machine and a path there.
type endpoint struct {
	addr netip.AddrPort
	host string // as in the Host header
	path string // with the query
}

// parseEndpoint reads a URL of the given scheme. Load is made on the own
// machine only, so anything but an IPv4 loopback address is an error.
func parseEndpoint(s, scheme string) (endpoint, error) {
	u, err := url.Parse(s)
	if err != nil {
		return endpoint{}, err
	}
	switch {
	case u.Scheme == "wss" || u.Scheme == "https":
		return endpoint{}, fmt.Errorf("%q: TLS is not spoken here: measure the server's plain listener", s)
	case u.Scheme != scheme:
		return endpoint{}, fmt.Errorf("%q: must begin with %s://", s, scheme)
	}
	name, port := u.Hostname(), u.Port()
	if name == "localhost" {
		name = "127.0.0.1"
	}
	if port == "" {
		port = "80"
	}
	addr, err := netip.ParseAddrPort(net.JoinHostPort(name, port))
	if err != nil || !addr.Addr().Is4() || !addr.Addr().IsLoopback() {
		return endpoint{}, fmt.Errorf("%q: load is made on the own machine only: the host must be localhost or an IPv4 loopback address", s)
	}
	return endpoint{addr: addr, host: u.Host, path: u.RequestURI()}, nil
}

// The key every handshake of the generator sends and the answer to it (RFC
// 6455, 1.3): one key for all, since nothing here depends on its randomness.
const (
	upgradeKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	upgradeAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
	deflateOffer  = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
)

// upgradeRequest asks for a WebSocket, and for compression if deflate.
func (e endpoint) upgradeRequest(deflate bool) []byte {
	extension := ""
	if deflate {
		extension = "Sec-WebSocket-Extensions: " + deflateOffer + "\r\n"
	}
	return []byte("GET " + e.path + " HTTP/1.1\r\nHost: " + e.host +
		"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " +
		upgradeKey + "\r\nSec-WebSocket-Protocol: cryptointel.v1\r\n" + extension + "\r\n")
}

// upgraded looks at what a server answered to an upgrade request. n is the
// length of the head, 0 while it is incomplete. With deflate the server must
// have agreed to compress: a run that is measured as compressed is.
func upgraded(b []byte, deflate bool) (n int, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) > 16<<10 {
			return 0, errors.New("upgrade: the answer's head does not end")
		}
		return 0, nil
	}
	status, _, _ := bytes.Cut(b[:end], []byte("\r\n"))
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 101 ")) {
		return 0, fmt.Errorf("upgrade: %.60q", status)
	}
	if !bytes.Contains(b[:end], []byte(upgradeAccept)) {
		return 0, errors.New("upgrade: wrong Sec-WebSocket-Accept")
	}
	if deflate && !bytes.Contains(bytes.ToLower(b[:end]), []byte("sec-websocket-extensions: permessage-deflate")) {
		return 0, errors.New("upgrade: the server declined permessage-deflate")
	}
	return end + 4, nil
}

// A message is one frame of the server.
type message struct {
	op      frame.Opcode
	packed  bool   // payload is compressed
	payload []byte // part of the parsed bytes
}

// nextFrame splits the first whole frame off b. n is the frame's length, 0
// while it is incomplete. Only with deflate may it be compressed.
func nextFrame(b []byte, deflate bool) (m message, n int, err error) {
	if len(b) < 2 {
		return m, 0, nil
	}
	m.op, m.packed = frame.Opcode(b[0]&15), deflate && b[0] == 0xc1
	if b[0]&0xf0 != 0x80 && !m.packed {
		return m, 0, errors.New("frame: fragmented or compressed, which was not agreed")
	}
	size, head := uint64(b[1]), 2
	switch {
	case size == 126:
		if head = 4; len(b) < head {
			return m, 0, nil
		}
		size = uint64(binary.BigEndian.Uint16(b[2:]))
	case size == 127:
		if head = 10; len(b) < head {
			return m, 0, nil
		}
		size = binary.BigEndian.Uint64(b[2:])
	case size > 127:
		return m, 0, errors.New("frame: masked by the server")
	}
	if size > 16<<20 {
		return m, 0, fmt.Errorf("frame: %d bytes", size)
	}
	if uint64(len(b)-head) < size {
		return m, 0, nil
	}
	n = head + int(size)
	m.payload = b[head:n]
	return m, n, nil
}

// closeReason puts a close frame's payload into words.
func closeReason(p []byte) string {
	if len(p) < 2 {
		return "closed without a code"
	}
	return fmt.Sprintf("closed %d %s", binary.BigEndian.Uint16(p), p[2:])
}

// A stamp is what the publisher wrote into a publication's metadata.
type stamp struct {
	channel []byte // part of the parsed bytes
	sent    int64  // ns
	seq     int64
}

// The keys begin after their quotation mark: bytes.Index looks for the first
// byte, and quotation marks are everywhere.
var (
	keyChannel  = []byte(`channel":"`)
	keySent     = []byte(`sent_ns":`)
	keySeq      = []byte(`seq":`)
	keySnapshot = []byte(`"snapshot":true`)
)

// A stampReader finds the stamps of publications. It remembers where the keys
// were, since the next message mostly has them at the same place: 182 to 64 ns
// a delivery (BenchmarkDeliver).
type stampReader struct {
	channel, sent, seq int // where the key was, after the value before it
}

// read finds the stamp of a publication; ok is false for other messages.
func (r *stampReader) read(p []byte) (s stamp, ok bool) {
	if p, ok = after(p, keyChannel, &r.channel); !ok {
		return s, false
	}
	i := bytes.IndexByte(p, '"')
	if i < 0 {
		return s, false
	}
	s.channel = p[:i]
	if p, ok = after(p[i:], keySent, &r.sent); !ok {
		return s, false
	}
	if s.sent, p, ok = digits(p); !ok {
		return s, false
	}
	if p, ok = after(p, keySeq, &r.seq); !ok {
		return s, false
	}
	s.seq, _, ok = digits(p)
	return s, ok
}

// after is what follows key in p. It looks at *at first, and leaves there
// where it found the key.
func after(p, key []byte, at *int) (rest []byte, ok bool) {
	i := *at
	if i+len(key) > len(p) || !bytes.Equal(p[i:i+len(key)], key) {
		if i = bytes.Index(p, key); i < 0 {
			return nil, false
		}
		*at = i
	}
	return p[i+len(key):], true
}

// snapshot reports whether p is what was last published before the
// subscription, perhaps by an earlier run.
func snapshot(p []byte) bool { return bytes.Contains(p, keySnapshot) }

// digits reads a number of 1 to 19 digits off the front of b.
func digits(b []byte) (v int64, rest []byte, ok bool) {
	i := 0
	for i < len(b) && i < 19 && b[i]-'0' <= 9 {
		v = v*10 + int64(b[i]-'0')
		i++
	}
	return v, b[i:], i > 0 && v >= 0
}

// A reply is the part of the server's other messages that matters here.
type reply struct {
	Type   string `json:"type"`
	For    string `json:"for"`
	Error  struct{ Code, Message string }
	Errors []struct{ Channel, Code string }
}

func parseReply(p []byte) (r reply, err error) {
	err = json.Unmarshal(p, &r)
	return r, err
}

// refusal is the error code a reply carries, or "".
func (r *reply) refusal() string {
	switch {
	case r.Type == "error":
		return r.Error.Code
	case len(r.Errors) > 0:
		return r.Errors[0].Code + " " + r.Errors[0].Channel
	}
	return ""
}

func authMessage(token string, i int) []byte {
	return fmt.Appendf(nil, `{"type":"auth","token":%q,"instance":"bench-%d"}`, token, i)
}

func subscribeMessage(names []string) []byte {
	return []byte(`{"type":"subscribe","channels":["` + strings.Join(names, `","`) + `"]}`)
}

var pingMessage = []byte(`{"type":"ping"}`)

// A request is a publish request for one channel, made once; only the digits
// of its stamp change.
type request struct {
	bytes     []byte
	sent, seq int // where their digits begin
}

// Both numbers have a fixed width without leading zeros, which JSON forbids:
// nanoseconds since 1970 have 19 digits until 2286, and a run's numbers start
// above firstSeq.
const (
	sentWidth = 19
	seqWidth  = 10
	firstSeq  = 1_000_000_000
	maxNumber = 1_000_000_000 // publications of one run on one channel
)

func newRequest(e endpoint, token, channel string, pad int) request {
	body := `{"type":"price_update","channel":"` + channel + `","data":{"price":1.5,"metadata":{"sent_ns":` +
		strings.Repeat("1", sentWidth) + `,"seq":` + strings.Repeat("1", seqWidth) + `,"pad":"` + padding(pad) + `"}}}`
	head := "POST " + e.path + " HTTP/1.1\r\nHost: " + e.host + "\r\nContent-Type: application/json\r\n"
	if token != "" {
		head += "Authorization: Bearer " + token + "\r\n"
	}
	r := request{bytes: []byte(head + "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body)}
	r.sent = bytes.Index(r.bytes, keySent) + len(keySent)
	r.seq = bytes.LastIndex(r.bytes, keySeq) + len(keySeq)
	return r
}

// stamp writes the time and number of the next publication.
func (r *request) stamp(sent, seq int64) {
	putDigits(r.bytes[r.sent:r.sent+sentWidth], sent)
	putDigits(r.bytes[r.seq:r.seq+seqWidth], seq)
}

func putDigits(b []byte, v int64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte('0' + v%10)
		v /= 10
	}
}
