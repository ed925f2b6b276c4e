package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"cryptointel/internal/auth"
	"cryptointel/internal/bench"
)

type benchCommand struct {
	Connect  benchConnect  `cmd:"" help:"How long a connection takes while many are open."`
	Fanout   benchFanout   `cmd:"" help:"One channel with many subscribers."`
	Channels benchChannels `cmd:"" help:"Many connections, each on some of many channels."`
	Memory   benchMemory   `cmd:"" help:"What one more connection costs the server."`
	Floor    benchFloor    `cmd:"" hidden:""`
}

type benchConnect struct {
	bench.ConnectConfig `embed:""`
}

func (c *benchConnect) Run(ctx context.Context, out io.Writer) error {
	c.TokenFor = benchTokens()
	return c.ConnectConfig.Run(ctx, out)
}

type benchFanout struct {
	bench.FanoutConfig `embed:""`
}

func (c *benchFanout) Run(ctx context.Context, out io.Writer) error {
	c.TokenFor = benchTokens()
	if exe, err := os.Executable(); err == nil {
		c.FloorCommand = []string{exe, "bench", "floor"}
	}
	return c.FanoutConfig.Run(ctx, out)
}

type benchChannels struct {
	bench.ChannelsConfig `embed:""`
}

func (c *benchChannels) Run(ctx context.Context, out io.Writer) error {
	c.TokenFor = benchTokens()
	return c.ChannelsConfig.Run(ctx, out)
}

type benchMemory struct {
	bench.MemoryConfig `embed:""`
}

func (c *benchMemory) Run(ctx context.Context, out io.Writer) error {
	c.TokenFor = benchTokens()
	return c.MemoryConfig.Run(ctx, out)
}

type benchFloor struct {
	bench.FloorConfig `embed:""`
}

func (c *benchFloor) Run(ctx context.Context, out io.Writer) error {
	return c.FloorConfig.Run(ctx, out)
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
