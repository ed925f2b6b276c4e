//go:build !linux

package eventloop

import (
	"errors"
	"net"
)

// Config.validate refuses epoll here, so none of these is reached.
var errNoEpoll = errors.New("eventloop: epoll needs Linux")

func newEpoll(*loop) (sockets, error) { return nil, errNoEpoll }

func detach(c net.Conn, _ int) (int, error) {
	c.Close()
	return -1, errNoEpoll
}

func closeDescriptor(int) {}
