package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"cryptointel/internal/server"
)

// parsed is the configuration of `serve` with these arguments, and a
// configuration file when there is text for one.
func parsed(t *testing.T, file string, args ...string) (server.Config, error) {
	t.Helper()
	var c cli
	parser, err := newParser(&c, io.Discard, io.Discard, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	if file != "" {
		args = append(args, "--config="+written(t, file))
	}
	_, err = parser.Parse(append([]string{"serve"}, args...))
	return c.Serve.Server, err
}

func written(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "cryptointel.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestSettings shows where each setting can come from, and which wins: flag,
// environment, file, default. Everything else keeps its default.
func TestSettings(t *testing.T) {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		env  map[string]string
		file string
		want func(*server.Config)
	}{
		{name: "defaults", want: func(c *server.Config) {}},
		{name: "a flag", args: []string{"--limits.channels=7"},
			want: func(c *server.Config) { c.Limits.Session.Channels = 7 }},
		{name: "the environment", env: map[string]string{"CRYPTOINTEL_LIMITS_CHANNELS": "8"},
			want: func(c *server.Config) { c.Limits.Session.Channels = 8 }},
		{name: "the file", file: "limits:\n  channels: 9\n",
			want: func(c *server.Config) { c.Limits.Session.Channels = 9 }},
		{name: "the file, with a dot", file: "limits.channels: 9\n",
			want: func(c *server.Config) { c.Limits.Session.Channels = 9 }},
		{name: "flag over environment over file", args: []string{"--limits.channels=7"},
			env:  map[string]string{"CRYPTOINTEL_LIMITS_CHANNELS": "8", "CRYPTOINTEL_LIMITS_MESSAGE_BYTES": "100"},
			file: "limits:\n  channels: 9\n  message_bytes: 200\n  message_burst: 300\n",
			want: func(c *server.Config) {
				c.Limits.Session.Channels, c.Limits.Session.MessageBytes, c.Limits.Session.MessageBurst = 7, 100, 300
			}},
		{name: "0 is none, in all three", args: []string{"--limits.channels=0"},
			env:  map[string]string{"CRYPTOINTEL_LIMITS_CONNECTIONS_PER_IP": "0"},
			file: "limits:\n  idle_timeout: 0\n  connections_per_user: 0\n",
			want: func(c *server.Config) {
				c.Limits.Session.Channels, c.Limits.Session.IdleTimeout = 0, 0
				c.Limits.Door.ConnectionsPerIP, c.Limits.Door.ConnectionsPerUser = 0, 0
			}},
		{name: "numbers, times and text", file: "listen: 127.0.0.1:1\nloops: 3\nreplay-speed: 2.5\nlimits: {auth_timeout: 3s}\nlog-level: debug\nbroker: {log_bytes: 1000000000}\n",
			want: func(c *server.Config) {
				c.Listen, c.Loops, c.ReplaySpeed, c.LogLevel = "127.0.0.1:1", 3, 2.5, "debug"
				c.Limits.Session.AuthTimeout, c.Broker.LogBytes = 3*time.Second, 1_000_000_000
			}},
		{name: "yes and no", args: []string{"--no-test-channels"}, file: "replay-loop: true\ngateway:\n  token_in_url: yes\n",
			want: func(c *server.Config) { c.TestChannels, c.ReplayLoop, c.Gateway.TokenInURL = false, true, true }},
		{name: "no in the file", file: "test-channels: false\n",
			want: func(c *server.Config) { c.TestChannels = false }},
		{name: "no in the environment", env: map[string]string{"CRYPTOINTEL_TEST_CHANNELS": "false"},
			want: func(c *server.Config) { c.TestChannels = false }},
		{name: "yes over no in the file", args: []string{"--test-channels"}, file: "test-channels: false\n",
			want: func(c *server.Config) {}},
		{name: "lists by comma", args: []string{"--feeds=demo", "--auth.anonymous_channels=price:*,test:*"},
			want: func(c *server.Config) {
				c.Feeds, c.Auth.AnonymousChannels = []string{"demo"}, []string{"price:*", "test:*"}
			}},
		{name: "lists in the environment", env: map[string]string{"CRYPTOINTEL_AUTH_ANONYMOUS_CHANNELS": "price:*,test:*"},
			want: func(c *server.Config) { c.Auth.AnonymousChannels = []string{"price:*", "test:*"} }},
		{name: "lists in the file", file: "feeds: [demo]\nauth:\n  anonymous_channels:\n    - price:*\n    - test:*\ngateway: {origins: https://a.example}\n",
			want: func(c *server.Config) {
				c.Feeds, c.Auth.AnonymousChannels = []string{"demo"}, []string{"price:*", "test:*"}
				c.Gateway.Origins = []string{"https://a.example"}
			}},
		{name: "empty lists", args: []string{"--feeds="}, file: "feeds: [demo]\nauth:\n  anonymous_channels: []\n",
			want: func(c *server.Config) { c.Feeds, c.Auth.AnonymousChannels = nil, nil }},
		{name: "an empty list in the environment", env: map[string]string{"CRYPTOINTEL_AUTH_ANONYMOUS_CHANNELS": ""},
			want: func(c *server.Config) { c.Auth.AnonymousChannels = nil }},
		{name: "no admin listener", args: []string{"--admin-listen="},
			want: func(c *server.Config) { c.AdminListen = "" }},
		{name: "recordings, again and again", args: []string{"--replay=/a,b.gz", "--replay=/c.gz"},
			want: func(c *server.Config) { c.Replay = []string{"/a,b.gz", "/c.gz"} }},
		{name: "recordings in the file", file: "replay:\n  - /a,b.gz\n  - c.gz\n",
			want: func(c *server.Config) { c.Replay = []string{"/a,b.gz", "c.gz"} }},
		{name: "a key without a value", file: "limits:\n  channels:\n",
			want: func(c *server.Config) {}},
		{name: "a group without keys", file: "limits:\n#  channels: 3\n",
			want: func(c *server.Config) {}},
		{name: "an anchor", file: "limits:\n  channels: &n 12\n  filters: *n\n",
			want: func(c *server.Config) { c.Limits.Session.Channels, c.Limits.Session.Filters = 12, 12 }},
		{name: "no file for TLS", args: []string{"--tls-cert="}, env: map[string]string{"CRYPTOINTEL_TLS_KEY": ""},
			want: func(c *server.Config) {}},
		{name: "files are of the folder we are in", args: []string{"--tls-cert=a.pem"}, file: "tls-key: b.pem\ndata-dir: \"\"\n",
			want: func(c *server.Config) {
				c.TLS.Cert, c.TLS.Key, c.DataDir = filepath.Join(dir, "a.pem"), filepath.Join(dir, "b.pem"), ""
			}},
		{name: "an empty file", file: "# nothing\n",
			want: func(c *server.Config) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			got, err := parsed(t, tt.file, tt.args...)
			if err != nil {
				t.Fatal(err)
			}
			want := server.DefaultConfig()
			want.DataDir = filepath.Join(dir, "data")
			tt.want(&want)
			if got, want := plain(got), plain(want); !reflect.DeepEqual(got, want) {
				t.Errorf("got\n%+v\nwant\n%+v", got, want)
			}
		})
	}
}

