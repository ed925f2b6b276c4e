package market

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"cryptointel/protocol"
)

// A boltStore keeps bars in one file: a bucket for each span, in it a bucket
// for each asset, in it the bars by their start in milliseconds, big-endian.
// A bar is its five numbers, little-endian.
type boltStore struct {
	path string
	db   *bbolt.DB
}

const (
	boltFile   = "candles.db"
	boltFormat = "1"
	barBytes   = 5 * 8
	// maxForgotten bounds what one write forgets, so that it stays short when
	// much has to go. The rest goes with the next ones.
	maxForgotten = 20_000
	// lockWait is how long an ending process may keep the file.
	lockWait = time.Second
)

// openBoltStore opens or makes the file and reads all of it once: a damaged
// one is found at the start, with an answer, not hours later in a panic.
func openBoltStore(dir string) (*boltStore, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("folder for bars: %w", err)
	}
	s := &boltStore{path: filepath.Join(dir, boltFile)}
	err := guarded(func() (err error) {
		s.db, err = bbolt.Open(s.path, 0o640, &bbolt.Options{Timeout: lockWait, NoStatistics: true})
		if err == nil {
			err = s.prepare()
		}
		return err
	})
	switch {
	case err == nil:
		return s, nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("bars: %s is in use, most likely by another cryptointel with the same data folder: stop that one, or give this one another folder", s.path)
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("bars: %w: give the user that runs cryptointel the right to write it", err)
	}
	s.abandon()
	if errors.Is(err, errFormat) {
		return nil, fmt.Errorf("bars: %s: %w", s.path, err)
	}
	return nil, fmt.Errorf("bars: %s is damaged (%w): move it away, a new one is made at the next start; or put a backup in its place", s.path, err)
}

// abandon lets go of a damaged file as far as that is possible.
func (s *boltStore) abandon() {
	if s.db != nil {
		guarded(s.db.Close)
	}
}

var errFormat = errors.New("written by another version of cryptointel: use that version, or another folder")

// guarded turns a panic into an error: bbolt panics where a file contradicts
// itself, and reading beyond the end of one that was cut off is a fault.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	return f()
}

// prepare makes what is missing and reads everything.
func (s *boltStore) prepare() error {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucketIfNotExists([]byte("meta"))
		if err != nil {
			return err
		}
		if v := meta.Get([]byte("format")); v != nil && string(v) != boltFormat {
			return errFormat
		}
		for _, sp := range spans {
			if _, err := tx.CreateBucketIfNotExists([]byte(sp.name)); err != nil {
				return err
			}
		}
		return meta.Put([]byte("format"), []byte(boltFormat))
	})
	if err != nil {
		return err
	}
	return s.db.View(func(tx *bbolt.Tx) error {
		return eachAsset(tx, func(k barKey, b *bbolt.Bucket) error {
			return b.ForEach(func(key, v []byte) error {
				_, err := readBar(key, v)
				return err
			})
		})
	})
}

