package hub

// A slab hands out small blocks of T from large chunks. T must be free of
// pointers: the garbage collector then never looks inside, and blocks of one
// connection do not pin a page among the garbage of another's handshake.
// A block is named by the index of its first element, and is never 0.
type slab[T any] struct {
	sizes  []int // block sizes, ascending
	chunks [][]T
	next   uint32     // first element never handed out
	free   [][]uint32 // by size
}

const chunkLen = 8192

func newSlab[T any](sizes ...int) *slab[T] {
	return &slab[T]{sizes: sizes, free: make([][]uint32, len(sizes)), next: 1}
}

// class is the smallest block size for n elements.
func (s *slab[T]) class(n int) int {
	for i, size := range s.sizes {
		if n <= size {
			return i
		}
	}
	panic("hub: block larger than the slab's largest")
}

// alloc gives a block for n elements. Its contents are what was there before.
func (s *slab[T]) alloc(n int) uint32 {
	c := s.class(n)
	if f := s.free[c]; len(f) > 0 {
		s.free[c] = f[:len(f)-1]
		return f[len(f)-1]
	}
	size := uint32(s.sizes[c])
	if s.next/chunkLen != (s.next+size-1)/chunkLen {
		s.next += chunkLen - s.next%chunkLen // a block does not straddle chunks
	}
	at := s.next
	s.next += size
	for int(at/chunkLen) >= len(s.chunks) {
		s.chunks = append(s.chunks, make([]T, chunkLen))
	}
	return at
}

// release takes back a block that was handed out for n elements.
func (s *slab[T]) release(at uint32, n int) {
	c := s.class(n)
	s.free[c] = append(s.free[c], at)
}

// block is the n elements at a handle.
func (s *slab[T]) block(at uint32, n int) []T {
	o := int(at % chunkLen)
	return s.chunks[at/chunkLen][o : o+n : o+n]
}

// resize moves a block of n elements to one for m, when that is another size.
func (s *slab[T]) resize(at uint32, n, m int) uint32 {
	switch {
	case n == 0 && m == 0:
		return 0
	case n == 0:
		return s.alloc(m)
	case m == 0:
		s.release(at, n)
		return 0
	case s.class(n) == s.class(m):
		return at
	}
	to := s.alloc(m)
	copy(s.block(to, m), s.block(at, n))
	s.release(at, n)
	return to
}
