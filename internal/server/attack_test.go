package server

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// mustAnswer is what docs/security.md has a row for, by how the row begins.
var mustAnswer = []string{
	"endless fragments", "never-reading client", "slow handshake, half-sent frame", "connection storm", "cross-site hijack",
	"JWT: none", "JWKS: rotation", "token in URL", "X-Forwarded-For spoof", "channel enumeration", "JSON: depth bomb",
	"script in an entity name", "poison from upstream", "admin, metrics, pprof",
}

// TestAttacksAreTested holds docs/security.md to its word: each attack has a
// row, each row names tests, and these exist.
func TestAttacksAreTested(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := attackRows(t, string(page))
	for _, attack := range mustAnswer {
		if _, ok := rows[attack]; !ok {
			t.Errorf("docs/security.md has no row that begins with %q", attack)
		}
	}
	there, named := testNames(t), regexp.MustCompile("`([a-z]+\\.(?:Test|Fuzz)\\w+)`")
	for attack, tests := range rows {
		list := named.FindAllStringSubmatch(tests, -1)
		if left := strings.Trim(named.ReplaceAllString(tests, ""), ", "); len(list) == 0 || left != "" {
			t.Errorf("%s: the tests are %q, want names such as `server.TestStorm` and nothing else", attack, tests)
		}
		for _, name := range list {
			if !there[name[1]] {
				t.Errorf("%s: there is no test %s", attack, name[1])
			}
		}
	}
}

// attackRows are the tests of each attack of the page, by the beginning that
// mustAnswer has, else by the whole name.
func attackRows(t *testing.T, page string) map[string]string {
	t.Helper()
	_, table, ok := strings.Cut(page, "\n## Attacks\n")
	if !ok {
		t.Fatal("docs/security.md has no section Attacks")
	}
	rows := map[string]string{}
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| attack |") {
			continue
		}
		if len(cells) != 3 {
			t.Errorf("a row has %d cells, want 3: %.80s", len(cells), line)
			continue
		}
		name := strings.TrimSpace(cells[0])
		for _, attack := range mustAnswer {
			if strings.HasPrefix(name, attack) {
				name = attack
			}
		}
		rows[name] = cells[2]
	}
	return rows
}

// testNames are the tests of the whole tree, with their packages' names.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names, files := map[string]bool{}, token.NewFileSet()
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() == "node_modules" || d.Name() == ".git"):
			return filepath.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil {
				names[strings.TrimSuffix(f.Name.Name, "_test")+"."+fn.Name.Name] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
