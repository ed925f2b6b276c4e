package main

import (
	"bytes"
	"context"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// A text is what a program has written, for those who wait for it.
type text struct {
	mu   sync.Mutex // guards the fields below
	b    bytes.Buffer
	more chan struct{} // closed when there is more
}

func newText() *text { return &text{more: make(chan struct{})} }

func (x *text) Write(b []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	close(x.more)
	x.more = make(chan struct{})
	return x.b.Write(b)
}

func (x *text) read() (all string, more <-chan struct{}) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.String(), x.more
}

func (x *text) String() string {
	all, _ := x.read()
	return all
}

// await waits until the text matches, and returns what the parentheses match.
func (x *text) await(t *testing.T, pattern string) []string {
	t.Helper()
	re, late := regexp.MustCompile(pattern), time.After(patience)
	for {
		all, more := x.read()
		if m := re.FindStringSubmatch(all); m != nil {
			return m[1:]
		}
		select {
		case <-more:
		case <-late:
			t.Fatalf("waiting for %s in %q", pattern, all)
		}
	}
}

// A program is the program running with some arguments.
type program struct {
	out, errs *text
	hup       chan os.Signal
	stop      func()
	ended     chan int // its exit code
}

func start(t *testing.T, in string, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &program{out: newText(), errs: newText(), hup: make(chan os.Signal), stop: cancel, ended: make(chan int, 1)}
	hup := func() (<-chan os.Signal, func()) { return p.hup, func() {} }
	go func() { p.ended <- run(ctx, args, strings.NewReader(in), p.out, p.errs, hup) }()
	return p
}

// exits waits for the end of the program and compares its exit code.
func (p *program) exits(t *testing.T, want int) {
	t.Helper()
	select {
	case got := <-p.ended:
		p.stop()
		if got != want {
			t.Errorf("exit code %d, want %d; it said %q and %q", got, want, p.out, p.errs)
		}
	case <-time.After(patience):
		t.Fatalf("the program does not end; it said %q and %q", p.out, p.errs)
	}
}

// runs is the program from start to end.
func runs(t *testing.T, code int, in string, args ...string) (out, errs string) {
	t.Helper()
	p := start(t, in, args...)
	p.exits(t, code)
	return p.out.String(), p.errs.String()
}
