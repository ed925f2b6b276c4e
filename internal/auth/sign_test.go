package auth

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"cryptointel/protocol"
)

func TestSign(t *testing.T) {
	v := newVerifier(t, func(c *Config) { c.Issuer, c.Audience = "us", "here" })
	r := TokenRequest{
		Subject: "u1", Channels: []string{"price:*", "signals:*"}, Publish: []string{"*"}, Admin: "write",
		TTL: time.Hour, Issuer: "us", Audience: "here",
		Filter: &protocol.Filter{Severity: []string{"high"}, Source: []string{"CoinDesk"}, MinConfidence: 0.9},
	}
	token, err := Sign([]byte(testSecret), r, now)
	if err != nil {
		t.Fatal(err)
	}
	got, err := v.Verify(token, now)
	if err != nil {
		t.Fatal(err)
	}
	want := &protocol.Grant{
		Subject: "u1", ID: got.ID, Issued: protocol.Time(now.UnixNano()), Expires: protocol.Time(now.Add(time.Hour).UnixNano()),
		Channels: r.Channels, Publish: r.Publish, Admin: "write", Filter: r.Filter,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v; want %+v", got, want)
	}
	again, err := Sign([]byte(testSecret), r, now)
	if err != nil || again == token || got.ID == "" {
		t.Errorf("a second token is the same, or has no id: %v", err)
	}
}

func TestSignRefuses(t *testing.T) {
	tests := []struct {
		name, secret string
		r            TokenRequest
		says         string
	}{
		{"weak secret", "short", TokenRequest{Subject: "u", TTL: time.Hour}, "5 bytes"},
		{"no secret", "", TokenRequest{Subject: "u", TTL: time.Hour}, "no key"},
		{"no subject", testSecret, TokenRequest{TTL: time.Hour}, "sub"},
		{"no time", testSecret, TokenRequest{Subject: "u"}, "time to live"},
		{"bad pattern", testSecret, TokenRequest{Subject: "u", TTL: time.Hour, Channels: []string{"A"}}, "ch claim"},
		{"bad admin", testSecret, TokenRequest{Subject: "u", TTL: time.Hour, Admin: "root"}, "adm"},
		{"too large", testSecret, TokenRequest{Subject: "u", TTL: time.Hour, Channels: repeat(strings.Repeat("a", 128), 100)}, "too large"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			token, err := Sign([]byte(tt.secret), tt.r, now)
			if token != "" || err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %q, %v; want an error saying %q", token, err, tt.says)
			}
		})
	}
}
