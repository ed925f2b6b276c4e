package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// startServer starts a NATS server that can only be reached from within this
// process. JetStream stays off until the log is durable.
func startServer(log *slog.Logger) (*server.Server, error) {
	s, err := server.NewServer(&server.Options{
		ServerName: "cryptointel",
		DontListen: true, // no port
		NoSigs:     true, // signals are main's business
		MaxPayload: maxEncoded,
	})
	if err != nil {
		return nil, fmt.Errorf("make the embedded NATS server: %w", err)
	}
	s.SetLoggerV2(serverLog{log.With("part", "nats")}, false, false, false)
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		stopServer(s)
		return nil, errors.New("start the embedded NATS server: it is not ready after 10s")
	}
	return s, nil
}

func stopServer(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

// connect opens the one connection that everything of this node goes through,
// so that NATS keeps what is published in order.
func (b *Broker) connect() (*nats.Conn, error) {
	nc, err := nats.Connect("",
		nats.InProcessServer(b.server),
		nats.Name("cryptointel"),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(10*time.Millisecond),
		nats.ReconnectJitter(0, 0),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			b.log.Warn("broker connection", "err", err)
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			b.log.Warn("broker connection was lost and is back")
			// What was under way may be lost: have the subscribers look.
			if err := nc.Publish(wakeSubject, nil); err != nil {
				b.log.Error("wake subscribers", "err", err)
			}
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded NATS server: %w", err)
	}
	return nc, nil
}

// serverLog passes on what an operator must know; the server's notices about
// its own start are left out.
type serverLog struct{ log *slog.Logger }

func (serverLog) Noticef(string, ...any)           {}
func (serverLog) Debugf(string, ...any)            {}
func (serverLog) Tracef(string, ...any)            {}
func (l serverLog) Warnf(format string, v ...any)  { l.log.Warn(fmt.Sprintf(format, v...)) }
func (l serverLog) Errorf(format string, v ...any) { l.log.Error(fmt.Sprintf(format, v...)) }
func (l serverLog) Fatalf(format string, v ...any) { l.log.Error(fmt.Sprintf(format, v...)) }