// plain is cfg with what belongs to other commands, or is no setting,
// made the same: empty lists, and the copies that parts have of others' settings.
func plain(cfg server.Config) server.Config {
	cfg.Gateway.Limits = cfg.Limits.Door
	cfg.Broker.NATS = cfg.NATS
	for _, list := range []*[]string{&cfg.Feeds, &cfg.Replay, &cfg.Auth.AnonymousChannels, &cfg.Gateway.Origins} {
		if len(*list) == 0 {
			*list = nil
		}
	}
	return cfg
}

// TestConfigVariable finds the file by the environment.
func TestConfigVariable(t *testing.T) {
	t.Setenv("CRYPTOINTEL_CONFIG", written(t, "loops: 4\n"))
	if got, err := parsed(t, ""); err != nil || got.Loops != 4 {
		t.Errorf("got %d loops, %v, want 4", got.Loops, err)
	}
	if got, err := parsed(t, "loops: 5\n"); err != nil || got.Loops != 5 {
		t.Errorf("got %d loops, %v, want 5 from the file that --config names", got.Loops, err)
	}
}

// TestBadSettings shows what is said about each mistake.
func TestBadSettings(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		env  map[string]string
		file string
		want string
	}{
		{name: "unknown flag", args: []string{"--limits.chanels=5"}, want: `unknown flag --limits.chanels`},
		{name: "no number", args: []string{"--loops=many"}, want: `--loops: expected a valid 64 bit int but got "many"`},
		{name: "no duration", args: []string{"--limits.idle_timeout=60"}, want: `--limits.idle_timeout: expected duration but got "60"`},
		{name: "no choice", args: []string{"--eventloop=kqueue"}, want: `--eventloop must be one of auto, epoll, portable but got "kqueue"`},
		{name: "no number in the environment", env: map[string]string{"CRYPTOINTEL_LIMITS_CHANNELS": "lots"}, want: `CRYPTOINTEL_LIMITS_CHANNELS="lots"`},
		{name: "no number in the file", file: "limits: {channels: lots}\n", want: `cryptointel.yaml:1: limits.channels: expected a valid 64 bit int but got "lots"`},
		{name: "no duration in the file", file: "limits:\n  # a comment\n  idle_timeout: 60\n", want: `cryptointel.yaml:3: limits.idle_timeout: expected duration but got "60"`},
		{name: "no choice in the file", file: "log-level: loud\n", want: `cryptointel.yaml:1: log-level must be one of debug, info, warn, error but got "loud"`},
		{name: "unknown key", file: "limits:\n  chanels: 5\n", want: `cryptointel.yaml:2: unknown key "limits.chanels"; did you mean "limits.channels"?`},
		{name: "unknown group", file: "limit:\n  channels: 5\n", want: `cryptointel.yaml:2: unknown key "limit.channels"; did you mean "limits.channels"?`},
		{name: "a key of another command", file: "ttl: 5s\n", want: `cryptointel.yaml:1: unknown key "ttl"; did you mean "`},
		{name: "one key twice", file: "loops: 1\nloops: 2\n", want: `cryptointel.yaml:2: yaml: mapping key "loops" already defined at line 1`},
		{name: "one key twice, with a dot", file: "loops: 1\nlimits.channels: 1\nlimits:\n  channels: 2\n", want: `cryptointel.yaml:4: limits.channels is set in line 2 already`},
		{name: "a key without its group", file: "audience: x\n", want: `cryptointel.yaml:1: unknown key "audience"; did you mean "auth.audience"?`},
		{name: "a group with a value", file: "limits: 5\n", want: `cryptointel.yaml:1: "limits" is a group of settings, such as "limits.`},
		{name: "a list where there is one value", file: "loops:\n  - 1\n", want: `cryptointel.yaml:1: loops takes one value, not a list: write loops: VALUE`},
		{name: "a list where there is one text", file: "listen: [a, b]\n", want: `cryptointel.yaml:1: listen takes one value, not a list`},
		{name: "a list of issuers", file: "auth:\n  issuer: [a, b]\n", want: `cryptointel.yaml:2: auth.issuer takes one value, not a list: write auth.issuer: VALUE`},
		{name: "a list of lists", file: "feeds:\n  - [demo]\n", want: `cryptointel.yaml:2: feeds: a list holds plain values only`},
		{name: "a bad value that a flag replaces", args: []string{"--loops=2"}, file: "loops: two\n", want: `cryptointel.yaml:1: loops: expected`},
		{name: "several mistakes", file: "a: 1\nloops: x\n", want: `cryptointel.yaml:2: loops: expected`},
		{name: "a merge", file: "demo: &d {rate: 3}\nlimits: {<<: *d}\n", want: `cryptointel.yaml:2: << is not supported here`},
		{name: "an alias in itself", file: "limits: &a\n  channels: *a\n", want: `cryptointel.yaml: yaml: anchor 'a' value contains itself`},
		{name: "two documents", file: "loops: 1\n---\nloops: 2\n", want: `cryptointel.yaml: there is more than one document in it`},
		{name: "an unknown flag far off", args: []string{"--burst=5"}, want: `unknown flag --burst, did you mean "--limits.message_burst"?`},
		{name: "no choice in the environment", env: map[string]string{"CRYPTOINTEL_LOG_LEVEL": "warning"}, want: `--log-level must be one of debug, info, warn, error but got "warning"; did you mean "warn"?`},
		{name: "no YAML", file: "a: b: c\n", want: `cryptointel.yaml: yaml: `},
		{name: "no keys", file: "- a\n", want: `cryptointel.yaml:1: no settings`},
		{name: "no file", args: []string{"--config=/nowhere.yaml"}, want: `read the configuration: open /nowhere.yaml: no such file`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			_, err := parsed(t, tt.file, tt.args...)
			if err == nil {
				t.Fatalf("no error, want %s", tt.want)
			}
			if got := parseError(err).Error(); !strings.Contains(got, tt.want) {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if strings.Contains(err.Error(), "--admin-listen") || strings.Contains(err.Error(), "--help") {
				t.Errorf("%v names a flag that is not concerned", err)
			}
		})
	}
}

