package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"cryptointel/internal/frame"
)

func TestParseEndpoint(t *testing.T) {
	tests := []struct {
		url, scheme string
		want        string // address and path, or "" for an error
	}{
		{"ws://127.0.0.1:8080/ws", "ws", "127.0.0.1:8080 /ws"},
		{"ws://localhost:8080/ws?x=1", "ws", "127.0.0.1:8080 /ws?x=1"},
		{"ws://127.9.9.9", "ws", "127.9.9.9:80 /"},
		{"http://127.0.0.1:1/api", "http", "127.0.0.1:1 /api"},
		{"wss://127.0.0.1:8080/ws", "ws", ""},
		{"https://127.0.0.1/", "http", ""},
		{"http://127.0.0.1/", "ws", ""},
		{"ws://10.0.0.1:8080/ws", "ws", ""},
		{"ws://example.com:8080/ws", "ws", ""},
		{"ws://[::1]:8080/ws", "ws", ""},
		{"ws://127.0.0.1:99999/ws", "ws", ""},
		{"127.0.0.1:8080", "ws", ""},
		{"", "ws", ""},
	}
	for _, tt := range tests {
		t.Run(tt.url, func(t *testing.T) {
			e, err := parseEndpoint(tt.url, tt.scheme)
			got := ""
			if err == nil {
				got = e.addr.String() + " " + e.path
			}
			if got != tt.want {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestUpgraded(t *testing.T) {
	good := "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: " + upgradeAccept + "\r\n\r\n"
	packs := strings.Replace(good, "Sec-", "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\nSec-", 1)
	tests := []struct {
		name, in string
		deflate  bool
		n        int
		bad      bool
	}{
		{"whole with a frame after it", good + "\x81\x02{}", false, len(good), false},
		{"incomplete", good[:len(good)-1], false, 0, false},
		{"refused", "HTTP/1.1 403 Forbidden\r\n\r\n", false, 0, true},
		{"wrong accept", "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\n\r\n", false, 0, true},
		{"endless", string(bytes.Repeat([]byte("x"), 17<<10)), false, 0, true},
		{"compression declined", good, true, 0, true},
		{"compression agreed", packs, true, len(packs), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, err := upgraded([]byte(tt.in), tt.deflate)
			if n != tt.n || (err != nil) != tt.bad {
				t.Errorf("got %d, %v, want %d, error %v", n, err, tt.n, tt.bad)
			}
		})
	}
}

// Frames of internal/frame come out as they went in, wherever the bytes are
// cut; other bytes never make more than they are.
func FuzzNextFrame(f *testing.F) {
	f.Add([]byte(`{"type":"pong"}`), uint16(3))
	f.Add(bytes.Repeat([]byte("a"), 126), uint16(2))
	f.Add(bytes.Repeat([]byte("a"), 70000), uint16(9))
	f.Add([]byte{0x81, 0xff, 0, 0}, uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		whole := frame.Append(nil, frame.Text, b)
		m, n, err := nextFrame(whole, int(cut)%2 == 0)
		if m.op != frame.Text || m.packed || !bytes.Equal(m.payload, b) || n != len(whole) || err != nil {
			t.Fatalf("got %+v %d %v, want the frame of %q", m, n, err, b)
		}
		zipped := frame.AppendCompressed(nil, frame.Text, b)
		if m, n, err := nextFrame(zipped, true); !m.packed || !bytes.Equal(m.payload, b) || n != len(zipped) || err != nil {
			t.Fatalf("got %+v %d %v, want the compressed frame of %q", m, n, err, b)
		}
		if _, n, err := nextFrame(zipped, false); err == nil || n != 0 {
			t.Fatalf("a compressed frame passed that was not agreed")
		}
		if k := int(cut) % len(whole); k < len(whole) {
			if _, n, err := nextFrame(whole[:k], false); n != 0 || err != nil {
				t.Fatalf("got %d, %v from %d of %d bytes, want 0", n, err, k, len(whole))
			}
		}
		if m, n, err := nextFrame(b, true); err == nil && n > 0 && (n > len(b) || len(m.payload) > n-2) {
			t.Fatalf("got %d bytes in a frame of %d from %d", len(m.payload), n, len(b))
		}
	})
}

// A stampReader finds what a publication was made with, whatever it has read
// before; what it finds elsewhere is at least there.
func FuzzStampReader(f *testing.F) {
	f.Add([]byte(`{"type":"price_update","channel":"test:b1","offset":1,"data":{"price":1.5,"metadata":{"sent_ns":12,"seq":3,"pad":""}}}`))
	f.Add([]byte(`{"type":"pong"}`))
	f.Add([]byte(`{"channel":"x","sent_ns":99999999999999999999,"seq":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r stampReader
		s, ok := r.read(b)
		if ok && (!bytes.Contains(b, append(append([]byte{}, keyChannel...), s.channel...)) || s.sent < 0 || s.seq < 0) {
			t.Fatalf("got %+v, which %q does not hold", s, b)
		}
		name, err := json.Marshal(string(b))
		if err != nil || bytes.ContainsAny(name, `\`) {
			return
		}
		n := int64(len(b))
		m := fmt.Appendf(nil, `{"type":"t","channel":%s,"data":{"metadata":{"sent_ns":%d,"seq":%d}}}`, name, n, n+1)
		s, ok = r.read(m)
		if !ok || string(s.channel) != string(name[1:len(name)-1]) || s.sent != n || s.seq != n+1 {
			t.Fatalf("got %q %d %d %v from %s", s.channel, s.sent, s.seq, ok, m)
		}
	})
}

func TestRequest(t *testing.T) {
	e, err := parseEndpoint("http://127.0.0.1:80/api/v1/publish", "http")
	if err != nil {
		t.Fatal(err)
	}
	r := newRequest(e, "tok", "test:b7", 3)
	r.stamp(1764678600123456789, firstSeq+42)
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(r.bytes)))
	if err != nil {
		t.Fatal(err)
	}
	defer req.Body.Close()
	var got any
	if err := json.NewDecoder(req.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	want := `map[channel:test:b7 data:map[metadata:map[pad:ass sent_ns:1.7646786001234568e+18 seq:1.000000042e+09] price:1.5] type:price_update]`
	if fmt.Sprint(got) != want {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if req.URL.Path != "/api/v1/publish" || req.Header.Get("Authorization") != "Bearer tok" {
		t.Errorf("got %s with %v", req.URL, req.Header)
	}
}

func TestReadable(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 10000: "10000", 12345.6: "12346", 12.34: "12.3", 1.23456: "1.235", -0.5: "-0.500"} {
		t.Run(strconv.FormatFloat(v, 'g', -1, 64), func(t *testing.T) {
			if got := readable(v); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}
