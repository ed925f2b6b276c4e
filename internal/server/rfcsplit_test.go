package server

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"cryptointel/internal/frame"
	"cryptointel/protocol"
)

// rfcSample is a case of every kind: messages and control frames of every
// length form, and every way to break the rules.
func rfcSample() []rfcCase {
	return []rfcCase{
		{"text", rfcBytes{}.text("Hello κόσμε"), rfcTexts("Hello κόσμε"), 0},
		{"two binaries and a ping", rfcBytes{}.say(frame.Binary, "\x00\xff").say(frame.Ping, "p").say(frame.Binary, ""),
			[]rfcFrame{{frame.Binary, "\x00\xff"}, {frame.Pong, "p"}, {frame.Binary, ""}}, 0},
		{"126 bytes", rfcBytes{}.text(rfcRepeat("é", 126)), rfcTexts(rfcRepeat("é", 126)), 0},
		{"fragments and a ping", rfcBytes{}.part(frame.Text, "𝄞").say(frame.Ping, "ping").part(frame.Continuation, "\xf0\x9d").say(frame.Continuation, "\x84\x9e"),
			append([]rfcFrame{{frame.Pong, "ping"}}, rfcTexts("𝄞𝄞")...), 0},
		{"reserved bit", rfcBytes{}.text("ok").first(0xc1, "no"), rfcTexts("ok"), 1002},
		{"not masked", rfcBytes{}.text("ok").raw("\x81\x02no"), rfcTexts("ok"), 1002},
		{"length not shortest", rfcBytes{}.raw("\x82\xff\x00\x00\x00\x00\x00\x00\x00\x7e\x00\x00\x00\x00"), nil, 1002},
		{"too large", rfcBytes{}.raw("\x82\xff\x00\x00\x00\x00\x01\x00\x00\x01\x00\x00\x00\x00"), nil, 1009},
		{"surrogate", rfcBytes{}.part(frame.Text, "κ").say(frame.Continuation, "\xed\xa0\x80"), nil, 1007},
		{"close with a reason", rfcBytes{}.say(frame.Close, "\x0f\xa0bye"), nil, 4000},
		{"close with bad UTF-8", rfcBytes{}.say(frame.Close, "\x03\xe8\xff"), nil, 1007},
		{"close and more", rfcBytes{}.say(frame.Close, "\x03\xe9").text("late"), nil, 1001},
	}
}

// TestRFCEverySplit sends a sample of the cases in two pieces, cut at every
// byte, and byte by byte. The second piece is sent when the server has read
// the first, so each is a read of its own.
func TestRFCEverySplit(t *testing.T) {
	for _, kind := range rfcKinds {
		t.Run(kind, func(t *testing.T) {
			s := rfcStart(t, kind, rfcEcho)
			for _, c := range rfcSample() {
				t.Run(c.name, func(t *testing.T) {
					for at := 1; at < len(c.in) && !t.Failed(); at++ {
						c.run(t, s, rfcCut(at))
					}
					c.run(t, s, rfcByByte)
				})
			}
		})
	}
}

// rfcCut sends the first at bytes, waits until they are read, and sends the
// rest.
func rfcCut(at int) func(*testing.T, *rfcServer, *rfcConn, []byte) {
	return func(t *testing.T, s *rfcServer, c *rfcConn, in []byte) {
		before := s.bytesIn(t)
		rfcWhole(t, s, c, in[:at])
		s.waitIn(t, before+uint64(at))
		rfcWhole(t, s, c, in[at:])
	}
}

func rfcByByte(t *testing.T, s *rfcServer, c *rfcConn, in []byte) {
	before := s.bytesIn(t)
	for i := range in {
		rfcWhole(t, s, c, in[i:i+1])
		s.waitIn(t, before+uint64(i)+1)
	}
}

// TestRFCPipelined sends frames in the same write as the handshake, cut off
// after every byte, and more of them than one buffer of the HTTP server holds.
func TestRFCPipelined(t *testing.T) {
	many := strings.Split(rfcRepeat("pipelined message,", 9000), ",")
	tests := []rfcCase{
		{"some of each", rfcBytes{}.text("first").say(frame.Ping, "p").part(frame.Text, "fr").say(frame.Continuation, "ag"),
			append(append(rfcTexts("first"), rfcFrame{frame.Pong, "p"}), rfcTexts("frag")...), 0},
		{"bad at once", rfcBytes{}.first(0xf1, "no"), nil, 1002},
		{"close at once", rfcBytes{}.say(frame.Close, "\x03\xe9"), nil, 1001},
		{"nine thousand bytes", rfcBytes{}.text(many...), rfcTexts(many...), 0},
	}
	for _, kind := range rfcKinds {
		t.Run(kind, func(t *testing.T) {
			s := rfcStart(t, kind, rfcEcho)
			for _, c := range tests {
				t.Run(c.name, func(t *testing.T) {
					for at := range min(len(c.in), 64) {
						c.pipeline(t, s, at)
					}
					c.pipeline(t, s, len(c.in))
				})
			}
		})
	}
}

