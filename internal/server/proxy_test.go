package server

import (
	"net"
	"net/http"
	"strings"
	"testing"

	"cryptointel/internal/eventloop"
)

// An elsewhere is a listener whose clients come from where the test says: on
// loopback all would be this machine's.
type elsewhere struct {
	net.Listener
	from map[string]string // by the client's loopback address
}

type traveller struct {
	*net.TCPConn
	from net.Addr
}

func (c traveller) RemoteAddr() net.Addr { return c.from }

func (l elsewhere) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	at := c.RemoteAddr().(*net.TCPAddr)
	from, ok := l.from[at.IP.String()]
	if !ok {
		return c, nil
	}
	return traveller{c.(*net.TCPConn), &net.TCPAddr{IP: net.ParseIP(from), Port: at.Port}}, nil
}

// What the clients' loopback addresses stand for in the tests below.
const (
	fromProxy    = "127.0.0.2" // 10.0.0.5, in the proxies' network
	fromSecond   = "127.0.0.3" // 10.0.0.6, in it too
	fromStranger = "127.0.0.4" // 198.51.100.7
)

// proxied is a server behind the proxies of 10.0.0.0/24.
func proxied(t *testing.T, kind string, change func(*Config)) *Server {
	t.Helper()
	cfg := testConfig(kind)
	cfg.Listen = "0.0.0.0:0"
	cfg.Proxy.BehindProxy = []string{"10.0.0.0/24"}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg, quiet)
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(s.Addr())
	s.door.Listener = elsewhere{s.door.Listener, map[string]string{
		fromProxy: "10.0.0.5", fromSecond: "10.0.0.6", fromStranger: "198.51.100.7",
	}}
	s.public = fixedAddr{s.public, "127.0.0.1:" + port}
	launch(t, s)
	healthy(t, s)
	return s
}

// A fixedAddr is a listener on all addresses that names the one to dial.
type fixedAddr struct {
	net.Listener
	addr string
}

func (l fixedAddr) Addr() net.Addr {
	a, _ := net.ResolveTCPAddr("tcp", l.addr)
	return a
}

func forwarded(lines ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(lines); i += 2 {
		h.Add(lines[i], lines[i+1])
	}
	return h
}

// TestPlainBeyondThisMachine refuses to listen where tokens could be read on
// the way, and names the three ways out.
func TestPlainBeyondThisMachine(t *testing.T) {
	cfg := testConfig(eventloop.KindAuto)
	for _, listen := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:8080"} {
		cfg.Listen = listen
		s, err := New(cfg, quiet)
		if err == nil {
			s.Close()
			t.Errorf("%s: no error", listen)
			continue
		}
		for _, way := range []string{"--tls-cert", "--behind-proxy", "127.0.0.1"} {
			if !strings.Contains(err.Error(), way) {
				t.Errorf("%s: %v, want it to name %s", listen, err, way)
			}
		}
	}
}

// TestBehindProxy has strangers come around the proxy, and clients through it.
func TestBehindProxy(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := proxied(t, kind, nil)
			for _, header := range []http.Header{
				nil, forwarded("X-Forwarded-For", "10.0.0.5", "X-Forwarded-Proto", "https"), bearing(signedUser(t, "u1")).header,
			} {
				if _, body := (knock{from: fromStranger, header: header}).refused(t, s, http.StatusForbidden); !strings.Contains(body, "behind-proxy") {
					t.Errorf("a stranger is told %s, want what to do", body)
				}
			}
			knock{from: fromStranger, path: "/api/v1/prices"}.refused(t, s, http.StatusForbidden)
			for _, path := range []string{"/healthz", "/readyz"} {
				knock{from: fromStranger, path: path}.refused(t, s, http.StatusOK) // not upgraded, but answered
			}
			through := knock{from: fromProxy, header: forwarded("X-Forwarded-For", "203.0.113.9", "X-Forwarded-Proto", "https")}
			c := through.in(t, s)
			c.subscribe(t, `"test:proxy"`)
			hears(t, s, c, "test:proxy", `{"n":1}`)
			for _, proto := range []string{"http", "ws", "https, http", "gopher"} {
				_, body := knock{from: fromProxy, header: forwarded("X-Forwarded-Proto", proto)}.refused(t, s, http.StatusForbidden)
				if !strings.Contains(body, "wss://") {
					t.Errorf("over %s: told %s, want wss named", proto, body)
				}
			}
			knock{}.in(t, s) // this machine's own
		})
	}
}

// TestForwardedForCounts limits clients by the address that the proxy saw,
// whatever they wrote in front of it themselves.
func TestForwardedForCounts(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := proxied(t, kind, func(c *Config) { c.Limits.Door.ConnectionsPerIP = 1 })
			by := func(proxy, hops string) knock {
				return knock{from: proxy, header: forwarded("X-Forwarded-For", hops)}
			}
			const full = "4503 CONNECTION_FULL"
			by(fromProxy, "203.0.113.9").in(t, s)
			by(fromProxy, "203.0.113.9").told(t, s, full)
			by(fromSecond, "203.0.113.9").told(t, s, full)
			by(fromProxy, "192.0.2.1, 203.0.113.9").told(t, s, full)
			by(fromProxy, "nonsense, 203.0.113.9").told(t, s, full)
			by(fromProxy, "203.0.113.9, 10.0.0.6").told(t, s, full)
			by(fromProxy, "203.0.113.10").in(t, s)
			by(fromProxy, "203.0.113.9, 203.0.113.11").in(t, s)
			by(fromProxy, "2001:db8::1").in(t, s)
			by(fromProxy, "2001:db8::2").told(t, s, full) // the same /64
		})
	}
}

// TestForwardedForSpoof has clients of a server without a proxy, and of one
// that does not know theirs, invent addresses: they count for their own.
func TestForwardedForSpoof(t *testing.T) {
	for _, proxies := range [][]string{nil, {"10.0.0.0/24"}} {
		cfg := testConfig(eventloop.KindAuto)
		cfg.Limits.Door.ConnectionsPerIP = 1
		cfg.Proxy.BehindProxy = proxies
		s, _ := begin(t, cfg)
		spoof := func(hops string) knock {
			return knock{from: "127.0.0.9", header: forwarded("X-Forwarded-For", hops, "X-Real-Ip", hops, "Forwarded", "for="+hops)}
		}
		spoof("203.0.113.1").in(t, s)
		for _, hops := range []string{"203.0.113.2", "127.0.0.1", "10.0.0.5, 203.0.113.3"} {
			spoof(hops).told(t, s, "4503 CONNECTION_FULL")
		}
	}
}
