package market

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// damages are ways in which a file is found broken.
func damages() map[string]func([]byte) []byte {
	return map[string]func([]byte) []byte{
		"not a database": func([]byte) []byte { return bytes.Repeat([]byte("not a database\n"), 2000) },
		"a few bytes":    func(b []byte) []byte { return b[:100] },
		"one page":       func(b []byte) []byte { return b[:4096] },
		"cut in half":    func(b []byte) []byte { return b[:len(b)/2] },
		"zeros inside":   func(b []byte) []byte { clear(b[2*4096:]); return b },
		"ones inside": func(b []byte) []byte {
			for i := 2 * 4096; i < len(b); i++ {
				b[i] = 0xff
			}
			return b
		},
		"an impossible bar": func(b []byte) []byte { // 105 as open and close of the day
			want := appendBar(nil, &Candle{Open: 100, High: 105, Low: 99, Close: 105, Volume: 714})
			return bytes.ReplaceAll(b, want, make([]byte, len(want)))
		},
	}
}

func TestDamagedFile(t *testing.T) {
	dir := t.TempDir()
	h := openDisk(t, dir)
	story(t, h)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(dir, boltFile))
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range damages() {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), boltFile)
			if err := os.WriteFile(path, damage(bytes.Clone(good)), 0o600); err != nil {
				t.Fatal(err)
			}
			h, err := OpenHistory(DefaultHistoryConfig(), filepath.Dir(path), quiet)
			if err == nil {
				h.Close()
				t.Fatal("a damaged file was opened")
			}
			if !strings.Contains(err.Error(), path+" is damaged") || !strings.Contains(err.Error(), "move it away") {
				t.Errorf("got %v, want the file's name and what to do", err)
			}
		})
	}
}

func TestOtherVersion(t *testing.T) {
	dir := t.TempDir()
	h := openDisk(t, dir)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, boltFile)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.ReplaceAll(b, []byte("format"+boltFormat), []byte("format2"))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenHistory(DefaultHistoryConfig(), dir, quiet); err == nil || !strings.Contains(err.Error(), "another version") {
		t.Errorf("got %v, want that it is of another version", err)
	}
}

// FuzzReadBar: an entry of the file is a bar that can be one and is written
// back as it was, or an error.
func FuzzReadBar(f *testing.F) {
	f.Add(barKeyBytes(start), appendBar(nil, &Candle{Open: 1, High: 2, Low: 0.5, Close: 1.5, Volume: 3}))
	f.Add([]byte{}, []byte{})
	f.Add(binary.BigEndian.AppendUint64(nil, 1<<63), make([]byte, barBytes))
	f.Fuzz(func(t *testing.T, key, v []byte) {
		c, err := readBar(key, v)
		if err != nil {
			return
		}
		if !c.valid() || !bytes.Equal(barKeyBytes(c.Start), key) || fmt.Sprint(appendBar(nil, &c)) != fmt.Sprint(v) {
			t.Errorf("got %+v from %x %x", c, key, v)
		}
	})
}
