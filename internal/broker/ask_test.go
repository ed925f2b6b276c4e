package broker

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"cryptointel/protocol"
)

// TestAsk: whoever serves a name answers, on this node or another, and errors
// come through.
func TestAsk(t *testing.T) {
	alone, _ := open(t, nil)
	n := external(t)
	a, _ := n.join(nil)
	b, _ := n.join(nil)
	refused := &protocol.Error{Code: protocol.InvalidChannel, Message: "there is no such asset", RetryAfter: 3 * protocol.Second}
	serve := func(_ context.Context, request []byte) ([]byte, error) {
		switch string(request) {
		case "refuse":
			return nil, fmt.Errorf("prices: %w", refused)
		case "fail":
			return nil, errors.New("no disk")
		case "large":
			return make([]byte, maxEncoded), nil
		}
		return append([]byte("answer to "), request...), nil
	}
	for _, node := range []*Broker{a, alone} {
		if _, err := node.Serve("prices", serve); err != nil {
			t.Fatal(err)
		}
	}
	for name, node := range map[string]*Broker{"its own": a, "another node's": b, "without NATS": alone} {
		t.Run(name, func(t *testing.T) {
			if got, err := node.Ask(t.Context(), "prices", []byte("x")); string(got) != "answer to x" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
			var got *protocol.Error
			if _, err := node.Ask(t.Context(), "prices", []byte("refuse")); !errors.As(err, &got) || !reflect.DeepEqual(got, refused) {
				t.Errorf("got %v; want %v", err, refused)
			}
			if _, err := node.Ask(t.Context(), "prices", []byte("fail")); err == nil || !strings.Contains(err.Error(), "no disk") {
				t.Errorf("got %v; want the error's text", err)
			}
			if _, err := node.Ask(t.Context(), "history", nil); !errors.Is(err, ErrNobody) {
				t.Errorf("a name that nobody serves: got %v; want ErrNobody", err)
			}
			if _, err := node.Ask(t.Context(), "*", nil); err == nil || errors.Is(err, ErrNobody) {
				t.Errorf("a name that is none: got %v", err)
			}
		})
	}
	var size *protocol.Error
	if _, err := b.Ask(t.Context(), "prices", []byte("large")); !errors.As(err, &size) || size.Code != protocol.MessageTooLarge {
		t.Errorf("a large answer: got %v", err)
	}
	if _, err := b.Ask(t.Context(), "prices", make([]byte, maxEncoded+1)); !errors.As(err, &size) || size.Code != protocol.MessageTooLarge {
		t.Errorf("a large question: got %v", err)
	}
}

func TestServeRefuses(t *testing.T) {
	b, _ := open(t, nil)
	fn := func(context.Context, []byte) ([]byte, error) { return nil, nil }
	for _, name := range []string{"", "a.b", "A", "*", ">", strings.Repeat("a", 65)} {
		if _, err := b.Serve(name, fn); err == nil {
			t.Errorf("%q is served", name)
		}
	}
	stop, err := b.Serve("a", fn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Serve("a", fn); err == nil {
		t.Error("a name is served twice")
	}
	stop()
	stop()
	if _, err := b.Serve("a", fn); err != nil {
		t.Errorf("again after the end: %v", err)
	}
	b.Close()
	if _, err := b.Serve("b", fn); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: got %v; want ErrClosed", err)
	}
}

// TestServeStops: the end of a service ends the context of a call in progress
// and waits for it; then nobody serves.
func TestServeStops(t *testing.T) {
	n := external(t)
	a, _ := n.join(nil)
	b, _ := n.join(nil)
	started, over := make(chan struct{}), false
	stop, err := a.Serve("prices", func(ctx context.Context, _ []byte) ([]byte, error) {
		close(started)
		<-ctx.Done()
		over = true
		return nil, ctx.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := b.Ask(t.Context(), "prices", nil); err == nil {
			t.Error("answered")
		}
	})
	<-started
	stop()
	if !over {
		t.Error("stop does not wait")
	}
	wg.Wait()
	if _, err := b.Ask(t.Context(), "prices", nil); !errors.Is(err, ErrNobody) {
		t.Errorf("got %v; want ErrNobody", err)
	}
}

// TestAskEnds: neither a service that is slow nor a server that is away holds
// an asker for longer than it wants.
func TestAskEnds(t *testing.T) {
	n := external(t)
	a, _ := n.join(nil)
	b, _ := n.join(nil)
	hold := make(chan struct{})
	defer close(hold)
	var calls sync.WaitGroup
	calls.Add(maxServing)
	if _, err := a.Serve("slow", func(ctx context.Context, _ []byte) ([]byte, error) {
		calls.Done()
		select {
		case <-hold:
		case <-ctx.Done():
		}
		return nil, nil
	}); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithCancel(t.Context())
	var askers sync.WaitGroup
	for range maxServing {
		askers.Go(func() {
			if _, err := b.Ask(short, "slow", nil); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v; want the context's", err)
			}
		})
	}
	calls.Wait() // every place is taken
	var busy *protocol.Error
	if _, err := b.Ask(t.Context(), "slow", nil); !errors.As(err, &busy) || !busy.Code.Retryable() {
		t.Errorf("got %v; want a refusal that may be tried again", err)
	}
	cancel()
	askers.Wait()
	n.stop()
	until(t, "the loss is noticed", func() bool { return !b.Stats().Link.Connected })
	began := time.Now()
	if _, err := b.Ask(t.Context(), "slow", nil); !errors.Is(err, ErrNobody) || time.Since(began) > time.Second {
		t.Errorf("without a server: got %v after %v; want ErrNobody at once", err, time.Since(began))
	}
	n.start()
}
