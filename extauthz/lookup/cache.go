package lookup

import (
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/usher-authz/usher/policy"
)

// cache keeps objects that were found, the least recently used go first. It also knows which objects must not be kept for
// a while: a bar, which takes the place of the object. Its methods need the client's lock.
type cache struct {
	entries   *simplelru.LRU[policy.Ref, entry]
	paths     map[string][]policy.Ref // of the entries: one object may be read in several ways
	used, max int                     // bytes, about
}

type entry struct {
	object policy.Object
	until  time.Time // the object, or the bar, holds so long
	barred bool
	weight int
}

const (
	// A parsed object takes about eight times its text: a name and a value of an interface type each have headers.
	weightOfByte  = 8
	weightOfEntry = 512
)

func newCache(entries, memory int) (*cache, error) {
	c := &cache{max: memory, paths: map[string][]policy.Ref{}}
	var err error
	c.entries, err = simplelru.NewLRU(entries, func(ref policy.Ref, e entry) {
		c.used -= e.weight
		if refs := slices.DeleteFunc(c.paths[ref.Path], func(r policy.Ref) bool { return r == ref }); len(refs) > 0 {
			c.paths[ref.Path] = refs
		} else {
			delete(c.paths, ref.Path)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("make the cache of %d objects: %w", entries, err)
	}
	return c, nil
}

func (c *cache) get(ref policy.Ref, now time.Time) (policy.Object, bool) {
	e, ok := c.entries.Get(ref)
	if !ok || e.barred || !now.Before(e.until) {
		return policy.Object{}, false
	}
	return e.object, true
}

// put keeps an object whose look-up began at that time, unless that was while it is barred. size is that of its text.
func (c *cache) put(ref policy.Ref, object policy.Object, size int, began, until time.Time) {
	if e, ok := c.entries.Peek(barOf(ref)); ok && e.barred && began.Before(e.until) {
		return
	}
	c.add(ref, entry{object: object, until: until, weight: weightOfEntry + weightOfByte*size})
}

// bar drops the object, however it is read, and lets none be kept that was looked up before that time. A bar is dropped early only
// if more objects than there is room for are used meanwhile.
func (c *cache) bar(ref policy.Ref, until time.Time) {
	for _, r := range slices.Clone(c.paths[ref.Path]) {
		c.entries.Remove(r)
	}
	c.add(barOf(ref), entry{until: until, barred: true, weight: weightOfEntry})
}

// barOf is where the bar of an object stands: its path says which object it is, the rest how it is read.
func barOf(ref policy.Ref) policy.Ref { return policy.Ref{Path: ref.Path} }

func (c *cache) add(ref policy.Ref, e entry) {
	c.entries.Remove(ref) // so that what it takes is counted no more
	if e.weight > c.max {
		return
	}
	c.used += e.weight
	c.paths[ref.Path] = append(c.paths[ref.Path], ref)
	c.entries.Add(ref, e)
	c.trim()
}

// trim drops what there is no room for.
func (c *cache) trim() {
	for c.used > c.max {
		c.entries.RemoveOldest()
	}
}
