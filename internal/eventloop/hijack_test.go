package eventloop

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"cryptointel/internal/hub"
)

// A connection taken from net/http keeps what was sent behind the request,
// wherever it was at that moment: in the server's reader or in the socket.
func TestHandOverFromHTTP(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBed(t, config(kind, 2), nil)
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, rw, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
			rest := make([]byte, rw.Reader.Buffered())
			io.ReadFull(rw, rest)
			if err := b.group.Adopt(conn, rest, hub.Hello{Echo: true}); err != nil {
				t.Error(err)
			}
		})}
		go srv.Serve(b.ln)
		defer srv.Close()
		c, err := net.Dial("tcp", b.ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patient))
		said := strings.Repeat("0123456789", 900)
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"+said)
		c.(*net.TCPConn).CloseWrite()
		got, _ := strings.CutPrefix(readAll(t, c), "HTTP/1.1 101 Switching Protocols\r\n\r\n")
		if got != said {
			t.Errorf("got %d bytes back, want %d", len(got), len(said))
		}
	})
}
