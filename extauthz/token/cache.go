package token

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/usher-authz/usher/policy"
)

const (
	// maxCached is how many tokens are kept with the identity that they speak for: about 1.45 kB each with the claims of an
	// ordinary token. maxWeight bounds what they are estimated to take in bytes, as a provider can put much into a token.
	maxCached, maxWeight = 16_384, 26 << 20
	// maxSigned is how many JWTs are at least remembered as having a good signature, which is all that is costly about
	// the others: their claims come with every request. At most twice as many are, about 50 bytes each.
	maxSigned = 100_000
	// maxRefused is how many opaque tokens are remembered that a provider has refused: apart, so that a flood of bad tokens
	// evicts no good one.
	maxRefused = 10_000
)

// Cache is what the providers of a process remember of tokens, within one bound for all of them. It is safe for concurrent
// use. The zero Cache must not be used; make one with [NewCache].
type Cache struct {
	tokens  *cache[*verified]
	refused *cache[time.Time] // until when
	signed  [cacheShards]signatures
}

// NewCache returns an empty Cache.
func NewCache() (*Cache, error) {
	tokens, err := newCache[*verified](maxCached, maxWeight)
	if err != nil {
		return nil, fmt.Errorf("make a cache of tokens: %w", err)
	}
	refused, err := newCache[time.Time](maxRefused, maxRefused)
	if err != nil {
		return nil, fmt.Errorf("make a cache of refused tokens: %w", err)
	}
	return &Cache{tokens: tokens, refused: refused}, nil
}

// signatures remembers which key verified the signature of which token: just these bytes, whatever else they say. What was
// not asked for since maxSigned newer ones came is forgotten.
type signatures struct {
	mu                sync.Mutex
	current, previous map[digest]*key
}

// signedBy returns the key that verified the signature of the token with this digest, or nil. Whether that key is still
// published is for the caller to see.
func (c *Cache) signedBy(d *digest) *key {
	s := &c.signed[d[0]%cacheShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.current[*d]; k != nil {
		return k
	}
	k := s.previous[*d]
	if k != nil {
		s.put(d, k)
	}
	return k
}

// sign remembers that the key verified the signature of the token with this digest.
func (c *Cache) sign(d *digest, k *key) {
	s := &c.signed[d[0]%cacheShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(d, k)
}

func (s *signatures) put(d *digest, k *key) {
	if s.current == nil || len(s.current) >= maxSigned/cacheShards {
		s.previous, s.current = s.current, map[digest]*key{}
	}
	s.current[*d] = k
}

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
	key      *key      // that signed it; nil if a provider was asked
	by       any       // the *JWT or *Asker that verified it
	binding  *binding  // of cnf; nil: a bearer token
	weight   int       // estimated bytes
}

// weigh estimates what claims take in memory, in bytes, with what else is kept of a token.
func weigh(claims any) int {
	switch v := claims.(type) {
	case map[string]any:
		n := 300
		for name, value := range v {
			n += 40 + len(name) + weigh(value)
		}
		return n
	case []any:
		n := 24
		for _, value := range v {
			n += 16 + weigh(value)
		}
		return n
	case string:
		return 16 + len(v)
	}
	return 8
}

// cacheShards keeps the locks apart; a power of two.
const cacheShards = 16

// cache holds what is known of tokens, bounded in number and in weight; the one that was not used for longest goes first.
// It is safe for concurrent use.
type cache[V any] struct {
	shards [cacheShards]shard[V]
}

type shard[V any] struct {
	mu            sync.Mutex
	entries       *lru.LRU[digest, weighed[V]]
	weight, limit int
}

type weighed[V any] struct {
	value  V
	weight int
}

func newCache[V any](entries, weight int) (*cache[V], error) {
	c := &cache[V]{}
	for i := range c.shards {
		s := &c.shards[i]
		s.limit = max(1, weight/cacheShards)
		var err error
		s.entries, err = lru.NewLRU(max(1, entries/cacheShards), func(_ digest, v weighed[V]) { s.weight -= v.weight })
		if err != nil {
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
	return v.value, ok
}

// put keeps the value, unless it alone weighs more than a sixteenth of all may.
func (c *cache[V]) put(d *digest, v V, weight int) {
	s := c.of(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries.Remove(*d)
	if weight > s.limit {
		return
	}
	s.entries.Add(*d, weighed[V]{v, weight})
	for s.weight += weight; s.weight > s.limit; {
		s.entries.RemoveOldest()
	}
}

func (c *cache[V]) drop(d *digest) {
	s := c.of(d)
	s.mu.Lock()
	s.entries.Remove(*d)
	s.mu.Unlock()
}
