package arch

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// TestHouse holds this repository to its rules.
func TestHouse(t *testing.T) {
	broken, err := check(os.DirFS("../.."), house())
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range broken {
		t.Error(line)
	}
}

// TestTable looks for lines of the table that contradict the page.
func TestTable(t *testing.T) {
	r := house()
	for name, room := range r.rooms {
		for _, imp := range slices.Concat(room.imports, room.tests) {
			if _, ok := r.rooms[imp]; !ok {
				t.Errorf("%s may import %s, which has no line", name, imp)
			}
			if room.core && !r.rooms[imp].core {
				t.Errorf("%s is core and may import %s, which is not", name, imp)
			}
		}
	}
	for name, why := range r.long {
		if why == "" {
			t.Errorf("%s is listed as long without a reason", name)
		}
	}
}

// small is a house of four rooms with short limits.
func small() rules {
	return rules{
		maxFunction: 3,
		maxFile:     8,
		long:        map[string]string{},
		rooms: map[string]room{
			"protocol":        {core: true},
			"internal/hub":    {core: true, imports: []string{"protocol"}},
			"internal/broker": {imports: []string{"protocol"}},
			"internal/server": {imports: []string{"protocol", "internal/broker"}, tests: []string{"internal/hub"}},
			"conformance":     {stdlib: true},
		},
	}
}

// hub is a file of the core: these imports, this body, all on one line.
func hub(imports, body string) map[string]string {
	return map[string]string{"internal/hub/hub.go": "package hub; " + imports + body}
}

