package token

import (
	"crypto/sha256"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/usher-authz/usher/policy"
)

// maxCached is how many verified tokens one provider keeps: about 1.6 kB each with the claims of an ordinary token.
const maxCached = 20_000

// digest is the SHA-256 of a token's exact bytes: what a cache keeps instead of the token.
type digest [sha256.Size]byte

func digestOf(token string) digest {
	var buffer [2048]byte // an ordinary token fits: turning a longer one into bytes allocates
	if len(token) <= len(buffer) {
		return sha256.Sum256(buffer[:copy(buffer[:], token)])
	}
	return sha256.Sum256([]byte(token))
}

// verified is a token that was verified once. It never changes.
type verified struct {
	identity *policy.Identity
	until    time.Time // from then on it must be verified again, or is expired
	key      *key      // that signed it; nil if it was introspected
	binding  *binding  // of cnf; nil: a bearer token
}

// cacheShards keeps the locks apart; a power of two.
const cacheShards = 16

// cache holds what is known of tokens, bounded in number; the one that was not used for longest goes first. It is safe for
// concurrent use.
type cache[V any] struct {
	shards [cacheShards]shard[V]
}

type shard[V any] struct {
	mu      sync.Mutex
	entries *lru.LRU[digest, V]
}

func newCache[V any](entries int) (*cache[V], error) {
	c := &cache[V]{}
	for i := range c.shards {
		var err error
		if c.shards[i].entries, err = lru.NewLRU[digest, V](max(1, entries/cacheShards), nil); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// of picks the shard by the digest's first byte, which no client can choose without trying.
func (c *cache[V]) of(d *digest) *shard[V] { return &c.shards[d[0]%cacheShards] }

func (c *cache[V]) get(d *digest) (V, bool) {
	s := c.of(d)
	s.mu.Lock()
	v, ok := s.entries.Get(*d)
	s.mu.Unlock()
	return v, ok
}

func (c *cache[V]) put(d *digest, v V) {
	s := c.of(d)
	s.mu.Lock()
	s.entries.Add(*d, v)
	s.mu.Unlock()
}

func (c *cache[V]) drop(d *digest) {
	s := c.of(d)
	s.mu.Lock()
	s.entries.Remove(*d)
	s.mu.Unlock()
}
