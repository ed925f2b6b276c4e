package eventloop

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	klauspost "github.com/klauspost/compress/flate"

	"cryptointel/internal/hub"
)

// prices is a message as they are on price:*, of at least n bytes.
func prices(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := []byte(`{"type":"price_update","channel":"price:*","offset":1764678600123456,"ts":1764678600123,"data":{`)
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, `"asset-%d":{"price":%.2f,"change_24h":%.3f,"volume_24h":%d,"stale":false},`, i, r.Float64()*1e5, r.Float64()*9, r.IntN(1e9))
	}
	return append(b[:len(b)-1], "}}"...)
}

func noise(n int) []byte {
	r := rand.New(rand.NewPCG(3, 4))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// inflateSlow undoes what RFC 7692 describes, with the standard library.
func inflateSlow(b []byte) ([]byte, error) {
	return io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(b), strings.NewReader(streamEnd))))
}

func TestDeflaterRoundTrip(t *testing.T) {
	var d Deflater
	for _, n := range []int{1, 2, 100, 1024, 4096, 32 << 10, 70_000, 1 << 20} {
		for name, plain := range map[string][]byte{"prices": prices(n), "noise": noise(n), "one letter": bytes.Repeat([]byte("x"), n)} {
			packed := d.Deflate([]byte("before"), plain)
			slow, err := inflateSlow(packed[6:])
			if err != nil || !bytes.Equal(slow, plain) || string(packed[:6]) != "before" {
				t.Errorf("%s, %d bytes: compressed to what the standard library reads as %d bytes, %v", name, n, len(slow), err)
			}
			got, err := d.Inflate([]byte("before"), packed[6:], len(plain))
			if err != nil || string(got) != "before"+string(plain) {
				t.Errorf("%s, %d bytes: inflated to %d, %v", name, n, len(got)-6, err)
			}
			if _, err := d.Inflate(nil, packed[6:], len(plain)-1); !errors.Is(err, hub.ErrInflated) {
				t.Errorf("%s, %d bytes with a limit of one less: %v", name, n, err)
			}
		}
	}
}

// TestDeflaterKeepsNoContext: a message is compressed as if it were the first,
// so that whoever has not had the one before can read it.
func TestDeflaterKeepsNoContext(t *testing.T) {
	var used Deflater
	for range 3 {
		var fresh Deflater
		a, b := used.Deflate(nil, prices(3000)), fresh.Deflate(nil, prices(3000))
		if !bytes.Equal(a, b) {
			t.Fatalf("%d bytes, from a fresh one %d", len(a), len(b))
		}
	}
}

