package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A logLine is a message that the program may log.
type logLine struct {
	part, level, message string
	at                   string // file and line, of one place
}

// foreign are the places that pass on another's words, and whose.
var foreign = map[string]string{"internal/broker/embed.go": "(words of the embedded NATS server)"}

// TestLogReference compares the table of log messages in docs/operations.md
// with the code. What a message means is written by hand, in the table.
func TestLogReference(t *testing.T) {
	meanings := map[string]string{} // by message and part
	for row := range strings.Lines(section(t, "logs")) {
		if cells := strings.Split(strings.Trim(strings.TrimSpace(row), "| "), " | "); len(cells) == 4 {
			meanings[cells[0]+cells[2]] = cells[3]
		}
	}
	var want strings.Builder
	want.WriteString("| message | level | part | meaning |\n|---|---|---|---|\n")
	for _, l := range logLines(t) {
		message := "`" + strings.ReplaceAll(l.message, "|", `\|`) + "`"
		meaning := meanings[message+l.part]
		if meaning == "" {
			t.Errorf("%s: log message %q (%s, %s) is not explained in %s; run go test ./cmd/cryptointel -run TestLogReference -update and write what it means",
				l.at, l.message, l.level, l.part, operations)
		}
		fmt.Fprintf(&want, "| %s | %s | %s | %s |\n", message, l.level, l.part, meaning)
	}
	if *update {
		replace(t, "logs", want.String())
	}
	if got := section(t, "logs"); got != want.String() {
		t.Errorf("%s: the log messages differ from the code; run go test ./cmd/cryptointel -run TestLogReference -update\ngot\n%s\nwant\n%s", operations, got, want.String())
	}
}

// logLines finds every message in the source, by part, then message.
func logLines(t *testing.T) []logLine {
	t.Helper()
	fset, packages := token.NewFileSet(), map[string][]*ast.File{}
	for _, root := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join("..", "..", root), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "testdata") {
				return err
			}
			f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
			packages[filepath.Dir(path)] = append(packages[filepath.Dir(path)], f)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	found := map[[2]string]logLine{} // by part and message
	for _, files := range packages {
		r := &reader{t: t, fset: fset, files: files}
		for _, l := range r.read() {
			key := [2]string{l.part, l.message}
			if other, ok := found[key]; ok {
				levels := append(strings.Split(other.level, ", "), l.level)
				slices.Sort(levels)
				l.level = strings.Join(slices.Compact(levels), ", ")
			}
			found[key] = l
		}
	}
	out := make([]logLine, 0, len(found))
	for _, l := range found {
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b logLine) int {
		return cmp.Or(cmp.Compare(a.part, b.part), cmp.Compare(a.message, b.message))
	})
	return out
}

// A reader finds the log messages of one package.
type reader struct {
	t     *testing.T
	fset  *token.FileSet
	files []*ast.File
}

// messageAt is which argument of a logger's method is the message.
func messageAt(method string) (at int, ok bool) {
	switch method {
	case "Debug", "Info", "Warn", "Error":
		return 0, true
	case "DebugContext", "InfoContext", "WarnContext", "ErrorContext":
		return 1, true
	case "Log", "LogAttrs":
		return 2, true
	}
	return 0, false
}

func (r *reader) read() (out []logLine) {
	r.calls(func(in *ast.FuncDecl, call *ast.CallExpr, name string, receiver ast.Expr) {
		i, ok := messageAt(name)
		if !ok || !isLogger(receiver) || len(call.Args) <= i {
			return
		}
		level := strings.ToLower(strings.TrimSuffix(name, "Context"))
		if i == 2 {
			level = "varies"
		}
		pos := r.fset.Position(call.Pos())
		file := strings.TrimPrefix(filepath.ToSlash(pos.Filename), "../../")
		part := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(file)), "internal/")
		messages := r.texts(in, call.Args[i], 0)
		if len(messages) == 0 && foreign[file] != "" {
			messages = []string{foreign[file]}
		}
		if len(messages) == 0 {
			r.t.Errorf("%v: the message is not a constant that this test can find", pos)
		}
		for _, m := range messages {
			out = append(out, logLine{part, level, m, fmt.Sprintf("%s:%d", file, pos.Line)})
		}
	})
	return out
}