func TestCheck(t *testing.T) {
	const at = "internal/hub/hub.go:1: "
	tests := []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{name: "nothing wrong", files: map[string]string{
			"protocol/a.go":              `package protocol; import ("time"; "errors"); var E = errors.New("e"); const S = time.Second`,
			"internal/hub/a.go":          `package hub; import "cryptointel/protocol"; var E = protocol.E`,
			"internal/broker/a.go":       `package broker; import ("sync"; "github.com/nats-io/nats.go"; "cryptointel/protocol")`,
			"internal/server/a.go":       `package server; import "cryptointel/internal/broker"; func f() { go g(); <-c }`,
			"internal/hub/a_test.go":     `package hub; import ("os"; "github.com/gobwas/ws"; "cryptointel/conformance"); func f() { go g() }`,
			"internal/hub/b_test.go":     `package hub_test; import ("cryptointel/internal/hub"; "time"); var t = time.Now()`,
			"internal/server/a_test.go":  `package server; import "cryptointel/internal/hub"`,
			"internal/hub/testdata/x.go": `package util; import "os"`,
			"web/node_modules/x/x.go":    `package util`,
			".cache/x.go":                `package util`,
		}},
		{name: "a package without a line", files: map[string]string{
			"internal/chat/a.go": `package chat`,
		}, want: []string{
			"internal/chat: has no line in internal/arch/rooms_test.go",
		}},
		{name: "a package of only tests without a line", files: map[string]string{
			"internal/chat/a_test.go": `package chat`,
		}, want: []string{
			"internal/chat: has no line in internal/arch/rooms_test.go",
		}},
		{name: "the root is a package too", files: map[string]string{
			"tool.go": "//go:build ignore\n\npackage main",
		}, want: []string{
			".: has no line in internal/arch/rooms_test.go",
		}},
		{name: "two levels below internal", files: map[string]string{
			"internal/hub/cohort/a.go": `package cohort`,
		}, want: []string{
			"internal/hub/cohort: has no line in internal/arch/rooms_test.go",
			"internal/hub/cohort: more than one level below internal/",
		}},
		{name: "a bad directory name", files: map[string]string{
			"internal/util/a.go": `package strs`,
		}, want: []string{
			"internal/util: has no line in internal/arch/rooms_test.go",
			"internal/util: util is no name for a package",
		}},
		{name: "a bad package name", files: map[string]string{
			"internal/broker/a.go": `package helpers`,
		}, want: []string{
			"internal/broker/a.go:1: helpers is no name for a package",
		}},
		{name: "shell imports shell", files: map[string]string{
			"internal/broker/a.go": `package broker; import "cryptointel/internal/server"`,
		}, want: []string{
			"internal/broker/a.go:1: internal/broker may not import internal/server",
		}},
		{name: "shell imports an unlisted core package under another name", files: map[string]string{
			"internal/broker/a.go": `package broker; import x "cryptointel/internal/hub"`,
		}, want: []string{
			"internal/broker/a.go:1: internal/broker may not import internal/hub",
		}},
		{name: "behind a build tag", files: map[string]string{
			"internal/broker/a_windows.go": "//go:build never\n\npackage broker\n\nimport \"cryptointel/internal/server\"",
		}, want: []string{
			"internal/broker/a_windows.go:5: internal/broker may not import internal/server",
		}},
		{name: "a test imports another room", files: map[string]string{
			"internal/broker/a_test.go": `package broker; import "cryptointel/internal/server"`,
		}, want: []string{
			"internal/broker/a_test.go:1: internal/broker may not import internal/server",
		}},
		{name: "conformance outside tests", files: map[string]string{
			"internal/server/a.go": `package server; import "cryptointel/conformance"`,
		}, want: []string{
			"internal/server/a.go:1: internal/server may not import conformance",
		}},
		{name: "third party in the core", files: hub(`import "github.com/valyala/fastjson"`, ""), want: []string{
			at + "internal/hub may import the standard library only, not github.com/valyala/fastjson",
		}},
		{name: "third party where only the standard library may be", files: map[string]string{
			"conformance/a.go": `package conformance; import ("os"; "go.yaml.in/yaml/v3")`,
		}, want: []string{
			"conformance/a.go:1: conformance may import the standard library only, not go.yaml.in/yaml/v3",
		}},
		{name: "the core imports what is below a forbidden package", files: hub(`import ("os/exec"; "net/netip"; "math/rand/v2")`, ""), want: []string{
			at + "the core may not import math/rand/v2",
			at + "the core may not import net/netip",
			at + "the core may not import os/exec",
		}},
		{name: "a dot import in the core", files: hub(`import . "time"`, "; var t = Now()"), want: []string{
			at + "the core may not import time without its name",
		}},
		{name: "a blank import in the core", files: hub(`import _ "unsafe"`, ""), want: []string{
			at + "the core may not import unsafe",
		}},
		{name: "a clock under another name", files: hub(`import clock "time"`, "; var now = clock.Now"), want: []string{
			at + "the core may not use clock.Now",
		}},
		{name: "another package's Now", files: hub(`import time "strings"`, "; var now = time.Now"), want: nil},
		{name: "a goroutine", files: hub("", "func f() { go g() }"), want: []string{
			at + "the core may not start a goroutine",
		}},
		{name: "a channel in a type", files: hub("", "type t struct { c map[string]<-chan int }"), want: []string{
			at + "the core may not use a channel",
		}},
		{name: "send", files: hub("", "func f() { c <- 1 }"), want: []string{at + "the core may not use a channel"}},
		{name: "receive", files: hub("", "func f() { x := <-c }"), want: []string{at + "the core may not use a channel"}},
		{name: "select", files: hub("", "func f() { select {} }"), want: []string{at + "the core may not use a channel"}},
		{name: "long function, method and file", files: map[string]string{
			"internal/broker/a.go": "package broker\nfunc f() {\n\n\n}\nfunc (t *T[K]) g() {\n\n\n}\n",
		}, want: []string{
			"internal/broker/a.go: 9 lines, more than 8",
			"internal/broker/a.go:2: f has 4 lines, more than 3",
			"internal/broker/a.go:6: T.g has 4 lines, more than 3",
		}},
		{name: "long tests and generated files", files: map[string]string{
			"internal/broker/a_test.go": "package broker\nfunc f() {\n\n\n\n\n\n\n\n\n}\n",
			"internal/broker/gen.go":    "// Code generated by stringer. DO NOT EDIT.\n\npackage broker\nfunc f() {\n\n\n\n\n\n\n\n\n}\n",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := checked(t, tt.files, small()); !slices.Equal(got, tt.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

// TestForbidden tries every entry of the two lists on the core and on the
// shell, to which they do not apply.
func TestForbidden(t *testing.T) {
	files := fstest.MapFS{}
	add := func(body string) {
		files["internal/hub/a.go"] = &fstest.MapFile{Data: []byte("package hub; " + body)}
		files["internal/broker/a.go"] = &fstest.MapFile{Data: []byte("package broker; " + body)}
	}
	try := func(t *testing.T, want string) {
		got, err := check(files, small())
		if want = "internal/hub/a.go:1: " + want; err != nil || !slices.Equal(got, []string{want}) {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	for _, imp := range someForbidden {
		t.Run(imp, func(t *testing.T) {
			add(`import "` + imp + `"`)
			try(t, "the core may not import "+imp)
		})
	}
	for pkg, names := range forbiddenCalls {
		for _, name := range names {
			t.Run(pkg+"."+name, func(t *testing.T) {
				add(fmt.Sprintf(`import %q; var x = %s.%s`, pkg, pkg, name))
				try(t, fmt.Sprintf("the core may not use %s.%s", pkg, name))
			})
		}
	}
	for _, name := range forbiddenNames {
		t.Run("package "+name, func(t *testing.T) {
			one := map[string]string{"internal/broker/a.go": "package " + name}
			want := []string{"internal/broker/a.go:1: " + name + " is no name for a package"}
			if got := checked(t, one, small()); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestLongList(t *testing.T) {
	files := map[string]string{
		"internal/broker/a.go": "package broker\nfunc (t T) f() {\n\n\n}\nvar x = `\n\n\n\n`\n",
	}
	r := small()
	r.long = map[string]string{
		"internal/broker/a.go": "a table",
		"internal/broker.T.f":  "a switch over every command",
		"internal/broker.g":    "was long once",
	}
	want := []string{"internal/broker.g: is listed as long and is not"}
	if got := checked(t, files, r); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestUnreadable(t *testing.T) {
	files := tree(map[string]string{"internal/broker/a.go": "package broker; func {"})
	if got, err := check(files, small()); err == nil {
		t.Errorf("a file that does not parse: got %q and no error", got)
	}
}

func checked(t *testing.T, files map[string]string, r rules) []string {
	t.Helper()
	got, err := check(tree(files), r)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func tree(files map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}
