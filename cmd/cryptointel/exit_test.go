package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cryptointel/internal/market"
)

// away is an error that a part calls the environment's.
type away struct{ error }

func (away) Environment() bool { return true }

func (a away) Unwrap() error { return a.error }

// TestStartErrors: another start is worth it when the environment failed, and
// not when a setting has to change first.
func TestStartErrors(t *testing.T) {
	_, missing := os.Open(filepath.Join(t.TempDir(), "none"))
	_, badPort := net.Listen("tcp", "127.0.0.1:99999")
	for _, tt := range []struct {
		err  error
		want int
	}{
		{away{errors.New("no NATS server answers")}, 1},
		{fmt.Errorf("file:3: %w", away{io.EOF}), 1},
		{&net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}, 1},
		{&net.OpError{Op: "dial", Err: &net.DNSError{}}, 1},
		{&os.PathError{Op: "open", Path: "x", Err: syscall.EACCES}, 1},
		{&os.PathError{Op: "open", Path: "x", Err: syscall.ENOSPC}, 1},
		{fmt.Errorf("x: %w", fs.ErrPermission), 1},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), 1},
		{errors.New("loops is 300"), 2},
		{missing, 2},
		{badPort, 2},
		{away{badPort}, 2},
		{&os.PathError{Op: "mkdir", Path: "x", Err: syscall.ENOTDIR}, 2},
	} {
		if tt.err == nil {
			t.Error("no error to look at")
			continue
		}
		if got := exitCode(startError(tt.err), io.Discard); got != tt.want {
			t.Errorf("%v: exit code %d, want %d", tt.err, got, tt.want)
		}
	}
}

// TestTroubleAtTheStart: NATS that is away, candles that another process has
// open and a taken port end with 1, so that systemd tries again.
func TestTroubleAtTheStart(t *testing.T) {
	alone(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	h, err := market.OpenHistory(market.DefaultHistoryConfig(), dir, newLogger(io.Discard, nil, "text"))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for _, tt := range []struct{ args, want string }{
		{"--data-dir= --nats-url=nats://" + nobody, nobody},
		{"--data-dir=" + dir, "candles.db"},
	} {
		_, errs := runs(t, 1, "", strings.Fields("serve --listen=127.0.0.1:0 --admin-listen= --feeds= "+tt.args)...)
		if !strings.Contains(errs, tt.want) {
			t.Errorf("%s: it said %q, want %s in it", tt.args, errs, tt.want)
		}
	}
}
