package gateway

import (
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func TestPickDeflate(t *testing.T) {
	const (
		bare    = "permessage-deflate"
		agreed  = bare + "; server_no_context_takeover; client_no_context_takeover"
		windows = agreed + "; server_max_window_bits=15"
	)
	tests := []struct {
		name   string
		offers []string
		answer string // empty when none is taken
	}{
		{"none", nil, ""},
		{"bare", []string{bare}, agreed},
		{"in capitals", []string{"Permessage-Deflate"}, agreed},
		{"as browsers do", []string{bare + "; client_max_window_bits"}, agreed},
		{"a window of the client", []string{bare + "; client_max_window_bits=8"}, agreed},
		{"a quoted window of the client", []string{bare + `; client_max_window_bits="10"`}, agreed},
		{"an escaped window of the client", []string{bare + `; client_max_window_bits="1\0"`}, agreed},
		{"no contexts", []string{bare + ";server_no_context_takeover;client_no_context_takeover"}, agreed},
		{"the largest window of the server", []string{bare + "; server_max_window_bits=15"}, windows},
		{"white space", []string{" \t" + bare + " ;\tserver_max_window_bits = 15 "}, windows},
		{"another extension", []string{"x-webkit-deflate-frame"}, ""},
		{"behind another extension", []string{"x-other; a=1; b, " + bare}, agreed},
		{"on a second line", []string{"x-other", bare}, agreed},
		{"empty elements", []string{", ," + bare + ",,"}, agreed},
		{"an empty header", []string{""}, ""},

		{"a smaller window of the server", []string{bare + "; server_max_window_bits=10"}, ""},
		{"a smaller window, then none", []string{bare + "; server_max_window_bits=10, " + bare}, agreed},
		{"the first that can be kept", []string{bare + "; server_max_window_bits=15, " + bare}, windows},
		{"a window of the server without value", []string{bare + "; server_max_window_bits"}, ""},
		{"windows that are none", []string{
			bare + "; client_max_window_bits=7, " + bare + "; client_max_window_bits=16, " +
				bare + "; client_max_window_bits=08, " + bare + "; client_max_window_bits=x, " + bare + "; server_max_window_bits=015"}, ""},
		{"a value where none belongs", []string{bare + "; server_no_context_takeover=1, " + bare + "; client_no_context_takeover=true"}, ""},
		{"a parameter twice", []string{bare + "; client_max_window_bits; client_max_window_bits=10"}, ""},
		{"a parameter twice in another case", []string{bare + "; server_no_context_takeover; SERVER_NO_CONTEXT_TAKEOVER"}, ""},
		{"an unknown parameter", []string{bare + "; mode=fast"}, ""},
		{"an unknown parameter, then none", []string{bare + "; mode=fast, " + bare}, agreed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			picked, ok := pickDeflate(tt.offers)
			var got string
			if picked.accepted {
				got = picked.answer()
			}
			if !ok || got != tt.answer {
				t.Errorf("got %q, %v, want %q", got, ok, tt.answer)
			}
		})
	}
}

