package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hangup sends SIGHUP to a program and waits until it says so.
func (p *program) hangup(t *testing.T, pattern string) {
	t.Helper()
	select {
	case p.hup <- syscall.SIGHUP:
	case <-time.After(patience):
		t.Fatalf("nobody takes SIGHUP; it said %q and %q", p.out, p.errs)
	}
	p.errs.await(t, pattern)
}

// TestReload changes the file of a running server.
func TestReload(t *testing.T) {
	alone(t)
	path := written(t, "log-level: warn\nlimits:\n  connections_per_ip: 100\n")
	p, addr := serve(t, "--config="+path, "--gateway.accept_rate=500")
	set := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set("log-level: info\nlimits:\n  connections_per_ip: 9\nloops: 9\ngateway: {accept_rate: 1}\n")
	p.hangup(t, `settings reloaded.* changed="\[limits.connections_per_ip log-level\]"`)
	p.errs.await(t, `settings that need a restart keep their values.* settings=\[loops\]`)

	limits := firstFrame(t, addr)
	if limits["connections_per_ip"] != 9 {
		t.Errorf("a new connection is told %v, want 9 connections an address", limits)
	}
	for text, want := range map[string]string{
		"limits:\n  channels: lots\n":         path + `:2: limits.channels: expected a valid`,
		"limits:\n\n  channels: -1\n":         path + `:3: limits.channels is -1`,
		"log-level: debug\nlimit: {}\na: 1\n": `unknown key \\"a\\"`,
	} {
		set(text)
		p.hangup(t, `settings not reloaded, the running ones stay.*`+want)
		if limits := firstFrame(t, addr); limits["connections_per_ip"] != 9 {
			t.Errorf("after %q a new connection is told %v, want 9 connections an address", text, limits)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	p.hangup(t, `settings not reloaded.*no such file`)
}

// firstFrame is the limits that a new connection is told of.
func firstFrame(t *testing.T, addr string) map[string]float64 {
	t.Helper()
	p := start(t, "", "tail", "--all", "--url=ws://"+addr+"/ws", "price:bitcoin")
	line := p.out.await(t, `(.*"system_status".*)\n`)[0]
	var first struct {
		Data struct{ Limits map[string]float64 }
	}
	if err := json.Unmarshal([]byte(line), &first); err != nil {
		t.Fatal(err)
	}
	p.stop()
	p.exits(t, 0)
	return first.Data.Limits
}

// TestDemoReload keeps the token that the greeting shows.
func TestDemoReload(t *testing.T) {
	alone(t)
	path := written(t, "limits: {max_connections: 4}\n")
	p := start(t, "", "demo", "--listen=127.0.0.1:0", "--admin-listen=", "--drain-time=0s", "--data-dir=", "--config="+path)
	m := p.out.await(t, `public +ws://(\S+)/ws\n[\s\S]* token +(\S+)\n`)
	if err := os.WriteFile(path, []byte("limits: {max_connections: 5}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.hangup(t, `settings reloaded.* changed=\[limits.max_connections\]`)
	tail := start(t, "", "tail", "-n1", "--all", "--token="+m[1], "--url=ws://"+m[0]+"/ws", "signals:all", "price:bitcoin")
	tail.exits(t, 0)
	p.stop()
	p.exits(t, 0)
	if strings.Contains(p.errs.String(), "need a restart") {
		t.Errorf("it said %q", p.errs)
	}
}

// TestHangup takes the system's signal, and leaves it alone after that.
func TestHangup(t *testing.T) {
	ch, stop := onHangup()
	defer stop()
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Signal(syscall.SIGHUP)
	}
	if err != nil {
		t.Skipf("no signals here: %v", err)
	}
	select {
	case <-ch:
	case <-time.After(patience):
		t.Error("SIGHUP does not arrive")
	}
}

// TestUnknownVariable warns, and serves.
func TestUnknownVariable(t *testing.T) {
	alone(t)
	t.Setenv("CRYPTOINTEL_LISTEM", "0.0.0.0:1")
	p, _ := serve(t)
	p.errs.await(t, `level=WARN msg="environment variable is no setting" name=CRYPTOINTEL_LISTEM did_you_mean=CRYPTOINTEL_LISTEN\n`)
}

// TestLogFormat: one JSON object a line.
func TestLogFormat(t *testing.T) {
	alone(t)
	t.Setenv("CRYPTOINTEL_LISTEM", "x")
	p, _ := serve(t, "--log-format=json")
	line := p.errs.await(t, `(.*is no setting.*)\n`)[0]
	var m map[string]any
	if err := json.Unmarshal([]byte(line), &m); err != nil || m["level"] != "WARN" || m["name"] != "CRYPTOINTEL_LISTEM" {
		t.Errorf("%s: %v", line, err)
	}
}

func TestLogLevel(t *testing.T) {
	var b bytes.Buffer
	level := new(slog.LevelVar)
	log := newLogger(&b, level, "text")
	for _, tt := range []struct {
		level string
		want  int
	}{{"debug", 4}, {"info", 3}, {"warn", 2}, {"error", 1}, {"loud", 1}} {
		b.Reset()
		setLevel(level, tt.level)
		log.Debug("a")
		log.Info("b")
		log.Warn("c")
		log.Error("d")
		if got := strings.Count(b.String(), "\n"); got != tt.want {
			t.Errorf("%s: %d lines, want %d", tt.level, got, tt.want)
		}
	}
}

// TestMetricsPage: what a running server shows is in docs/operations.md.
func TestMetricsPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, "", "demo", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--drain-time=0s", "--data-dir=")
	addr := p.out.await(t, `admin +(http://\S+/metrics)\n`)[0]
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	resp, err := client.Get(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	shown := 0
	for line := range strings.Lines(b.String()) {
		rest, ok := strings.CutPrefix(line, "# TYPE cryptointel_")
		if !ok {
			continue
		}
		shown++
		name, kind, _ := strings.Cut(strings.TrimSpace(rest), " ")
		if !bytes.Contains(page, []byte("| `cryptointel_"+name+"` | "+kind+" |")) {
			t.Errorf("the %s %s is not in docs/operations.md", kind, name)
		}
	}
	if shown < 40 {
		t.Errorf("only %d metrics are shown", shown)
	}
	p.stop()
	p.exits(t, 0)
}
