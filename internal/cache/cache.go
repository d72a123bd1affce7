// Package cache is a bounded map for what is cheaper to keep than to make again.
package cache

import (
	"hash/maphash"
	"sync"
)

const shards = 64

// Cache keeps at least Limit and at most twice Limit entries. Entries live in two generations: when
// the young one is full it becomes the old one and the old one is dropped; a hit in the old one moves
// the entry to the young one. So what is used stays, without a list to maintain on each hit.
type Cache[K comparable, V any] struct {
	limit  int // of one generation of one shard
	seed   maphash.Seed
	shards [shards]shard[K, V]
}

type shard[K comparable, V any] struct {
	mu         sync.RWMutex
	young, old map[K]V
	_          [24]byte // keeps the locks of neighbours off one cache line
}

// New makes a cache for about limit entries.
func New[K comparable, V any](limit int) *Cache[K, V] {
	return &Cache[K, V]{limit: max(1, limit/shards), seed: maphash.MakeSeed()}
}

// Get returns the entry of a key.
func (c *Cache[K, V]) Get(k K) (V, bool) {
	s := c.shard(k)
	s.mu.RLock()
	v, ok := s.young[k]
	if ok {
		s.mu.RUnlock()
		return v, true
	}
	v, ok = s.old[k]
	s.mu.RUnlock()
	if ok {
		c.Put(k, v)
	}
	return v, ok
}

// Put adds or replaces an entry.
func (c *Cache[K, V]) Put(k K, v V) {
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.young == nil {
		s.young = make(map[K]V)
	}
	if _, ok := s.young[k]; !ok && len(s.young) >= c.limit {
		s.old, s.young = s.young, make(map[K]V, c.limit)
	}
	s.young[k] = v
}

func (c *Cache[K, V]) shard(k K) *shard[K, V] {
	return &c.shards[maphash.Comparable(c.seed, k)%shards]
}