// TestAllMistakes: whoever corrects a file hears of all its lines at once, and
// of the first setting that makes no sense, unless that comes of what was left
// out.
func TestAllMistakes(t *testing.T) {
	alone(t)
	for _, tt := range []struct {
		name string
		args []string
		file string
		want []string // each once and in this order; %s is the file
	}{
		{"lines and sense", nil, "a: 1\nloops: x\nfeeds: [[a]]\nlimits:\n  channels: -1\nauth: {issuer: [a, b]}\nmarket:\n  outlier: -2\n",
			[]string{"%s:3: feeds: a list holds", `%s:1: unknown key "a"`, "%s:2: loops: expected", "%s:6: auth.issuer takes one value", "%s:5: limits.channels is -1"}},
		{"of one that was left out nothing more is said", nil, "tls-cert: c.pem\ntls-key: [a]\n",
			[]string{"%s:2: tls-key takes one value"}},
		{"with a flag", []string{"--log-level=trace"}, "loops: x\n",
			[]string{"%s:1: loops: expected", `--log-level must be one of debug, info, warn, error but got "trace"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := written(t, tt.file)
			_, errs := runs(t, 2, "", append([]string{"serve", "--config=" + path}, tt.args...)...)
			lines := strings.Split(strings.TrimSpace(strings.TrimPrefix(errs, "cryptointel: ")), "\n")
			lines = lines[:len(lines)-1] // cryptointel --help lists commands and flags.
			if len(lines) != len(tt.want) {
				t.Fatalf("it said %q, want %q", lines, tt.want)
			}
			for i, want := range tt.want {
				if want = strings.ReplaceAll(want, "%s", path); !strings.HasPrefix(lines[i], want) {
					t.Errorf("line %d is %q, want %q", i, lines[i], want)
				}
			}
		})
	}
}

// TestNearChoice: a choice is suggested only when it is near what was written.
func TestNearChoice(t *testing.T) {
	for value, want := range map[string]string{
		"warning": `; did you mean "warn"?`, "dbug": `; did you mean "debug"?`, "err": `; did you mean "error"?`,
		"trace": "", "loud": "", "": "",
	} {
		_, err := parsed(t, "", "--log-level="+value)
		if err == nil || !strings.HasSuffix(err.Error(), fmt.Sprintf("must be one of debug, info, warn, error but got %q%s", value, want)) {
			t.Errorf("%q: %v, want %s", value, err, want)
		}
	}
}
