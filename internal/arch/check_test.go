package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// check parses every Go file of the tree, whatever its build tags, and returns
// a line for each rule that is broken, sorted.
func check(tree fs.FS, r rules) ([]string, error) {
	c := checker{rules: r, fset: token.NewFileSet(), dirs: map[string]bool{}, used: map[string]bool{}}
	if err := goFiles(tree, c.file); err != nil {
		return nil, err
	}
	c.unused()
	slices.Sort(c.broken)
	return slices.Compact(c.broken), nil
}

// goFiles calls do with each Go file of the tree. The files are read here
// because go test caches results by the files a test opens: one that runs
// go list is answered from the cache and misses the violation.
func goFiles(tree fs.FS, do func(name string, text []byte) error) error {
	return fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && ignored(name):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".go":
			return nil
		}
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		return do(name, text)
	})
}

// ignored tells the directories that the go command does not look into, and
// those of npm, whose packages may contain Go.
func ignored(dir string) bool {
	base := path.Base(dir)
	return dir != "." && (base[0] == '.' || base[0] == '_' || base == "testdata" || base == "node_modules")
}

type checker struct {
	rules
	fset   *token.FileSet
	dirs   map[string]bool // packages seen
	used   map[string]bool // entries of long that were needed
	broken []string
}

func (c *checker) file(name string, text []byte) error {
	f, err := parser.ParseFile(c.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	dir, test := path.Dir(name), strings.HasSuffix(name, "_test.go")
	room, known := c.rooms[dir]
	if !c.dirs[dir] {
		c.dirs[dir] = true
		c.place(dir, known)
	}
	if base := strings.TrimSuffix(f.Name.Name, "_test"); slices.Contains(forbiddenNames, base) {
		c.fail(f.Name.Pos(), "%s is no name for a package", base)
	}
	if known {
		c.imports(f, dir, room, test)
	}
	if test {
		return nil
	}
	if room.core {
		c.core(f)
	}
	if !ast.IsGenerated(f) {
		c.length(f, dir, name)
	}
	return nil
}

// place checks where a package lies and that somebody thought about it.
func (c *checker) place(dir string, known bool) {
	if !known {
		c.broken = append(c.broken, fmt.Sprintf("%s: has no line in internal/arch/rooms_test.go", dir))
	}
	if rest, ok := strings.CutPrefix(dir, "internal/"); ok && strings.Contains(rest, "/") {
		c.broken = append(c.broken, fmt.Sprintf("%s: more than one level below internal/", dir))
	}
	if slices.Contains(forbiddenNames, path.Base(dir)) {
		c.broken = append(c.broken, fmt.Sprintf("%s: %s is no name for a package", dir, path.Base(dir)))
	}
}

func (c *checker) imports(f *ast.File, dir string, room room, test bool) {
	for _, spec := range f.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			c.fail(spec.Pos(), "import %s: %v", spec.Path.Value, err)
			continue
		}
		switch own, ours := strings.CutPrefix(imp, modulePath+"/"); {
		case ours && !mayImport(dir, own, room, test):
			c.fail(spec.Pos(), "%s may not import %s", dir, own)
		case ours || test:
		case thirdParty(imp) && (room.core || room.stdlib):
			c.fail(spec.Pos(), "%s may import the standard library only, not %s", dir, imp)
		case room.core && forbidden(imp):
			c.fail(spec.Pos(), "the core may not import %s", imp)
		case room.core && spec.Name != nil && spec.Name.Name == ".":
			// A dot import would hide time.Now from the check below.
			c.fail(spec.Pos(), "the core may not import %s without its name", imp)
		}
	}
}

func mayImport(dir, own string, room room, test bool) bool {
	if slices.Contains(room.imports, own) {
		return true
	}
	// own == dir: an external test package imports what it tests.
	return test && (own == dir || own == "conformance" || slices.Contains(room.tests, own))
}

// thirdParty tells a module path, which begins with a host name, from the
// standard library.
func thirdParty(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return strings.Contains(first, ".")
}

// forbidden reports whether the core may not import a package of the standard
// library: it may only what coreStandard lists.
func forbidden(imp string) bool { return !slices.Contains(coreStandard, imp) }

// core looks for what the core may not do: ask the time, start a goroutine,
// use a channel.
func (c *checker) core(f *ast.File) {
	calls := forbiddenNow(f)
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && slices.Contains(calls[x.Name], n.Sel.Name) {
				c.fail(n.Pos(), "the core may not use %s.%s", x.Name, n.Sel.Name)
			}
		case *ast.GoStmt:
			c.fail(n.Pos(), "the core may not start a goroutine")
		case *ast.ChanType, *ast.SendStmt, *ast.SelectStmt:
			c.fail(n.Pos(), "the core may not use a channel")
		case *ast.UnaryExpr:
			if n.Op == token.ARROW {
				c.fail(n.Pos(), "the core may not use a channel")
			}
		}
		return true
	})
}

// forbiddenNow is forbiddenCalls under the names that this file gives to the
// packages.
func forbiddenNow(f *ast.File) map[string][]string {
	calls := map[string][]string{}
	for _, spec := range f.Imports {
		imp, _ := strconv.Unquote(spec.Path.Value)
		names, ok := forbiddenCalls[imp]
		if !ok {
			continue
		}
		local := path.Base(imp)
		if spec.Name != nil {
			local = spec.Name.Name
		}
		calls[local] = names
	}
	return calls
}

// length holds files and functions to a size that can be read at once.
func (c *checker) length(f *ast.File, dir, name string) {
	if n := c.fset.File(f.FileStart).LineCount(); n > c.maxFile && !c.excused(name) {
		c.broken = append(c.broken, fmt.Sprintf("%s: %d lines, more than %d", name, n, c.maxFile))
	}
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		n := c.fset.Position(fn.End()).Line - c.fset.Position(fn.Pos()).Line + 1
		if full := dir + "." + funcName(fn); n > c.maxFunction && !c.excused(full) {
			c.fail(fn.Pos(), "%s has %d lines, more than %d", funcName(fn), n, c.maxFunction)
		}
	}
}

// funcName is Func or Type.Method.
func funcName(fn *ast.FuncDecl) string {
	if fn.Recv == nil || len(fn.Recv.List) == 0 {
		return fn.Name.Name
	}
	t := fn.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.Name + "." + fn.Name.Name
		default:
			return fn.Name.Name
		}
	}
}

func (c *checker) excused(name string) bool {
	c.used[name] = true
	return c.long[name] != ""
}

// unused finds excuses that nothing needs, so that the list does not grow old.
func (c *checker) unused() {
	for name := range c.long {
		if !c.used[name] {
			c.broken = append(c.broken, fmt.Sprintf("%s: is listed as long and is not", name))
		}
	}
}

func (c *checker) fail(pos token.Pos, format string, args ...any) {
	p := c.fset.Position(pos)
	c.broken = append(c.broken, fmt.Sprintf("%s:%d: %s", p.Filename, p.Line, fmt.Sprintf(format, args...)))
}
