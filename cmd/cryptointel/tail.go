package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"strings"
	"time"

	"github.com/coder/websocket"

	"cryptointel/protocol"
)

type tailCommand struct {
	Channels []string `arg:"" help:"Channels to follow, such as price:bitcoin or signals:all."`
	URL      string   `help:"WebSocket address of the server." default:"ws://127.0.0.1:8080/ws"`
	Token    string   `help:"Token, for channels that need one."`
	MaxRate  float64  `name:"max-rate" help:"At most this many messages a second a state channel."`
	Since    string   `help:"Cursor (epoch-offset) to continue log channels from."`
	Count    int      `short:"n" help:"End after this many deliveries; 0: go on."`
	All      bool     `help:"Print every frame, not only deliveries."`
}

// maxTailFrame bounds one frame from the server.
const maxTailFrame = 4 << 20

// Run prints each delivery as one line of JSON.
func (c *tailCommand) Run(ctx context.Context, out io.Writer, errs stderr) error {
	if err := c.check(); err != nil {
		return usageError{err}
	}
	conn, _, err := websocket.Dial(ctx, c.URL, &websocket.DialOptions{Subprotocols: []string{protocol.Subprotocol}})
	if err != nil {
		return fmt.Errorf("connect to %s: %w", c.URL, err)
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxTailFrame)
	for _, m := range c.commands() {
		if err := conn.Write(ctx, websocket.MessageText, m); err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go heartbeat(ctx, conn)
	return c.print(ctx, conn, out, errs)
}

func (c *tailCommand) check() error {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "":
		return fmt.Errorf("--url: %q is not a WebSocket address such as ws://127.0.0.1:8080/ws", c.URL)
	case math.IsNaN(c.MaxRate) || c.MaxRate < 0:
		return fmt.Errorf("--max-rate is %v: use messages a second, above 0", c.MaxRate)
	case c.Count < 0:
		return fmt.Errorf("--count is %d: use 0 to go on", c.Count)
	}
	return nil
}

func (c *tailCommand) commands() (list [][]byte) {
	add := func(v map[string]any) {
		b, _ := json.Marshal(v) // strings and numbers always encode
		list = append(list, b)
	}
	if c.Token != "" {
		add(map[string]any{"type": "auth", "id": "auth", "token": c.Token})
	}
	channels := make([]any, len(c.Channels))
	for i, name := range c.Channels {
		channels[i] = name
		if c.MaxRate > 0 && !strings.HasPrefix(name, "signals:") && name != "test:log" {
			channels[i] = map[string]any{"channel": name, "max_rate": c.MaxRate}
		}
	}
	sub := map[string]any{"type": "subscribe", "id": "tail", "channels": channels}
	if c.Since != "" {
		sub["since"] = c.Since
	}
	add(sub)
	return list
}

// heartbeat keeps a quiet connection from being closed as idle. It ends with
// its context, and with the connection.
func heartbeat(ctx context.Context, conn *websocket.Conn) {
	t := time.NewTicker(25 * time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if conn.Write(ctx, websocket.MessageText, []byte(`{"type":"ping"}`)) != nil {
				return
			}
		}
	}
}

// A frame is what tail looks at in a message from the server.
type frame struct {
	Type, Channel, ID string
	Data              json.RawMessage
	Channels          []string
	Errors            []json.RawMessage
}

func (f *frame) delivers() bool { return f.Channel != "" && f.Data != nil }

// refuses reports whether the frame says that nothing, or not all, is followed.
func (f *frame) refuses() bool {
	return f.Type == "error" || f.Type == "unsubscribed" || len(f.Errors) > 0
}

// followsNothing reports whether the frame is the answer to our subscribe and
// leaves nothing to wait for.
func (f *frame) followsNothing() bool {
	return f.ID == "tail" && (f.Type == "error" || f.Type == "ack" && len(f.Channels) == 0)
}

func (c *tailCommand) print(ctx context.Context, conn *websocket.Conn, out io.Writer, errs io.Writer) error {
	for n := 0; ; {
		_, b, err := conn.Read(ctx)
		if err != nil {
			return closed(ctx, err)
		}
		var f frame
		if err := json.Unmarshal(b, &f); err != nil {
			return fmt.Errorf("the server sent no JSON: %w", err)
		}
		if f.delivers() || c.All {
			fmt.Fprintf(out, "%s\n", b)
		} else if f.refuses() {
			fmt.Fprintf(errs, "%s\n", b)
		}
		if f.followsNothing() {
			return errors.New("none of the channels can be followed")
		}
		if f.delivers() {
			if n++; n == c.Count {
				return conn.Close(websocket.StatusNormalClosure, "")
			}
		}
	}
}

// closed says why the server ended the connection.
func closed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var e websocket.CloseError
	if errors.As(err, &e) {
		return fmt.Errorf("the server closed the connection: %d %s", e.Code, e.Reason)
	}
	return fmt.Errorf("the connection broke: %w", err)
}
