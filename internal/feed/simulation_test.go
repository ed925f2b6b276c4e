package feed

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"cryptointel/internal/feedsim"
)

var (
	simSeed  = flag.Uint64("simulation.seed", 0, "seed of the simulated exchanges' faults; 0 is CRYPTOINTEL_SEED, or a new one")
	simSeeds = flag.Int("simulation.seeds", 0, "how many seeds to simulate, from simulation.seed on; 0 is one, and the fixed ones")
)

// simulated are the seeds to run, some of them because they have found something.
func simulated(t *testing.T) (out []uint64) {
	seed := *simSeed
	if text := os.Getenv("CRYPTOINTEL_SEED"); seed == 0 && text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("CRYPTOINTEL_SEED is %q: want a number", text)
		}
	}
	if seed == 0 {
		seed = rand.Uint64N(1_000_000_000)
	}
	for i := range max(1, *simSeeds) {
		out = append(out, seed+uint64(i))
	}
	if *simSeeds == 0 && !testing.Short() && !raced {
		out = append(out, fixedSeeds()...)
	}
	return out
}

// fixedSeeds are some that have found something:
//   - 4: Bybit half-open right after a subscription, twice, after an outage;
//   - 8: a half-open Binance, whose silence is long.
func fixedSeeds() []uint64 { return []uint64{4, 8} }

// unraced skips what the race detector has seen in TestSimulation.
func unraced(t *testing.T) {
	t.Helper()
	if raced || testing.Short() {
		t.Skip("too slow with -race; not tested with -short")
	}
}

// TestSimulation lets all six exchanges misbehave for ten minutes and looks at
// everything that the feeds brought and the market made of it.
//
//	go test ./internal/feed -run TestSimulation -simulation.seed=N
//	go test ./internal/feed -run TestSimulation -simulation.seeds=50
func TestSimulation(t *testing.T) {
	all := make([]outcome, len(LiveExchanges()))
	list := simulated(t)
	for _, seed := range list {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Logf("seed %d: again with -simulation.seed=%d", seed, seed)
			p := plan{seed: seed, faults: feedsim.AllFaults(), duration: 10 * time.Minute}
			p.simulate(t, func(w *world) {
				pass(p.duration)
				pass(90 * time.Second)
				w.settle()
			}, func(w *world) {
				for _, f := range w.findings() {
					t.Errorf("seed %d: %s", seed, f)
				}
				outcomes := w.outcomes()
				logOutcomes(t, outcomes)
				for i := range all {
					all[i].add(outcomes[i])
				}
				if t.Failed() {
					w.tell()
				}
			})
		})
	}
	t.Logf("all %d seeds, from %d on:", len(list), list[0])
	logOutcomes(t, all)
}

// findings are all that must not be.
func (w *world) findings() (out []string) {
	for _, p := range places() {
		_, trades := w.trades(p)
		_, late := w.recoveries(p)
		out = slices.Concat(out, trades, late)
	}
	for _, name := range LiveExchanges() {
		out = append(out, w.halfOpen(name)...)
	}
	for _, asset := range []string{"bitcoin", "ethereum"} {
		_, prices := w.prices(asset)
		out = append(out, prices...)
	}
	for _, f := range w.sim.Breaches() {
		out = append(out, "limit broken: "+f.String())
	}
	return out
}

// An outcome is how an exchange went.
type outcome struct {
	count
	refilled, connections uint64
	recoveries            []recovery
}

func (o outcome) String() string {
	return fmt.Sprintf("%6d trades, %5d late (%d refilled), %d out of reach, %d connections; %s",
		o.made, o.late, o.refilled, o.lost, o.connections, distribution(o.recoveries))
}

func (o *outcome) add(other outcome) {
	o.made, o.late, o.lost = o.made+other.made, o.late+other.late, o.lost+other.lost
	o.refilled, o.connections = o.refilled+other.refilled, o.connections+other.connections
	o.recoveries = append(o.recoveries, other.recoveries...)
}

// outcomes are how the exchanges went, in the order of LiveExchanges.
func (w *world) outcomes() []outcome {
	out := make([]outcome, len(LiveExchanges()))
	for i, s := range w.live.Status() {
		out[i].refilled, out[i].connections = s.Refilled, s.Reconnects+1
	}
	for _, p := range places() {
		n, _ := w.trades(p)
		r, _ := w.recoveries(p)
		out[slices.Index(LiveExchanges(), p.exchange)].add(outcome{count: n, recoveries: r})
	}
	return out
}

// logOutcomes tells of them, one line an exchange.
func logOutcomes(t testing.TB, list []outcome) {
	t.Helper()
	for i, name := range LiveExchanges() {
		t.Logf("%-8s %v", name, list[i])
	}
}

// tell logs what the exchanges did and what the feeds said.
func (w *world) tell() {
	for _, f := range w.sim.Log() {
		w.t.Log(f)
	}
	w.t.Log(strings.Join(w.log.lines, ""))
}
