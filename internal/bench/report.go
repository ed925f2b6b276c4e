package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
)

// A report is what a command prints and what --json writes: sections of
// figures, each with its unit.
type report struct {
	Command  string     `json:"command"`
	Sections []*section `json:"sections"`
}

type section struct {
	Title   string   `json:"title"`
	Figures []figure `json:"figures"`
}

type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit,omitempty"`
}

func (r *report) section(format string, args ...any) *section {
	s := &section{Title: fmt.Sprintf(format, args...)}
	r.Sections = append(r.Sections, s)
	return s
}

func (s *section) add(name string, value float64, unit string) {
	s.Figures = append(s.Figures, figure{name, value, unit})
}

func (s *section) count(name string, n uint64) { s.add(name, float64(n), "") }

// times adds h's p50, p99 and max in ms.
func (s *section) times(name string, h *hist) {
	if h.n == 0 {
		return
	}
	s.add(name+" p50", millis(h.quantile(.5)), "ms")
	s.add(name+" p99", millis(h.quantile(.99)), "ms")
	s.add(name+" max", millis(h.max), "ms")
}

func (s *section) failures(prefix string, m map[string]uint64) {
	keys := make([]string, 0, len(m))
	for why := range m {
		keys = append(keys, why)
	}
	slices.Sort(keys)
	for _, why := range keys {
		s.count(prefix+": "+why, m[why])
	}
}

// value is the figure of that name, for ratios; ok is false when there is none.
func (s *section) value(name string) (v float64, ok bool) {
	for _, f := range s.Figures {
		if f.Name == name {
			return f.Value, true
		}
	}
	return 0, false
}

func millis(ns int64) float64 { return float64(ns) / 1e6 }

// write prints r to w, one figure a line, and as JSON to the named file unless
// it is "".
func (r *report) write(w io.Writer, file string) error {
	for _, s := range r.Sections {
		fmt.Fprintf(w, "%s: %s\n", r.Command, s.Title)
		for _, f := range s.Figures {
			fmt.Fprintf(w, "  %-44s %14s %s\n", f.Name, readable(f.Value), f.Unit)
		}
	}
	if file == "" {
		return nil
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.WriteFile(file, append(b, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("bench: write the report: %w", err)
	}
	return nil
}

// readable is v with the digits that mean something.
func readable(v float64) string {
	switch a := max(v, -v); {
	case v == float64(int64(v)):
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 1000:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}
