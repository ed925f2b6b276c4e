package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"time"

	"cryptointel/protocol"
)

// Bounds of one fetch of a key set.
const (
	fetchTimeout = 10 * time.Second
	maxKeySet    = 1 << 20 // bytes, after decompression
	maxRedirects = 3
)

// newClient is what a key set is fetched with: a connection for each fetch,
// none kept. dial is nil for the network.
func newClient(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *http.Client {
	return &http.Client{
		Timeout:       fetchTimeout,
		CheckRedirect: sameHost,
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: dial, DisableKeepAlives: true, ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: fetchTimeout, ResponseHeaderTimeout: fetchTimeout, MaxResponseHeaderBytes: 64 << 10,
		},
	}
}

// sameHost follows redirects on the configured host only: whoever can redirect
// must not choose who this server trusts.
func sameHost(r *http.Request, via []*http.Request) error {
	first := via[0].URL
	switch {
	case r.URL.Scheme != first.Scheme || r.URL.Host != first.Host:
		return fmt.Errorf("it redirects to %s, which is another place and not followed: set auth.jwks_url to where the keys are", protocol.Clip(r.URL.Host))
	case len(via) > maxRedirects:
		return fmt.Errorf("it redirects more than %d times", maxRedirects)
	}
	return nil
}

// fetch gets and reads the set. Its error does not show the URL's query.
func (k *Keys) fetch(ctx context.Context) ([]key, []skipped, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url.String(), nil)
	if err != nil {
		return nil, nil, err
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	r.Header.Set("User-Agent", "cryptointel")
	answer, err := k.client.Do(r)
	if err != nil {
		return nil, nil, bare(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("the answer is %d, not 200", answer.StatusCode)
	}
	b, err := io.ReadAll(io.LimitReader(answer.Body, maxKeySet+1))
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("read the answer: %w", bare(err))
	case len(b) > maxKeySet:
		return nil, nil, errors.New("the answer is over 1 MiB: that is no key set")
	}
	keys, rest, err := parseKeySet(b, k.algorithms)
	if kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type")); err != nil && kind == "text/html" {
		return nil, nil, errors.New("the answer is an HTML page, not a JSON Web Key Set: check auth.jwks_url")
	}
	return keys, rest, err
}

// bare is the error without the URL that net/http puts into it, and short: it
// may quote a header.
func bare(err error) error {
	if timeout := (net.Error)(nil); errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("no full answer in %v", fetchTimeout)
	}
	if with := (*url.Error)(nil); errors.As(err, &with) {
		err = with.Err
	}
	return errors.New(shorten(err.Error()))
}
