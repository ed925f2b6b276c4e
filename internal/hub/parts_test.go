package hub

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"cryptointel/protocol"
)

// TestSlab hands blocks out and back at random. Each is filled with its own
// number, so that two that overlap, or one that a resize moved without its
// contents, are seen.
func TestSlab(t *testing.T) {
	type block struct {
		at   uint32
		n    int
		fill uint64
	}
	r := rand.New(rand.NewPCG(1, 2))
	s := newSlab[uint64](1, 2, 3, 8, 50, chunkLen)
	size := func() int { return pickInt(r, 1, 2, 3, 4, 8, 9, 50, 51+r.IntN(chunkLen-51)) }
	var blocks []block
	check := func(b block, n int) {
		t.Helper()
		for i, v := range s.block(b.at, b.n)[:n] {
			if v != b.fill {
				t.Fatalf("element %d of block %+v holds %d", i, b, v)
			}
		}
	}
	write := func(b block) block {
		for i := range s.block(b.at, b.n) {
			s.block(b.at, b.n)[i] = b.fill
		}
		return b
	}
	for step := range uint64(20_000) {
		switch i := r.IntN(len(blocks) + 1); {
		case i == len(blocks) && len(blocks) < 60:
			n := size()
			b := block{at: s.resize(0, 0, n), n: n, fill: step}
			if b.at == 0 {
				t.Fatal("a block has the handle 0")
			}
			blocks = append(blocks, write(b))
		case i == len(blocks):
		case r.IntN(2) == 0:
			old := blocks[i]
			check(old, old.n)
			b := block{n: size(), fill: old.fill}
			b.at = s.resize(old.at, old.n, b.n)
			check(b, min(old.n, b.n))
			blocks[i] = write(b)
		default:
			check(blocks[i], blocks[i].n)
			if at := s.resize(blocks[i].at, blocks[i].n, 0); at != 0 {
				t.Fatalf("an empty block has the handle %d", at)
			}
			blocks = slices.Delete(blocks, i, i+1)
		}
	}
	for _, b := range blocks {
		check(b, b.n)
		s.release(b.at, b.n)
	}
	if len(s.chunks) > 200 {
		t.Errorf("%d chunks for at most 60 blocks: free blocks are not used again", len(s.chunks))
	}
}

func pickInt(r *rand.Rand, from ...int) int { return from[r.IntN(len(from))] }

func TestRingKeepsOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var q ring
	var want []Slot
	for i := range Slot(10_000) {
		if r.IntN(100) < 52 || len(want) == 0 {
			q.push(i)
			want = append(want, i)
			continue
		}
		if got := q.pop(); got != want[0] {
			t.Fatalf("step %d: got %d, want %d", i, got, want[0])
		}
		want = want[1:]
	}
	if q.n != len(want) {
		t.Errorf("%d left, want %d", q.n, len(want))
	}
}

func TestPool(t *testing.T) {
	p := newPool[int]()
	a, b := p.get(), p.get()
	if a == 0 || b == 0 || a == b {
		t.Fatalf("places %d and %d", a, b)
	}
	p.put(a)
	if again := p.get(); again != a {
		t.Errorf("got place %d, want the free one %d", again, a)
	}
	if p.shrink(1); p.used() != 2 || len(p.items) != 3 {
		t.Errorf("%d of %d places used after shrinking a pool in use", p.used(), len(p.items))
	}
	p.put(a)
	p.put(b)
	if p.shrink(1); p.used() != 0 || len(p.items) != 1 {
		t.Errorf("%d places after shrinking an empty pool", len(p.items))
	}
}

func TestGrantsAreKeptOnce(t *testing.T) {
	filter := &protocol.Filter{Type: []string{"spike"}}
	distinct := []*protocol.Grant{
		{},
		{Channels: []string{"price:*"}},
		{Channels: []string{"price:*", "signals:*"}},
		{Channels: []string{"price:* signals:*"}},
		{Channels: []string{`price:*""signals:*`}},
		{Channels: []string{"price:*"}, Publish: []string{"signals:*"}},
		{Publish: []string{"price:*", "signals:*"}},
		{Channels: []string{"price:*"}, Admin: "read"},
		{Channels: []string{"price:*", "read"}},
		{Channels: []string{"price:*"}, Filter: filter},
		{Channels: []string{"price:*"}, Filter: &protocol.Filter{}},
	}
	g := newGrants()
	at := map[uint32]int{}
	for i, p := range distinct {
		mine, other := *p, *p
		mine.Subject, mine.ID, mine.Expires = fmt.Sprint("u", i), "jti", 5
		a, b := g.intern(&mine), g.intern(&other)
		if a != b {
			t.Errorf("%+v is kept twice", p)
		}
		if j, ok := at[a]; ok {
			t.Errorf("%+v is taken for %+v", p, distinct[j])
		}
		at[a] = i
		if got := *g.list[a]; !reflect.DeepEqual(got, *p) {
			t.Errorf("kept %+v, want %+v", got, *p)
		}
	}
	for i := range at {
		g.release(i)
		g.release(i)
	}
	g.release(0)
	if len(g.index) != 0 || len(g.free) != len(g.list)-1 {
		t.Errorf("left: %v, %d of %d places free", g.index, len(g.free), len(g.list)-1)
	}
}

func TestRecentBounds(t *testing.T) {
	for _, c := range []struct {
		name                 string
		maxEntries, maxBytes int
		sizes                []int
		kept                 []int64
		dropped              int64
	}{
		{name: "entries", maxEntries: 3, sizes: []int{1, 1, 1, 1, 1}, kept: []int64{6, 8, 10}, dropped: 4},
		{name: "bytes", maxEntries: 10, maxBytes: 10, sizes: []int{4, 4, 4, 1}, kept: []int64{4, 6, 8}, dropped: 2},
		{name: "the newest stays", maxEntries: 10, maxBytes: 10, sizes: []int{4, 40}, kept: []int64{4}, dropped: 2},
		{name: "no bounds", sizes: []int{4, 40}, kept: []int64{2, 4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := recent{maxEntries: c.maxEntries, maxBytes: c.maxBytes}
			for i, n := range c.sizes {
				r.add(&protocol.Publication{Offset: int64(2 * (i + 1)), Data: make([]byte, n)})
			}
			if got := offsets(r.after(0)); !reflect.DeepEqual(got, c.kept) || r.dropped != c.dropped {
				t.Errorf("kept %v, dropped up to %d; want %v and %d", got, r.dropped, c.kept, c.dropped)
			}
		})
	}
}

func TestRecentAfter(t *testing.T) {
	r := recent{maxEntries: 3000}
	for i := range int64(10_000) {
		r.add(&protocol.Publication{Offset: 2 * i})
	}
	if got, want := offsets(r.after(19_993)), []int64{19_994, 19_996, 19_998}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if n := len(r.after(r.dropped)); n != 3000 || cap(r.entries) > 4*3000 {
		t.Errorf("%d kept in an array of %d", n, cap(r.entries))
	}
	if got := r.after(19_998); len(got) != 0 {
		t.Errorf("after the head: %v", offsets(got))
	}
}

func offsets(list []*protocol.Publication) (out []int64) {
	for _, p := range list {
		out = append(out, p.Offset)
	}
	return out
}
