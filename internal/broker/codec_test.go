package broker

import (
	"bytes"
	"math"
	"reflect"
	"strings"
	"testing"

	"cryptointel/protocol"
)

func TestCodec(t *testing.T) {
	entry := signal("id", `{"a":1}`)
	entry.Offset, entry.TS = maxOffset, math.MaxInt64
	bare := &protocol.Publication{Channel: "test:log", Type: "other", Data: []byte(`{}`), Signal: &protocol.Signal{}}
	tests := []struct {
		name string
		p    *protocol.Publication
	}{
		{"price", price("bitcoin", 1764678600123456)},
		{"entry", entry},
		{"bare signal", bare},
		{"no type", &protocol.Publication{Channel: "a", Data: []byte(`{}`), Price: math.Inf(-1)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := appendPublication([]byte("before"), tt.p)[len("before"):]
			if got, err := parsePublication(b); err != nil || !reflect.DeepEqual(got, tt.p) {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.p)
			}
			fields := len(b) - len(tt.p.Data) // cut within them, nothing is left to be data
			for n := range fields {
				if p, err := parsePublication(b[:n]); err == nil {
					t.Errorf("the first %d bytes are read as %+v", n, p)
				}
			}
		})
	}
}

// FuzzParsePublication: what parses is encoded to the same bytes again.
func FuzzParsePublication(f *testing.F) {
	f.Add(appendPublication(nil, price("bitcoin", 5)))
	f.Add(appendPublication(nil, signal("id", `{"a":1}`)))
	f.Add([]byte{version, 1, 'a', 0x80, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePublication(b)
		if err != nil {
			return
		}
		if again := appendPublication(nil, p); !bytes.Equal(again, b) {
			t.Errorf("%x is read as %+v and written as %x", b, p, again)
		}
	})
}

// FuzzAppendPublication: every publication that check lets through comes back.
func FuzzAppendPublication(f *testing.F) {
	f.Add("price:bitcoin", "price_update", int64(1), int64(2), 1.5, "id", "a,b", byte(7), []byte(`{}`))
	f.Add("test:log", "x", int64(0), int64(0), 0.0, "", "", byte(0), []byte(`{"a":[]}`))
	f.Fuzz(func(t *testing.T, channel, kind string, offset, ts int64, price float64, id, names string, flags byte, data []byte) {
		p := &protocol.Publication{Channel: channel, Type: kind, Offset: offset, TS: ts, Price: price, Data: data}
		if flags&1 != 0 {
			p.Signal = &protocol.Signal{ID: id, Type: kind, Entities: strings.Split(names, ","), Severity: names,
				Confidence: price, HasConfidence: flags&2 != 0, High: flags&4 != 0}
		}
		if check(p) != nil || price != price { // NaN is not equal to itself
			return
		}
		got, err := parsePublication(appendPublication(nil, p))
		if err != nil || !reflect.DeepEqual(got, p) {
			t.Errorf("got %+v, %v; want %+v", got, err, p)
		}
	})
}

// FuzzSubject: a channel's subject is a single token and only its own.
func FuzzSubject(f *testing.F) {
	f.Add("price:bitcoin", "price.bitcoin")
	f.Add("test:*", "test:=a")
	f.Fuzz(func(t *testing.T, a, b string) {
		if !validChannel(a) || !validChannel(b) {
			return
		}
		token, ok := strings.CutPrefix(subjectOf(a), statePrefix)
		if !ok || token == "" || strings.ContainsAny(token, ".*> \t\r\n") {
			t.Errorf("%q has the subject token %q", a, token)
		}
		if (subjectOf(a) == subjectOf(b)) != (a == b) {
			t.Errorf("%q and %q have the subjects %q and %q", a, b, subjectOf(a), subjectOf(b))
		}
	})
}

func BenchmarkCodec(b *testing.B) {
	p := price("bitcoin", 1764678600123456)
	p.Data = make([]byte, 250)
	buf := appendPublication(nil, p)
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf = appendPublication(buf[:0], p)
		}
	})
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := parsePublication(buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}
