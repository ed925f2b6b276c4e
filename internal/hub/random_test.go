package hub

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"cryptointel/protocol"
)

var (
	seedFlag = flag.Uint64("seed", 0, "first seed of the random runs; 0 takes one from the clock")
	runsFlag = flag.Int("runs", 5000, "random runs")
)

// TestRandom plays random runs and checks after every step what the protocol
// promises to each follower and that the shard's books are in order. A failing
// run prints its seed and every step.
func TestRandom(t *testing.T) {
	seed, runs := *seedFlag, *runsFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano() % 1e9)
	}
	if testing.Short() {
		runs /= 10
	}
	var delivered, cut, closed, entries int
	for i := range runs {
		w := play(seed+uint64(i), false)
		if w.err != nil {
			w = play(seed+uint64(i), true)
			t.Fatalf("-seed %d -runs 1: %v\n%s", seed+uint64(i), w.err, strings.Join(w.trace, "\n"))
		}
		delivered, cut, closed = delivered+w.delivered, cut+w.cut, closed+w.closed
		for _, f := range w.all {
			for _, s := range f.logs {
				entries += s.truth.got
			}
		}
	}
	t.Logf("%d runs from seed %d: %d messages, %d log entries delivered, %d cut, %d closed as slow",
		runs, seed, delivered, entries, cut, closed)
}

func play(seed uint64, tracing bool) *world {
	w := newWorld(seed)
	w.tracing = tracing
	for range 20 + int(seed%150) {
		w.step()
		w.flush()
		w.check()
		if w.err != nil {
			return w
		}
	}
	w.settle()
	w.end()
	return w
}

func (w *world) check() {
	for _, n := range w.nodes {
		w.fail(n.shard.check(), "%s", n.name)
	}
}

func (w *world) step() {
	n := w.nodes[w.IntN(2)]
	f := w.all[w.IntN(len(w.all))]
	switch k := w.IntN(100); {
	case k < 14:
		w.appendEntry()
	case k < 28:
		w.advance(n)
	case k < 42:
		w.publishState()
	case k < 50:
		w.pass(pick(w, protocol.Millisecond, 30*protocol.Millisecond, 200*protocol.Millisecond, protocol.Second, 3*protocol.Second))
	case k < 60:
		w.pump(n, 1+w.IntN(6))
	case k < 62:
		w.judge(n)
	case f.sock == nil:
		w.say("%s connects", f.name)
		f.connect(n)
	case k < 70:
		w.upload(f.sock, pick(w, 1, 5, 100, 100_000, 100_000, 100_000))
	case k < 78:
		w.read(f.sock, 1+w.IntN(8))
	case k < 84:
		if !f.sock.done {
			w.writable(f.sock)
		}
	case k < 86:
		if !f.sock.done {
			w.say("%s is cut off", f.name)
			w.gone(f.sock)
		}
	default:
		w.command(f)
	}
}

func (w *world) command(f *follower) {
	if len(f.asked) > 10 {
		return // at most 16 may wait for a verdict
	}
	switch w.IntN(9) {
	case 0, 1, 2:
		f.followLog(pick(w, logChannels...), pick(w, filters...), w.IntN(3) == 0)
	case 3, 4:
		f.followState(pick(w, stateNames...), pick(w, rates...))
	case 5:
		if chs := append(sortedKeys(f.logs), sortedKeys(f.rates)...); len(chs) > 0 {
			f.unfollow(pick(w, chs...))
		}
	case 6:
		f.token = pick(w, "all", "all", "some", "spikes", "none")
		f.send(&request{kind: "auth", token: f.token}, "")
	case 7:
		f.sock.say([]byte(`{"type":"ping"}`))
	case 8:
		f.sock.say([]byte(`{"type":"status"}`))
	}
}

// settle lets everything arrive.
func (w *world) settle() {
	w.say("settle")
	for range 3 {
		for again := true; again && w.err == nil; {
			again = false
			for _, n := range w.nodes {
				again = w.advance(n) || w.judge(n) || w.pump(n, 100) || again
			}
			for _, f := range w.all {
				again = w.settleOne(f) || again
			}
			w.serve()
		}
		w.check()
		w.pass(20 * protocol.Second) // windows, and the second time a mark
	}
	for _, f := range w.all {
		w.fail(f.complete(), "%s at the end", f.name)
	}
}

func (w *world) settleOne(f *follower) (moved bool) {
	if f.sock == nil {
		f.connect(w.nodes[w.IntN(2)])
		return true
	}
	s := f.sock
	s.room = 1 << 20
	if moved = !s.done && w.writable(s); moved {
		s.room = 1 << 20
	}
	moved = moved || len(s.up) > 0
	w.upload(s, len(s.up))
	return w.read(s, 100) || moved
}

// complete reports what a follower should have been told and was not.
func (f *follower) complete() error {
	for ch, s := range f.logs {
		v := f.view[ch]
		if v == nil || v.owed != 0 || s.hold != 0 || !s.known {
			return fmt.Errorf("%s: %+v, view %+v", ch, s, v)
		}
		if n := f.w.firstMatch(s.truth.pred, s.truth.pos, 1<<60); n != 0 {
			return fmt.Errorf("%s: entry %d is missing, last %d", ch, n, s.last)
		}
	}
	for ch := range f.rates {
		v := f.view[ch]
		if v == nil {
			return fmt.Errorf("%s is not subscribed", ch)
		}
		for value, list := range f.sock.node.states {
			if ch == protocol.AllPrices && isPrice(value) || value == valueOf(ch) {
				newest := list[len(list)-1].Offset
				if seen := v.last[value]; seen == nil || seen.offset != newest {
					return fmt.Errorf("%s: the newest of %s is %d, seen %+v", ch, value, newest, seen)
				}
			}
		}
	}
	if len(f.asked) > 0 {
		return fmt.Errorf("%d commands have no answer", len(f.asked))
	}
	return nil
}

func valueOf(name string) string {
	ch, _ := protocol.ParseChannel(name, threeAssets{})
	return ch.Canonical
}

// end closes everything and looks whether the shards are as if nothing had
// happened.
func (w *world) end() {
	for _, n := range w.nodes {
		for _, s := range n.socks {
			n.shard.Gone(s.ref.Slot, w.now)
		}
		for w.judge(n) {
		}
		clear(n.socks)
		w.fail(n.shard.checkEmpty(), "%s in the end", n.name)
	}
	w.serve()
	if len(w.owners) > 0 {
		w.fail(fmt.Errorf("%d shares not released", len(w.owners)), "in the end")
	}
}
