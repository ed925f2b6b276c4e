// Package arch holds no code. Its test enforces docs/architecture.md: which
// package may import which, what the core may not do, what a package may be
// called, and how long a function and a file may grow. A package needs a line
// in the table of rooms_test.go before it can be built on.
package arch
