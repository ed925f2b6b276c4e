package gateway

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// TLS names the files of the public listener's certificate. Unset means plain
// HTTP, which only clients of this machine and a proxy may use.
type TLS struct {
	// Cert is a PEM file: the certificate, then those that link it to a root.
	// The file is read again when it has changed, so a renewal needs no
	// restart.
	Cert string `name:"tls-cert" help:"PEM file with the certificate chain: the public listener then speaks TLS only. Read again when it changes." type:"path"`
	// Key is a PEM file: the certificate's private key, read again in the same
	// way. Only the server's user should be able to read it.
	Key string `name:"tls-key" help:"PEM file with the private key of tls-cert." type:"path"`
}

// Validate wants both files, or neither. It does not open them.
func (t TLS) Validate() error {
	switch {
	case t.Cert == "" && t.Key != "":
		return errors.New("tls-cert is missing beside tls-key: give both, or neither")
	case t.Cert != "" && t.Key == "":
		return errors.New("tls-key is missing beside tls-cert: give both, or neither")
	}
	return nil
}

// On reports whether there is a certificate.
func (t TLS) On() bool { return t.Cert != "" || t.Key != "" }

// certificateCheck is how long files stay unlooked at: a renewal may wait so
// long, and a storm of handshakes reads them no more often.
const certificateCheck = 3 * time.Second

// A Certificate is the pair that TLS connections get: the newest that could be
// read from its files. It is safe for concurrent use.
type Certificate struct {
	files TLS
	log   *slog.Logger
	pair  atomic.Pointer[tls.Certificate]

	mu      sync.Mutex // guards the fields below; held while files are read
	seen    digests    // of the files as they were read last
	wrong   error      // with them; nil when they are the pair
	checked time.Time
}

// digests tell versions of the two files apart; zero when one is missing.
type digests [2][sha256.Size]byte

// OpenCertificate reads the pair for the first time.
func OpenCertificate(files TLS, log *slog.Logger) (*Certificate, error) {
	if err := files.Validate(); err != nil {
		return nil, err
	}
	c := &Certificate{files: files, log: log}
	if err := c.Reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// Listener speaks TLS over l. Put it around a gateway's Listener, not under it:
// what has not finished its handshake counts as pending.
func (c *Certificate) Listener(l net.Listener) net.Listener {
	return tls.NewListener(l, c.Config())
}

// Config is for servers that use this certificate. HTTP/2 is not offered: its
// connections cannot be upgraded.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: c.current}
}

// NotAfter is when the present certificate expires.
func (c *Certificate) NotAfter() time.Time { return c.pair.Load().Leaf.NotAfter }

// Reload looks at the files now. After an error the last good pair holds.
func (c *Certificate) Reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checked = time.Now()
	c.readLocked()
	return c.wrong
}

// current is the certificate for one handshake. Those that come while another
// looks at the files take what is there.
func (c *Certificate) current(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c.mu.TryLock() {
		defer c.mu.Unlock()
		if now := time.Now(); now.Sub(c.checked) >= certificateCheck {
			c.checked = now
			if c.readLocked() && c.wrong != nil {
				c.log.Error("the certificate cannot be read again, the last one stays", "err", c.wrong)
			}
		}
	}
	return c.pair.Load(), nil
}

// readLocked reads the files, and takes the pair over when they have changed.
// Files that are no pair are told about once, until they change again: a
// renewal writes one after the other.
func (c *Certificate) readLocked() (changed bool) {
	cert, certErr := os.ReadFile(c.files.Cert)
	key, keyErr := os.ReadFile(c.files.Key)
	missing := errors.Join(named("tls-cert", certErr), named("tls-key", keyErr))
	var seen digests
	if missing == nil {
		seen = digests{sha256.Sum256(cert), sha256.Sum256(key)}
	}
	if changed = seen != c.seen; !changed && missing == nil {
		return false
	}
	c.seen, c.wrong = seen, missing
	if missing != nil {
		return changed
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		c.wrong = fmt.Errorf("tls-cert %s and tls-key %s: %w: give a certificate chain in PEM and the private key it was made with",
			c.files.Cert, c.files.Key, err)
		return true
	}
	c.pair.Store(&pair)
	c.tell(&pair)
	return true
}

func named(setting string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", setting, err) // the file's name is in it
}

// tell says which certificate is used, and that it is no good when clients will
// not take it.
func (c *Certificate) tell(pair *tls.Certificate) {
	leaf, now := pair.Leaf, time.Now()
	switch {
	case now.After(leaf.NotAfter):
		c.log.Warn("the certificate has expired: clients will refuse it", "file", c.files.Cert, "names", leaf.DNSNames, "not_after", leaf.NotAfter)
	case now.Before(leaf.NotBefore):
		c.log.Warn("the certificate is not valid yet: clients will refuse it", "file", c.files.Cert, "names", leaf.DNSNames, "not_before", leaf.NotBefore)
	default:
		c.log.Info("certificate loaded", "file", c.files.Cert, "names", leaf.DNSNames, "not_after", leaf.NotAfter)
	}
}
