package eventloop

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/flate"

	"cryptointel/internal/hub"
)

// deflateLevel is where the bytes saved stop paying for the time: 2 KiB of
// prices become 567 bytes in 8 us at level 1, 555 in 15 us at level 6, 548 in
// 40 us at level 9 (BenchmarkDeflateLevel). Ten thousand share one compression.
const deflateLevel = 6

// What ends the blocks of a compressed message. A sync flush ends with an empty
// stored block of which the sender leaves out the last four bytes; the reader
// puts them back and adds an empty last block, so that the stream ends.
const (
	flushTail = "\x00\x00\xff\xff"
	lastBlock = "\x01\x00\x00\xff\xff"
	streamEnd = flushTail + lastBlock
)

var errTrailing = errors.New("something follows the last block")

// A Deflater compresses and inflates messages as RFC 7692 wants them without
// context takeover, for hub.Config. Its zero value is ready; one loop owns it.
// What it needs (a megabyte to compress, 40 KiB to inflate) it makes when it is
// first used and keeps: a compressor a connection would be the megabyte times
// ten thousand.
type Deflater struct {
	w   *flate.Writer
	out appender
	r   io.ReadCloser // also a flate.Resetter
	in  bytes.Reader
	src []byte // of what inflates, with its end
}

// An appender is where the compressor writes.
type appender struct{ b []byte }

func (a *appender) Write(b []byte) (int, error) {
	a.b = append(a.b, b...)
	return len(b), nil
}

// Deflate appends src, compressed.
func (d *Deflater) Deflate(dst, src []byte) []byte {
	d.out.b = dst
	if d.w == nil {
		d.w, _ = flate.NewWriter(&d.out, deflateLevel) // fails for other levels only
	} else {
		d.w.Reset(&d.out)
	}
	// Neither fails: an appender takes everything.
	_, _ = d.w.Write(src)
	_ = d.w.Flush()
	dst, d.out.b = d.out.b, nil
	return dst[:len(dst)-len(flushTail)]
}

// Inflate appends what src was compressed from. More than limit bytes of it is
// hub.ErrInflated; then, as after any error, what is appended is worth nothing.
func (d *Deflater) Inflate(dst, src []byte, limit int) ([]byte, error) {
	if len(src) == 0 { // some leave out the empty message's only byte
		return dst, nil
	}
	d.src = append(append(d.src[:0], src...), streamEnd...)
	d.in.Reset(d.src)
	if d.r == nil {
		d.r = flate.NewReader(&d.in)
	} else if err := d.r.(flate.Resetter).Reset(&d.in, nil); err != nil {
		return dst, fmt.Errorf("eventloop: inflate: %w", err)
	}
	dst, err := d.readAll(dst, len(dst)+limit)
	if err == nil && !d.atEnd() {
		err = errTrailing
	}
	if cap(d.src) > readBytes {
		d.src = nil
	}
	if err != nil {
		return dst, fmt.Errorf("eventloop: inflate: %w", err)
	}
	return dst, nil
}

// readAll appends all that the reader gives, until dst is longer than most.
// Memory grows with what comes out and never far beyond most.
func (d *Deflater) readAll(dst []byte, most int) ([]byte, error) {
	for {
		if len(dst) == cap(dst) {
			dst = slices.Grow(dst, min(max(512, len(dst)), most+1-len(dst)))
		}
		n, err := d.r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		switch {
		case len(dst) > most:
			return dst, hub.ErrInflated
		case err == io.EOF:
			return dst, nil
		case err != nil:
			return dst, err
		}
	}
}

// atEnd reports whether the stream ended where the message does. A message may
// have a last block of its own, and then a zero byte (RFC 7692, 7.2.3.4).
func (d *Deflater) atEnd() bool {
	switch rest := d.src[len(d.src)-d.in.Len():]; string(rest) {
	case "", streamEnd, "\x00" + streamEnd:
		return true
	}
	return false
}