// pipeline sends the handshake with the first at bytes of the case behind it,
// then the rest.
func (c rfcCase) pipeline(t *testing.T, s *rfcServer, at int) {
	t.Helper()
	conn := rfcTCP(t, s.Addr())
	defer conn.Close()
	conn.send(t, append([]byte(rfcRequest), c.in[:at]...))
	conn.upgraded(t)
	rest, code := c.in[at:], c.code
	if code == 0 {
		rest, code = slices.Clip(rest).say(frame.Close, "\x03\xe8"), 1000
		conn.closed = true
	}
	conn.send(t, rest)
	got, err := conn.rest()
	if want := append(slices.Clip(c.want), rfcClose(code)); err != nil || !slices.Equal(got, want) {
		t.Errorf("cut at %d: got %v, %v\nwant %v", at, got, err, want)
	}
}

// TestRFCHandshakeByByte sends the handshake and a frame behind it a byte a
// write.
func TestRFCHandshakeByByte(t *testing.T) {
	for _, kind := range rfcKinds {
		t.Run(kind, func(t *testing.T) {
			s := rfcStart(t, kind, rfcEcho)
			c := rfcTCP(t, s.Addr())
			rfcChops(1)(t, s, c, rfcBytes(rfcRequest).text("Hello"))
			c.upgraded(t)
			if got, err := c.next(); err != nil || got != rfcTexts("Hello")[0] {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

// TestRFCSession breaks the rules on a real session: the error comes before
// the close.
func TestRFCSession(t *testing.T) {
	tests := []struct {
		name string
		in   rfcBytes
		code protocol.Code
	}{
		{"reserved bit", rfcBytes{}.first(0xc1, "{}"), protocol.ProtocolError},
		{"reserved opcode", rfcBytes{}.first(0x83, "{}"), protocol.ProtocolError},
		{"not masked", rfcBytes{}.raw("\x81\x02{}"), protocol.ProtocolError},
		{"ping of 126 bytes", rfcBytes{}.say(frame.Ping, rfcRepeat("x", 126)), protocol.ProtocolError},
		{"ping in two", rfcBytes{}.part(frame.Ping, "x"), protocol.ProtocolError},
		{"stray continuation", rfcBytes{}.say(frame.Continuation, "{}"), protocol.ProtocolError},
		{"missing continuation", rfcBytes{}.part(frame.Text, "{").text("{}"), protocol.ProtocolError},
		{"length not shortest", rfcBytes{}.raw("\x81\xfe\x00\x05\x00\x00\x00\x00"), protocol.ProtocolError},
		{"bad UTF-8", rfcBytes{}.text("{\"type\":\"\xff\"}"), protocol.InvalidUTF8},
		{"bad UTF-8 in a fragment", rfcBytes{}.part(frame.Text, "\xed\xa0"), protocol.InvalidUTF8},
		{"64 KiB and a byte", rfcBytes{}.raw("\x81\xff\x00\x00\x00\x00\x00\x01\x00\x01\x00\x00\x00\x00"), protocol.MessageTooLarge},
		{"fragments over 64 KiB", rfcBytes{}.part(frame.Text, rfcRepeat("x", 65536)).say(frame.Continuation, "x"), protocol.MessageTooLarge},
		{"binary", rfcBytes{}.say(frame.Binary, "{}"), protocol.InvalidMessage},
	}
	for _, kind := range rfcKinds {
		s := rfcStart(t, kind, nil)
		for _, tt := range tests {
			t.Run(fmt.Sprint(kind, " ", tt.name), func(t *testing.T) {
				c := rfcDial(t, s.Addr())
				c.send(t, tt.in)
				got, err := c.rest()
				if err != nil || len(got) != 3 {
					t.Fatalf("got %v, %v: want the greeting, an error and a close", got, err)
				}
				if want := `"code":"` + string(tt.code) + `"`; !strings.Contains(got[1].Payload, want) {
					t.Errorf("got %s, want %s", got[1].Payload, want)
				}
				if want := rfcClose(tt.code.Close()); got[2] != want {
					t.Errorf("got %v, want %v", got[2], want)
				}
			})
		}
	}
}
