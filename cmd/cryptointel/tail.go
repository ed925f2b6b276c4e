package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/coder/websocket"
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
	conn, _, err := websocket.Dial(ctx, c.URL, &websocket.DialOptions{Subprotocols: []string{"cryptointel.v1"}})
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

func (c *tailCommand) print(ctx context.Context, conn *websocket.Conn, out io.Writer, errs io.Writer) error {
	for n := 0; ; {
		_, b, err := conn.Read(ctx)
		if err != nil {
			return closed(ctx, err)
		}
		var m struct {
			Type, Channel string
			Data          json.RawMessage
			Errors        []json.RawMessage
		}
		if err := json.Unmarshal(b, &m); err != nil {
			return fmt.Errorf("the server sent no JSON: %w", err)
		}
		delivery := m.Channel != "" && m.Data != nil
		if delivery || c.All {
			fmt.Fprintf(out, "%s\n", b)
		} else if m.Type == "error" || m.Type == "unsubscribed" || len(m.Errors) > 0 {
			fmt.Fprintf(errs, "%s\n", b)
		}
		if delivery {
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
