package arch

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// page is where each dependency is accounted for.
const page = "docs/decisions/dependencies.md"

// TestDependencies holds that every module in use has a line on the page.
func TestDependencies(t *testing.T) {
	tree := os.DirFS("../..")
	missing, err := unaccounted(tree)
	if err != nil {
		t.Fatal(err)
	}
	for _, imp := range missing {
		t.Errorf("%s has no line in %s", imp, page)
	}
}

func TestUnaccounted(t *testing.T) {
	files := tree(map[string]string{
		page: "| module | does |\n|---|---|\n| `golang.org/x/sync` | errgroup |\n| `honnef.co/go/tools` | x |\n`golang.org/x/time`\n",
		"go.mod": "module cryptointel\n\nrequire golang.org/x/mod v0.1.0\n\n" +
			"tool honnef.co/go/tools/cmd/staticcheck\n\ntool (\n\tgolang.org/x/tools/cmd/stringer\n)\n",
		"internal/hub/a.go":      `package hub; import ("sync"; "cryptointel/protocol"; "golang.org/x/sync/errgroup")`,
		"internal/hub/a_test.go": `package hub; import ("golang.org/x/time/rate"; "golang.org/x/sync2")`,
	})
	got, err := unaccounted(files)
	want := []string{"golang.org/x/sync2", "golang.org/x/time/rate", "golang.org/x/tools/cmd/stringer"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

// unaccounted returns what is imported, or run as a tool, from modules that
// the page has no line for.
func unaccounted(tree fs.FS) ([]string, error) {
	text, err := fs.ReadFile(tree, page)
	if err != nil {
		return nil, err
	}
	var modules []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		modules = append(modules, m[1])
	}
	used, err := outside(tree)
	if err != nil {
		return nil, err
	}
	used = slices.DeleteFunc(used, func(imp string) bool {
		return slices.ContainsFunc(modules, func(m string) bool { return imp == m || strings.HasPrefix(imp, m+"/") })
	})
	slices.Sort(used)
	return slices.Compact(used), nil
}

// outside is every third-party package that a Go file imports or go.mod names
// as a tool.
func outside(tree fs.FS) ([]string, error) {
	mod, err := fs.ReadFile(tree, "go.mod")
	if err != nil {
		return nil, err
	}
	// Only packages below cmd/ are named without a version after them.
	var found []string
	for _, m := range regexp.MustCompile(`(?m)^(?:tool)?\s+(\S+/cmd/\S+)$`).FindAllStringSubmatch(string(mod), -1) {
		found = append(found, m[1])
	}
	err = goFiles(tree, func(name string, text []byte) error {
		f, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			if imp, _ := strconv.Unquote(spec.Path.Value); thirdParty(imp) {
				found = append(found, imp)
			}
		}
		return nil
	})
	return found, err
}
