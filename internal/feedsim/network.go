package feedsim

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A Network connects clients with the simulated exchanges in memory, by the
// exchanges' real host names (or NAME.sim): wss://ws.kraken.com/v2 ends at the
// simulated Kraken, without TLS. It works inside testing/synctest.
type Network struct {
	sim     *Sim
	hosts   map[string]*exchange
	doors   map[*exchange]*listener
	servers []*http.Server
	client  *http.Client
	run     sync.WaitGroup
}

// Network starts the exchanges' servers. Close stops them.
func (s *Sim) Network() *Network {
	n := &Network{sim: s, hosts: make(map[string]*exchange), doors: make(map[*exchange]*listener)}
	for name, x := range s.exchanges {
		l := &listener{conns: make(chan net.Conn), done: make(chan struct{})}
		srv := &http.Server{Handler: x, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
		for _, h := range append(x.rules.hosts, name+".sim") {
			n.hosts[h] = x
		}
		n.doors[x] = l
		n.servers = append(n.servers, srv)
		n.run.Go(func() { srv.Serve(l) })
	}
	n.client = &http.Client{Transport: &http.Transport{
		DialContext: n.Dial, DialTLSContext: n.Dial, MaxIdleConnsPerHost: 4,
	}}
	return n
}

// Client makes requests and WebSocket handshakes over the network.
func (n *Network) Client() *http.Client { return n.client }

// Close ends the simulation and its servers and waits for them.
func (n *Network) Close() {
	n.sim.Close()
	for _, srv := range n.servers {
		srv.Close()
	}
	n.run.Wait()
	n.client.CloseIdleConnections()
}

// Dial connects to the exchange that a host belongs to.
func (n *Network) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: address(addr), Err: err}
	}
	x := n.hosts[strings.ToLower(host)]
	if x == nil {
		return fail(&net.DNSError{Err: "no such host", Name: host, IsNotFound: true})
	}
	if x.holds(Outage) {
		x.count(func(st *Stats) { st.Refused++ })
		return fail(os.NewSyscallError("connect", syscall.ECONNREFUSED))
	}
	client, server := net.Pipe()
	select {
	case n.doors[x].conns <- server:
		return client, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-n.doors[x].done:
		err = errors.New("the simulated network is closed")
	}
	client.Close()
	server.Close()
	return fail(err)
}

// An address is a host and port of the network.
type address string

func (address) Network() string  { return "memory" }
func (a address) String() string { return string(a) }

// A listener hands out the server ends of the connections.
type listener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *listener) Addr() net.Addr { return address("feedsim:0") }
