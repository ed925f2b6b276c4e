package server

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cryptointel/internal/eventloop"
	"cryptointel/protocol"
)

// TestHostileMessages is attacks by what messages say, and by not reading.
func TestHostileMessages(t *testing.T) {
	hostileRun(t, nil, []hostileAttack{
		{"JSON", hostileJSON},
		{"names", hostileNames},
		{"tokens", hostileTokens},
		{"not reading answers", hostileNoAnswers},
		{"not reading what is published", hostileNeverReads},
		{"not reading and not heard of", hostileVanished},
	})
}

// hostileJSON sends what is no message, or what parsers disagree about.
func hostileJSON(t *testing.T, h *hostile) {
	const size = 64 << 10
	ping := func(more string) string { return `{"type":"ping",` + more + `}` }
	tests := map[string]string{
		"nothing":                  "",
		"no JSON":                  "nonsense",
		"half of it":               `{"type":"ping"`,
		"two of it":                `{"type":"ping"}{"type":"ping"}`,
		"64 KiB of brackets":       rfcRepeat("[", size),
		"64 KiB of braces":         rfcRepeat(`{"a":`, size),
		"deep inside":              ping(`"x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000)),
		"64 KiB of quotes":         rfcRepeat(`"`, size),
		"64 KiB of backslashes":    `"` + rfcRepeat(`\`, size-1),
		"64 KiB of commas":         "[" + rfcRepeat(",", size-1),
		"a key twice":              ping(`"id":1,"id":2`),
		"a key twice, escaped":     ping(`"id":1,"\u0069d":2`),
		"a key twice, deep inside": ping(`"x":{"a":1,"a":2}`),
		"6 000 keys, one twice":    "{" + hostileKeys(6000) + `,"7":0}`,
		"a huge number":            ping(`"t":1e999`),
		"a huge negative number":   ping(`"t":-1e999`),
		"a number of 60 KiB":       ping(`"t":` + rfcRepeat("9", 60<<10)),
		"NaN":                      ping(`"t":NaN`),
		"a hexadecimal number":     ping(`"t":0x10`),
		"a leading zero":           ping(`"t":01`),
		"a NUL":                    "{\"type\":\"ping\",\"id\":\"a\x00b\"}",
		"a NUL behind":             "{\"type\":\"ping\"}\x00",
		"a control character":      "{\"type\":\"ping\",\"id\":\"a\nb\"}",
		"a byte order mark":        "\ufeff{\"type\":\"ping\"}",
		"a lone surrogate":         ping(`"id":"\ud800"`),
		"a lone low surrogate":     ping(`"id":"\udc00"`),
		"surrogates in wrong turn": ping(`"id":"\udc00\ud800"`),
		"a surrogate and more":     ping(`"id":"\ud800\u0041"`),
		"a comment":                `{"type":"ping"/**/}`,
		"single quotes":            `{'type':'ping'}`,
		"a trailing comma":         `{"type":"ping",}`,
		"an id that is an object":  ping(`"id":{"type":"ping"}`),
		"an id of 60 KiB":          ping(`"id":"` + rfcRepeat("x", 60<<10) + `"`),
	}
	for name, in := range tests {
		c := rfcDial(t, h.Addr())
		c.message(t) // the greeting
		c.send(t, rfcBytes{}.text(in))
		if m := c.message(t); m.Type != "error" || m.Error.Code != protocol.InvalidMessage {
			t.Errorf("%s: got %+v", name, m)
		}
		c.Close()
	}
}

func hostileKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"%d":0`, i)
	}
	return b.String()[1:]
}

// hostileNames subscribes to ten thousand names that are too long, and to more
// than a connection or a command may have.
func hostileNames(t *testing.T, h *hostile) {
	list := func(n int, name func(int) string) rfcBytes {
		var names []string
		for i := range n {
			names = append(names, name(i))
		}
		return rfcBytes{}.text(`{"type":"subscribe","channels":["` + strings.Join(names, `","`) + `"]}`)
	}
	const most = 256 // elements of a command
	tests := []struct {
		name  string
		in    rfcBytes
		times int
		kind  string
		code  protocol.Code // of the last element, or of the whole command
	}{
		{"too long", list(most, func(i int) string { return fmt.Sprintf("test:%0140d", i) }), 40, "ack", protocol.InvalidChannel},
		{"too many to follow", list(most, func(i int) string { return fmt.Sprintf("test:%d", i) }), 40, "ack", protocol.ChannelLimit},
		{"one again and again", list(most, func(int) string { return "test:twice" }), 40, "ack", protocol.InvalidChannel},
		{"10 000 short", list(10_000, func(i int) string { return strconv.FormatInt(int64(i)+36*36, 36) }), 9, "error", protocol.InvalidMessage},
		{"20 000 empty", list(20_000, func(int) string { return "" }), 9, "error", protocol.InvalidMessage},
	}
	for _, tt := range tests {
		c := rfcDial(t, h.Addr())
		c.message(t) // the greeting
		for range tt.times {
			c.send(t, tt.in)
			m := c.message(t)
			if n := len(m.Errors); n > 0 {
				m.Error = m.Errors[n-1]
			}
			if m.Type != tt.kind || m.Error.Code != tt.code {
				t.Fatalf("%s: got %s %s, want %s %s", tt.name, m.Type, m.Error.Code, tt.kind, tt.code)
			}
		}
		if n := h.stats(t).Shard.Subscriptions; n > 2+50 {
			t.Errorf("%s: %d subscriptions", tt.name, n)
		}
		c.Close()
		h.until(t, "gone", hostileAlone)
	}
}

