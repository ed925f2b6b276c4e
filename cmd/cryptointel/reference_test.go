package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
)

var update = flag.Bool("update", false, "rewrite the tables in docs/operations.md")

const operations = "../../docs/operations.md"

// section is what stands between <!-- name --> and <!-- /name --> on the page.
func section(t *testing.T, name string) string {
	t.Helper()
	page, err := os.ReadFile(operations)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "<!-- "+name+" -->\n")
	got, _, ok2 := strings.Cut(rest, "<!-- /"+name+" -->")
	if !ok || !ok2 {
		t.Fatalf("%s has no section <!-- %s -->", operations, name)
	}
	return got
}

// replace puts text into a section of the page.
func replace(t *testing.T, name, text string) {
	t.Helper()
	old := section(t, name)
	page, err := os.ReadFile(operations)
	if err != nil {
		t.Fatal(err)
	}
	begin := "<!-- " + name + " -->\n"
	page = bytes.Replace(page, []byte(begin+old), []byte(begin+text), 1)
	if err := os.WriteFile(operations, page, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestConfigReference compares the tables of settings in docs/operations.md
// with the flags of serve.
func TestConfigReference(t *testing.T) {
	parser, err := newParser(&cli{}, &bytes.Buffer{}, &bytes.Buffer{}, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for _, command := range parser.Model.Children {
		if command.Name == "serve" {
			writeSettings(t, &want, command.Flags)
		}
	}
	if *update {
		replace(t, "settings", want.String())
	}
	if got := section(t, "settings"); got != want.String() {
		t.Errorf("%s: the settings differ from the code; run go test ./cmd/cryptointel -run TestConfigReference -update\ngot\n%s\nwant\n%s",
			operations, got, want.String())
	}
}

// writeSettings writes a table for each group of settings.
func writeSettings(t *testing.T, b *strings.Builder, flags []*kong.Flag) {
	group := "\x00"
	for _, f := range flags {
		if f.Name == "help" {
			continue
		}
		if g, _, ok := strings.Cut(f.Name, "."); !ok && group != "" || ok && g != group {
			group = g
			if !ok {
				group = ""
				b.WriteString("\n### The server\n\n")
			} else {
				fmt.Fprintf(b, "\n### %s\n\n", group)
			}
			b.WriteString("| flag | environment | type | default | SIGHUP | meaning |\n|---|---|---|---|---|---|\n")
		}
		reload := ""
		if f.Tag.Has("reload") {
			reload = "yes"
		}
		help := strings.ReplaceAll(f.Help, "|", `\|`)
		if !strings.HasSuffix(help, ".") {
			t.Errorf("--%s: the help is %q, want a sentence", f.Name, f.Help)
		}
		fmt.Fprintf(b, "| `--%s` | `%s` | %s | %s | %s | %s |\n", f.Name, strings.Join(f.Envs, " "), kindOf(t, f), defaultOf(f), reload, help)
	}
}

func kindOf(t *testing.T, f *kong.Flag) string {
	switch {
	case f.Enum != "":
		return strings.Join(f.EnumSlice(), ", ")
	case f.Target.Type() == reflect.TypeFor[time.Duration]():
		return "duration"
	case f.Target.Type() == reflect.TypeFor[[]string]():
		if f.Tag.Sep == -1 {
			return "list, one a flag"
		}
		return "list"
	case f.Tag.Type == "path":
		return "file"
	}
	switch f.Target.Kind() {
	case reflect.Bool:
		return "yes or no"
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return "whole number"
	case reflect.Float64:
		return "number"
	case reflect.String:
		return "text"
	}
	t.Errorf("--%s: no word for a %v", f.Name, f.Target.Type())
	return ""
}

func defaultOf(f *kong.Flag) string {
	switch {
	case f.Default != "":
		return "`" + f.Default + "`"
	case f.Target.Kind() == reflect.Bool:
		return "`false`"
	}
	return ""
}

// TestPage: what the page names is there.
func TestPage(t *testing.T) {
	b, err := os.ReadFile(operations)
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	parser, err := newParser(&cli{}, &bytes.Buffer{}, &bytes.Buffer{}, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	var flags []*kong.Flag
	known := map[string]bool{}
	for _, command := range parser.Model.Children {
		flags = append(flags, command.Flags...)
		for _, f := range command.Flags {
			known["--"+f.Name], known["--no-"+f.Name] = true, f.Tag.Negatable != ""
		}
	}
	for _, name := range regexp.MustCompile(`CRYPTOINTEL_[A-Z0-9_]*[A-Z0-9]`).FindAllString(page, -1) {
		if near := strangers([]string{name}, flags); len(near) > 0 {
			t.Errorf("%s is no variable: %v", name, near)
		}
	}
	known["--name"], known["--no-name"] = true, true // stand for any
	for _, m := range regexp.MustCompile("[ `]"+`(--[a-z][a-z0-9._-]*[a-z0-9])`).FindAllStringSubmatch(page, -1) {
		if !known[m[1]] {
			t.Errorf("%s is no flag", m[1])
		}
	}
	table := section(t, "metrics")
	for _, name := range regexp.MustCompile(`cryptointel_[a-z_]*[a-z]`).FindAllString(page, -1) {
		if !strings.Contains(table, "| `"+strings.TrimSuffix(name, "_bucket")+"` |") {
			t.Errorf("%s is no metric", name)
		}
	}
	_, rest, _ := strings.Cut(page, "    # /etc/cryptointel.yaml\n")
	example, _, ok := strings.Cut(rest, "\n\n")
	cfg, err := parsed(t, example)
	if err != nil || !ok || cfg.Limits.Door.ConnectionsPerIP != 500 || len(cfg.Feeds) != 4 {
		t.Errorf("the file on the page is %+v, %v", cfg, err)
	}
}
