// Command cryptointel is the streaming server and the tools around it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/alecthomas/kong"

	"cryptointel/internal/bench"
	"cryptointel/internal/server"
)

// A cli is the command line: what it can say is what the commands' Config
// structs say about themselves.
type cli struct {
	Demo    demoCommand    `cmd:"" help:"Run a server with a simulated market, nothing else needed."`
	Serve   serveCommand   `cmd:"" help:"Run a server."`
	Check   checkCommand   `cmd:"" name:"check-config" help:"Say what serve would run with, and what is wrong with it."`
	Tail    tailCommand    `cmd:"" help:"Print what channels deliver."`
	Publish publishCommand `cmd:"" help:"Publish messages from standard input, one JSON object a line."`
	Token   tokenCommand   `cmd:"" help:"Print a token."`
	Bench   benchCommand   `cmd:"" help:"Measure a server on this machine."`
	Feedsim feedsimCommand `cmd:"" help:"Serve simulated exchanges made from recordings, to try live feeds without the exchanges."`
	Echo    echoCommand    `cmd:"" name:"conformance-echo" hidden:"" help:"Serve a plain WebSocket echo."`

	file *configFile // what --config names, read by BeforeResolve
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, onHangup)
	stop()
	os.Exit(code)
}

// A hangups function begins to take SIGHUP, which ends the process otherwise.
type hangups func() (ch <-chan os.Signal, stop func())

func onHangup() (<-chan os.Signal, func()) {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGHUP)
	return ch, func() { signal.Stop(ch) }
}

// run is the whole program: 0 when all went well, 1 when something failed, 2
// when the command line or the configuration is wrong.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer, hup hangups) int {
	exited := -1
	parser, err := newParser(&cli{}, out, errs, func(code int) { exited = code })
	if err != nil {
		fmt.Fprintln(errs, "cryptointel:", err)
		return 1
	}
	k, err := parser.Parse(args)
	if exited >= 0 { // --help
		return exited
	}
	if err != nil {
		fmt.Fprintf(errs, "cryptointel: %v\ncryptointel --help lists commands and flags.\n", parseError(err))
		return 2
	}
	k.BindTo(ctx, (*context.Context)(nil))
	k.BindTo(in, (*io.Reader)(nil))
	k.BindTo(out, (*io.Writer)(nil))
	k.Bind(stderr{errs}, hup)
	return exitCode(k.Run(), errs)
}

// newParser reads flags, the environment and the configuration file into c.
func newParser(c *cli, out, errs io.Writer, exit func(int)) (*kong.Kong, error) {
	return kong.New(c, kong.Name("cryptointel"), kong.Description("Real-time streaming for crypto intelligence."),
		kong.Writers(out, errs), kong.Exit(exit), kong.FlagNamer(server.SettingName),
		kong.NamedMapper("path", kong.MapperFunc(pathMapper)), kong.PostBuild(serverFlags), kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
}

// serverFlags finishes the flags of the commands about a server: each has an
// environment variable, and demo has the simulated market unless told
// otherwise. The tools have none: a variable such as CRYPTOINTEL_URL would mean
// another thing to each of them.
func serverFlags(k *kong.Kong) error {
	for _, command := range k.Model.Children {
		if !slices.Contains([]string{"demo", "serve", "check-config"}, command.Name) {
			continue
		}
		for _, flag := range command.Flags {
			flag.Envs = []string{environment(flag.Name)}
			flag.Tag.Envs = flag.Envs
			if command.Name == "demo" && flag.Name == "feeds" {
				flag.Default, flag.HasDefault = server.FeedDemo, true
			}
		}
	}
	return nil
}

// A usageError is a value on the command line that cannot be used.
type usageError struct{ error }

func exitCode(err error, errs io.Writer) int {
	if err == nil || errors.Is(err, context.Canceled) {
		return 0
	}
	fmt.Fprintln(errs, "cryptointel:", err)
	if errors.As(err, &usageError{}) || errors.As(err, &bench.ConfigError{}) {
		return 2
	}
	return 1
}
