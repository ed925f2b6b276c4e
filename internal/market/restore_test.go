package market

import (
	"strings"
	"testing"

	"cryptointel/protocol"
)

// TestRestoredPrice shows that a price of another node counts as what it is:
// it turns stale when nothing comes, and time goes on from it.
func TestRestoredPrice(t *testing.T) {
	before := newFixture(t)
	before.observe(heavy("a", 100, 1e6, 0))
	f := newFixture(t)
	f.Restore(before.published[0])
	if s := f.Stats(); s.Assets != 1 || s.StaleAssets != 0 {
		t.Errorf("got %+v, want one asset", s)
	}
	f.now += 59 * protocol.Second
	f.Sweep(f.now)
	if len(f.published) != 0 {
		t.Errorf("stale after 59 s: %s", f.published[0].Data)
	}
	f.now += 2 * protocol.Second
	f.Sweep(f.now)
	f.Sweep(f.now)
	if len(f.published) != 1 {
		t.Fatalf("got %d publications, want it stale once", len(f.published))
	}
	p := f.published[0]
	want, _ := MarkStale(before.published[0].Data)
	if string(p.Data) != string(want) || p.Price != 100 || p.Offset <= before.published[0].Offset || p.TS != f.now.Millis() {
		t.Errorf("got %+v with %s, want %s", p, p.Data, want)
	}
	if s := f.Stats(); s.StaleAssets != 1 {
		t.Errorf("got %+v, want one stale", s)
	}
	f.play(t, []step{
		{tick("a", 90, -3000), Behind, 100}, // its time does not go back
		{tick("a", 101, 62_000), Accepted, 101},
	})
	if p := f.published[1]; strings.Contains(string(p.Data), "stale") || p.Price != 101 {
		t.Errorf("got %s", p.Data)
	}
}

func TestRestoredStale(t *testing.T) {
	f := newFixture(t)
	f.Restore(protocol.Publication{Channel: "price:bitcoin", Offset: 7, TS: start.Millis(),
		Data: []byte(`{"price":100,"sources":[],"stale":true,"demo":true,"timestamp":"2026-01-12T08:00:00.000Z"}`)})
	f.now += 3600 * protocol.Second
	f.Sweep(f.now)
	if s := f.Stats(); len(f.published) != 0 || s.StaleAssets != 1 {
		t.Errorf("got %d publications and %+v, want it stale without another word", len(f.published), s)
	}
	f.observe(tick("a", 100, 3600_000))
	if d := string(f.published[0].Data); strings.Contains(d, "stale") || !strings.Contains(d, `"demo":true`) {
		t.Errorf("got %s", d)
	}
}

// TestRestoreOfNonsense shows that no publication keeps ticks out.
func TestRestoreOfNonsense(t *testing.T) {
	for _, data := range []string{``, `{`, `[]`, `{"price":"1"}`, `{"price":-1,"timestamp":"2026-01-12T08:00:00.000Z"}`, `{"price":1e999}`,
		`{"price":100,"timestamp":5}`, `{"price":100,"timestamp":"yesterday"}`, `{"price":100,"timestamp":"2926-01-12T08:00:00.000Z"}`} {
		f := newFixture(t)
		f.Restore(protocol.Publication{Channel: "price:bitcoin", Offset: 7, TS: 1 << 62, Data: []byte(data)})
		f.Sweep(f.now)
		f.play(t, []step{{tick("a", 200, 0), Accepted, 200}})
		f.now += 61 * protocol.Second
		f.Sweep(f.now)
		if s := f.Stats(); s.StaleAssets != 1 {
			t.Errorf("%s: got %+v", data, s)
		}
	}
}

// TestRestoreUnderWay shows that what this node has made itself stays.
func TestRestoreUnderWay(t *testing.T) {
	f := newFixture(t)
	f.observe(tick("a", 100, 0))
	f.Restore(protocol.Publication{Channel: "price:bitcoin", Offset: start.Micros() * 2, TS: start.Millis(),
		Data: []byte(`{"price":50,"timestamp":"2026-01-12T08:59:00.000Z"}`)})
	a := f.assets["bitcoin"]
	if a.price != 100 || a.at != start || a.offset != start.Micros()*2 {
		t.Errorf("got %v at %v", a.price, a.at-start)
	}
}
