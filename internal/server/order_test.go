package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"cryptointel/protocol"
)

// TestOrder has eight publishers write to a channel each, and two hundred
// clients on two loops follow all of them: nothing is lost or out of order.
func TestOrder(t *testing.T) {
	const clients, publishers, messages = 200, 8, 25
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(kind)
			cfg.Loops = 2
			s, _ := begin(t, cfg)
			var channels []string
			for p := range publishers {
				channels = append(channels, fmt.Sprintf(`"test:order-%d"`, p))
			}
			var readers, writers sync.WaitGroup
			for range clients {
				c := connect(t, s)
				c.subscribe(t, strings.Join(channels, ","))
				readers.Go(func() {
					if err := inOrder(c, publishers, messages); err != nil {
						t.Error(err)
					}
				})
			}
			token := publisher(t)
			for p := range publishers {
				writers.Go(func() {
					if err := publishAll(s.Addr(), token, p, messages); err != nil {
						t.Error(err)
					}
				})
			}
			writers.Wait()
			readers.Wait()
		})
	}
}

// publishAll publishes numbered messages one after the other on one
// connection.
func publishAll(addr, token string, publisher, messages int) error {
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	for n := 1; n <= messages; n++ {
		body := fmt.Sprintf(`{"type":"market_data","channel":"test:order-%d","data":{"publisher":%d,"n":%d}}`, publisher, publisher, n)
		req, err := http.NewRequest("POST", "http://"+addr+"/api/v1/publish", strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("publish %s: %s", body, resp.Status)
		}
	}
	return nil
}

// inOrder reads everything that the publishers have sent, each in order.
func inOrder(c *socket, publishers, messages int) error {
	next := make([]int, publishers)
	offsets := make([]int64, publishers)
	for range publishers * messages {
		m, err := c.message()
		if err != nil {
			return err
		}
		var d struct{ Publisher, N int }
		if err := json.Unmarshal(m.Data, &d); err != nil || m.Channel != fmt.Sprintf("test:order-%d", d.Publisher) {
			return fmt.Errorf("got %s: %v", m.text, err)
		}
		next[d.Publisher]++
		if d.N != next[d.Publisher] || m.Offset <= offsets[d.Publisher] {
			return fmt.Errorf("message %d with offset %d, want message %d above %d", d.N, m.Offset, next[d.Publisher], offsets[d.Publisher])
		}
		offsets[d.Publisher] = m.Offset
	}
	return nil
}

// TestBurst publishes more at once than fits one write: a client that reads
// gets all of it.
func TestBurst(t *testing.T) {
	const messages = 300
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s, _ := begin(t, testConfig(kind))
			c := connect(t, s)
			c.subscribe(t, `"test:order-0"`)
			start := time.Now()
			for n := 1; n <= messages; n++ {
				data := fmt.Sprintf(`{"publisher":0,"n":%d}`, n)
				p := &protocol.Publication{Channel: "test:order-0", Type: protocol.TypeMarket, Data: []byte(data)}
				if err := s.broker.Publish(p); err != nil {
					t.Fatal(err)
				}
			}
			if err := inOrder(c, 1, messages); err != nil {
				t.Errorf("%v, after %v", err, time.Since(start))
			}
		})
	}
}
