package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// A configFile is what the file of --config says, by the names of flags: a dot
// in the name is a level of nesting, or just a dot.
type configFile struct {
	path    string // empty without a file
	entries map[string]entry
	wrong   []error  // with single lines
	left    []string // names of the settings in them, which are left out
}

// An entry is one value of the file, as kong takes it: text, or a list of
// texts, or nil when the key has no value.
type entry struct {
	value any
	line  int
}

// at says where in the file something is wrong.
func (f *configFile) at(line int, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %w", f.path, line, fmt.Errorf(format, args...))
}

func (f *configFile) read() error {
	b, err := os.ReadFile(f.path)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	f.entries = map[string]entry{}
	return f.parse(b)
}

func (f *configFile) parse(b []byte) error {
	var page, second yaml.Node
	var tree map[string]any
	dec := yaml.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&page); err == io.EOF {
		return nil
	} else if err != nil {
		return f.badYAML(err)
	}
	root := page.Content[0]
	if root.Kind != yaml.MappingNode && root.Tag != "!!null" {
		return f.at(root.Line, "no settings: write lines such as loops: 2")
	}
	if err := dec.Decode(&second); err != io.EOF {
		return fmt.Errorf("%s: there is more than one document in it: everything after the line --- would be left out", f.path)
	}
	// This finds doubled keys, and aliases that contain themselves or too much.
	if err := page.Decode(&tree); err != nil {
		return f.badYAML(err)
	}
	f.flatten("", root)
	return nil
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

// badYAML puts the line in front, as in all that is said about the file.
func (f *configFile) badYAML(err error) error {
	text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "yaml: "), "unmarshal errors:\n  ")
	line := ""
	if m := yamlLine.FindStringSubmatchIndex(text); m != nil {
		line, text = text[m[2]:m[3]]+":", text[:m[0]]+text[m[1]:]
	}
	return fmt.Errorf("%s:%s yaml: %s", f.path, line, text)
}

// flatten adds the settings below a node.
func (f *configFile) flatten(prefix string, node *yaml.Node) {
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], resolved(node.Content[i+1])
		if key.Tag == "!!merge" {
			f.complain(f.at(key.Line, "<< is not supported here: write the settings out"))
			continue
		}
		name := prefix + key.Value
		if value.Kind == yaml.MappingNode {
			f.flatten(name+".", value)
			continue
		}
		if other, ok := f.entries[name]; ok {
			f.complain(f.at(key.Line, "%s is set in line %d already", name, other.line))
			continue
		}
		v, err := plainValue(value)
		if err != nil {
			f.complain(f.at(value.Line, "%s: %w", name, err), name)
		}
		f.entries[name] = entry{v, key.Line}
	}
}

// complain notes what is wrong with a line, and the settings that cannot be
// taken from it. The others are read on, so that all can be told at once.
func (f *configFile) complain(err error, names ...string) {
	f.wrong = append(f.wrong, err)
	f.left = append(f.left, names...)
}

func resolved(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

// plainValue is a scalar's text, or a list of such.
func plainValue(node *yaml.Node) (any, error) {
	if node.Kind != yaml.SequenceNode {
		return scalar(node)
	}
	texts := make([]any, 0, len(node.Content))
	for _, x := range node.Content {
		text, err := scalar(resolved(x))
		if err != nil {
			return nil, err
		}
		if text != nil {
			texts = append(texts, text)
		}
	}
	return texts, nil
}

// scalar is a node's text. Numbers are written out, since YAML has more ways
// to write them than flags have; all else is as it stands in the file.
func scalar(node *yaml.Node) (any, error) {
	var v any
	switch {
	case node.Kind != yaml.ScalarNode:
		return nil, errors.New("a list holds plain values only")
	case node.Tag == "!!null":
		return nil, nil
	case node.Tag != "!!int" && node.Tag != "!!float":
		return node.Value, nil
	}
	if err := node.Decode(&v); err != nil {
		return nil, err
	}
	return fmt.Sprint(v), nil
}

// check complains of keys that no flag has, naming the nearest that one does,
// and of values that the flag would not take.
func (f *configFile) check(flags []*kong.Flag) {
	known := names(flags)
	for _, key := range slices.SortedFunc(maps.Keys(f.entries), f.byLine) {
		e := f.entries[key]
		group := slices.IndexFunc(known, func(name string) bool { return strings.HasPrefix(name, key+".") })
		switch i := slices.Index(known, key); {
		case i >= 0:
			if err := f.checkValue(flags[i], e); err != nil {
				f.complain(err, key)
			}
		case group < 0:
			f.complain(f.at(e.line, "unknown key %q; did you mean %q?", key, nearest(key, known)))
		case e.value != nil: // a group without settings is none
			f.complain(f.at(e.line, "%q is a group of settings, such as %q", key, known[group]))
		}
	}
	for _, key := range f.left {
		delete(f.entries, key)
	}
}

func (f *configFile) byLine(a, b string) int {
	if d := f.entries[a].line - f.entries[b].line; d != 0 {
		return d
	}
	return strings.Compare(a, b)
}

func (f *configFile) checkValue(flag *kong.Flag, e entry) error {
	if e.value == nil {
		return nil
	}
	if _, list := e.value.([]any); list && flag.Target.Kind() != reflect.Slice {
		return f.at(e.line, "%s takes one value, not a list: write %s: VALUE", flag.Name, flag.Name)
	}
	v, err := decode(flag, e.value)
	if err != nil {
		return f.at(e.line, "%s: %w", flag.Name, err)
	}
	if err := checkChoice(flag, fmt.Sprint(v)); err != nil {
		return f.at(e.line, "%w", err)
	}
	return nil
}
