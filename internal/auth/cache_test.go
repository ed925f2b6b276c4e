package auth

import (
	"fmt"
	"testing"
	"time"
)

func TestCache(t *testing.T) {
	c := NewCache(newVerifier(t, nil))
	token := signed(t, "ES256", nil)
	first, err := c.Verify(token, now)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := c.Verify(token, now); again != first {
		t.Error("a known token was verified again")
	}
	if g, err := c.Verify(token[:len(token)-1], now); err == nil {
		t.Errorf("a cut token was granted %+v", g)
	}
	if g, err := c.Verify(token, now.Add(time.Hour+30*time.Second)); err == nil {
		t.Errorf("an expired token was granted %+v", g)
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := NewCache(newVerifier(t, nil))
	for i := range cacheEntries + 100 {
		if _, err := c.Verify(hs(t, hsHeader, with(good(), fields{"jti": fmt.Sprint(i)})), now); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(c.young) + len(c.old); n > cacheEntries {
		t.Errorf("holds %d tokens; want at most %d", n, cacheEntries)
	}
}
