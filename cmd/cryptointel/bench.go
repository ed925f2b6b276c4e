package main

import (
	"fmt"
	"os"
	"time"

	"cryptointel/internal/auth"
	"cryptointel/internal/bench"
)

type benchCommand struct {
	Connect  bench.ConnectConfig  `cmd:"" help:"How long a connection takes while many are open."`
	Fanout   bench.FanoutConfig   `cmd:"" help:"One channel with many subscribers."`
	Channels bench.ChannelsConfig `cmd:"" help:"Many connections, each on some of many channels."`
	Memory   bench.MemoryConfig   `cmd:"" help:"What one more connection costs the server."`
	Floor    bench.FloorConfig    `cmd:"" hidden:""`
}

// AfterApply gives the measurements what no flag can say: how to make tokens,
// and how to start the floor. Their own Run methods follow.
func (c *benchCommand) AfterApply() error {
	tokens := benchTokens()
	for _, t := range []*bench.Target{&c.Connect.Target, &c.Fanout.Target, &c.Channels.Target, &c.Memory.Target} {
		t.TokenFor = tokens
	}
	if exe, err := os.Executable(); err == nil {
		c.Fanout.FloorCommand = []string{exe, "bench", "floor"}
	}
	return nil
}

// benchTokens makes tokens from the server's secret, nil when it is not known
// here.
func benchTokens() func(i int) (string, error) {
	secret := os.Getenv(secretVariable)
	if secret == "" {
		return nil
	}
	return func(i int) (string, error) {
		r := auth.TokenRequest{Subject: fmt.Sprint("bench-", i), Channels: []string{"*"}, TTL: 24 * time.Hour}
		if i == bench.Publisher {
			r.Subject, r.Publish, r.Admin = "bench-publisher", []string{"*"}, "read"
		}
		return auth.Sign([]byte(secret), r, time.Now())
	}
}
