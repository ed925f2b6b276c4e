package eventloop

import (
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
