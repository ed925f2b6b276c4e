package eventloop

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"cryptointel/internal/hub"
)

func staleEpollEvents(l *loop, old hub.Ref) {
	e := l.sock.(*epoll)
	for _, events := range []uint32{unix.EPOLLIN, unix.EPOLLOUT, unix.EPOLLHUP | unix.EPOLLERR} {
		e.handle(&unix.EpollEvent{Events: events, Fd: int32(old.Slot), Pad: int32(old.Gen)})
	}
}

func TestSocketOptions(t *testing.T) {
	b := newBed(t, config(KindEpoll, 1), nil)
	b.connect("", hub.Hello{})
	b.sum()
	l := b.group.loops[0]
	for _, o := range []struct {
		name              string
		level, opt, value int
	}{
		{"send buffer", unix.SOL_SOCKET, unix.SO_SNDBUF, 2 * 32768},
		{"no delay", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{"user timeout", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 30000},
		{"keep alive", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0},
	} {
		l.in.post(func() {
			fd := int(l.records.at(0).fd)
			if got, err := unix.GetsockoptInt(fd, o.level, o.opt); err != nil || got != o.value {
				t.Errorf("%s is %d, %v, want %d", o.name, got, err, o.value)
			}
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
				t.Errorf("the descriptor blocks: %#x, %v", flags, err)
			}
		})
	}
	b.sum()
}

// Without a descriptor to spare a connection is refused, and the next one is
// adopted when there is.
func TestNoDescriptorsLeft(t *testing.T) {
	b := newBed(t, config(KindEpoll, 1), nil)
	client, server := b.pair()
	defer client.Close()
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	none := unix.Rlimit{Cur: 1, Max: was.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	err := b.group.Adopt(server, nil, hub.Hello{})
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, unix.EMFILE) {
		t.Errorf("Adopt: %v, want EMFILE", err)
	}
	if got := readAll(t, client); got != "" {
		t.Errorf("read %q", got)
	}
	next := b.connect("quit\n", hub.Hello{})
	if got := readAll(t, next); got != "bye\n" {
		t.Errorf("got %q", got)
	}
}
