package broker

import (
	"log/slog"
	"reflect"
	"testing"

	"github.com/alecthomas/kong"
)

func TestConfig(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Config)
	}{
		{"negative entries", func(c *Config) { c.LogEntries = -1 }},
		{"negative bytes", func(c *Config) { c.LogBytes = -1 }},
		{"log without bound", func(c *Config) { c.LogEntries, c.LogBytes = 0, 0 }},
		{"negative test channels", func(c *Config) { c.TestChannels = -1 }},
		{"outbox too small", func(c *Config) { c.NATS.Outbox = 15 }},
		{"no prefix", func(c *Config) { c.NATS.Prefix = "" }},
		{"a wildcard in the prefix", func(c *Config) { c.NATS.Prefix = "a.>" }},
		{"no scheme", func(c *Config) { c.NATS.URLs = []string{"localhost:4222"} }},
		{"another scheme", func(c *Config) { c.NATS.URLs = []string{"http://localhost:4222"} }},
		{"no host", func(c *Config) { c.NATS.URLs = []string{"nats://"} }},
		{"credentials without a server", func(c *Config) { c.NATS.Credentials = "config_test.go" }},
		{"credentials that are not there", func(c *Config) { c.NATS.URLs, c.NATS.Credentials = []string{"nats://localhost:1"}, "none" }},
		{"authorities that are not there", func(c *Config) { c.NATS.URLs, c.NATS.CA = []string{"nats://localhost:1"}, "none" }},
		{"pending too small", func(c *Config) { c.Pending = 15 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := DefaultConfig()
			tt.change(&cfg)
			if b, err := Open(cfg, slog.New(slog.DiscardHandler)); err == nil {
				b.Close()
				t.Error("accepted")
			}
		})
	}
}

// TestFlagDefaults: the tags and DefaultConfig say the same.
func TestFlagDefaults(t *testing.T) {
	var cli struct {
		NATS   NATS   `embed:""`
		Broker Config `embed:"" prefix:"broker."`
	}
	p, err := kong.New(&cli)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Parse(nil); err != nil {
		t.Fatal(err)
	}
	cli.Broker.NATS = cli.NATS
	if want := DefaultConfig(); !reflect.DeepEqual(cli.Broker, want) {
		t.Errorf("got %+v; want %+v", cli.Broker, want)
	}
}
