package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cryptointel/internal/frame"
)

// A floor is the least a server can do: it frames a published body once and
// writes the frame to every WebSocket connection with one call each. It knows
// no channels and keeps nothing: what a socket refuses is dropped. One thread
// owns it.
type floor struct {
	ep, listener int
	addr         string
	peers        map[int]*floorPeer // by descriptor
	clients      []int              // descriptors of the upgraded ones
	frame        []byte
	buf          []byte
	events       []unix.EpollEvent
}

type floorPeer struct {
	at int    // index in clients; -1: not upgraded
	in []byte // an incomplete request
}

func newFloor(listen string) (*floor, error) {
	e, err := parseEndpoint("ws://"+listen, "ws")
	if err != nil {
		return nil, fmt.Errorf("bench: floor: listen: %w", err)
	}
	f := &floor{ep: -1, listener: -1, peers: map[int]*floorPeer{}, buf: make([]byte, 64<<10), events: make([]unix.EpollEvent, 512)}
	if err := f.listen(e); err != nil {
		f.close()
		return nil, fmt.Errorf("bench: floor: %w", err)
	}
	return f, nil
}

func (f *floor) listen(e endpoint) (err error) {
	if f.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if f.listener, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	if err = unix.SetsockoptInt(f.listener, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err = unix.Bind(f.listener, &unix.SockaddrInet4{Port: int(e.addr.Port()), Addr: e.addr.Addr().As4()}); err != nil {
		return err
	}
	if err = unix.Listen(f.listener, 4096); err != nil {
		return err
	}
	sa, err := unix.Getsockname(f.listener)
	if err != nil {
		return err
	}
	f.addr = fmt.Sprintf("%s:%d", e.addr.Addr(), sa.(*unix.SockaddrInet4).Port)
	return f.watch(f.listener)
}

func (f *floor) watch(fd int) error {
	return unix.EpollCtl(f.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

// serve runs until ctx is done or, unless idle is 0, until there was no
// connection for so long.
func (f *floor) serve(ctx context.Context, idle time.Duration) error {
	busy := time.Now()
	for ctx.Err() == nil {
		n, err := unix.EpollWait(f.ep, f.events, 50)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("bench: floor: epoll: %w", err)
		}
		for i := range max(n, 0) {
			f.handle(int(f.events[i].Fd))
		}
		if len(f.peers) > 0 {
			busy = time.Now()
		} else if idle > 0 && time.Since(busy) > idle {
			return nil
		}
	}
	return nil
}

func (f *floor) close() {
	for fd := range f.peers {
		unix.Close(fd)
	}
	for _, fd := range []int{f.listener, f.ep} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

func (f *floor) handle(fd int) {
	if fd == f.listener {
		f.accept()
		return
	}
	p := f.peers[fd]
	if p == nil {
		return
	}
	n, err := unix.Read(fd, f.buf)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
	case n <= 0:
		f.drop(fd, p)
	case p.at < 0: // what an upgraded client says is ignored
		p.in = append(p.in, f.buf[:n]...)
		for p.at < 0 && f.request(fd, p) {
		}
	}
}

func (f *floor) accept() {
	for {
		fd, _, err := unix.Accept4(f.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		if unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) != nil || f.watch(fd) != nil {
			unix.Close(fd)
			continue
		}
		f.peers[fd] = &floorPeer{at: -1}
	}
}

func (f *floor) drop(fd int, p *floorPeer) {
	if p.at >= 0 {
		last := len(f.clients) - 1
		f.clients[p.at] = f.clients[last]
		f.peers[f.clients[p.at]].at = p.at
		f.clients = f.clients[:last]
	}
	delete(f.peers, fd)
	unix.Close(fd)
}

// request serves the first request p has sent and reports whether it was whole.
func (f *floor) request(fd int, p *floorPeer) bool {
	end := bytes.Index(p.in, []byte("\r\n\r\n"))
	if end < 0 {
		return false
	}
	head, body := string(p.in[:end]), p.in[end+4:]
	if strings.HasPrefix(head, "GET ") {
		unix.Write(fd, []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "+upgradeAccept+"\r\n\r\n"))
		p.at, p.in = len(f.clients), nil
		f.clients = append(f.clients, fd)
		return true
	}
	_, size, _ := strings.Cut(head, "Content-Length: ")
	size, _, _ = strings.Cut(size, "\r\n")
	n, err := strconv.Atoi(size)
	if err != nil || n < 0 || n > 1<<20 {
		f.drop(fd, p)
		return false
	}
	if len(body) < n {
		return false
	}
	f.fanOut(body[:n])
	p.in = append(p.in[:0], body[n:]...)
	unix.Write(fd, []byte("HTTP/1.1 204 No Content\r\n\r\n"))
	return true
}

// fanOut sends a published body as a server would show it: with the position
// and time that a server adds, so that as many bytes are written.
func (f *floor) fanOut(body []byte) {
	front, data, _ := bytes.Cut(body, []byte(`"data":`))
	size := len(body) + len(`"offset":1764678600123456,"ts":1764678600123,`)
	f.frame = frame.AppendHeader(f.frame[:0], frame.Text, size)
	f.frame = append(f.frame, front...)
	f.frame = append(f.frame, `"offset":1764678600123456,"ts":1764678600123,"data":`...)
	f.frame = append(f.frame, data...)
	for _, fd := range f.clients {
		unix.Write(fd, f.frame)
	}
}

// runFloor is FloorConfig.Run.
func runFloor(ctx context.Context, c FloorConfig, w io.Writer) error {
	f, err := newFloor(c.Listen)
	if err != nil {
		return err
	}
	defer f.close()
	if _, err := fmt.Fprintln(w, f.addr); err != nil {
		return fmt.Errorf("bench: floor: %w", err)
	}
	return f.serve(ctx, c.Idle)
}

// A runningFloor is a floor that serves beside the generator.
type runningFloor struct {
	addr string
	cpu  clock
	held int // descriptors of this process it needs for each connection
	stop func()
}

// startFloor runs the floor in a process of its own, or without a command in a
// thread of this one. stop must be called.
func startFloor(ctx context.Context, command []string, like int) (*runningFloor, error) {
	ctx, cancel := context.WithCancel(ctx)
	r, err := (*runningFloor)(nil), error(nil)
	if len(command) > 0 {
		r, err = floorProcess(ctx, cancel, command, like)
	} else {
		r, err = floorThread(ctx, cancel)
	}
	if err != nil {
		cancel()
	}
	return r, err
}

func floorProcess(ctx context.Context, cancel func(), command []string, like int) (*runningFloor, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("bench: floor: %w", err)
	}
	if err := onCoresOf(like, cmd.Start); err != nil {
		return nil, fmt.Errorf("bench: floor: %w", err)
	}
	stop := func() {
		cancel()
		_ = cmd.Wait() // it was killed: there is nothing to learn
	}
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return nil, fmt.Errorf("bench: floor: %v said no address: %w", command, err)
	}
	return &runningFloor{addr: strings.TrimSpace(addr), cpu: processClock(cmd.Process.Pid), stop: stop}, nil
}

// onCoresOf starts a process on the cores that another one may use, so that
// the floor has what the measured server has. pid 0 changes nothing.
func onCoresOf(pid int, start func() error) error {
	if pid == 0 {
		return start()
	}
	var own, other unix.CPUSet
	runtime.LockOSThread() // a new process begins with the cores of the thread that starts it
	defer runtime.UnlockOSThread()
	if unix.SchedGetaffinity(0, &own) != nil || unix.SchedGetaffinity(pid, &other) != nil {
		return start()
	}
	if err := unix.SchedSetaffinity(0, &other); err != nil {
		return fmt.Errorf("use the cores of process %d: %w", pid, err)
	}
	err := start()
	if back := unix.SchedSetaffinity(0, &own); err == nil {
		err = back
	}
	return err
}

func floorThread(ctx context.Context, cancel func()) (*runningFloor, error) {
	f, err := newFloor("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	tid, ended := make(chan int), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		tid <- unix.Gettid()
		_ = f.serve(ctx, 0) // an epoll that fails shows as lost connections
	}()
	stop := func() {
		cancel()
		<-ended
		f.close()
	}
	return &runningFloor{addr: f.addr, cpu: threadClock(<-tid), held: 1, stop: stop}, nil
}
