package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	"github.com/alecthomas/kong"

	"cryptointel/internal/auth"
	"cryptointel/internal/gateway"
	"cryptointel/internal/server"
)

// configured is a command that runs a server.
type configured interface {
	config() (server.Config, error)
}

// A node is a server that runs, and takes its settings anew at SIGHUP.
type node struct {
	args   []string         // of the command line
	hup    <-chan os.Signal // of capacity 1: one at the start waits for run
	unhook func()
	level  *slog.LevelVar
	log    *slog.Logger
	srv    *server.Server
	secret auth.Secret // stays as it was at the start
	tls    bool        // of the public listener
	locked bool        // the admin listener speaks TLS
}

// newNode makes the server of a command; nothing is served before run.
func newNode(c configured, k *kong.Context, file *configFile, errs io.Writer, hup hangups) (*node, error) {
	cfg, err := c.config()
	if err != nil {
		return nil, usageError{err}
	}
	n := &node{args: k.Args, level: new(slog.LevelVar), secret: cfg.Auth.Secret, tls: cfg.TLS.On()}
	n.locked = gateway.AdminTLS(cfg.AdminListen, n.tls)
	n.log = newLogger(errs, n.level, cfg.LogFormat)
	setLevel(n.level, cfg.LogLevel)
	unknown := strangers(os.Environ(), k.Flags())
	for _, name := range sortedKeys(unknown) {
		n.log.Warn("environment variable is no setting", "name", name, "did_you_mean", unknown[name])
	}
	n.hup, n.unhook = hup()
	if n.srv, err = server.New(cfg, n.log); err != nil {
		n.unhook()
		return nil, startError(locate(k, file, err))
	}
	return n, nil
}

// close frees what newNode took, when run is not called.
func (n *node) close() {
	n.unhook()
	n.srv.Close()
}

// run serves until ctx is done, or a part fails.
func (n *node) run(ctx context.Context) error {
	defer n.unhook()
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-n.hup:
				n.reload()
			}
		}
	})
	return n.srv.Run(ctx)
}

// reload reads arguments, environment and file again, and changes what can be
// changed. What is wrong with them changes nothing.
func (n *node) reload() {
	cfg, where, err := n.again()
	if err != nil {
		n.log.Error("settings not reloaded, the running ones stay", "err", err)
		return
	}
	changed, needRestart, err := n.srv.Reload(cfg)
	if err != nil {
		n.log.Error("settings not reloaded, the running ones stay", "err", where(err))
		return
	}
	setLevel(n.level, cfg.LogLevel)
	n.log.Info("settings reloaded", "changed", changed)
	if len(needRestart) > 0 {
		n.log.Warn("settings that need a restart keep their values", "settings", needRestart)
	}
}

// again is what the command line says now, and where an error about it is.
func (n *node) again() (cfg server.Config, where func(error) error, err error) {
	var c cli
	parser, err := newParser(&c, io.Discard, io.Discard, func(int) {})
	if err != nil {
		return cfg, nil, err
	}
	k, err := parser.Parse(n.args)
	if err != nil {
		return cfg, nil, parseError(err)
	}
	command, ok := k.Selected().Target.Addr().Interface().(configured)
	if !ok {
		return cfg, nil, fmt.Errorf("%s runs no server", k.Command())
	}
	cfg, err = command.config()
	cfg.Auth.Secret = n.secret
	return cfg, func(err error) error { return locate(k, c.file, err) }, err
}

func (n *node) publicURL() string {
	if n.tls {
		return "wss://" + n.srv.Addr() + "/ws"
	}
	return "ws://" + n.srv.Addr() + "/ws"
}

func (n *node) apiURL() string {
	if n.tls {
		return "https://" + n.srv.Addr()
	}
	return "http://" + n.srv.Addr()
}

func (n *node) adminURL() string {
	if n.srv.AdminAddr() == "" {
		return "none"
	}
	scheme := "http://"
	if n.locked {
		scheme = "https://"
	}
	return scheme + n.srv.AdminAddr() + "/metrics"
}

// newLogger writes lines for people, or JSON for machines.
func newLogger(w io.Writer, level slog.Leveler, format string) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// setLevel takes one of the level's names, which the flag's choices are.
func setLevel(v *slog.LevelVar, name string) {
	var l slog.Level
	if l.UnmarshalText([]byte(name)) == nil {
		v.Set(l)
	}
}
