package eventloop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"strings"
	"testing"

	"cryptointel/internal/hub"
)

// certificate is one for tests, signed by itself.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestPortableTakesTLS(t *testing.T) {
	b := newBed(t, config(KindPortable, 1), nil)
	c, s := b.pair()
	server := tls.Server(s, &tls.Config{Certificates: []tls.Certificate{certificate(t)}})
	client := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	defer client.Close()
	if err := b.group.Adopt(server, nil, hub.Hello{Owner: 3}); err != nil {
		t.Fatal(err)
	}
	said := strings.Repeat("a line\n", 1000)
	go io.WriteString(client, said+"quit\n")
	want := strings.Repeat("heard a line\n", 1000) + "bye\n"
	if got := readAll(t, client); got != want {
		t.Errorf("got %d bytes, want %d", len(got), len(want))
	}
	client.Close()
	if got := b.released(1); got[0] != 3 {
		t.Errorf("released %v", got)
	}
}
