package main

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"cryptointel/internal/server"
)

const configFlag = "config"

// BeforeResolve reads the YAML file that --config names. Its values are for
// flags that neither the command line nor the environment gives.
func (c *cli) BeforeResolve(ctx *kong.Context) error {
	file := &configFile{path: configPath(ctx)}
	c.file = file
	ctx.Bind(file)
	if file.path == "" {
		return nil
	}
	if err := file.read(); err != nil {
		return err
	}
	file.check(settingFlags(ctx))
	ctx.AddResolver(kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		if slices.ContainsFunc(flag.Envs, inEnvironment) {
			return nil, nil // the environment wins
		}
		return file.entries[flag.Name].value, nil
	}))
	return nil
}

// BeforeApply refuses a choice that a flag does not have, in the words that
// the file's are refused with.
func (c *cli) BeforeApply(ctx *kong.Context) error {
	for _, flag := range ctx.Flags() {
		if flag.Enum == "" {
			continue
		}
		if err := checkChoice(flag, fmt.Sprint(ctx.FlagValue(flag))); err != nil {
			return errors.Join(append(c.file.wrong, fmt.Errorf("--%w", err))...)
		}
	}
	return nil
}

// AfterApply tells all that cannot be read in the file, and what makes no
// sense of the rest: whoever corrects the file should not have to come back
// for each line.
func (c *cli) AfterApply(ctx *kong.Context) error {
	if len(c.file.wrong) == 0 {
		return nil
	}
	return errors.Join(append(c.file.wrong, c.nonsense(ctx))...)
}

// nonsense is the first thing wrong with the settings together, unless it is
// about one of those that were left out.
func (c *cli) nonsense(ctx *kong.Context) error {
	command, ok := ctx.Selected().Target.Addr().Interface().(configured)
	if !ok {
		return nil
	}
	cfg, err := command.config()
	if err == nil {
		err = server.Check(cfg)
	}
	if err == nil || slices.ContainsFunc(c.file.left, func(name string) bool { return strings.Contains(err.Error(), name) }) {
		return nil
	}
	return locate(ctx, c.file, err)
}

// configPath is the value of --config, empty when the command has no such flag.
func configPath(ctx *kong.Context) string {
	for _, flag := range ctx.Flags() {
		if flag.Name == configFlag {
			path, _ := ctx.FlagValue(flag).(string)
			return path
		}
	}
	return ""
}

// settingFlags are the flags that a file may set.
func settingFlags(ctx *kong.Context) []*kong.Flag {
	return slices.DeleteFunc(ctx.Flags(), func(f *kong.Flag) bool { return f.Name == configFlag || f.Name == "help" })
}

func names(flags []*kong.Flag) []string {
	out := make([]string, len(flags))
	for i, f := range flags {
		out[i] = f.Name
	}
	return out
}

func inEnvironment(name string) bool {
	_, ok := os.LookupEnv(name)
	return ok
}

// decode reads a value, as kong takes it from a command line, into a new one
// of the flag's type.
func decode(flag *kong.Flag, value any) (reflect.Value, error) {
	target := reflect.New(flag.Target.Type()).Elem()
	scan := kong.Scan().PushTyped(value, kong.FlagValueToken)
	return target, flag.Mapper.Decode(&kong.DecodeContext{Value: flag.Value, Scan: scan}, target)
}

// checkChoice refuses what is none of an enum flag's choices.
func checkChoice(flag *kong.Flag, value string) error {
	choices := flag.EnumSlice()
	if flag.Enum == "" || slices.Contains(choices, value) {
		return nil
	}
	hint := ""
	if best := nearest(value, choices); distance(value, best) <= max(len(value), len(best))/2 {
		hint = fmt.Sprintf("; did you mean %q?", best)
	}
	return fmt.Errorf("%s must be one of %s but got %q%s", flag.Name, strings.Join(choices, ", "), value, hint)
}

// pathMapper is kong's for files, but an empty text stays empty: it says that
// there is no file, not that the file is the working directory.
func pathMapper(ctx *kong.DecodeContext, target reflect.Value) error {
	if target.Kind() == reflect.Slice {
		return kong.NewRegistry().RegisterDefaults().ForNamedValue("path", target).Decode(ctx, target)
	}
	var path string
	if err := ctx.Scan.PopValueInto("file", &path); err != nil {
		return err
	}
	if path != "" {
		path = kong.ExpandPath(path)
	}
	target.SetString(path)
	return nil
}

// parseError is kong's error, with the nearest name for an unknown flag also
// when it is a word apart.
func parseError(err error) error {
	const unknown = "unknown flag --"
	var p *kong.ParseError
	rest, found := strings.CutPrefix(err.Error(), unknown)
	if !found || strings.Contains(rest, "did you mean") || !errors.As(err, &p) || p.Context == nil {
		return err
	}
	return fmt.Errorf("%s%s, did you mean %q?", unknown, rest, "--"+nearest(rest, names(settingFlags(p.Context))))
}

// nearest is the known word that takes the fewest changes to write, the first
// of several.
func nearest(word string, known []string) string {
	return slices.MinFunc(known, func(a, b string) int { return apart(word, a) - apart(word, b) })
}

// apart is how far a word is from a known one. One without its group, or a
// part of the name, is near too.
func apart(word, known string) int {
	d := 2 * distance(word, known)
	if last := known[strings.LastIndexByte(known, '.')+1:]; last != known {
		d = min(d, 2*distance(word[strings.LastIndexByte(word, '.')+1:], last)+1)
	}
	if len(word) > 3 && strings.Contains(known, strings.TrimLeft(word, "-")) {
		d = min(d, 2)
	}
	return d
}

// distance is how many letters must change to make one word the other.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		left := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := left
			if a[i] != b[j] {
				d = 1 + min(left, row[j], row[j+1])
			}
			left, row[j+1] = row[j+1], d
		}
	}
	return row[len(b)]
}
