package broker

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
)

// NATS says through which NATS servers nodes share what they publish.
type NATS struct {
	// URLs are NATS servers: nats://, tls://, ws:// or wss://, host and port.
	// Unset means none: the node is alone. One that answers is enough; name
	// several of one cluster so that the node starts while one is down. A user
	// and password in a URL are never shown; better is a credentials file.
	URLs []string `name:"nats-url" help:"External NATS servers, such as nats://10.0.0.5:4222, through which nodes share prices and signals; unset: this node is alone."`
	// Credentials is a NATS credentials file (user JWT and key). Unset means
	// none. Read again at each reconnect.
	Credentials string `name:"nats-credentials" help:"File with the credentials for the external NATS." type:"path"`
	// CA is a PEM file of the authorities that may sign the NATS servers'
	// certificates. Unset means the system's.
	CA string `name:"nats-ca" help:"PEM file of the authorities that the external NATS server's certificate is checked with; unset: the system's." type:"path"`
	// Name is what NATS shows for this node's connection, "cryptointel" by
	// default. Change it to tell nodes apart there.
	Name string `name:"nats-name" default:"cryptointel" help:"Name of this node's connection in the NATS server's reports."`
	// Prefix begins every NATS subject, "cryptointel" by default. Two
	// installations on one NATS need two. Words of a-z A-Z 0-9 _ - with dots
	// between them, 64 bytes at most; the account must be allowed PREFIX.>.
	Prefix string `name:"nats-prefix" default:"cryptointel" help:"What the NATS subjects begin with; installations that share a NATS need different ones."`
	// Outbox bounds what waits while the external NATS is away: 16,384
	// publications and as many entries of the log by default, at least 16.
	// Over it state channels keep their newest value, and the oldest entries
	// do not reach the other nodes. Raise it for longer outages.
	Outbox int `name:"nats-outbox" default:"16384" help:"Publications, and entries of the log, kept for the other nodes while the external NATS is away; at least 16."`
}

// DefaultNATS returns the defaults named at the fields.
func DefaultNATS() NATS {
	return NATS{Name: "cryptointel", Prefix: "cryptointel", Outbox: 16384}
}

var prefixShape = regexp.MustCompile(`^[a-zA-Z0-9_-]+(\.[a-zA-Z0-9_-]+)*$`)

// Validate says what is wrong with n, without opening anything but the files
// it names.
func (n NATS) Validate() error {
	switch {
	case n.Outbox < minPending:
		return fmt.Errorf("nats-outbox is %d: at least %d are needed", n.Outbox, minPending)
	case len(n.Prefix) > 64 || !prefixShape.MatchString(n.Prefix):
		return fmt.Errorf("nats-prefix is %q: use words of a-z A-Z 0-9 _ - with dots between them, 64 bytes at most", n.Prefix)
	}
	for _, text := range n.URLs {
		if err := checkURL(text); err != nil {
			return err
		}
	}
	files := []struct{ key, name string }{
		{"nats-credentials", n.Credentials}, {"nats-ca", n.CA},
	}
	for _, f := range files {
		if f.name == "" {
			continue
		}
		if len(n.URLs) == 0 {
			return fmt.Errorf("%s is set without nats-url: name the NATS server, or unset it", f.key)
		}
		file, err := os.Open(f.name)
		if err != nil {
			return fmt.Errorf("%s: %w", f.key, err)
		}
		file.Close()
	}
	return n.checkCA()
}

func (n NATS) checkCA() error {
	if n.CA == "" {
		return nil
	}
	pem, err := os.ReadFile(n.CA)
	if err != nil {
		return fmt.Errorf("nats-ca: %w", err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		return fmt.Errorf("nats-ca: %s has no certificate in PEM form", n.CA)
	}
	return nil
}

// checkURL refuses what is not a server's address. The URL may hold a secret,
// so what is said about it leaves that out.
func checkURL(text string) error {
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil {
		return errors.New("nats-url: one of them is not a URL: use the form nats://host:4222")
	}
	switch u.Scheme {
	case "nats", "tls", "ws", "wss":
		if u.Hostname() != "" && u.RawQuery == "" && u.Fragment == "" {
			return nil
		}
	}
	return fmt.Errorf("nats-url is %s: use the form nats://host:4222, or tls://, ws://, wss://", shown(text))
}

// shown is a URL without its user and password, which may be secrets, both.
func shown(text string) string {
	if at := strings.LastIndexByte(text, '@'); at >= 0 {
		scheme, _, ok := strings.Cut(text[:at], "://")
		if !ok {
			return text[at+1:]
		}
		return scheme + "://" + text[at+1:]
	}
	return text
}

// joinURLs is how the client wants them.
func joinURLs(urls []string) string {
	list := make([]string, len(urls))
	for i, u := range urls {
		list[i] = strings.TrimSpace(u)
	}
	return strings.Join(list, ",")
}

func allShown(urls []string) string {
	list := make([]string, len(urls))
	for i, u := range urls {
		list[i] = shown(u)
	}
	return strings.Join(list, ", ")
}
