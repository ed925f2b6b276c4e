package protocol

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the table of codes in docs/protocol.md")

// contract is the table of protocol.md section 4. Close codes of what does
// not close by itself are the ones used when it does after all: a tenth
// message in a minute that is not understood, a refusal at the door.
var contract = map[Code]codeRow{
	InvalidMessage: {4400, false, 400, false}, UnknownType: {4400, false, 400, false}, InvalidChannel: {4400, false, 400, false},
	InvalidFilter: {4400, false, 400, false}, ChannelLimit: {4400, false, 400, false},
	Forbidden: {4403, false, 403, false}, Unauthorized: {4401, false, 401, false}, RateLimited: {4529, false, 429, true},
	InvalidToken: {4401, true, 401, false}, ExpiredToken: {4501, true, 401, true}, AuthTimeout: {4408, true, 401, false}, Revoked: {4403, true, 401, false},
	Replaced: {4409, true, 409, false}, UnsupportedProtocol: {4400, true, 400, false},
	MessageTooLarge: {1009, true, 413, false}, ProtocolError: {1002, true, 400, false}, InvalidUTF8: {1007, true, 400, false},
	ConnectionFull: {4503, true, 503, true}, Draining: {1012, true, 503, true}, EpochChanged: {1012, true, 503, true}, SlowConsumer: {4508, true, 503, true},
	Unrecoverable: {4400, false, 410, false}, Internal: {1011, true, 500, true}, IdleTimeout: {4509, true, 400, true}, Conflict: {4400, false, 409, false},
	NormalClosure: {1000, true, 200, false},
}

func TestCodes(t *testing.T) {
	declared := declaredCodes(t)
	if len(declared) != len(codeRows) || len(declared) != len(contract) {
		t.Errorf("%d codes, %d rows, %d in the contract", len(declared), len(codeRows), len(contract))
	}
	for _, d := range declared {
		row, ok := codeRows[d.code]
		if want := contract[d.code]; !ok || row != want {
			t.Errorf("%s\n got %+v, %v\nwant %+v", d.name, row, ok, want)
		}
		if got := (codeRow{d.code.Close(), d.code.Closes(), d.code.HTTP(), d.code.Retryable()}); got != row {
			t.Errorf("%s says %+v, its row %+v", d.name, got, row)
		}
		if d.comment == "" {
			t.Errorf("%s has no comment for the documentation", d.name)
		}
	}
	if got := Code("NO_SUCH_CODE"); got.Close() != 1011 || got.HTTP() != 500 {
		t.Errorf("a code that is none closes with %d and is HTTP %d", got.Close(), got.HTTP())
	}
}

// TestCloseCodes holds the rule for strangers: 44xx fix something first, 45xx
// come back. The codes of RFC 6455 follow it by name.
func TestCloseCodes(t *testing.T) {
	again := map[int]bool{1000: false, 1002: false, 1007: false, 1009: false, 1011: true, 1012: true}
	for code, row := range codeRows {
		comeBack, standard := again[row.close]
		if !standard {
			comeBack = row.close >= 4500 && row.close <= 4599
		}
		if !standard && !comeBack && (row.close < 4400 || row.close > 4499) {
			t.Errorf("%s closes with %d, which tells a client nothing", code, row.close)
		}
		if row.retryable != comeBack {
			t.Errorf("%s closes with %d but retryable is %v", code, row.close, row.retryable)
		}
		if len(code) > 123 {
			t.Errorf("%s does not fit a close frame as its reason", code)
		}
	}
}

// TestHTTPCodes holds that each code can be written as an HTTP status and that
// the status agrees with retryable.
func TestHTTPCodes(t *testing.T) {
	for code, row := range codeRows {
		if code == NormalClosure {
			continue
		}
		if row.http < 400 || row.http > 599 {
			t.Errorf("%s has the status %d", code, row.http)
		}
		if (row.http >= 500 || row.http == 429) && !row.retryable {
			t.Errorf("%s has the status %d but is not retryable", code, row.http)
		}
	}
}

// A declaredCode is a constant of code.go.
type declaredCode struct {
	name    string
	code    Code
	comment string
}

// declaredCodes reads the constants of type Code from the source.
func declaredCodes(t *testing.T) (all []declaredCode) {
	t.Helper()
	src, err := os.ReadFile("code.go") // so that the test cache sees it change
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), "code.go", src, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range file.Decls {
		d, ok := decl.(*ast.GenDecl)
		if !ok || d.Tok != token.CONST {
			continue
		}
		for _, spec := range d.Specs {
			all = append(all, declaredOf(t, spec.(*ast.ValueSpec)))
		}
	}
	return all
}

func declaredOf(t *testing.T, s *ast.ValueSpec) declaredCode {
	t.Helper()
	kind, _ := s.Type.(*ast.Ident)
	if kind == nil || kind.Name != "Code" || len(s.Names) != 1 || len(s.Values) != 1 {
		t.Fatalf("%v is not one constant of type Code", s.Names)
	}
	value, err := strconv.Unquote(s.Values[0].(*ast.BasicLit).Value)
	if err != nil {
		t.Fatal(err)
	}
	return declaredCode{s.Names[0].Name, Code(value), strings.TrimSpace(s.Comment.Text())}
}

// codeTable is the table of docs/protocol.md. What closes normally is no
// error and has no row.
func codeTable(codes []declaredCode) string {
	codes = slices.DeleteFunc(slices.Clone(codes), func(d declaredCode) bool { return d.code == NormalClosure })
	var b strings.Builder
	b.WriteString("| code | meaning | closes | HTTP | retryable |\n|---|---|---|---|---|\n")
	for _, d := range codes {
		retry := "no"
		if d.code.Retryable() {
			retry = "yes"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %d | %s |\n", d.code, strings.ReplaceAll(d.comment, "|", `\|`), closes(d.code), d.code.HTTP(), retry)
	}
	return b.String()
}

func closes(c Code) string {
	switch {
	case c.Misuse():
		return "no (ten in a minute: 4400)"
	case c == RateLimited:
		return "no (three times the rate, or at the door: 4529)"
	case c.Closes():
		return strconv.Itoa(c.Close())
	}
	return "no"
}

// TestCodeTable holds that the documentation's table of codes is what the
// constants' comments say. With -update it writes it.
func TestCodeTable(t *testing.T) {
	const path, open, end = "../docs/protocol.md", "<!-- codes -->\n", "<!-- /codes -->"
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(doc), open)
	table, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s lacks the lines <!-- codes --> and <!-- /codes --> around the table of codes", path)
	}
	want := codeTable(declaredCodes(t))
	if table == want {
		return
	}
	if !*update {
		t.Fatalf("the table in %s is not what code.go says; run: go test ./protocol -run TestCodeTable -update\n got %s\nwant %s", path, table, want)
	}
	if err := os.WriteFile(path, []byte(before+open+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
