package server

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"cryptointel/internal/frame"
	"cryptointel/protocol"
)

// hostileFlood writes b until the server lets no more through, and then gives
// back why.
func hostileFlood(c *rfcConn, b []byte) <-chan error {
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := c.Write(b); err != nil {
				ended <- err
				return
			}
		}
	}()
	return ended
}

// floods runs an endless attack that the server must end with code, although
// the client goes on writing and never answers the close.
func (h *hostile) floods(t *testing.T, code protocol.Code, first, endless rfcBytes) (before []rfcFrame) {
	t.Helper()
	c := rfcDial(t, h.Addr())
	c.send(t, first)
	ended := hostileFlood(c, endless)
	for len(before) == 0 || before[len(before)-1].Op != frame.Close {
		f, err := c.next()
		if err != nil {
			t.Fatalf("got %v behind %d frames", err, len(before))
		}
		before = append(before, f)
	}
	c.lastWords(t, before, code)
	if held := h.stats(t).Shard.HeldBytes; held > 64<<10 {
		t.Errorf("%d bytes are held", held)
	}
	h.passes(t, "the flooder gone", hostileAlone)
	if err := <-ended; errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the flood was not cut off")
	}
	c.Close()
	return before[:len(before)-2]
}

// TestHostileFrames is attacks by frames that are right one by one.
func TestHostileFrames(t *testing.T) {
	many := func(b rfcBytes) rfcBytes { return rfcBytes(strings.Repeat(string(b), 100)) }
	const more = frame.Continuation
	hostileRun(t, nil, []hostileAttack{
		{"declared lengths", hostileLengths},
		{"half-sent frames", hostileHalves},
		{"random frames", hostileGarbage},
		{"endless fragments", func(t *testing.T, h *hostile) {
			h.floods(t, protocol.MessageTooLarge, rfcBytes{}.part(frame.Text, "x"), rfcBytes{}.part(more, rfcRepeat("x", 1000)))
		}},
		{"endless fragments of a byte", func(t *testing.T, h *hostile) {
			h.floods(t, protocol.MessageTooLarge, rfcBytes{}.part(frame.Text, "x"), many(rfcBytes{}.part(more, "x")))
		}},
		{"endless empty fragments", func(t *testing.T, h *hostile) {
			h.floods(t, protocol.MessageTooLarge, rfcBytes{}.part(frame.Text, ""), many(rfcBytes{}.part(more, "")))
		}},
		{"ping flood", func(t *testing.T, h *hostile) {
			before := h.floods(t, protocol.RateLimited, nil, many(rfcBytes{}.say(frame.Ping, rfcRepeat("p", 125))))
			if n := len(before); n > 1+301 {
				t.Errorf("got %d frames before the end, want a greeting and at most 301 pongs", n)
			}
		}},
		{"pong flood", func(t *testing.T, h *hostile) {
			if before := h.floods(t, protocol.RateLimited, nil, many(rfcBytes{}.say(frame.Pong, ""))); len(before) != 1 {
				t.Errorf("got %v before the end, want the greeting", before)
			}
		}},
		{"message flood", func(t *testing.T, h *hostile) {
			before := h.floods(t, protocol.RateLimited, nil, many(rfcBytes{}.text(protocol.PlainPing)))
			if n := len(before); n != 1+300 { // 60 pongs and 240 refusals
				t.Errorf("got %d frames before the end, want 301", n)
			}
		}},
		{"flood of nonsense", func(t *testing.T, h *hostile) {
			if n := len(h.floods(t, protocol.InvalidMessage, nil, many(rfcBytes{}.text("nonsense")))); n != 1+9 {
				t.Errorf("got %d frames before the end, want 10", n)
			}
		}},
	})
}

// hostileLengths declares what will never come.
func hostileLengths(t *testing.T, h *hostile) {
	for _, head := range []string{"\x00\x00\x00\x00\x00\x01\x00\x01", "\x00\x00\x00\x00\x00\x10\x00\x00", "\x00\x00\x01\x00\x00\x00\x00\x00", "\x7f\xff\xff\xff\xff\xff\xff\xff"} {
		c := rfcDial(t, h.Addr())
		c.send(t, rfcBytes{}.raw("\x81\xff"+head+"\x00\x00\x00\x00"))
		c.ends(t, protocol.MessageTooLarge)
		c.Close()
	}
	const clients = 100
	before := h.bytesIn(t)
	head := rfcBytes{}.raw("\x81\xff\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00x")
	var conns []*rfcConn
	for range clients {
		c := rfcDial(t, h.Addr())
		c.send(t, head)
		conns = append(conns, c)
	}
	h.waitIn(t, before+uint64(clients*len(head)))
	if held := h.stats(t).Shard.HeldBytes; held > clients*128 {
		t.Errorf("%d bytes are held for %d clients that declared 64 KiB and sent a byte", held, clients)
	}
	for _, c := range conns {
		c.Close()
	}
}

// hostileHalves begins messages and does not end them, whatever else it sends.
func hostileHalves(t *testing.T, h *hostile) {
	text := rfcBytes{}.text(`{"type":"ping"}`)
	tests := map[string][]rfcBytes{
		"a byte":            {text[:1]},
		"a header":          {text[:6]},
		"all but a byte":    {text[:len(text)-1]},
		"a fragment":        {rfcBytes{}.part(frame.Text, `{"type"`)},
		"half a ping":       {rfcBytes{}.say(frame.Ping, "ping")[:8]},
		"a byte at times":   {text[:1], text[1:2], text[2:3], text[3:4]},
		"pings between":     {rfcBytes{}.part(frame.Text, `{"type"`), rfcBytes{}.say(frame.Ping, ""), rfcBytes{}.say(frame.Ping, ""), rfcBytes{}.say(frame.Ping, "")},
		"fragments between": {rfcBytes{}.part(frame.Text, `{"type"`), rfcBytes{}.part(frame.Continuation, " "), rfcBytes{}.part(frame.Continuation, " "), rfcBytes{}.part(frame.Continuation, " ")},
	}
	for name, parts := range tests {
		c := rfcDial(t, h.Addr())
		c.subscribe(t, "test:half")
		before := h.bytesIn(t)
		for _, b := range parts {
			c.send(t, b)
			before += uint64(len(b))
			h.waitIn(t, before)
			h.advance(12 * time.Second / time.Duration(len(parts)))
		}
		if c.ends(t, protocol.ProtocolError); t.Failed() {
			t.Fatal(name)
		}
		c.Close()
	}
}

// hostileGarbage sends random bytes where frames are expected. Whatever the
// server makes of them, it answers with whole frames and ends in order.
func hostileGarbage(t *testing.T, h *hostile) {
	for seed := range 100 {
		c := rfcDial(t, h.Addr())
		c.send(t, hostileBytes(uint64(seed), 4096))
		if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		c.closed = true // there is no way left to answer a close
		got, err := c.rest()
		if err != nil || len(got) == 0 {
			t.Errorf("seed %d: got %v, %v", seed, got, err)
		}
		c.Close()
	}
}
