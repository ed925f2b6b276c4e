package main

import (
	"errors"
	"fmt"
	"io"
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

// A configFile gives flags their values from a YAML file, where neither the
// command line nor the environment does. Keys are the flags' names; a dot is a
// level of nesting.
type configFile struct {
	path   string
	values map[string]any
}

// Validate reads the file named by --config, once all flags are known.
func (f *configFile) Validate(*kong.Application) error { return nil }

// Resolve is kong's question for a flag that was not given.
func (f *configFile) Resolve(ctx *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if err := f.read(ctx); err != nil || f.values == nil {
		return nil, err
	}
	v, ok := f.values[flag.Name]
	if !ok {
		return nil, nil
	}
	return text(v), nil
}

func (f *configFile) read(ctx *kong.Context) error {
	path := configPath(ctx)
	if path == "" || path == f.path {
		return nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	var tree map[string]any
	if err := yaml.Unmarshal(b, &tree); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %w", path, err)
	}
	f.path, f.values = path, map[string]any{}
	flatten(f.values, "", tree)
	return f.unknown(ctx)
}

// configPath is the value of --config on the command line or in the
// environment.
func configPath(ctx *kong.Context) string {
	for _, p := range ctx.Path {
		if p.Flag != nil && p.Flag.Name == "config" {
			return ctx.FlagValue(p.Flag).(string)
		}
	}
	return os.Getenv("CRYPTOINTEL_CONFIG")
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

// unknown refuses a key that no flag has, and names the nearest that one does.
func (f *configFile) unknown(ctx *kong.Context) error {
	var known []string
	for _, group := range ctx.Model.AllFlags(false) {
		for _, flag := range group {
			known = append(known, flag.Name)
		}
	}
	for _, flag := range ctx.Flags() {
		known = append(known, flag.Name)
	}
	for _, key := range sortedKeys(f.values) {
		if !slices.Contains(known, key) {
			return fmt.Errorf("%s: unknown key %q; did you mean %q?", f.path, key, nearest(key, known))
		}
	}
	return nil
}

func sortedKeys(m map[string]any) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
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

// text is a YAML value as a flag would have it.
func text(v any) string {
	list, ok := v.([]any)
	if !ok {
		return fmt.Sprint(v)
	}
	parts := make([]string, len(list))
	for i, x := range list {
		parts[i] = fmt.Sprint(x)
	}
	return strings.Join(parts, ",")
}
