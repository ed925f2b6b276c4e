package frame

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

func BenchmarkReader(b *testing.B) {
	for _, n := range []int{15, 64, 1000, 60000} {
		b.Run(fmt.Sprintf("whole/%d", n), func(b *testing.B) {
			in := stream{}.with(Text, strings.Repeat("x", n))
			// What is masked a second time is in clear: with a key of zeros the
			// same bytes can be fed again.
			clear(in[len(in)-n-4 : len(in)-n])
			Mask(in[len(in)-n:], testKey, 0)
			benchmarkRead(b, in, len(in))
		})
	}
	b.Run("two reads/1000", func(b *testing.B) {
		in := AppendMasked(nil, Text, true, [4]byte{}, make([]byte, 1000))
		benchmarkRead(b, in, 500)
	})
	b.Run("fragments/10x100", func(b *testing.B) {
		in := AppendMasked(nil, Text, false, [4]byte{}, make([]byte, 100))
		for i := range 9 {
			in = AppendMasked(in, Continuation, i == 8, [4]byte{}, make([]byte, 100))
		}
		benchmarkRead(b, in, len(in))
	})
}

func benchmarkRead(b *testing.B, in []byte, first int) {
	b.Helper()
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	chunks := [][]byte{in[:first], in[first:]}
	if first == len(in) {
		chunks = chunks[:1]
	}
	var r Reader
	for b.Loop() {
		for _, c := range chunks {
			r.Feed(c)
			for ok := true; ok; {
				_, more, err := r.Next(1 << 16)
				if err != nil {
					b.Fatal(err)
				}
				ok = more
			}
		}
	}
}

func BenchmarkMask(b *testing.B) {
	masks := []struct {
		name string
		mask func([]byte)
	}{
		{"ours", func(p []byte) { Mask(p, testKey, 1) }},
		{"bytes", func(p []byte) {
			for i := range p {
				p[i] ^= testKey[(i+1)&3]
			}
		}},
		{"gobwas", func(p []byte) { ws.Cipher(p, testKey, 1) }},
	}
	for _, n := range []int{15, 200, 65536} {
		for _, m := range masks {
			b.Run(fmt.Sprintf("%s/%d", m.name, n), func(b *testing.B) {
				p := make([]byte, n)
				b.ReportAllocs()
				b.SetBytes(int64(n))
				for b.Loop() {
					m.mask(p)
				}
			})
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	dst, payload := make([]byte, 0, 4096), make([]byte, 200)
	b.ReportAllocs()
	for b.Loop() {
		dst = Append(dst[:0], Text, payload)
	}
}
