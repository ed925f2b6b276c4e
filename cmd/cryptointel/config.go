package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"unicode"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// snake names a flag after its field: MessageBytes is message_bytes.
func snake(field string) string {
	var b strings.Builder
	runes := []rune(field)
	for i, r := range runes {
		if unicode.IsUpper(r) {
			if i > 0 && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
				b.WriteByte('_')
			}
			r = unicode.ToLower(r)
		}
		b.WriteRune(r)
	}
	return b.String()
}

// BeforeResolve reads the YAML file that --config names. Its values are for
// flags that neither the command line nor the environment gives.
func (c *cli) BeforeResolve(ctx *kong.Context) error {
	path := configPath(ctx)
	if path == "" {
		return nil
	}
	values, err := readConfig(path)
	if err == nil {
		err = checkKeys(path, values, ctx.Flags())
	}
	ctx.AddResolver(kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		return value(values[flag.Name], flag), nil
	}))
	return err
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

const configFlag = "config"

// readConfig returns the values of a file by the names of their flags: a dot
// in the name is a level of nesting, or just a dot.
func readConfig(path string) (map[string]any, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	var tree map[string]any
	if err := yaml.Unmarshal(b, &tree); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	values := map[string]any{}
	flatten(values, "", tree)
	return values, nil
}

func flatten(out map[string]any, prefix string, tree map[string]any) {
	for k, v := range tree {
		if sub, ok := v.(map[string]any); ok {
			flatten(out, prefix+k+".", sub)
			continue
		}
		out[prefix+k] = v
	}
}

// checkKeys refuses a key that no flag has, and names the nearest that one
// does.
func checkKeys(path string, values map[string]any, flags []*kong.Flag) error {
	var known []string
	for _, flag := range flags {
		if flag.Name != configFlag && flag.Name != "help" {
			known = append(known, flag.Name)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if !slices.Contains(known, key) {
			return fmt.Errorf("%s: unknown key %q; did you mean %q?", path, key, nearest(key, known))
		}
	}
	return nil
}

func nearest(key string, known []string) string {
	return slices.MinFunc(known, func(a, b string) int { return distance(key, a) - distance(key, b) })
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

// value is a value of the file as kong takes it: text, or a list of texts. It
// is nil, for nothing, when the key has no value or the environment wins.
func value(v any, flag *kong.Flag) any {
	if v == nil || slices.ContainsFunc(flag.Envs, inEnvironment) {
		return nil
	}
	list, ok := v.([]any)
	if !ok {
		return fmt.Sprint(v)
	}
	texts := make([]any, len(list))
	for i, x := range list {
		texts[i] = fmt.Sprint(x)
	}
	return texts
}

func inEnvironment(name string) bool {
	_, ok := os.LookupEnv(name)
	return ok
}