// isLogger goes by the name: log, Log, x.log, parts.Log, logger.
func isLogger(e ast.Expr) bool {
	name := ""
	switch x := e.(type) {
	case *ast.Ident:
		name = x.Name
	case *ast.SelectorExpr:
		name = x.Sel.Name
	}
	name = strings.ToLower(name)
	return strings.HasSuffix(name, "log") || strings.HasSuffix(name, "logger")
}

// calls visits every call of the package and the function it stands in.
func (r *reader) calls(visit func(in *ast.FuncDecl, call *ast.CallExpr, name string, receiver ast.Expr)) {
	for _, f := range r.files {
		for _, decl := range f.Decls {
			in, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(in, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				switch fun := call.Fun.(type) {
				case *ast.SelectorExpr:
					visit(in, call, fun.Sel.Name, fun.X)
				case *ast.Ident:
					visit(in, call, fun.Name, nil)
				}
				return true
			})
		}
	}
}

// texts are the values that an expression can have: a literal, a constant of
// the package, a variable's literals, or what a parameter is called with.
func (r *reader) texts(in *ast.FuncDecl, e ast.Expr, depth int) []string {
	switch x := e.(type) {
	case *ast.BasicLit:
		if s, err := strconv.Unquote(x.Value); err == nil {
			return []string{s}
		}
	case *ast.BinaryExpr:
		a, b := r.texts(in, x.X, depth), r.texts(in, x.Y, depth)
		if len(a) == 1 && len(b) == 1 {
			return []string{a[0] + b[0]}
		}
	case *ast.Ident:
		if depth < 4 {
			return slices.Concat(r.constants(x.Name), r.variables(in, x.Name, depth), r.arguments(in, x.Name, depth))
		}
	}
	return nil
}

func (r *reader) constants(name string) (out []string) {
	for _, f := range r.files {
		for _, decl := range f.Decls {
			g, ok := decl.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, spec := range g.Specs {
				v := spec.(*ast.ValueSpec)
				if i := slices.IndexFunc(v.Names, func(id *ast.Ident) bool { return id.Name == name }); i >= 0 && i < len(v.Values) {
					out = append(out, r.texts(nil, v.Values[i], 0)...)
				}
			}
		}
	}
	return out
}

func (r *reader) variables(in *ast.FuncDecl, name string, depth int) (out []string) {
	if in == nil {
		return nil
	}
	ast.Inspect(in, func(n ast.Node) bool {
		a, ok := n.(*ast.AssignStmt)
		if !ok || len(a.Lhs) != len(a.Rhs) {
			return true
		}
		for i, l := range a.Lhs {
			if id, ok := l.(*ast.Ident); ok && id.Name == name {
				out = append(out, r.texts(in, a.Rhs[i], depth+1)...)
			}
		}
		return true
	})
	return out
}

func (r *reader) arguments(in *ast.FuncDecl, name string, depth int) (out []string) {
	at := parameter(in, name)
	if at < 0 {
		return nil
	}
	r.calls(func(caller *ast.FuncDecl, call *ast.CallExpr, called string, _ ast.Expr) {
		if called == in.Name.Name && at < len(call.Args) {
			out = append(out, r.texts(caller, call.Args[at], depth+1)...)
		}
	})
	return out
}

// parameter is the place of a function's parameter, -1 when it has none of
// that name.
func parameter(f *ast.FuncDecl, name string) int {
	if f == nil {
		return -1
	}
	i := 0
	for _, field := range f.Type.Params.List {
		for _, id := range field.Names {
			if id.Name == name {
				return i
			}
			i++
		}
	}
	return -1
}