// hostileTokens sends tokens that are none and leaves before the verdict.
func hostileTokens(t *testing.T, h *hostile) {
	auth := func(token string) rfcBytes { return rfcBytes{}.text(`{"type":"auth","token":"` + token + `"}`) }
	for _, token := range []string{"x", "a.b.c", rfcRepeat(".", 60<<10), rfcRepeat("eyJhbGciOiJub25lIn0.", 60<<10)} {
		c := rfcDial(t, h.Addr())
		c.send(t, auth(token))
		c.ends(t, protocol.InvalidToken)
		c.Close()
	}
	for range 100 {
		c := rfcDial(t, h.Addr())
		c.send(t, auth("a.b.c"))
		c.Close()
	}
}

// hostileDeaf is a client whose socket takes little and which never reads.
func hostileDeaf(t *testing.T, h *hostile) *rfcConn {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		failed := raw.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096)
		})
		if failed != nil {
			return failed
		}
		return err
	}}
	conn, err := d.DialContext(t.Context(), "tcp", h.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(rfcPatience)); err != nil {
		t.Fatal(err)
	}
	return &rfcConn{Conn: conn}
}

// hostileNoAnswers asks and asks and never reads an answer: it is closed when
// too much would have to be kept for it.
func hostileNoAnswers(t *testing.T, h *hostile) {
	c := hostileDeaf(t, h)
	wrong := `"test:` + rfcRepeat("x", 130) + `"` // each one is refused in some 400 bytes
	ask := rfcBytes{}.text(`{"type":"subscribe","channels":[` + strings.Repeat(wrong+",", 199) + wrong + `]}`)
	c.send(t, []byte(rfcRequest))
	ended := hostileFlood(c, ask)
	h.until(t, "a slow consumer closed", func(s eventloop.LoopStats) bool {
		if s.Shard.HeldBytes > 256<<10 {
			t.Fatalf("%d bytes are held", s.Shard.HeldBytes)
		}
		return s.Shard.Closes[protocol.SlowConsumer.Close()] == 1
	})
	h.passes(t, "gone", hostileAlone)
	<-ended
	c.Close()
}

// hostileNeverReads follows everything and reads nothing, while twenty
// megabytes are published: what is kept for it is bounded, the other client
// gets all of it, and in the end the silent one is closed.
func hostileNeverReads(t *testing.T, h *hostile) {
	var deaf []*rfcConn
	for range 5 {
		c := hostileDeaf(t, h)
		deaf = append(deaf, c)
		c.send(t, rfcBytes(rfcRequest).text(`{"type":"subscribe","channels":["signals:all","`+hostileState+`"]}`))
	}
	h.until(t, "all subscribed", func(s eventloop.LoopStats) bool { return s.Shard.Subscriptions == 12 })
	const size, batch = 4 << 10, 2
	for range 20 << 20 / (2 * size * batch) {
		first := h.n
		for range batch {
			h.publish(t, size)
		}
		h.witnesses(t, first, batch)
		if s := h.stats(t).Shard; s.HeldBytes > 5*64<<10 {
			t.Fatalf("%d bytes are held for 5 clients", s.HeldBytes)
		}
	}
	if grown := h.use().heap - h.before.heap; grown > hostileGrowth+3*hostileLogBytes {
		t.Errorf("the heap has %d KiB more", grown>>10)
	}
	h.passes(t, "closed as slow", func(s eventloop.LoopStats) bool {
		return s.Shard.Errors[protocol.SlowConsumer] == 5
	})
	h.passes(t, "gone", hostileAlone)
	for _, c := range deaf {
		c.Close()
	}
}

// hostileVanished answers no ping of the server: a peer whose machine is gone.
func hostileVanished(t *testing.T, h *hostile) {
	c := rfcDial(t, h.Addr())
	c.subscribe(t, "test:vanished")
	for range 20 {
		if hostileAlone(h.stats(t)) {
			c.Close()
			return
		}
		h.advance(10 * time.Second)
		h.check(t)
	}
	t.Error("a peer that answers no ping for 200 s is still there")
}
