package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// alone takes our variables out of the environment: the developer's own, and
// those of the machine that runs the tests.
func alone(t *testing.T) {
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, variablePrefix) {
			t.Setenv(name, "")
			os.Unsetenv(name)
		}
	}
}

// TestCheckConfig shows what is printed of a good configuration.
func TestCheckConfig(t *testing.T) {
	alone(t)
	t.Setenv(secretVariable, secret)
	t.Setenv("CRYPTOINTEL_LIMITS_FILTERS", "3")
	t.Setenv("CRYPTOINTEL_SERVICE_HOST", "10.0.0.1") // Kubernetes
	path := written(t, "limits:\n  channels: 7\n  filters: 4\n  message_burst: 60\nfeeds: [kraken, binance]\nauth: {issuer: \"\"}\n")
	out, errs := runs(t, 0, "", "check-config", "--loops=2", "--config", path, "--data-dir=", "--no-test-channels")
	want := []string{
		"file: " + path, "secret: set in CRYPTOINTEL_JWT_SECRET",
		`data-dir "" --data-dir`,
		"feeds [kraken binance] " + path + ":5",
		"loops 2 --loops", "test-channels false --test-channels",
		"limits.channels 7 " + path + ":2", "limits.filters 3 CRYPTOINTEL_LIMITS_FILTERS",
		"the configuration is good",
	}
	got := strings.Split(strings.TrimSpace(regexp.MustCompile(` +`).ReplaceAllString(out, " ")), "\n")
	if !reflect.DeepEqual(got, want) || errs != "" {
		t.Errorf("it said %q and\n%s\nwant\n%s", errs, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestCheckDefaults(t *testing.T) {
	alone(t)
	out, errs := runs(t, 0, "", "check-config")
	if out != "every setting has its default\nthe configuration is good\n" || errs != "" {
		t.Errorf("it said %q and %q", out, errs)
	}
}

func TestCheckConfigFails(t *testing.T) {
	alone(t)
	for _, tt := range []struct {
		name string
		args string
		env  map[string]string
		file string
		want string
	}{
		{name: "a value that cannot be", args: "--loops=300", want: "cryptointel: loops is 300"},
		{name: "a value of the file that cannot be", file: "loops: 1\nlimits:\n  channels: -1\n",
			want: `cryptointel.yaml:3: limits.channels is -1`},
		{name: "a value of the environment that cannot be", env: map[string]string{"CRYPTOINTEL_MARKET_OUTLIER": "-2"},
			want: "cryptointel: CRYPTOINTEL_MARKET_OUTLIER: market.outlier is -2"},
		{name: "a flag that replaces a good value", args: "--loops=300", file: "loops: 1\n", want: "cryptointel: loops is 300"},
		{name: "an unknown variable", env: map[string]string{"CRYPTOINTEL_LIMIT_CHANNELS": "3"},
			want: "environment variable CRYPTOINTEL_LIMIT_CHANNELS is no setting; did you mean CRYPTOINTEL_LIMITS_CHANNELS?"},
		{name: "both", args: "--loops=300", env: map[string]string{"CRYPTOINTEL_LOPS": "3"}, want: "did you mean CRYPTOINTEL_LOOPS?\nloops is 300"},
		{name: "an unknown feed", args: "--feeds=krakn", want: `no exchange "krakn"; did you mean kraken?`},
		{name: "recordings without --replay", args: "a.gz", want: "recordings follow --replay"},
		{name: "a short secret", env: map[string]string{secretVariable: "hunter2"}, want: "the JWT secret has 7 bytes"},
		{name: "plain listening for all", args: "--listen=0.0.0.0:8080", want: "--behind-proxy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			args := strings.Fields("check-config " + tt.args)
			if tt.file != "" {
				args = append(args, "--config="+written(t, tt.file))
			}
			out, errs := runs(t, 2, "", args...)
			if !strings.Contains(errs, tt.want) || strings.Contains(out, "is good") || strings.Contains(out+errs, "hunter2") {
				t.Errorf("it said %q and %q, want %s", out, errs, tt.want)
			}
		})
	}
}

// TestStrangers tells misspelt variables from those of a cluster and of the
// tools.
func TestStrangers(t *testing.T) {
	flags := []*kong.Flag{{Envs: []string{"CRYPTOINTEL_LISTEN"}}, {Envs: []string{"CRYPTOINTEL_LIMITS_CHANNELS"}}}
	got := strangers([]string{
		"PATH=/bin", "CRYPTOINTEL_LISTEN=:1", "CRYPTOINTEL_JWT_SECRET=x", "CRYPTOINTEL_TOKEN=x", "CRYPTOINTEL_DATA=/x",
		"CRYPTOINTEL_SERVICE_HOST=10.0.0.1", "CRYPTOINTEL_SERVICE_PORT=80", "CRYPTOINTEL_SERVICE_PORT_HTTP=80",
		"CRYPTOINTEL_PORT=tcp://10.0.0.1:80", "CRYPTOINTEL_PORT_80_TCP=tcp://10.0.0.1:80",
		"CRYPTOINTEL_PORT_80_TCP_ADDR=10.0.0.1", "CRYPTOINTEL_ADMIN_PORT_9090_TCP_PROTO=tcp",
		"CRYPTOINTEL_ADMIN_SERVICE_PORT=9090",
		"CRYPTOINTEL_LISTN_PORT=80", "CRYPTOINTEL_CHANNELS=8",
	}, flags)
	want := map[string]string{
		"CRYPTOINTEL_LISTN_PORT": "CRYPTOINTEL_LISTEN",
		"CRYPTOINTEL_CHANNELS":   "CRYPTOINTEL_LIMITS_CHANNELS",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestShown keeps what may be a secret out of what is printed.
func TestShown(t *testing.T) {
	for _, tt := range []struct {
		value any
		want  string
	}{
		{"", `""`}, {"text", "text"}, {7, "7"}, {[]string(nil), "[]"}, {[]string{"a", "b"}, "[a b]"},
		{"https://a.example/keys.json", "https://a.example/keys.json"},
		{"https://user:hunter2@a.example/x", "https://a.example/x (without its secret)"},
		{"https://a.example/x?key=hunter2", "https://a.example/x (without its secret)"},
		{[]string{"nats://hunter2@a:4222", "nats://b:4222"}, "[nats://a:4222 (without its secret) nats://b:4222]"},
		{"user:hunter2@a:4222", "a:4222"},
		{"nats://user:hunter2@a b", "(an address that cannot be read)"},
	} {
		if got := shown(reflect.ValueOf(tt.value)); got != tt.want {
			t.Errorf("%v is shown as %s, want %s", tt.value, got, tt.want)
		}
	}
}

// TestCheckIsServe: check-config has the flags that serve has.
func TestCheckIsServe(t *testing.T) {
	parser, err := newParser(&cli{}, &bytes.Buffer{}, &bytes.Buffer{}, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	flags := map[string]string{}
	for _, command := range parser.Model.Children {
		for _, flag := range command.Flags {
			flags[command.Name] += fmt.Sprint(flag.Name, flag.Envs, flag.Default, "\n")
		}
	}
	if flags["serve"] == "" || flags["serve"] != flags["check-config"] {
		t.Errorf("serve has\n%s\ncheck-config has\n%s", flags["serve"], flags["check-config"])
	}
}

// FuzzConfigFile: no file makes a panic, and what is found is in the file.
func FuzzConfigFile(f *testing.F) {
	for _, text := range []string{"", "loops: 1\n", "limits:\n  channels: 7\nfeeds: [a, b]\n", "a: &x 1\nb: *x\n", "a:\n  <<: 1\n", "- a\n", "a: b: c\n", "limits: &a\n  c: *a\n", "? [a]\n: 1\n", "--- 1\n--- 2\n", "a: 1e999\n", "a: !!int x\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		file := configFile{path: "x.yaml", entries: map[string]entry{}}
		if err := file.parse(b); err != nil {
			if !strings.HasPrefix(err.Error(), "x.yaml:") {
				t.Errorf("%q does not name the file", err)
			}
			return
		}
		for _, err := range file.wrong {
			if !strings.HasPrefix(err.Error(), "x.yaml:") {
				t.Errorf("%q does not name the file", err)
			}
		}
		lines := bytes.Count(b, []byte("\n")) + bytes.Count(b, []byte("\r")) + bytes.Count(b, []byte("\u0085")) +
			bytes.Count(b, []byte("\u2028")) + bytes.Count(b, []byte("\u2029")) + 1
		for name, e := range file.entries {
			if e.line < 1 || e.line > lines {
				t.Errorf("%q is in line %d of %d", name, e.line, lines)
			}
			switch v := e.value.(type) {
			case nil, string:
			case []any:
				for _, x := range v {
					if _, ok := x.(string); !ok {
						t.Errorf("%q holds a %T", name, x)
					}
				}
			default:
				t.Errorf("%q is a %T", name, v)
			}
		}
	})
}

// TestMissingFile names what could not be read.
func TestMissingFile(t *testing.T) {
	dir := t.TempDir()
	_, errs := runs(t, 2, "", "check-config", "--config="+filepath.Join(dir, "none.yaml"))
	if !strings.Contains(errs, "none.yaml: no such file") {
		t.Errorf("it said %q", errs)
	}
}

// TestCheckFolder: what cannot become the data directory is told, and nothing
// is left behind where it can.
func TestCheckFolder(t *testing.T) {
	alone(t)
	dir, file := t.TempDir(), written(t, "")
	for _, tt := range []struct{ args, want string }{
		{"--data-dir=" + filepath.Join(dir, "a", "b"), ""},
		{"--data-dir=" + dir, ""},
		{"--data-dir=" + file, "data-dir: " + file + " is a file"},
		{"--data-dir=" + filepath.Join(file, "x"), "data-dir: "},
		{"--data-dir=/proc/nope", "data-dir: /proc cannot be written by this user"},
		{"--data-dir=/proc/nope --feeds=demo", ""},
		{"--data-dir=/proc/nope --feeds= --nats-url=nats://127.0.0.1:4222", ""},
		{"--data-dir=", ""},
	} {
		code := 0
		if tt.want != "" {
			code = 2
		}
		if strings.Contains(tt.args, "/proc") {
			if _, err := os.Stat("/proc/self"); err != nil {
				continue
			}
		}
		_, errs := runs(t, code, "", strings.Fields("check-config "+tt.args)...)
		if !strings.Contains(errs, tt.want) {
			t.Errorf("%s: it said %q, want %s", tt.args, errs, tt.want)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