// What breaks the grammar fails the handshake, wherever it stands.
func TestBrokenExtensions(t *testing.T) {
	addr := newHarness(t, unlimited).serve(t)
	for _, s := range []string{
		";", "permessage-deflate;", "permessage-deflate; ;", "permessage-deflate; a=", "permessage-deflate; =1",
		"permessage-deflate permessage-deflate", `permessage-deflate; a="`, `permessage-deflate; a="\`, `permessage-deflate; a="b c"`,
		`permessage-deflate; a=""`, `permessage-deflate; a="b"c`, "permessage-deflate; a=b=c", "a/b", "permessage-deflate, (", `"permessage-deflate"`,
	} {
		resp, body := ask(t, addr, upgradeLines(getWS, "Sec-WebSocket-Extensions", s))
		if resp.StatusCode != 400 || !strings.Contains(body, "Sec-WebSocket-Extensions") {
			t.Errorf("%q: got %d %s, want 400", s, resp.StatusCode, body)
		}
	}
}

func TestDeflateAtTheDoor(t *testing.T) {
	const offer = "permessage-deflate; client_max_window_bits"
	tests := []struct {
		name    string
		change  func(*Config, *Parts)
		offered string
		want    bool
	}{
		{"offered", unlimited, offer, true},
		{"not offered", unlimited, "", false},
		{"offered with what cannot be", unlimited, "permessage-deflate; server_max_window_bits=9", false},
		{"switched off", func(c *Config, p *Parts) { unlimited(c, p); c.Compression = false }, offer, false},
		{"echo", func(_ *Config, p *Parts) { p.Echo = true }, offer, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t, tt.change)
			resp, _ := ask(t, h.serve(t), upgradeLines(getWS, "Sec-WebSocket-Extensions", tt.offered))
			a := <-h.conns.got
			if said := resp.Header.Get("Sec-WebSocket-Extensions") != ""; a.hello.Deflate != tt.want || said != tt.want {
				t.Errorf("got %v, told %q, want %v", a.hello.Deflate, resp.Header.Get("Sec-WebSocket-Extensions"), tt.want)
			}
			<-h.served
			if got := h.Counts().Compressed; (got == 1) != tt.want {
				t.Errorf("counted %d", got)
			}
		})
	}
}

// A client of another make checks the answer and refuses what it did not offer.
func TestDeflateWithAnotherClient(t *testing.T) {
	for _, mode := range []websocket.CompressionMode{
		websocket.CompressionDisabled, websocket.CompressionContextTakeover, websocket.CompressionNoContextTakeover,
	} {
		h := newHarness(t, unlimited)
		c, _, err := websocket.Dial(t.Context(), "ws://"+h.serve(t)+"/ws", &websocket.DialOptions{CompressionMode: mode})
		if err != nil {
			t.Fatalf("mode %v: %v", mode, err)
		}
		defer c.CloseNow()
		a := <-h.conns.got
		defer a.conn.Close()
		if want := mode != websocket.CompressionDisabled; a.hello.Deflate != want {
			t.Errorf("mode %v: got %v, want %v", mode, a.hello.Deflate, want)
		}
	}
}

// FuzzExtensions writes what was read anew: reading that must give the same. It
// also bounds the time, which a header of 16 KiB could otherwise stretch.
func FuzzExtensions(f *testing.F) {
	for _, s := range []string{
		"permessage-deflate; client_max_window_bits", `permessage-deflate; server_max_window_bits="1\5", x; y=z`, ",,a;b=c,;",
		"permessage-deflate; server_max_window_bits=15; server_no_context_takeover", "a;b;c;d=\"e\"", "\x00", `a;b="\`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		begun := time.Now()
		offers, ok := readOffers(header)
		picked, same := pickDeflate([]string{header})
		if took := time.Since(begun); took > 5*time.Second {
			t.Fatalf("took %v", took)
		}
		if ok != same {
			t.Fatalf("read %v, picked %v", ok, same)
		}
		if !ok {
			return
		}
		again := writeOffers(offers)
		if second, ok := readOffers(again); !ok || writeOffers(second) != again {
			t.Fatalf("%q was read as %q, and that as %q, %v", header, again, writeOffers(second), ok)
		}
		if other, ok := pickDeflate([]string{again}); !ok || other != picked {
			t.Fatalf("%q is answered %+v, %q %+v", header, picked, again, other)
		}
		if picked.accepted && !strings.Contains(strings.ToLower(header), "permessage-deflate") {
			t.Fatalf("%q was taken for an offer", header)
		}
	})
}

func readOffers(header string) (offers []offer, ok bool) {
	for s := (&scanner{header}); ; {
		o, more, ok := s.offer()
		if !ok {
			return nil, false
		}
		if o.name != "" {
			offers = append(offers, o)
		}
		if !more {
			return offers, true
		}
	}
}

func writeOffers(offers []offer) string {
	var b strings.Builder
	for i, o := range offers {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(o.name)
		for _, p := range o.params {
			b.WriteString("; " + p.name)
			if p.valued {
				b.WriteString(`="` + p.value + `"`)
			}
		}
	}
	return b.String()
}
