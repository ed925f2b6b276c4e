package eventloop

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"runtime"
	"testing"

	"cryptointel/internal/hub"
)

var discard = slog.New(slog.DiscardHandler)

func TestConfigIsChecked(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"defaults", func(*Config) {}, ""},
		{"kind left out", func(c *Config) { c.Kind = "" }, ""},
		{"kind", func(c *Config) { c.Kind = "kqueue" }, `eventloop: kind is "kqueue", want "auto", "epoll" or "portable"`},
		{"loops", func(c *Config) { c.Loops = -1 }, "eventloop: loops is -1, want at least 0"},
		{"send buffer", func(c *Config) { c.SendBuffer = -1 }, "eventloop: send buffer is -1, want at least 0"},
		{"slice", func(c *Config) { c.Slice = -5 }, "eventloop: slice is -5, want at least 0"},
		{"states", func(c *Config) { c.InboxStates = 0 }, "eventloop: inbox states is 0, want at least 1"},
		{"entries", func(c *Config) { c.InboxEntries = 0 }, "eventloop: inbox entries is 0, want at least 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := DefaultConfig()
			c.change(&cfg)
			got := ""
			_, err := New(cfg, Parts{Shard: func(int) Shard { return &fakeShard{t: t} },
				Clock: &fakeClock{}, Handler: &fakeHandler{}, Log: discard})
			if err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestAdoptRefuses(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("epoll needs Linux")
	}
	files := descriptors()
	b := newBed(t, config(KindEpoll, 1), nil)
	client, server := b.pair()
	one, other := net.Pipe()
	closed, closedPeer := b.pair()
	closedPeer.Close()
	for _, c := range []struct {
		name string
		conn net.Conn
	}{
		{"TLS", tls.Server(server, &tls.Config{})},
		{"no descriptor", one},
		{"closed", closedPeer},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := b.group.Adopt(c.conn, nil, hub.Hello{}); err == nil {
				t.Fatal("adopted")
			}
			if _, err := c.conn.Write([]byte("x")); err == nil {
				t.Error("the connection was not closed")
			}
		})
	}
	client.Close()
	other.Close()
	closed.Close()
	b.stop()
	comeBack(t, files, runtime.NumGoroutine())
}

func TestAfterTheEnd(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBed(t, config(kind, 1), nil)
		client, server := b.pair()
		b.stop()
		if err := b.group.Adopt(server, nil, hub.Hello{}); err != ErrClosed {
			t.Errorf("Adopt: %v, want ErrClosed", err)
		}
		if got := readAll(t, client); got != "" {
			t.Errorf("read %q", got)
		}
		client.Close()
		if _, err := b.group.Stats(t.Context()); err != ErrClosed {
			t.Errorf("Stats: %v, want ErrClosed", err)
		}
		b.group.Publish(statePub("a", 1))
		b.group.Drain(1)
		b.group.Wake()
	})
}

// What is given before Run waits for it, and Stats gives up with its context.
func TestBeforeTheStart(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBed(t, config(kind, 1), nil)
		g, err := New(config(kind, 1), Parts{Shard: func(int) Shard { return b.shards[0] },
			Clock: b.clock, Handler: b.handler, Log: discard})
		if err != nil {
			t.Fatal(err)
		}
		client, server := b.pair()
		b.stop()
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := g.Stats(ended); err != context.Canceled {
			t.Errorf("Stats: %v, want context.Canceled", err)
		}
		if err := g.Adopt(server, []byte("ask u1\nquit\n"), hub.Hello{}); err != nil {
			t.Fatal(err)
		}
		g.Publish(statePub("a", 1))
		b.group, b.handler.group = g, g
		b.run()
		if got := readAll(t, client); got != "bye\na 1\n" && got != "bye\n" && got != "a 1\nbye\n" {
			t.Errorf("got %q", got)
		}
		client.Close()
		b.released(1)
	})
}
