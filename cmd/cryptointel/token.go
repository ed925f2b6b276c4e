package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"cryptointel/internal/auth"
)

type tokenCommand struct {
	Sub      string        `help:"Who the token is for." required:""`
	Channels []string      `help:"Channel patterns it may follow, by comma." default:"price:*,market:*,signals:*"`
	TTL      time.Duration `name:"ttl" help:"How long it is valid." default:"1h"`
	Publish  bool          `help:"It may publish to every channel."`
	Admin    bool          `help:"It may use the admin API."`
}

// Run prints the token and nothing else, so that it can be used in $(…).
func (c *tokenCommand) Run(out io.Writer) error {
	secret := os.Getenv(secretVariable)
	if secret == "" {
		return usageError{errors.New("set " + secretVariable + " to the server's secret (at least 32 bytes)")}
	}
	r := auth.TokenRequest{Subject: c.Sub, Channels: c.Channels, TTL: c.TTL}
	if c.Publish {
		r.Publish = []string{"*"}
	}
	if c.Admin {
		r.Admin = "write"
	}
	token, err := auth.Sign([]byte(secret), r, time.Now())
	if err != nil {
		return usageError{err}
	}
	_, err = fmt.Fprintln(out, token)
	return err
}
