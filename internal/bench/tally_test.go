package bench

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/alecthomas/kong"
)

// Every quantile is at most 1 % over the value that sorting gives.
func TestHistError(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{1, 2, 100, 5000} {
		var all, left hist
		values := make([]int64, size)
		for i := range values {
			values[i] = rng.Int64() >> rng.IntN(63)
			if i%2 == 0 {
				all.add(values[i])
			} else {
				left.add(values[i])
			}
		}
		all.merge(&left)
		slices.Sort(values)
		for _, q := range []float64{0, .01, .5, .9, .99, .999, 1} {
			want := values[max(ceil(q*float64(size)), 1)-1]
			if got := all.quantile(q); got < want || float64(got-want) > .01*float64(want) {
				t.Errorf("of %d values: got p%g %d, want %d and at most 1 %% more", size, 100*q, got, want)
			}
		}
		if all.max != values[size-1] || all.n != uint64(size) {
			t.Errorf("got max %d of %d, want %d of %d", all.max, all.n, values[size-1], size)
		}
	}
}

func ceil(v float64) int {
	if n := int(v); float64(n) == v {
		return n
	}
	return int(v) + 1
}

func TestHistBuckets(t *testing.T) {
	for i := range buckets {
		if got := bucketOf(topOf(i)); got != i {
			t.Fatalf("top %d of bucket %d falls into %d", topOf(i), i, got)
		}
	}
	if got := topOf(buckets - 1); got != 1<<63-1 {
		t.Errorf("the last bucket ends at %d", got)
	}
	var empty hist
	if got := empty.quantile(.5); got != 0 {
		t.Errorf("got %d from an empty hist", got)
	}
	empty.add(-5)
	if empty.n != 1 || empty.max != 0 {
		t.Errorf("got %d values up to %d, want one of 0", empty.n, empty.max)
	}
}

// A sub that remembers 64 numbers says the same as one that remembers all, as
// long as nothing comes more than 63 late.
func TestSubObserve(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		var s sub
		seen, highest, missing := map[int64]bool{}, int64(0), int64(0)
		for range 300 {
			n := max(highest+int64(rng.IntN(70))-60, 1)
			v, skipped := s.observe(n)
			missing += skipped
			want := inOrder
			switch {
			case seen[n]:
				want = duplicate
			case n < highest:
				want = late
				missing--
			}
			if v != want {
				t.Fatalf("got %d for %d with the highest %d, want %d", v, n, highest, want)
			}
			seen[n], highest = true, max(highest, n)
			if want := highest - int64(len(seen)); missing != want {
				t.Fatalf("got %d missing up to %d, want %d", missing, highest, want)
			}
		}
	}
}

func TestLastReceive(t *testing.T) {
	var a, b tally
	a.follow(0, 100, 150)
	b.follow(0, 100, 190)
	a.follow(1, 200, 230) // reaches only one of two
	b.follow(maxRounds, 0, 0)
	a.merge(&b)
	h := a.lastReceive(2)
	if h.n != 1 || h.max != 90 {
		t.Errorf("got %d publications, the slowest %d, want 1 and 90", h.n, h.max)
	}
}

// The defaults kong reads from the tags are those of the functions.
func TestDefaultsAgree(t *testing.T) {
	var cli struct {
		Connect  ConnectConfig  `cmd:""`
		Fanout   FanoutConfig   `cmd:""`
		Channels ChannelsConfig `cmd:""`
		Memory   MemoryConfig   `cmd:""`
		Floor    FloorConfig    `cmd:""`
	}
	t.Setenv("CRYPTOINTEL_BENCH_TOKEN", "")
	parser, err := kong.New(&cli)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		command   string
		got, want any
	}{
		{"connect", &cli.Connect, ptr(DefaultConnect())},
		{"fanout", &cli.Fanout, ptr(DefaultFanout())},
		{"channels", &cli.Channels, ptr(DefaultChannels())},
		{"memory", &cli.Memory, ptr(DefaultMemory())},
		{"floor", &cli.Floor, ptr(DefaultFloor())},
	} {
		t.Run(tt.command, func(t *testing.T) {
			if _, err := parser.Parse([]string{tt.command}); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(tt.got, tt.want) {
				t.Errorf("got %+v\nwant %+v", tt.got, tt.want)
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }

func TestValidate(t *testing.T) {
	connect := func(change func(*ConnectConfig)) error {
		c := DefaultConnect()
		change(&c)
		return c.validate()
	}
	fanout := func(change func(*FanoutConfig)) error {
		c := DefaultFanout()
		change(&c)
		return c.validate()
	}
	memory := func(change func(*MemoryConfig)) error {
		c := DefaultMemory()
		c.PID, c.Anonymous = 1, true
		change(&c)
		return c.validate()
	}
	tests := []struct {
		name string
		err  error
		bad  bool
	}{
		{"connect defaults", connect(func(*ConnectConfig) {}), false},
		{"fanout defaults", fanout(func(*FanoutConfig) {}), false},
		{"memory with a pid", memory(func(*MemoryConfig) {}), false},
		{"remote", connect(func(c *ConnectConfig) { c.URL = "ws://192.0.2.1/ws" }), true},
		{"remote admin", memory(func(c *MemoryConfig) { c.Admin = "http://192.0.2.1" }), true},
		{"remote publish", fanout(func(c *FanoutConfig) { c.PublishURL = "http://192.0.2.1" }), true},
		{"auth without a secret", fanout(func(c *FanoutConfig) { c.Auth = true }), true},
		{"nothing to publish", fanout(func(c *FanoutConfig) { c.PublishRate = nil }), true},
		{"negative rate", fanout(func(c *FanoutConfig) { c.PublishRate = []float64{-1} }), true},
		{"nobody", fanout(func(c *FanoutConfig) { c.N = 0 }), true},
		{"no loop", fanout(func(c *FanoutConfig) { c.Loops = 0 }), true},
		{"one step", memory(func(c *MemoryConfig) { c.Steps = []int{4000} }), true},
		{"falling steps", memory(func(c *MemoryConfig) { c.Steps = []int{8000, 4000} }), true},
		{"more subs than channels", memory(func(c *MemoryConfig) { c.Subs = 101 }), true},
		{"no pid", memory(func(c *MemoryConfig) { c.PID = 0 }), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if (tt.err != nil) != tt.bad {
				t.Errorf("got %v, want an error: %v", tt.err, tt.bad)
			}
		})
	}
}
