package esp

import (
	"slices"
	"sync/atomic"
)

// sadShards is a power of two. With 20,000 SAs a shard has five.
const sadShards = 4096

// sad finds the child for an inbound packet by its SPI (RFC 4301 §4.4.2), without a
// lock: each shard is a pointer to an immutable list. Writers are serialised by the
// plane.
type sad struct {
	shards [sadShards]atomic.Pointer[[]sadEntry]
}

type sadEntry struct {
	spi   uint32
	child *child
}

// shard spreads SPIs whose bits need not all be random (Fibonacci hashing).
func (s *sad) shard(spi uint32) *atomic.Pointer[[]sadEntry] {
	return &s.shards[spi*2654435769>>20]
}

func (s *sad) lookup(spi uint32) *child {
	list := s.shard(spi).Load()
	if list == nil {
		return nil
	}
	for i := range *list {
		if (*list)[i].spi == spi {
			return (*list)[i].child
		}
	}
	return nil
}

func (s *sad) add(spi uint32, c *child) {
	shard := s.shard(spi)
	var list []sadEntry
	if old := shard.Load(); old != nil {
		list = slices.Clone(*old)
	}
	list = append(list, sadEntry{spi, c})
	shard.Store(&list)
}

func (s *sad) remove(spi uint32) {
	shard := s.shard(spi)
	old := shard.Load()
	if old == nil {
		return
	}
	list := slices.DeleteFunc(slices.Clone(*old), func(e sadEntry) bool { return e.spi == spi })
	if len(list) == 0 {
		shard.Store(nil)
		return
	}
	shard.Store(&list)
}
