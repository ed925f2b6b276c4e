package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"cryptointel/internal/auth"
	"cryptointel/internal/server"
)

// settings are what the commands about a server have in common.
type settings struct {
	File   string        `name:"config" help:"YAML file with the same keys as the flags." type:"path"`
	Server server.Config `embed:""`
}

type demoCommand struct {
	settings `embed:""`
}

// config is the demo's configuration, with a secret for this run only unless
// one is given.
func (c *demoCommand) config() (server.Config, error) {
	cfg := c.Server
	secret := os.Getenv(secretVariable)
	if secret == "" {
		secret = rand.Text() + rand.Text()
	}
	cfg.Auth.Secret = auth.Secret(secret)
	cfg.Auth.AnonymousChannels = append(cfg.Auth.AnonymousChannels, "signals:*")
	return cfg, nil
}

func (c *demoCommand) Run(ctx context.Context, k *kong.Context, file *configFile, out io.Writer, errs stderr, hup hangups) error {
	n, err := newNode(c, k, file, errs, hup)
	if err != nil {
		return err
	}
	token, err := auth.Sign([]byte(n.secret), auth.TokenRequest{
		Subject: "demo", Channels: []string{"*"}, Publish: []string{"*"}, Admin: "write", TTL: 24 * time.Hour,
	}, time.Now())
	if err != nil {
		n.close()
		return err
	}
	fmt.Fprintf(out, greeting, n.publicURL(), n.adminURL(), token, n.publicURL(), n.apiURL())
	return n.run(ctx)
}

const greeting = `A simulated market of 50 assets is running; every message says "demo":true.

  public   %s
  admin    %s
  token    %s

Watch it (another terminal):

  go run ./cmd/cryptointel tail --url %s price:bitcoin price:ethereum
  curl -s %s/api/v1/prices | head -c 600

`

type serveCommand struct {
	settings `embed:""`
	Files    []string `arg:"" optional:"" help:"More recordings for --replay, so that --replay *.gz works." type:"path"`
}

func (c *serveCommand) config() (server.Config, error) {
	cfg := c.Server
	if len(c.Files) > 0 && len(cfg.Replay) == 0 {
		return cfg, fmt.Errorf("unexpected argument %q: recordings follow --replay", c.Files[0])
	}
	cfg.Replay = append(cfg.Replay, c.Files...)
	cfg.Auth.Secret = auth.Secret(os.Getenv(secretVariable))
	return cfg, nil
}

func (c *serveCommand) Run(ctx context.Context, k *kong.Context, file *configFile, out io.Writer, errs stderr, hup hangups) error {
	n, err := newNode(c, k, file, errs, hup)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "public %s\nadmin %s\n", n.publicURL(), n.adminURL())
	return n.run(ctx)
}

type echoCommand struct {
	Listen    string `help:"Address to listen on." default:"127.0.0.1:9001"`
	EventLoop string `name:"eventloop" help:"Connection layer: auto, epoll or portable." default:"auto" enum:"auto,epoll,portable"`
}

func (c *echoCommand) Run(ctx context.Context, out io.Writer, errs stderr) error {
	cfg := server.DefaultConfig()
	cfg.Listen, cfg.AdminListen, cfg.EventLoop, cfg.Echo, cfg.TestChannels = c.Listen, "", c.EventLoop, true, false
	cfg.Feeds, cfg.DataDir = nil, ""
	srv, err := server.New(cfg, newLogger(errs, slog.LevelWarn, "text"))
	if err != nil {
		return startError(err)
	}
	fmt.Fprintf(out, "echo ws://%s/\n", srv.Addr())
	return srv.Run(ctx)
}

// startError is why a server could not be made: a setting that has to change
// first, unless the environment failed. That may pass, so it is worth another
// start.
func startError(err error) error {
	if environmental(err) {
		return err
	}
	return usageError{err}
}

// environmental reports whether an error is of the network, of files in use or
// of permissions. Parts say so of their own errors by a method Environment; of
// the system's, a file that is not there and an address that is none are
// settings.
func environmental(err error) bool {
	var (
		trouble interface{ Environment() bool }
		refused *net.OpError
		noPort  *net.AddrError
		errno   syscall.Errno
	)
	switch {
	case errors.As(err, &noPort): // whoever says that it is trouble
		return false
	case errors.As(err, &trouble):
		return trouble.Environment()
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR):
		return false
	case errors.As(err, &refused), errors.As(err, &errno):
		return true
	}
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, context.DeadlineExceeded)
}

// stderr is a writer that kong can tell from the one for output.
type stderr struct{ io.Writer }
