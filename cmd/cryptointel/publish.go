package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

type publishCommand struct {
	URL   string `help:"Publish address of the server." default:"http://127.0.0.1:8080/api/v1/publish"`
	Token string `help:"Token with the right to publish." env:"CRYPTOINTEL_TOKEN" required:""`
}

// maxLine bounds one message on standard input.
const maxLine = 1 << 20

// Run publishes one message a line and prints what the server answers to each.
// It goes on after a refusal and then ends with an error.
func (c *publishCommand) Run(ctx context.Context, in io.Reader, out io.Writer, errs stderr) error {
	if u, err := url.Parse(c.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return usageError{fmt.Errorf("--url: %q is not an address such as http://127.0.0.1:8080/api/v1/publish", c.URL)}
	}
	client := &http.Client{Timeout: 30 * time.Second}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	refused := 0
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		answer, ok, err := c.send(ctx, client, line)
		switch {
		case err != nil:
			return err
		case ok:
			fmt.Fprintf(out, "%s\n", answer)
		default:
			refused++
			fmt.Fprintf(errs, "line %d: %s\n", n, answer)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read standard input: %w", err)
	}
	if refused > 0 {
		return fmt.Errorf("%d messages were refused", refused)
	}
	return nil
}

func (c *publishCommand) send(ctx context.Context, client *http.Client, body []byte) (answer []byte, ok bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(body))
	if err != nil {
		return nil, false, usageError{err}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+c.Token)
	resp, err := client.Do(req)
	if err != nil {
		return nil, false, fmt.Errorf("publish: %w", err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxLine))
	return bytes.TrimSpace(answer), resp.StatusCode/100 == 2, err
}
