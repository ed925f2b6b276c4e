// Package eventloop moves bytes between sockets and the hub. A Group is a few
// loops; each owns its sockets, its timer and one shard, so nothing is shared
// but the inbox through which publications and commands come in.
//
// On Linux a loop waits on epoll and keeps a twelve-byte record a connection.
// The portable twin, for other systems and for TLS ended in this process, has
// a reading goroutine a connection and follows the same rules behind the same
// type. The package decides nothing about the protocol: which bytes go to
// whom, and when a connection has to end, is the shard's business.
package eventloop

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"cryptointel/internal/hub"
	"cryptointel/protocol"
)

// Kinds of loops, for Config.Kind.
const (
	KindAuto     = "auto"     // epoll on Linux, else portable
	KindEpoll    = "epoll"    // Linux only
	KindPortable = "portable" // a reading goroutine a connection
)

const (
	readBytes   = 64 << 10 // most bytes of one read; the loop's shared buffer
	writeBytes  = 64 << 10 // most bytes of one write
	pageRetry   = 100 * protocol.Millisecond
	lingerTime  = 2 * protocol.Second // a peer has this long to close its side
	stuckTime   = 30 * time.Second    // unacknowledged bytes end a connection
	longestWait = time.Minute
	keptItems   = 8192 // slots of an emptied queue that are kept
)

// ErrClosed is what Adopt answers once Run has been told to end: the node is
// going away, the client should try another.
var ErrClosed = errors.New("eventloop: closed")

// Config is what can be set about the loops.
type Config struct {
	// Kind is "auto", "epoll" or "portable"; auto is epoll on Linux, else
	// portable. Choose portable when TLS ends in this process.
	Kind string `help:"Connection layer: auto, epoll or portable." default:"auto"`
	// Loops is their number. 0, the default, means one a core.
	Loops int `help:"Event loops; 0: one a core." default:"0"`
	// SendBuffer is what the kernel may hold for one connection, in bytes
	// (SO_SNDBUF; Linux doubles it). The default is 32,768; 0 leaves it to the
	// system, which hides megabytes behind each stuck reader.
	SendBuffer int `help:"Kernel send buffer of a connection in bytes; 0: the system's." default:"32768"`
	// Slice is how many connections are written between two looks at the
	// sockets. The default is 512; 0 means all. A smaller slice answers pings
	// sooner during a large fan-out and costs a little more CPU.
	Slice int `help:"Connections written between two looks at the sockets; 0: all." default:"512"`
	// InboxStates is how many state publications may wait for a busy loop; from
	// there on only the newest of each channel is kept. The default is 65,536.
	// The bound cannot be switched off.
	InboxStates int `help:"State publications that may wait for a loop before only the newest a channel is kept." default:"65536"`
	// InboxEntries is how many entries of the event log may wait for a busy
	// loop; what comes on top it reads from the log later. The default is
	// 8,192. The bound cannot be switched off.
	InboxEntries int `help:"Log entries that may wait for a loop before it reads them from the log." default:"8192"`
}

// DefaultConfig returns the defaults named at the fields.
func DefaultConfig() Config {
	return Config{Kind: KindAuto, SendBuffer: 32768, Slice: 512, InboxStates: 65536, InboxEntries: 8192}
}

func (c Config) validate() error {
	switch c.Kind {
	case "", KindAuto, KindPortable:
	case KindEpoll:
		if runtime.GOOS != "linux" {
			return fmt.Errorf("eventloop: kind %q needs Linux, this is %s", c.Kind, runtime.GOOS)
		}
	default:
		return fmt.Errorf("eventloop: kind is %q, want %q, %q or %q", c.Kind, KindAuto, KindEpoll, KindPortable)
	}
	for _, f := range []struct {
		name       string
		value, min int
	}{
		{"loops", c.Loops, 0}, {"send buffer", c.SendBuffer, 0}, {"slice", c.Slice, 0},
		{"inbox states", c.InboxStates, 1}, {"inbox entries", c.InboxEntries, 1},
	} {
		if f.value < f.min {
			return fmt.Errorf("eventloop: %s is %d, want at least %d", f.name, f.value, f.min)
		}
	}
	return nil
}

// epoll reports whether the loops wait on epoll.
func (c Config) epoll() bool {
	return c.Kind == KindEpoll || c.Kind != KindPortable && runtime.GOOS == "linux"
}

// Parts are what a Group is joined with. All but Reread are needed.
type Parts struct {
	// Shard makes the shard of a loop, once a loop, inside New.
	Shard func(loop int) Shard
	// Clock tells the time that the shards are told.
	Clock Clock
	// Handler takes the shards' requests.
	Handler Handler
	// Reread returns a page of log entries with offsets above after, in order;
	// an empty page means it cannot at the moment and is asked again. A loop
	// calls it when it missed entries because its inbox was full. An entry
	// must be readable before it is given to Publish. It runs on the loop, so
	// it should not wait long. Nil: missed entries are lost, and counted.
	Reread func(after int64) []*protocol.Publication
	// Log hears what an operator should know.
	Log *slog.Logger
}

// A Shard is the part of the hub that a loop owns; *hub.Shard is the real one.
// It is called from that loop only. Gone may come between Next and Wrote, when
// the write failed. Tick is called at least once a turn, so a deadline that
// appears between two calls is seen.
type Shard interface {
	Open(h hub.Hello, now protocol.Time) hub.Ref
	Receive(slot hub.Slot, b []byte, now protocol.Time)
	Next(max int) (slot hub.Slot, b []byte, ok bool)
	Wrote(slot hub.Slot, n int, blocked bool, now protocol.Time)
	Writable(slot hub.Slot, now protocol.Time)
	Gone(slot hub.Slot, now protocol.Time)
	Publish(p *protocol.Publication, now protocol.Time)
	Tick(now protocol.Time) (next protocol.Time)
	Pending() bool
	Requests() []hub.Request
	Verdict(r hub.Ref, v hub.Verdict, now protocol.Time)
	Displace(r hub.Ref, v hub.Displace, now protocol.Time)
	Drain(window protocol.Time, now protocol.Time)
	Stats() hub.Stats
}

// fuller is what a shard may also be. While Full and Pending both hold, the
// loop leaves state publications in the inbox, which conflates when it is
// full, and writes first.
type fuller interface{ Full() bool }

// A Clock tells the time. Whoever moves a clock by hand calls Group.Wake.
type Clock interface{ Now() protocol.Time }

// A Handler takes what a shard wants done: Verify and Released. Finished is
// the loop's own business. Handle runs on the loop and must not wait; it may
// call any method of the Group but Stats.
type Handler interface {
	Handle(loop int, req hub.Request)
}
