package protocol

import (
	"slices"
	"strings"
)

// A Filter narrows a log subscription: every key that is given must hold, a
// list by any one of its values. The zero Filter lets everything through.
type Filter struct {
	Type          []string
	Entity        []string
	Source        []string
	Severity      []string
	MinConfidence float64
}

// A Signal is what channels and filters look at in an entry of the event log.
type Signal struct {
	ID         string
	Type       string
	Entities   []string
	Sources    []string
	Severity   string
	Confidence float64 // 0 to 1
	// HasConfidence is false for a signal of a kind whose outcomes were never
	// scored.
	HasConfidence bool
	// High is decided once, when the entry is appended, and stored with it.
	High bool
}

// Limits of a filter.
const (
	MaxFilterBytes  = 512
	MaxFilterValues = 50
)

// Empty reports whether the filter lets everything through.
func (f *Filter) Empty() bool {
	return len(f.Type)+len(f.Entity)+len(f.Source)+len(f.Severity) == 0 && f.MinConfidence == 0
}

// Lets reports whether the filter lets s through. A nil filter lets all.
func (f *Filter) Lets(s *Signal) bool {
	if f == nil {
		return true
	}
	return (len(f.Type) == 0 || contains(f.Type, s.Type)) &&
		(len(f.Severity) == 0 || contains(f.Severity, s.Severity)) &&
		(len(f.Entity) == 0 || overlap(f.Entity, s.Entities)) &&
		(len(f.Source) == 0 || overlap(f.Source, s.Sources)) &&
		(f.MinConfidence == 0 || s.HasConfidence && s.Confidence >= f.MinConfidence)
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(b, func(s string) bool { return contains(a, s) })
}

// AppendFilter appends the filter's canonical JSON: equal filters give equal
// bytes. Lists are written as they are; ParseFilter has sorted them.
func AppendFilter(dst []byte, f *Filter) []byte {
	dst = append(dst, '{')
	dst = appendList(dst, "type", f.Type)
	dst = appendList(dst, "entity", f.Entity)
	dst = appendList(dst, "source", f.Source)
	dst = appendList(dst, "severity", f.Severity)
	if f.MinConfidence > 0 {
		dst = AppendFloat(appendKey(dst, "min_confidence"), f.MinConfidence)
	}
	return append(dst, '}')
}

func appendList(dst []byte, key string, list []string) []byte {
	if len(list) == 0 {
		return dst
	}
	return appendTexts(appendKey(dst, key), list)
}

func appendTexts(dst []byte, list []string) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendString(dst, s)
	}
	return append(dst, ']')
}

// appendKey appends "key": and, unless an object has just been opened, the
// comma before it.
func appendKey(dst []byte, key string) []byte {
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	dst = append(dst, '"')
	dst = append(dst, key...)
	return append(dst, '"', ':')
}

// ParseFilter reads a filter from its JSON. The error is INVALID_FILTER and
// names the key.
func ParseFilter(b []byte) (*Filter, *Error) {
	if len(b) > MaxFilterBytes {
		return nil, invalidFilter("it has more than 512 bytes")
	}
	v, err := ParseValue(b)
	if err != nil {
		return nil, invalidFilter("it is not valid JSON")
	}
	return parseFilter(v)
}

func parseFilter(v Value) (*Filter, *Error) {
	if len(v) > MaxFilterBytes {
		return nil, invalidFilter("it has more than 512 bytes")
	}
	if v.Kind() != '{' {
		return nil, invalidFilter("it must be an object such as {\"type\":[\"price_spike\"]}")
	}
	f := &Filter{}
	for key, val := range v.Fields() {
		if err := f.set(string(key), val); err != nil {
			return nil, err
		}
	}
	if n := len(f.Type) + len(f.Entity) + len(f.Source) + len(f.Severity); n > MaxFilterValues {
		return nil, invalidFilter("it has more than 50 values")
	}
	return f, nil
}

func (f *Filter) set(key string, v Value) *Error {
	switch key {
	case "type":
		return setList(&f.Type, key, v)
	case "entity":
		return setList(&f.Entity, key, v)
	case "source":
		return setList(&f.Source, key, v)
	case "severity":
		return setList(&f.Severity, key, v)
	case "min_confidence":
		c, ok := v.Float()
		if !ok || c < 0 || c > 1 {
			return invalidFilter("min_confidence must be a number from 0 to 1")
		}
		f.MinConfidence = c
		return nil
	}
	return invalidFilter("unknown key '" + Clip(key) + "'; use type, entity, source, severity, min_confidence")
}

func setList(dst *[]string, key string, v Value) *Error {
	list, ok := v.Texts()
	if !ok || len(list) == 0 {
		return invalidFilter(key + " must be a list of strings with at least one value")
	}
	slices.Sort(list)
	*dst = slices.Compact(list)
	return nil
}

func invalidFilter(why string) *Error {
	return &Error{Code: InvalidFilter, Message: "filter: " + why}
}

// Clip shortens what a client sent before it is quoted back.
func Clip(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "..."
	}
	return s
}
