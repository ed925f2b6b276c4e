package eventloop

import (
	"fmt"
	"reflect"
	"testing"

	"cryptointel/internal/hub"
	"cryptointel/protocol"
)

// names are "channel offset" of publications.
func names(all []*protocol.Publication) (out []string) {
	for _, p := range all {
		out = append(out, fmt.Sprintf("%s %d", p.Channel, p.Offset))
	}
	return out
}

func TestInboxBounds(t *testing.T) {
	for _, c := range []struct {
		name      string
		published []*protocol.Publication
		states    []string
		entries   []string
		gap       gap
		conflated uint64
		missed    uint64
	}{
		{name: "empty"},
		{
			name:      "all fit",
			published: []*protocol.Publication{statePub("a", 1), entry(1), statePub("a", 2), entry(2)},
			states:    []string{"a 1", "a 2"}, entries: []string{"signals 1", "signals 2"},
		},
		{
			name: "newest of each channel",
			published: []*protocol.Publication{statePub("a", 1), statePub("b", 1), statePub("a", 2),
				statePub("b", 2), statePub("c", 1)},
			states: []string{"a 2", "b 2", "c 1"}, conflated: 2,
		},
		{
			name: "more channels than places",
			published: []*protocol.Publication{statePub("a", 1), statePub("b", 1), statePub("c", 1),
				statePub("d", 1), statePub("b", 2)},
			states: []string{"a 1", "b 2", "c 1", "d 1"}, conflated: 1,
		},
		{
			name: "late one is not newest",
			published: []*protocol.Publication{statePub("a", 5), statePub("b", 1), statePub("b", 2),
				statePub("a", 4)},
			states: []string{"a 5", "b 2"}, conflated: 2,
		},
		{
			name:      "log entries beyond the bound",
			published: []*protocol.Publication{entry(3), entry(4), entry(7), entry(9), entry(12)},
			entries:   []string{"signals 3", "signals 4", "signals 7"}, gap: gap{after: 7, head: 12}, missed: 2,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := inbox{maxStates: 3, maxEntries: 3}
			for _, p := range c.published {
				in.publish(p)
			}
			var got batch
			in.take(&got)
			if s := names(got.states); !reflect.DeepEqual(s, c.states) {
				t.Errorf("states %q, want %q", s, c.states)
			}
			if e := names(got.entries); !reflect.DeepEqual(e, c.entries) || got.gap != c.gap {
				t.Errorf("entries %q and %+v, want %q and %+v", e, got.gap, c.entries, c.gap)
			}
			if n, m := in.counts(); n != c.conflated || m != c.missed {
				t.Errorf("%d conflated, %d missed, want %d, %d", n, m, c.conflated, c.missed)
			}
		})
	}
}

func TestInboxConflatesOnlyWhileFull(t *testing.T) {
	in := inbox{maxStates: 1, maxEntries: 1}
	var got batch
	for range 3 {
		in.publish(statePub("a", 1))
		in.publish(statePub("a", 2))
		in.take(&got)
		if s, want := names(got.states), []string{"a 2"}; !reflect.DeepEqual(s, want) {
			t.Fatalf("got %q, want %q", s, want)
		}
		got.states = emptied(got.states)
	}
}

func TestInboxKicksOnce(t *testing.T) {
	kicks := 0
	in := inbox{maxStates: 10, maxEntries: 10, kick: func() { kicks++ }}
	in.publish(statePub("a", 1)) // the loop is busy
	if in.sleep(false) {
		t.Error("sleeps although something waits")
	}
	in.take(&batch{})
	if !in.sleep(false) {
		t.Error("does not sleep although nothing waits")
	}
	in.publish(statePub("a", 2))
	in.publish(entry(1))
	in.post(func() {})
	if kicks != 1 {
		t.Errorf("%d kicks for one batch", kicks)
	}
}

// A loop that is held up keeps the newest of each state channel and reads the
// rest of the log again, in order and without a repeat.
func TestBusyLoop(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		var log []*protocol.Publication
		for i := range 40 {
			log = append(log, entry(int64(i+1)))
		}
		var asked []int64
		page := func(after int64) []*protocol.Publication {
			asked = append(asked, after)
			if len(asked) == 1 {
				return nil // not readable just now
			}
			return log[after:min(after+10, 40)]
		}
		cfg := config(kind, 1)
		cfg.InboxStates, cfg.InboxEntries = 4, 4
		b := newBed(t, cfg, func(b *bed) { b.reread = page })
		conn := b.connect("", hub.Hello{Echo: true})
		release := b.hold(0)
		for i := range 20 {
			b.group.Publish(statePub("a", int64(i)))
			b.group.Publish(statePub("b", int64(i)))
			b.group.Publish(log[i])
		}
		release()
		b.until("question", func(s LoopStats) bool { return s.Rereads == 1 })
		for _, p := range log[20:30] {
			b.group.Publish(p) // while the gap is open: these wait behind it
		}
		b.advance(pageRetry)
		s := b.until("entries", func(s LoopStats) bool { return s.Shard.Publications >= 32 })
		for _, p := range log[30:] {
			b.group.Publish(p)
		}
		b.until("last entry", func(s LoopStats) bool { return s.Shard.Publications >= 42 })
		conn.Close()
		b.released(1)
		b.stop()
		var got []string
		for _, p := range b.shards[0].published {
			got = append(got, fmt.Sprintf("%s %d", p.Channel, p.Offset))
		}
		want := append([]string{"a 19", "b 19"}, names(log)...)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("the shard was shown\n%q, want\n%q", got, want)
		}
		if s.Conflated != 38 || s.Missed == 0 || asked[0] != 4 {
			t.Errorf("conflated %d, missed %d, asked for %v", s.Conflated, s.Missed, asked)
		}
	})
}

// A full shard is given no more state publications before it has written.
type fullShard struct {
	*fakeShard
	full bool
}

func (s *fullShard) Full() bool { return s.full }

func TestFullShardIsLeftAlone(t *testing.T) {
	shard := &fullShard{&fakeShard{t: t}, true}
	l := newLoop(0, config(KindPortable, 1), Parts{Shard: func(int) Shard { return shard }, Log: discard})
	shard.Open(hub.Hello{}, 0)
	shard.limit = 1000
	for i := range 100 {
		l.in.publish(statePub("a", int64(i)))
	}
	l.in.take(&l.got)
	l.publishStates()
	if n := len(shard.published); n != 64 {
		t.Errorf("%d published before the shard was found full, want 64", n)
	}
	l.publishStates()
	shard.full = false
	l.publishStates()
	for i, p := range shard.published {
		if p.Offset != int64(i) {
			t.Fatalf("publication %d has offset %d", i, p.Offset)
		}
	}
	if n := len(shard.published); n != 100 || l.busy() != shard.Pending() {
		t.Errorf("%d published, want 100", n)
	}
}