func eachAsset(tx *bbolt.Tx, f func(k barKey, b *bbolt.Bucket) error) error {
	for i, sp := range spans {
		all := tx.Bucket([]byte(sp.name))
		if all == nil {
			return fmt.Errorf("the bucket %s is missing", sp.name)
		}
		err := all.ForEachBucket(func(slug []byte) error {
			return f(barKey{span: i, slug: string(slug)}, all.Bucket(slug))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// last is the time of the newest sample in the file; false of a file of before
// it was kept.
func (s *boltStore) last() (t protocol.Time, ok bool) {
	s.db.View(func(tx *bbolt.Tx) error { // fails only when the file is closed
		if v := tx.Bucket([]byte("meta")).Get([]byte("last")); len(v) == 8 {
			t, ok = protocol.Time(binary.BigEndian.Uint64(v)), true
		}
		return nil
	})
	return t, ok
}

// newest calls f for the newest bar of each asset and span.
func (s *boltStore) newest(f func(barKey, Candle)) error {
	return s.db.View(func(tx *bbolt.Tx) error {
		return eachAsset(tx, func(k barKey, b *bbolt.Bucket) error {
			key, v := b.Cursor().Last()
			if key == nil {
				return nil
			}
			c, err := readBar(key, v)
			if err == nil {
				f(k, c)
			}
			return err
		})
	})
}

func (s *boltStore) write(bars map[barKey]bar, last protocol.Time, cut [4]protocol.Time) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		for k, b := range bars {
			asset, err := tx.Bucket([]byte(spans[k.span].name)).CreateBucketIfNotExists([]byte(k.slug))
			if err != nil {
				return err
			}
			// Bars come in order, so a page that is full stays so.
			asset.FillPercent = 0.95
			key := barKeyBytes(k.start)
			if v := asset.Get(key); b.part && v != nil {
				old, err := readBar(key, v)
				if err != nil {
					return err
				}
				b = b.over(bar{Candle: old})
			}
			if err := asset.Put(key, appendBar(nil, &b.Candle)); err != nil {
				return err
			}
		}
		newest := binary.BigEndian.AppendUint64(nil, uint64(last))
		if err := tx.Bucket([]byte("meta")).Put([]byte("last"), newest); err != nil {
			return err
		}
		return forget(tx, cut)
	})
}

// forget removes what is older than cut.
func forget(tx *bbolt.Tx, cut [4]protocol.Time) error {
	left := maxForgotten
	return eachAsset(tx, func(k barKey, b *bbolt.Bucket) error {
		if cut[k.span] == 0 {
			return nil
		}
		c := b.Cursor()
		// Always the first: a cursor may skip after it has deleted.
		for key, v := c.First(); key != nil && left > 0; key, v = c.First() {
			old, err := readBar(key, v)
			if err != nil || old.Start >= cut[k.span] {
				return err
			}
			if err := b.Delete(key); err != nil {
				return err
			}
			left--
		}
		return nil
	})
}

func (s *boltStore) scan(span int, slug string, from, to protocol.Time, limit int, newest bool) (out []Candle, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(spans[span].name)).Bucket([]byte(slug))
		if b == nil {
			return nil
		}
		if newest {
			out, err = backwards(b.Cursor(), from, to, limit)
			return err
		}
		c := b.Cursor()
		for key, v := c.Seek(barKeyBytes(from)); key != nil && len(out) < limit; key, v = c.Next() {
			bar, err := readBar(key, v)
			if err != nil || bar.Start >= to {
				return err
			}
			out = append(out, bar)
		}
		return nil
	})
	return out, err
}

// backwards reads the newest bars before to, and returns them oldest first.
func backwards(c *bbolt.Cursor, from, to protocol.Time, limit int) (out []Candle, err error) {
	key, v := c.Seek(barKeyBytes(to))
	if key == nil {
		key, v = c.Last()
	}
	for ; key != nil && len(out) < limit; key, v = c.Prev() {
		bar, err := readBar(key, v)
		if err != nil {
			return nil, err
		}
		if bar.Start < from {
			break
		}
		if bar.Start < to {
			out = append(out, bar)
		}
	}
	reverse(out)
	return out, nil
}

func reverse(bars []Candle) {
	for i, j := 0, len(bars)-1; i < j; i, j = i+1, j-1 {
		bars[i], bars[j] = bars[j], bars[i]
	}
}

func (s *boltStore) close() error { return s.db.Close() }

func barKeyBytes(start protocol.Time) []byte {
	// Rounded up, so that a bound between two milliseconds excludes the first.
	ms := (max(0, start) + protocol.Millisecond - 1) / protocol.Millisecond
	return binary.BigEndian.AppendUint64(nil, uint64(ms))
}

func appendBar(dst []byte, c *Candle) []byte {
	for _, v := range [5]float64{c.Open, c.High, c.Low, c.Close, c.Volume} {
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
	}
	return dst
}

// readBar reads an entry of the file.
func readBar(key, v []byte) (c Candle, err error) {
	if len(key) != 8 || len(v) != barBytes {
		return c, fmt.Errorf("an entry of %d and %d bytes is no bar", len(key), len(v))
	}
	ms := binary.BigEndian.Uint64(key)
	if ms > math.MaxInt64/uint64(protocol.Millisecond) {
		return c, fmt.Errorf("a bar at %d ms is beyond all time", ms)
	}
	c.Start = protocol.Time(ms) * protocol.Millisecond
	for i, to := range []*float64{&c.Open, &c.High, &c.Low, &c.Close, &c.Volume} {
		*to = math.Float64frombits(binary.LittleEndian.Uint64(v[8*i:]))
	}
	if !c.valid() {
		return c, fmt.Errorf("the bar at %d ms has impossible numbers", ms)
	}
	return c, nil
}
