package bench

import (
	"bytes"
	"compress/flate"
	"fmt"
	"hash/maphash"
	"io"
	"math/rand/v2"
	"strconv"
)

// An unpacker inflates what the server compressed. The server compresses a
// publication once for all its receivers, and so it is inflated once for all of
// a loop's: the generator's core would else be full at a tenth of the load that
// is to be measured. What was inflated is kept until another message takes its
// place.
type unpacker struct {
	seed  maphash.Seed
	kept  [256]unpacked
	r     io.Reader
	in    bytes.Reader
	fresh uint64 // messages that were inflated, not found
}

type unpacked struct{ packed, plain []byte }

// maxUnpacked bounds what a message of the server may become.
const maxUnpacked = 16 << 20

func newUnpacker() *unpacker { return &unpacker{seed: maphash.MakeSeed()} }

// read is the message that packed stands for, valid until the next call.
func (u *unpacker) read(packed []byte) ([]byte, error) {
	k := &u.kept[maphash.Bytes(u.seed, packed)%uint64(len(u.kept))]
	if len(k.packed) > 0 && bytes.Equal(k.packed, packed) {
		return k.plain, nil
	}
	u.fresh++
	// The tail that the sender leaves out (RFC 7692, 7.2.2), and a last block.
	k.packed = append(append(k.packed[:0], packed...), "\x00\x00\xff\xff\x01\x00\x00\xff\xff"...)
	u.in.Reset(k.packed)
	if u.r == nil {
		u.r = flate.NewReader(&u.in)
	} else if err := u.r.(flate.Resetter).Reset(&u.in, nil); err != nil {
		return nil, fmt.Errorf("inflate: %w", err)
	}
	k.packed = k.packed[:len(packed)]
	plain := bytes.NewBuffer(k.plain[:0])
	n, err := plain.ReadFrom(io.LimitReader(u.r, maxUnpacked+1))
	k.plain = plain.Bytes()
	switch {
	case err != nil:
		k.packed = k.packed[:0]
		return nil, fmt.Errorf("inflate: %w", err)
	case n > maxUnpacked:
		k.packed, k.plain = k.packed[:0], nil
		return nil, fmt.Errorf("inflate: over %d bytes", maxUnpacked)
	}
	return k.plain, nil
}

// padding is n bytes of text that compresses as prices do, about three to one:
// a run of one letter would flatter the compressor. It is always the same.
func padding(n int) string {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 0, n+32)
	for len(b) < n {
		b = append(b, "asset-"...)
		b = strconv.AppendInt(b, int64(r.IntN(50)), 10)
		b = append(b, " price "...)
		b = strconv.AppendFloat(b, r.Float64()*1e4, 'f', 2, 64)
		b = append(b, ", "...)
	}
	return string(b[:n])
}