// TestInflateExamples are those of RFC 7692, section 7.2.3, and what must not
// pass for a message.
func TestInflateExamples(t *testing.T) {
	hello := "\xf2\x48\xcd\xc9\xc9\x07\x00"
	cases := []struct {
		name, in, want string
		fails          bool
	}{
		{name: "7.2.3.1 one block", in: hello, want: "Hello"},
		{name: "7.2.3.3 no compression", in: "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", want: "Hello"},
		{name: "7.2.3.4 a last block", in: "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", want: "Hello"},
		{name: "a last block and no byte after it", in: "\xf3\x48\xcd\xc9\xc9\x07\x00", want: "Hello"},
		{name: "7.2.3.5 two blocks", in: "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", want: "Hello"},
		{name: "7.2.3.6 the empty message", in: "\x00"},
		{name: "nothing"},
		{name: "7.2.3.2 needs the message before", in: "\xf2\x00\x11\x00\x00", fails: true},
		{name: "cut", in: hello[:4], fails: true},
		{name: "cut in a stored block's length", in: "\x00\x05\x00", fails: true},
		{name: "the tail left in", in: hello + "\x00\x00\xff\xff", fails: true},
		{name: "a message behind the last block", in: "\xf3\x48\xcd\xc9\xc9\x07\x00" + hello, fails: true},
		{name: "a byte behind the last block", in: "\xf3\x48\xcd\xc9\xc9\x07\x00\x01", fails: true},
		{name: "no deflated data", in: `{"type":"ping"}`, fails: true},
	}
	var d Deflater
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := d.Inflate(nil, []byte(c.in), 100)
			if (err != nil) != c.fails || err == nil && string(got) != c.want || errors.Is(err, hub.ErrInflated) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// TestInflateBomb: 64 MiB in 64 KiB cost the limit and no more.
func TestInflateBomb(t *testing.T) {
	var bomb bytes.Buffer
	w, _ := flate.NewWriter(&bomb, 1)
	for range 64 {
		w.Write(make([]byte, 1<<20))
	}
	w.Flush()
	const limit = 64 << 10
	var d Deflater
	got, err := d.Inflate(nil, bomb.Bytes(), limit)
	if !errors.Is(err, hub.ErrInflated) || cap(got) > 4*limit || cap(d.src) > 4*limit {
		t.Errorf("%v with %d bytes made and %d kept", err, cap(got), cap(d.src))
	}
	if got, err := d.Inflate(nil, []byte("\xf2\x48\xcd\xc9\xc9\x07\x00"), limit); err != nil || string(got) != "Hello" {
		t.Errorf("afterwards: %q, %v", got, err)
	}
}

// FuzzInflate: what ours takes the standard library reads the same, and what it
// refuses that refuses too, but for what follows a last block.
func FuzzInflate(f *testing.F) {
	var d Deflater
	f.Add(d.Deflate(nil, prices(500)), uint16(1000))
	f.Add(d.Deflate(nil, make([]byte, 5000)), uint16(100))
	f.Add([]byte("\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), uint16(5))
	f.Add([]byte("\xf2\x00\x11\x00\x00"), uint16(5))
	f.Fuzz(func(t *testing.T, in []byte, limit uint16) {
		var d Deflater
		got, err := d.Inflate(nil, in, int(limit))
		want, slowErr := inflateSlow(in)
		switch {
		case err == nil && (slowErr != nil && len(in) > 0 || !bytes.Equal(got, want) || len(got) > int(limit)):
			t.Fatalf("got %q, the standard library %q, %v", got, want, slowErr)
		case errors.Is(err, hub.ErrInflated) && slowErr == nil && len(want) <= int(limit):
			t.Fatalf("over a limit of %d: %q", limit, want)
		case err != nil && slowErr == nil && !errors.Is(err, errTrailing) && !errors.Is(err, hub.ErrInflated):
			t.Fatalf("got %v, the standard library %q", err, want)
		}
		back, err := d.Inflate(nil, d.Deflate(nil, in), len(in))
		if err != nil || !bytes.Equal(back, in) {
			t.Fatalf("round trip: %q, %v", back, err)
		}
	})
}

func TestDeflaterAllocates(t *testing.T) {
	var d Deflater
	plain := prices(2000)
	packed, back := d.Deflate(nil, plain), make([]byte, 0, 4000)
	into := make([]byte, 0, 4000)
	if n := testing.AllocsPerRun(100, func() {
		into = d.Deflate(into[:0], plain)
		if _, err := d.Inflate(back, packed, 4000); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%.0f allocations for a message there and back", n)
	}
}

func BenchmarkDeflate(b *testing.B) {
	for _, n := range []int{1 << 10, 2 << 10, 16 << 10} {
		plain := prices(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var d Deflater
			var out []byte
			b.ReportAllocs()
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				out = d.Deflate(out[:0], plain)
			}
			b.ReportMetric(float64(len(plain))/float64(len(out)), "times-smaller")
		})
	}
}

// BenchmarkDeflateLevel is what deflateLevel was chosen by.
func BenchmarkDeflateLevel(b *testing.B) {
	plain := prices(2 << 10)
	for _, level := range []int{1, 3, 5, 6, 9} {
		b.Run(fmt.Sprint(level), func(b *testing.B) {
			w, err := klauspost.NewWriter(io.Discard, level)
			if err != nil {
				b.Fatal(err)
			}
			var out bytes.Buffer
			for b.Loop() {
				out.Reset()
				w.Reset(&out)
				w.Write(plain)
				w.Flush()
			}
			b.ReportMetric(float64(out.Len()), "bytes")
		})
	}
}

func BenchmarkInflate(b *testing.B) {
	for _, n := range []int{100, 2 << 10, 64 << 10} {
		plain := prices(n)
		var d Deflater
		packed := d.Deflate(nil, plain)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var out []byte
			b.ReportAllocs()
			for b.Loop() {
				out, _ = d.Inflate(out[:0], packed, 1<<20)
			}
		})
	}
}
