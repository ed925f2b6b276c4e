package server

import (
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// A setting is one leaf of the tree of Config structs: what a flag, a variable
// or a line of the file sets.
type setting struct {
	name   string // dotted, as in the file
	reload bool   // takes effect without a restart
	value  reflect.Value
}

// settings lists the leaves of a configuration.
func settings(c *Config) []setting {
	return leaves(nil, "", reflect.ValueOf(c).Elem())
}

func leaves(out []setting, prefix string, v reflect.Value) []setting {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Tag.Get("kong") == "-" || !f.IsExported() {
			continue
		}
		if _, embed := f.Tag.Lookup("embed"); embed || f.Anonymous {
			out = leaves(out, prefix+f.Tag.Get("prefix"), v.Field(i))
			continue
		}
		_, reload := f.Tag.Lookup("reload")
		out = append(out, setting{prefix + settingName(f), reload, v.Field(i)})
	}
	return out
}

func settingName(f reflect.StructField) string {
	if name := f.Tag.Get("name"); name != "" {
		return name
	}
	return SettingName(f.Name)
}

// SettingName is what a setting is called whose field has no name tag:
// MessageBytes is message_bytes.
func SettingName(field string) string {
	var b strings.Builder
	runes := []rune(field)
	for i, r := range runes {
		if unicode.IsUpper(r) {
			if i > 0 && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
				b.WriteByte('_')
			}
			r = unicode.ToLower(r)
		}
		b.WriteRune(r)
	}
	return b.String()
}

// difference names the settings in which two configurations differ: those that
// can change while the server runs, and the others.
func difference(from, to *Config) (live, restart []string) {
	old, now := settings(from), settings(to)
	for i := range now {
		switch {
		case reflect.DeepEqual(old[i].value.Interface(), now[i].value.Interface()):
		case now[i].reload:
			live = append(live, now[i].name)
		default:
			restart = append(restart, now[i].name)
		}
	}
	slices.Sort(live)
	slices.Sort(restart)
	return live, restart
}
