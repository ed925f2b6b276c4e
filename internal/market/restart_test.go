package market

import (
	"testing"

	"go.etcd.io/bbolt"

	"cryptointel/protocol"
)

// TestRestartWithTheSameTrades shows that trades which the run before counted
// change nothing when exchanges send them again, and that new ones count.
func TestRestartWithTheSameTrades(t *testing.T) {
	dir := t.TempDir()
	h := openDisk(t, dir)
	story(t, h)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	h = openDisk(t, dir)
	f := newFixture(t)
	f.Keep(h)
	again := func() {
		for _, k := range []Tick{tick("a", 100, 0), tick("a", 103, 20_000), tick("a", 101, 59_999),
			tick("a", 102, 60_000), tick("a", 104, 301_000), tick("a", 105, 420_000)} {
			k.Late, k.Received = true, k.Received+600_000_000_000
			f.observe(k)
		}
	}
	again()
	sameStory(t, h)
	f.observe(tick("a", 105, 900_000))
	again()
	same(t, "1m", bars(t, h, "1m"), append(storyMinutes[:4:4], minuteOf(15, 105)))
	// What nobody has counted: the end of the minute in which the run before
	// ended, and a minute in which none ran.
	f.observe(lateTick(106, 430_000))
	f.observe(lateTick(107, 600_000))
	want := append(storyMinutes[:3:3], Candle{7, 105, 106, 105, 105, 211}, minuteOf(10, 107), minuteOf(15, 105))
	same(t, "1m", bars(t, h, "1m"), want)
	same(t, "1h", bars(t, h, "1h"), []Candle{{0, 100, 107, 99, 105, 714 + 105 + 106 + 107}})
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	// A third run has to know what the second one has taken.
	h = openDisk(t, dir)
	defer h.Close()
	f = newFixture(t)
	f.Keep(h)
	again()
	f.observe(lateTick(107, 600_000))
	same(t, "1m", bars(t, h, "1m"), want)
}

// minuteOf is a bar of one trade of one coin.
func minuteOf(minute protocol.Time, price float64) Candle {
	return Candle{minute, price, price, price, price, price}
}

// TestFileWithoutItsTime shows that of a file of before times were kept, the
// newest minute counts as covered.
func TestFileWithoutItsTime(t *testing.T) {
	dir := t.TempDir()
	h := openDisk(t, dir)
	story(t, h)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := openBoltStore(dir)
	if err == nil {
		err = s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).Delete([]byte("last")) })
	}
	if err != nil {
		t.Fatal(err)
	}
	s.close()
	h = openDisk(t, dir)
	defer h.Close()
	f := newFixture(t)
	f.Keep(h)
	f.observe(tick("a", 105, 900_000))
	f.observe(lateTick(105, 420_000))
	f.observe(lateTick(105, 479_999))
	same(t, "1m", bars(t, h, "1m"), append(storyMinutes[:4:4], minuteOf(15, 105)))
}
