package frame

import (
	"encoding/binary"
	"math/bits"
)

// Mask masks or unmasks b in place. pos is the position of b[0] in the frame's
// payload, so that a payload can be done in pieces.
//
// Thirty-two bytes a round, in words that encoding/binary turns into single
// loads and stores. Against a loop over bytes, for 64 KiB: 38 µs to 2.3 µs
// (BenchmarkMask).
func Mask(b []byte, key [4]byte, pos int) {
	// Little endian on every machine: the word's lowest byte meets b[0].
	k := bits.RotateLeft32(binary.LittleEndian.Uint32(key[:]), -8*(pos&3))
	w := uint64(k)<<32 | uint64(k)
	for len(b) >= 32 {
		xor(b[0:8], w)
		xor(b[8:16], w)
		xor(b[16:24], w)
		xor(b[24:32], w)
		b = b[32:]
	}
	for len(b) >= 8 {
		xor(b[0:8], w)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= byte(w >> (8 * i))
	}
}

func xor(b []byte, w uint64) {
	binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^w)
}
