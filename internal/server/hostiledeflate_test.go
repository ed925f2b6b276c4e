package server

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"

	"cryptointel/conformance"
	"cryptointel/internal/eventloop"
	"cryptointel/internal/frame"
	"cryptointel/protocol"
)

// rfcDialDeflate connects, upgrades and agrees on permessage-deflate.
func rfcDialDeflate(t testing.TB, addr string) *rfcConn {
	t.Helper()
	c := rfcTCP(t, addr)
	c.send(t, []byte(strings.Replace(rfcRequest, "\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", 1)))
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Extensions") != deflateAgreed {
		t.Fatalf("handshake: %v, %v", resp, err)
	}
	return c
}

// squeezedFrame is a whole text frame that is marked as compressed.
func squeezedFrame(payload []byte) rfcBytes {
	return rfcBytes{}.first(0xc1, string(payload))
}

// bomb is 64 MiB of zeros, or of what else repeats, in less than the 64 KiB
// that a message may have on the wire.
func bomb(t testing.TB, repeat string) []byte {
	t.Helper()
	b := deflated(t, []byte(rfcRepeat(repeat, 64<<20)))
	if len(b) >= 64<<10 {
		t.Fatalf("the bomb has %d bytes: it would be refused for its length alone", len(b))
	}
	return b
}

// TestHostileDeflate is attacks by compressed messages.
func TestHostileDeflate(t *testing.T) {
	zeros := bomb(t, "\x00")
	hostileRun(t, nil, []hostileAttack{
		{"64 MiB of zeros", func(t *testing.T, h *hostile) { hostileBombs(t, h, zeros) }},
		{"marks that mean nothing here", hostileMarks},
		{"what is not deflated data", hostileUndeflated},
		{"just over the limit", hostileJustOver},
		{"a flood of small ones", func(t *testing.T, h *hostile) {
			c := rfcDialDeflate(t, h.Addr())
			ping := string(squeezedFrame(deflated(t, []byte(protocol.PlainPing))))
			ended := hostileFlood(c, []byte(strings.Repeat(ping, 100)))
			var got []rfcFrame
			for len(got) == 0 || got[len(got)-1].Op != frame.Close {
				f, err := c.next()
				if err != nil {
					t.Fatalf("%v behind %d frames", err, len(got))
				}
				got = append(got, f)
			}
			c.lastWords(t, got, protocol.RateLimited)
			h.passes(t, "the flooder gone", hostileAlone)
			<-ended
			c.Close()
		}},
	})
}

// hostileBombs has twenty messages become 64 MiB each, whole and in fragments:
// together they may not take what one of them would.
func hostileBombs(t *testing.T, h *hostile, zeros []byte) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for n := range 20 {
		c := rfcDialDeflate(t, h.Addr())
		in := squeezedFrame(zeros)
		if n%2 == 1 {
			in = rfcBytes{}.part(frame.Text, string(zeros[:1000])).part(frame.Continuation, "").say(frame.Continuation, string(zeros[1000:]))
			in[0] |= 0x40
		}
		c.send(t, in)
		c.ends(t, protocol.MessageTooLarge)
		c.Close()
	}
	runtime.ReadMemStats(&after)
	if all := (after.TotalAlloc - before.TotalAlloc) >> 20; all > 32 {
		t.Errorf("%d MiB were allocated for 20 bombs of 64 MiB", all)
	}
}

// hostileJustOver sends a message of the limit, and one that is a byte longer.
func hostileJustOver(t *testing.T, h *hostile) {
	const limit = 64 << 10
	ping := func(size int) []byte {
		head, tail := `{"type":"ping","id":1,"x":"`, `"}`
		return deflated(t, []byte(head+rfcRepeat("x", size-len(head)-len(tail))+tail))
	}
	c := rfcDialDeflate(t, h.Addr())
	c.message(t) // the greeting
	c.send(t, squeezedFrame(ping(limit)))
	if m := c.message(t); m.Type != "pong" {
		t.Errorf("a message of the limit: got %+v", m)
	}
	c.send(t, squeezedFrame(ping(limit+1)))
	c.ends(t, protocol.MessageTooLarge)
	c.Close()
}

