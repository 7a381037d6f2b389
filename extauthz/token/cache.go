package token

import (
	"crypto/sha256"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/usher-authz/usher/policy"
)

// digest is the SHA-256 of a token's exact bytes: what a cache keeps instead of the token.
type digest [sha256.Size]byte

func digestOf(token string) digest { return sha256.Sum256([]byte(token)) }

// verified is a token that was verified once. Only such tokens are kept, so that a flood of bad ones evicts nothing.
type verified struct {
	identity *policy.Identity
	until    time.Time // exp with skew
	key      string    // thumbprint of the key that signed it
	binding  *binding  // of cnf; nil: a bearer token
}

// cacheShards keeps the locks apart; a power of two.
const cacheShards = 16

// cache holds verified tokens, bounded in number. It is safe for concurrent use.
type cache struct {
	shards [cacheShards]struct {
		sync.Mutex
		entries *lru.Cache[digest, *verified]
	}
}

func newCache(entries int) (*cache, error) {
	c := &cache{}
	for i := range c.shards {
		var err error
		if c.shards[i].entries, err = lru.New[digest, *verified](max(1, entries/cacheShards)); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *cache) get(d digest) *verified {
	s := &c.shards[d[0]%cacheShards]
	s.Lock()
	v, _ := s.entries.Get(d)
	s.Unlock()
	return v
}

func (c *cache) put(d digest, v *verified) {
	s := &c.shards[d[0]%cacheShards]
	s.Lock()
	s.entries.Add(d, v)
	s.Unlock()
}

func (c *cache) drop(d digest) {
	s := &c.shards[d[0]%cacheShards]
	s.Lock()
	s.entries.Remove(d)
	s.Unlock()
}
