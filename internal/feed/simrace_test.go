//go:build race

package feed

// raced says that the race detector is on, under which a simulation takes ten
// times as long.
const raced = true
