package main

import (
	"errors"
	"fmt"
	"io"
	"os"

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
	if err != nil {
		errs = append(errs, locate(k, file, err))
	}
	if len(errs) > 0 {
		return usageError{errors.Join(errs...)}
	}
	fmt.Fprintln(out, "the configuration is good")
	return nil
}
