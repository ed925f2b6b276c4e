package main

import (
	"fmt"
	"io"
	"net/url"
	"reflect"
	"strings"
	"text/tabwriter"

	"github.com/alecthomas/kong"
)

// An origin is where a setting comes from: text for people, and what to put
// before an error about it.
type origin struct{ from, blame string }

// originOf says where a setting comes from; nothing for a default.
func originOf(k *kong.Context, file *configFile, flag *kong.Flag) origin {
	for _, p := range k.Path {
		if p.Flag == flag && !p.Resolved {
			return origin{from: "--" + flag.Name}
		}
	}
	for _, name := range flag.Envs {
		if inEnvironment(name) {
			return origin{name, name + ": "}
		}
	}
	if e, ok := file.entries[flag.Name]; ok && e.value != nil {
		place := fmt.Sprintf("%s:%d", file.path, e.line)
		return origin{place, place + ": "}
	}
	return origin{}
}

// locate says where the setting comes from that an error begins with.
func locate(k *kong.Context, file *configFile, err error) error {
	var found *kong.Flag
	for _, flag := range settingFlags(k) {
		rest, ok := strings.CutPrefix(err.Error(), flag.Name)
		if ok && (strings.HasPrefix(rest, " ") || strings.HasPrefix(rest, ":")) {
			found = flag
		}
	}
	if found == nil {
		return err
	}
	if blame := originOf(k, file, found).blame; blame != "" {
		return fmt.Errorf("%s%w", blame, err)
	}
	return err
}

// printSettings lists the settings that are not the defaults, and where they
// come from.
func printSettings(out io.Writer, k *kong.Context, file *configFile) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	n := 0
	for _, flag := range settingFlags(k) {
		same, err := isDefault(flag)
		if err != nil {
			return err
		}
		if same {
			continue
		}
		n++
		fmt.Fprintf(w, "%s\t%s\t%s\n", flag.Name, shown(flag.Target), originOf(k, file, flag).from)
	}
	if n == 0 {
		fmt.Fprintln(w, "every setting has its default")
	}
	return w.Flush()
}

func isDefault(flag *kong.Flag) (bool, error) {
	def := reflect.New(flag.Target.Type()).Elem()
	if flag.HasDefault {
		var err error
		if def, err = decode(flag, flag.Default); err != nil {
			return false, fmt.Errorf("default of %s: %w", flag.Name, err)
		}
	}
	if def.Kind() == reflect.Slice && def.Len() == 0 && flag.Target.Len() == 0 {
		return true, nil
	}
	return reflect.DeepEqual(def.Interface(), flag.Target.Interface()), nil
}

// shown is a value as it may be read by everyone.
func shown(v reflect.Value) string {
	if v.Kind() != reflect.Slice {
		return withoutSecret(fmt.Sprint(v))
	}
	texts := make([]string, v.Len())
	for i := range texts {
		texts[i] = withoutSecret(fmt.Sprint(v.Index(i)))
	}
	return "[" + strings.Join(texts, " ") + "]"
}

// withoutSecret hides the user, password and query of an address: they may be
// secrets. An empty text is shown as "".
func withoutSecret(text string) string {
	if text == "" {
		return `""`
	}
	if !strings.Contains(text, "://") {
		return text[strings.LastIndexByte(text, '@')+1:]
	}
	u, err := url.Parse(text)
	if err != nil {
		return "(an address that cannot be read)"
	}
	hidden := u.User != nil || u.RawQuery != ""
	u.User, u.RawQuery = nil, ""
	if hidden {
		return u.String() + " (without its secret)"
	}
	return text
}
