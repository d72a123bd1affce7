package feed

import (
	"hash/maphash"
	"iter"
	"maps"
)

const shards = 1024 // a change copies one shard and the table of shards, whatever the map's size

var seed = maphash.MakeSeed()

// Map is an immutable map for states. The zero value is an empty map. Changing one among a hundred
// thousand entries copies about a hundred.
type Map[K comparable, V any] struct {
	table *[shards]map[K]V
	n     int
}

// Get returns the value of a key.
func (m Map[K, V]) Get(k K) (V, bool) {
	if m.table == nil {
		var zero V
		return zero, false
	}
	v, ok := m.table[maphash.Comparable(seed, k)%shards][k]
	return v, ok
}

// Len returns the number of entries.
func (m Map[K, V]) Len() int { return m.n }

// All visits every entry, in no order.
func (m Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if m.table == nil {
			return
		}
		for _, shard := range m.table {
			for k, v := range shard {
				if !yield(k, v) {
					return
				}
			}
		}
	}
}

// Edit begins a change. The map itself stays as it is.
func (m Map[K, V]) Edit() *Editor[K, V] { return &Editor[K, V]{m: m} }

// Editor collects changes to a Map. It is for one goroutine.
type Editor[K comparable, V any] struct {
	m     Map[K, V]
	owned *[shards]bool // shards that are this editor's own copies
}

// Get reads through the changes made so far.
func (e *Editor[K, V]) Get(k K) (V, bool) { return e.m.Get(k) }

// Set puts an entry.
func (e *Editor[K, V]) Set(k K, v V) {
	shard := e.own(k)
	before := len(shard)
	shard[k] = v
	e.m.n += len(shard) - before
}

// Delete removes an entry, if it is there.
func (e *Editor[K, V]) Delete(k K) {
	if _, ok := e.m.Get(k); !ok {
		return
	}
	delete(e.own(k), k)
	e.m.n--
}

// Map returns the result. The editor must not be used after.
func (e *Editor[K, V]) Map() Map[K, V] { return e.m }

func (e *Editor[K, V]) own(k K) map[K]V {
	if e.owned == nil {
		e.owned = new([shards]bool)
		table := new([shards]map[K]V)
		if e.m.table != nil {
			*table = *e.m.table
		}
		e.m.table = table
	}
	i := maphash.Comparable(seed, k) % shards
	if !e.owned[i] {
		e.owned[i] = true
		if e.m.table[i] == nil {
			e.m.table[i] = make(map[K]V)
		} else {
			e.m.table[i] = maps.Clone(e.m.table[i])
		}
	}
	return e.m.table[i]
}
