package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"cryptointel/internal/auth"
	"cryptointel/internal/server"
)

// secretVariable holds the secret that signs and verifies HS256 tokens.
const secretVariable = "CRYPTOINTEL_JWT_SECRET"

type demoCommand struct {
	File   string        `name:"config" help:"YAML file with the same keys as the flags." type:"path"`
	Server server.Config `embed:""`
}

func (c *demoCommand) Run(ctx context.Context, out io.Writer, errs stderr) error {
	cfg := c.Server
	secret := os.Getenv(secretVariable)
	if secret == "" {
		secret = rand.Text() + rand.Text() // for this run only
	}
	cfg.Auth.Secret = auth.Secret(secret)
	cfg.Auth.AnonymousChannels = append(cfg.Auth.AnonymousChannels, "signals:*")
	srv, err := server.New(cfg, logger(errs, cfg.LogLevel))
	if err != nil {
		return startError(err)
	}
	token, err := auth.Sign([]byte(secret), auth.TokenRequest{
		Subject: "demo", Channels: []string{"*"}, Publish: []string{"*"}, Admin: "write", TTL: 24 * time.Hour,
	}, time.Now())
	if err != nil {
		srv.Close()
		return err
	}
	fmt.Fprintf(out, greeting, srv.Addr(), adminURL(srv), token, srv.Addr(), srv.Addr())
	return srv.Run(ctx)
}

const greeting = `A simulated market of 50 assets is running; every message says "demo":true.

  public   ws://%s/ws
  admin    %s
  token    %s

Watch it (another terminal):

  go run ./cmd/cryptointel tail --url ws://%s/ws price:bitcoin price:ethereum
  curl -s http://%s/api/v1/prices | head -c 600

`

type serveCommand struct {
	File   string        `name:"config" help:"YAML file with the same keys as the flags." type:"path"`
	Files  []string      `arg:"" optional:"" help:"More recordings for --replay, so that --replay *.gz works." type:"path"`
	Server server.Config `embed:""`
}

func (c *serveCommand) Run(ctx context.Context, out io.Writer, errs stderr) error {
	cfg := c.Server
	if len(c.Files) > 0 && len(cfg.Replay) == 0 {
		return usageError{fmt.Errorf("unexpected argument %q: recordings follow --replay", c.Files[0])}
	}
	cfg.Replay = append(cfg.Replay, c.Files...)
	cfg.Auth.Secret = auth.Secret(os.Getenv(secretVariable))
	srv, err := server.New(cfg, logger(errs, cfg.LogLevel))
	if err != nil {
		return startError(err)
	}
	fmt.Fprintf(out, "public ws://%s/ws\nadmin %s\n", srv.Addr(), adminURL(srv))
	return srv.Run(ctx)
}

func adminURL(srv *server.Server) string {
	if srv.AdminAddr() == "" {
		return "none"
	}
	return "http://" + srv.AdminAddr() + "/metrics"
}

type echoCommand struct {
	Listen    string `help:"Address to listen on." default:"127.0.0.1:9001"`
	EventLoop string `name:"eventloop" help:"Connection layer: auto, epoll or portable." default:"auto" enum:"auto,epoll,portable"`
}

func (c *echoCommand) Run(ctx context.Context, out io.Writer, errs stderr) error {
	cfg := server.DefaultConfig()
	cfg.Listen, cfg.AdminListen, cfg.EventLoop, cfg.Echo, cfg.TestChannels = c.Listen, "", c.EventLoop, true, false
	srv, err := server.New(cfg, logger(errs, "warn"))
	if err != nil {
		return startError(err)
	}
	fmt.Fprintf(out, "echo ws://%s/\n", srv.Addr())
	return srv.Run(ctx)
}

// startError is why a server could not be made: mostly a setting, unless the
// system refused an address.
func startError(err error) error {
	var refused *net.OpError
	if errors.As(err, &refused) {
		return err
	}
	return usageError{err}
}

func logger(w io.Writer, level string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l}))
}

// stderr is a writer that kong can tell from the one for output.
type stderr struct{ io.Writer }
