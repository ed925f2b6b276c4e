package broker

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"testing"

	"cryptointel/protocol"
)

// TestOutboxStates: whatever is put in and taken out, offsets of a channel
// only rise, the newest of each channel comes while there are fewer channels
// than half of the room, and the bound holds.
func TestOutboxStates(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 2))
		o := outbox{max: 64}
		newest, got := map[string]int64{}, map[string]int64{}
		take := func(most int) {
			list := o.takeStates(most, nil)
			sent := r.IntN(len(list) + 1)
			for _, p := range list[:sent] {
				if p.Offset <= got[p.Channel] {
					t.Fatalf("seed %d: %s has %d after %d", seed, p.Channel, p.Offset, got[p.Channel])
				}
				got[p.Channel] = p.Offset
			}
			if sent < len(list) {
				o.putBack(list[sent:])
			}
		}
		for i := range int64(2000) {
			channel := fmt.Sprint("test:", r.IntN(30))
			newest[channel] = i + 1
			o.state(&protocol.Publication{Channel: channel, Offset: i + 1, Data: make([]byte, 10)})
			if o.states.len() > o.max {
				t.Fatalf("seed %d: %d wait", seed, o.states.len())
			}
			if r.IntN(50) == 0 {
				take(r.IntN(100))
			}
		}
		for o.states.len() > 0 {
			take(10)
		}
		for channel, offset := range newest {
			if got[channel] != offset {
				t.Errorf("seed %d: %s has %d; want %d", seed, channel, got[channel], offset)
			}
		}
		if o.stateBytes != 0 || o.dropped != 0 {
			t.Errorf("seed %d: %d bytes left of nothing, %d dropped", seed, o.stateBytes, o.dropped)
		}
	}
}

func TestOutboxManyChannels(t *testing.T) {
	o := outbox{max: 64}
	for i := range int64(1000) {
		o.state(&protocol.Publication{Channel: fmt.Sprint("test:", i), Offset: i + 1, Data: make([]byte, 10)})
	}
	list := o.takeStates(1000, nil)
	if len(list) > 64 || uint64(1000-len(list)) != o.dropped || list[len(list)-1].Offset != 1000 {
		t.Errorf("%d are left, %d dropped", len(list), o.dropped)
	}
	large := &protocol.Publication{Channel: "test:x", Offset: 1, Data: make([]byte, 1<<20)}
	for range 200 {
		o.state(large)
		if o.stateBytes > outboxBytes {
			t.Fatalf("%d bytes wait", o.stateBytes)
		}
	}
}

func TestOutboxEntries(t *testing.T) {
	o := outbox{max: 16}
	for i := range 20 {
		p := signal(fmt.Sprint(i), `{}`)
		o.entry("u", sha256.Sum256(p.Data), p)
		if i == 9 {
			o.sent = 10
		}
	}
	tests := []struct {
		after       int64
		most        int
		first, last int64
	}{
		{0, 100, 5, 20}, {4, 100, 5, 20}, {10, 3, 11, 13}, {19, 100, 20, 20}, {20, 100, 0, 0}, {99, 100, 0, 0}, {5, 0, 0, 0},
	}
	for _, tt := range tests {
		var first, last int64
		if list := o.after(tt.after, tt.most, nil); len(list) > 0 {
			first, last = list[0].seq, list[len(list)-1].seq
		}
		if first != tt.first || last != tt.last {
			t.Errorf("up to %d after %d: got %d to %d; want %d to %d", tt.most, tt.after, first, last, tt.first, tt.last)
		}
	}
	for range 10 { // 21 to 30: 11 to 14 go unsent
		o.entry("u", [sha256.Size]byte{}, signal("x", `{}`))
	}
	if o.unsent != 4 || o.sent != 14 || o.entries.len() != 16 {
		t.Errorf("%d unsent, sent to %d, %d kept; want 4, 14, 16", o.unsent, o.sent, o.entries.len())
	}
}
