package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"cryptointel/internal/feedsim"
)

type feedsimCommand struct {
	Data      string        `help:"Folder of the recorded market data, with feeds/ and trades/ in it." default:"../shared/data" env:"CRYPTOINTEL_DATA" type:"path"`
	Exchanges []string      `help:"Exchanges to simulate." default:"coinbase,kraken,binance"`
	Host      string        `help:"Address to listen on; each exchange gets a port of its own." default:"127.0.0.1"`
	Faults    bool          `help:"Misbehave: lose, delay and double frames, cut connections, refuse."`
	Seed      uint64        `help:"Of the faults and the prices." default:"1"`
	For       time.Duration `help:"How long faults are made." default:"10m"`
}

// Run serves simulated exchanges and prints the command that follows them.
func (c *feedsimCommand) Run(ctx context.Context, out io.Writer, errs stderr) error {
	cfg := feedsim.Config{Data: c.Data, Exchanges: c.Exchanges, Seed: c.Seed, Duration: c.For}
	if c.Faults {
		cfg.Faults = feedsim.AllFaults()
	}
	sim, err := feedsim.New(cfg, newLogger(errs, slog.LevelDebug, "text"))
	if err != nil {
		return usageError{err}
	}
	g, ctx := errgroup.WithContext(ctx)
	command := "cryptointel serve --feeds " + strings.Join(c.Exchanges, ",")
	for _, name := range c.Exchanges {
		l, err := net.Listen("tcp", net.JoinHostPort(c.Host, "0"))
		if err != nil {
			return err
		}
		h := &http.Server{Handler: sim.Handler(name), ReadHeaderTimeout: 5 * time.Second}
		g.Go(func() error { return h.Serve(l) })
		g.Go(func() error { <-ctx.Done(); sim.Close(); return h.Close() })
		command += fmt.Sprintf(" \\\n  --live.%s.url ws://%s/ws --live.%s.rest http://%s", name, l.Addr(), name, l.Addr())
	}
	fmt.Fprintf(out, "%s\n", command)
	if err := g.Wait(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
