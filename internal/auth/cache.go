package auth

import (
	"crypto/sha256"
	"sync"
	"time"

	"cryptointel/protocol"
)

// cacheEntries bounds a Cache.
const cacheEntries = 4096

// A Cache remembers tokens that were found good, so that a publisher that
// sends the same token with every request is not verified each time. It keeps
// a hash and the grant, never the token, and forgets refusals at once.
// Revocation is not its business: whoever uses it asks the deny-list as after
// a Verify. Safe for concurrent use.
type Cache struct {
	verifier *Verifier // immutable

	mu sync.Mutex // guards the fields below
	// Two generations of at most half the entries each: a full young one
	// becomes the old one, whose forgotten tokens are simply verified again.
	young, old map[[sha256.Size]byte]cached
}

// A cached grant counts for as long as the key set that it was found good
// with: another may lack the key.
type cached struct {
	grant *protocol.Grant
	set   *keySet
}

// NewCache returns an empty cache in front of v, of at most 4096 tokens.
func NewCache(v *Verifier) *Cache {
	return &Cache{verifier: v, young: map[[sha256.Size]byte]cached{}}
}

// Verify is Verifier.Verify. Equal tokens share one grant, which must not be
// changed.
func (c *Cache) Verify(token string, now time.Time) (*protocol.Grant, error) {
	if len(token) > maxToken {
		return c.verifier.Verify(token, now)
	}
	sum, set := sha256.Sum256([]byte(token)), c.verifier.fetched()
	if e, ok := c.find(sum); ok && e.set == set && c.verifier.alive(e.grant, now) {
		return e.grant, nil
	}
	g, err := c.verifier.Verify(token, now)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.putLocked(sum, cached{g, set})
	return g, nil
}

func (c *Cache) find(sum [sha256.Size]byte) (cached, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.young[sum]; ok {
		return e, true
	}
	e, ok := c.old[sum]
	if ok { // in use: it stays for another generation
		c.putLocked(sum, e)
	}
	return e, ok
}

func (c *Cache) putLocked(sum [sha256.Size]byte, e cached) {
	if len(c.young) >= cacheEntries/2 {
		c.old, c.young = c.young, make(map[[sha256.Size]byte]cached)
	}
	c.young[sum] = e
}

// alive reports whether a grant that was good once is not over yet.
func (v *Verifier) alive(g *protocol.Grant, now time.Time) bool {
	return protocol.Time(now.UnixNano()) < g.Expires+protocol.Time(v.cfg.Leeway)
}
