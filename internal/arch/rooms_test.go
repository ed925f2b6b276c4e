package arch

import "slices"

// modulePath is what the imports of this module begin with.
const modulePath = "cryptointel"

// A room is what the rules say about one package.
type room struct {
	core    bool     // decides, does nothing: see coreStandard and forbiddenCalls
	stdlib  bool     // no third-party imports; holds for the core anyway
	imports []string // packages of this module it may import
	tests   []string // what its tests may import beyond that and conformance
}

// rules is all that the check compares the tree with.
type rules struct {
	rooms map[string]room

	maxFunction, maxFile int
	// long names what may exceed the two limits, and why: "dir/file.go" for a
	// file, "dir.Func" or "dir.Type.Method" for a function.
	long map[string]string
}

// house is docs/architecture.md, "Who may import whom", as a table. A package
// may import what stands in its line and nothing else of this module.
func house() rules {
	core := []string{"protocol", "internal/frame", "internal/limit", "internal/session", "internal/hub"}
	shell := plus(core, "internal/metrics")
	parts := plus(shell,
		"internal/eventloop", "internal/gateway", "internal/broker", "internal/market",
		"internal/feed", "internal/signals", "internal/auth", "internal/admin",
		"internal/push", "internal/rollout")

	return rules{
		maxFunction: 60,
		maxFile:     500,
		long:        map[string]string{},
		rooms: map[string]room{
			"protocol":         {core: true},
			"internal/frame":   {core: true},
			"internal/limit":   {core: true, imports: []string{"protocol"}},
			"internal/session": {core: true, imports: []string{"protocol", "internal/limit"}},
			"internal/hub":     {core: true, imports: []string{"protocol", "internal/limit", "internal/frame", "internal/session"}},

			// Shell: any core package and metrics, never one another. They
			// meet in server. One exception: feed makes market.Tick.
			"internal/metrics":   {imports: core},
			"internal/eventloop": {imports: shell},
			"internal/gateway":   {imports: shell},
			"internal/broker":    {imports: shell},
			"internal/market":    {imports: shell},
			"internal/feed":      {imports: plus(shell, "internal/market"), tests: []string{"internal/feedsim"}},
			"internal/signals":   {imports: shell},
			"internal/auth":      {imports: shell},
			"internal/admin":     {imports: shell},
			"internal/push":      {imports: shell},
			// Speaks the exchanges' side of the wire; the codecs check it.
			"internal/feedsim": {imports: shell, tests: []string{"internal/feed", "internal/market"}},
			"internal/rollout": {imports: shell},

			// Joiners.
			"internal/server":     {imports: parts, tests: []string{"client", "internal/feedsim"}},
			"internal/bench":      {imports: plus(parts, "client"), tests: []string{"internal/server"}},
			"internal/faultcheck": {imports: plus(parts, "client", "internal/server")},
			"cmd/cryptointel":     {imports: plus(parts, "client", "internal/server", "internal/bench", "internal/faultcheck", "internal/feedsim")},

			"client":      {imports: []string{"protocol"}},
			"edge/wasm":   {stdlib: true, imports: []string{"protocol", "internal/frame", "internal/limit", "internal/session"}},
			"conformance": {stdlib: true},

			"internal/arch": {stdlib: true},
		},
	}
}

func plus(list []string, more ...string) []string {
	return slices.Concat(list, more)
}

// someForbidden are a few of the packages that are closed to the core: it does
// no I/O, waits for nothing, draws no random number and shares nothing. JSON
// there is written by hand: encoding/json alone takes the WebAssembly build
// over its budget. The check goes by coreStandard; these are its test.
var someForbidden = []string{
	"C", "archive/zip", "context", "crypto/rand", "encoding/json", "hash/maphash",
	"html/template", "io/ioutil", "log", "log/slog", "math/rand",
	"math/rand/v2", "net", "net/http", "os", "os/exec", "path/filepath", "plugin",
	"reflect", "runtime", "runtime/debug", "sync", "sync/atomic", "syscall",
	"testing", "unsafe",
}

// coreStandard are the only packages of the standard library that the core may
// import: they compute, and reach nothing outside.
var coreStandard = []string{
	"bytes", "cmp", "container/heap", "encoding/binary", "errors", "fmt", "iter", "math",
	"math/bits",
	"slices", "sort", "strconv", "strings", "time", "unicode", "unicode/utf8",
}

// forbiddenCalls are closed to the core: it is told what time it is, and
// prints nothing. Naming one without calling it counts too.
var forbiddenCalls = map[string][]string{
	"iter": {"Pull", "Pull2"}, // each runs a goroutine
	"fmt":  {"Print", "Printf", "Println", "Scan", "Scanf", "Scanln"},
	"time": {
		"After", "AfterFunc", "LoadLocation", "NewTicker", "NewTimer", "Now",
		"Since", "Sleep", "Tick", "Until",
	},
}

// forbiddenNames say nothing about what is in a package, or name what lives
// with the package it belongs to.
var forbiddenNames = []string{
	"base", "common", "config", "helper", "helpers", "lib", "logger", "misc",
	"model", "models", "shared", "store", "types", "util", "utils",
}
