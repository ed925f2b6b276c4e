package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/alecthomas/kong"

	"cryptointel/internal/server"
)

// A checkCommand takes what serve takes, and runs nothing.
type checkCommand struct {
	serveCommand `embed:""`
}

// Run prints the settings that are not the defaults, and fails when serve
// would, or when a variable of the environment means nothing.
func (c *checkCommand) Run(k *kong.Context, file *configFile, out io.Writer) error {
	if file.path != "" {
		fmt.Fprintln(out, "file:", file.path)
	}
	if os.Getenv(secretVariable) != "" {
		fmt.Fprintln(out, "secret: set in", secretVariable)
	}
	if err := printSettings(out, k, file); err != nil {
		return err
	}
	var errs []error
	unknown := strangers(os.Environ(), k.Flags())
	for _, name := range sortedKeys(unknown) {
		errs = append(errs, fmt.Errorf("environment variable %s is no setting; did you mean %s?", name, unknown[name]))
	}
	cfg, err := c.config()
	if err == nil {
		err = server.Check(cfg)
	}
	if err == nil && keepsFiles(cfg) {
		err = checkFolder(cfg.DataDir)
	}
	if err != nil {
		errs = append(errs, locate(k, file, err))
	}
	if len(errs) > 0 {
		return usageError{errors.Join(errs...)}
	}
	fmt.Fprintln(out, "the configuration is good")
	return nil
}

// keepsFiles reports whether serve would write into data-dir: what is simulated
// or replayed stays in memory, as do the candles of a node that asks others.
func keepsFiles(cfg server.Config) bool {
	simulated := len(cfg.Replay) > 0 || slices.Contains(cfg.Feeds, server.FeedDemo)
	return cfg.DataDir != "" && !simulated && (len(cfg.NATS.URLs) == 0 || len(cfg.Feeds) > 0)
}

// checkFolder tries to write into a folder, or into the one that it would be
// made in, and leaves nothing behind. It is no part of server.Check: a disk
// that is full for a moment must not keep settings from being reloaded.
func checkFolder(dir string) error {
	place := filepath.Clean(dir)
	info, err := os.Stat(place)
	for errors.Is(err, fs.ErrNotExist) && filepath.Dir(place) != place {
		place = filepath.Dir(place)
		info, err = os.Stat(place)
	}
	switch {
	case err != nil:
		return fmt.Errorf("data-dir: %w: name a folder that this user may write", err)
	case !info.IsDir():
		return fmt.Errorf("data-dir: %s is a file: name a folder, or leave it empty to keep candles in memory", place)
	}
	probe, err := os.MkdirTemp(place, ".check-config-")
	if err != nil {
		return fmt.Errorf("data-dir: %s cannot be written by this user: %w", place, err)
	}
	return os.Remove(probe)
}