// hostileMarks sets the bit of compressed messages where it may not be.
func hostileMarks(t *testing.T, h *hostile) {
	ping := deflated(t, []byte(protocol.PlainPing))
	tests := []struct {
		name   string
		agreed bool
		in     rfcBytes
	}{
		{"nothing was agreed on", false, squeezedFrame(ping)},
		{"on a plain message, nothing agreed on", false, rfcBytes{}.first(0xc1, protocol.PlainPing)},
		{"on a ping", true, rfcBytes{}.first(0xc9, "")},
		{"on a pong", true, rfcBytes{}.first(0xca, "")},
		{"on a close", true, rfcBytes{}.first(0xc8, "\x03\xe8")},
		{"on a continuation", true, rfcBytes{}.part(frame.Text, "{").first(0xc0, "}")},
		{"on the second fragment too", true, append(rfcBytes{}.first(0x41, "x"), rfcBytes{}.first(0xc0, "x")...)},
		{"the second bit", true, rfcBytes{}.first(0xa1, protocol.PlainPing)},
		{"the third bit", true, rfcBytes{}.first(0x91, protocol.PlainPing)},
		{"all three bits", true, rfcBytes{}.first(0xf1, protocol.PlainPing)},
	}
	for _, tt := range tests {
		dial := rfcDial
		if tt.agreed {
			dial = rfcDialDeflate
		}
		c := dial(t, h.Addr())
		c.send(t, tt.in)
		if c.ends(t, protocol.ProtocolError); t.Failed() {
			t.Fatal(tt.name)
		}
		c.Close()
	}
}

// hostileUndeflated sends what no message was compressed to, and messages that
// are no text.
func hostileUndeflated(t *testing.T, h *hostile) {
	good := deflated(t, []byte(`{"type":"ping","x":"`+prose(2000)+`"}`))
	tests := map[string][]byte{
		"random bytes":           hostileBytes(1, 500),
		"text":                   []byte(protocol.PlainPing),
		"a reserved block":       {0x07, 0x00},
		"a stored length wrong":  {0x00, 0x05, 0x00, 0x00, 0x00, 'h', 'e', 'l', 'l', 'o'},
		"cut off":                good[:len(good)/2],
		"a distance too far":     {0x4b, 0x04, 0x82, 0x00},
		"something behind":       slices.Concat(good, []byte{0x01, 0x00, 0x00, 0xff, 0xff}, good),
		"not UTF-8":              deflated(t, []byte("{\"type\":\"ping\",\"id\":\"\xff\"}")),
		"half a rune at the end": deflated(t, []byte("\xe2\x82")),
		"a surrogate in UTF-8":   deflated(t, []byte("\xed\xa0\x80")),
	}
	for name, payload := range tests {
		c := rfcDialDeflate(t, h.Addr())
		c.send(t, squeezedFrame(payload))
		if c.ends(t, protocol.InvalidUTF8); t.Failed() {
			t.Fatal(name)
		}
		c.Close()
	}
	for seed := range 100 { // whatever comes of these, it is an answer and an end
		c := rfcDialDeflate(t, h.Addr())
		c.send(t, squeezedFrame(hostileBytes(uint64(seed), 1+seed*7)))
		c.send(t, rfcBytes{}.say(frame.Close, "\x03\xe8"))
		c.closed = true
		if got, err := c.rest(); err != nil && err != io.EOF || len(got) < 2 {
			t.Errorf("seed %d: %v, %v", seed, got, err)
		}
		c.Close()
	}
}

// TestTranscriptsCompressed replays the transcripts where compression was
// agreed on, and where it is switched off: short messages are the same.
func TestTranscriptsCompressed(t *testing.T) {
	all, err := conformance.All()
	if err != nil || len(all) == 0 {
		t.Fatalf("%d transcripts: %v", len(all), err)
	}
	for _, way := range []struct {
		kind string
		on   bool
	}{{eventloop.KindEpoll, true}, {eventloop.KindPortable, true}, {eventloop.KindEpoll, false}} {
		for _, tr := range all {
			t.Run(fmt.Sprintf("%s %v/%s", way.kind, way.on, tr.Name), func(t *testing.T) {
				t.Parallel()
				l := newLive(t, way.kind, 1)
				l.cfg.Gateway.Compression = way.on
				got, err := tr.Replay(compressing{l, way.on})
				if err != nil {
					t.Fatal(err)
				}
				if err := conformance.Same(tr.Text(), got); err != nil {
					t.Errorf("%s.txt %v", tr.Name, err)
				}
			})
		}
	}
}

// A compressing server is one whose clients all offer compression.
type compressing struct {
	*live
	on bool
}

// Open connects with an offer, which must be taken or left as configured.
func (l compressing) Open(conn int) error {
	l.opening.Store(int64(conn))
	s, resp, err := dialer{header: offering().header}.dial(l.started().Addr())
	if err != nil {
		return err
	}
	if agreed := s != nil && resp.Header.Get("Sec-WebSocket-Extensions") != ""; s == nil || agreed != l.on {
		return fmt.Errorf("the offer was answered with %v", resp)
	}
	l.peers[conn] = pump(l.t, s, l.progress)
	return l.settle()
}
