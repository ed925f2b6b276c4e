package broker

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

func shared(seq int64) sharedEntry { return sharedEntry{seq: seq, issuer: "u", p: signal("id", `{}`)} }

// TestPeerRandom: whatever is dropped, doubled and reordered on the way, each
// entry is appended once and in order, as long as its maker gives it again.
func TestPeerRandom(t *testing.T) {
	const entries = 120
	for seed := range uint64(15) {
		r := rand.New(rand.NewPCG(seed, 1))
		now := time.Unix(1_764_678_600, 0)
		p, got := &peer{}, []int64(nil)
		add := func(e sharedEntry) bool {
			if r.IntN(10) == 0 { // no room
				return false
			}
			got = append(got, e.seq)
			return true
		}
		var way []int64 // under way
		for sent, steps := int64(0), 0; len(got) < entries; steps++ {
			if steps > 20_000 {
				t.Fatalf("seed %d: %d of %d after %d steps", seed, len(got), entries, steps)
			}
			if sent < entries && r.IntN(2) == 0 {
				sent++
				way = append(way, sent)
			}
			p.head = max(p.head, sent)
			if len(way) > 0 {
				i := r.IntN(min(len(way), 3))
				seq := way[i]
				if r.IntN(5) > 0 { // else there comes another copy
					way = append(way[:i], way[i+1:]...)
				}
				if r.IntN(4) > 0 { // else it is lost
					p.hold(shared(seq))
				}
			}
			now = now.Add(time.Duration(r.IntN(50)) * time.Millisecond)
			p.advance(now, add)
			if p.mayAsk(now) {
				for seq := p.last + 1; seq <= sent; seq++ {
					way = append(way, seq)
				}
			}
		}
		for i, seq := range got {
			if seq != int64(i+1) {
				t.Fatalf("seed %d: appended %d in place %d", seed, seq, i)
			}
		}
		if p.bytes != 0 || len(p.held) != 0 || !p.gap.IsZero() {
			t.Errorf("seed %d: left %d entries of %d bytes, gap %v", seed, len(p.held), p.bytes, p.gap)
		}
	}
}

// TestPeerSkip: what nobody gives again is given up after a while, and counted.
func TestPeerSkip(t *testing.T) {
	now := time.Unix(1_764_678_600, 0)
	var got []int64
	add := func(e sharedEntry) bool { got = append(got, e.seq); return true }
	p := &peer{}
	for _, seq := range []int64{1, 5, 6, 5} {
		p.hold(shared(seq))
	}
	p.advance(now, add)
	if !p.mayAsk(now) || p.mayAsk(now.Add(askAgain-1)) || !p.mayAsk(now.Add(askAgain)) {
		t.Error("missing entries are not asked for at once and then at intervals")
	}
	if lost := p.skip(now.Add(giveUp - 1)); lost != 0 {
		t.Errorf("%d given up too early", lost)
	}
	if lost := p.skip(now.Add(giveUp)); lost != 3 {
		t.Errorf("%d given up; want 3", lost)
	}
	p.advance(now, add)
	if want := []int64{1, 5, 6}; !reflect.DeepEqual(got, want) || p.missing() {
		t.Errorf("appended %v; want %v", got, want)
	}
	p.head = 9 // told of, never seen
	p.advance(now, add)
	if lost := p.skip(now.Add(giveUp)); lost != 3 || p.last != 9 {
		t.Errorf("%d given up, at %d; want 3 and 9", lost, p.last)
	}
}

// TestPeerBounds: what waits for a missing entry is bounded; the missing one
// itself is always taken.
func TestPeerBounds(t *testing.T) {
	p := &peer{}
	for seq := int64(2); seq < heldEntries+100; seq++ {
		p.hold(shared(seq))
	}
	if len(p.held) != heldEntries {
		t.Fatalf("%d are held; want %d", len(p.held), heldEntries)
	}
	p.hold(shared(1))
	n := 0
	p.advance(time.Unix(1, 0), func(sharedEntry) bool { n++; return true })
	if n != heldEntries+1 || !p.missing() {
		t.Errorf("%d appended; want %d and the rest asked for", n, heldEntries+1)
	}
}
