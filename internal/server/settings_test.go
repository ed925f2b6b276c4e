package server

import (
	"slices"
	"testing"
	"time"
)

func TestSettingName(t *testing.T) {
	for field, want := range map[string]string{
		"Listen": "listen", "MessageBytes": "message_bytes", "URL": "url", "TokenInURL": "token_in_url",
		"HTTPServer": "http_server", "ConnectsPerMinutePerIP": "connects_per_minute_per_ip",
	} {
		if got := SettingName(field); got != want {
			t.Errorf("SettingName(%s) = %s, want %s", field, got, want)
		}
	}
}

// Two configurations differ by the dotted names of their settings; what may
// change while the server runs is adopted, and nothing else.
func TestAdopt(t *testing.T) {
	running, file := DefaultConfig(), DefaultConfig()
	file.Limits.Session.Channels = 7
	file.LogLevel = "debug"
	file.Listen = "127.0.0.1:1"
	file.History.FlushEvery = time.Second
	changed, restart := adopt(&running, &file)
	if want := []string{"limits.channels", "log-level"}; !slices.Equal(changed, want) {
		t.Errorf("changed %v, want %v", changed, want)
	}
	if want := []string{"history.flush_every", "listen"}; !slices.Equal(restart, want) {
		t.Errorf("need a restart: %v, want %v", restart, want)
	}
	if running.Limits.Session.Channels != 7 || running.LogLevel != "debug" || running.Listen != "127.0.0.1:8080" {
		t.Errorf("adopted %d channels, level %s, address %s", running.Limits.Session.Channels, running.LogLevel, running.Listen)
	}
}
