package server

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// Every field of /ws/stats stands in the operator's page.
func TestStatsPage(t *testing.T) {
	b, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, page, _ := strings.Cut(string(b), "<!-- stats -->")
	page, _, ok := strings.Cut(page, "<!-- /stats -->")
	if !ok {
		t.Fatal("docs/operations.md has no table between <!-- stats --> and <!-- /stats -->")
	}
	for _, name := range jsonNames(reflect.TypeFor[stats]()) {
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("docs/operations.md does not explain %s of /ws/stats", name)
		}
	}
}

// jsonNames are the names of a struct's fields, and of the structs in it.
func jsonNames(x reflect.Type) (names []string) {
	for x.Kind() == reflect.Pointer || x.Kind() == reflect.Slice {
		x = x.Elem()
	}
	if x.Kind() != reflect.Struct {
		return nil
	}
	for i := range x.NumField() {
		f := x.Field(i)
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			names = append(names, name)
		}
		names = append(names, jsonNames(f.Type)...)
	}
	return names
}
