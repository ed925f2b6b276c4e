package hub

import (
	"encoding/json"
	"fmt"
	"slices"
	"unicode/utf8"

	"cryptointel/internal/frame"
	"cryptointel/protocol"
)

// A sock is a connection's socket: what the shard wrote and the follower has
// not read, and what the follower said and the shard has not.
type sock struct {
	f       *follower
	node    *nodeSim
	ref     Ref
	down    []byte
	up      []byte
	book    *codebook // it negotiated compression
	slow    bool      // does not take everything at once
	room    int       // what it takes before it is full
	full    bool
	done    bool  // the server has closed it
	closing bool  // a close frame was read
	partial bool  // the last block was not taken as a whole
	whole   int64 // offset at the end of the last block, if all of it was taken
}

func (w *world) roomFor() int { return pick(w, 0, 30, 400, 4000, 100_000) }

func (s *sock) say(b []byte) {
	s.f.w.say("%s says %s", s.f.name, b)
	if s.book != nil && s.f.w.IntN(2) == 0 {
		s.up = appendPacked(s.up, s.book, frame.Text, b)
		return
	}
	s.up = frame.AppendMasked(s.up, frame.Text, true, [4]byte{9, 7, 5, 3}, b)
}

// upload gives the shard some of what the follower said.
func (w *world) upload(s *sock, n int) {
	if s.done {
		s.up = nil // the server reads no more
	}
	if n = min(n, len(s.up)); n > 0 {
		b := slices.Clone(s.up[:n])
		s.up = s.up[n:]
		s.node.shard.Receive(s.ref.Slot, b, w.now)
	}
}

// pump writes up to n blocks.
func (w *world) pump(node *nodeSim, n int) (any bool) {
	for range n {
		slot, b, ok := node.shard.Next(w.max)
		if !ok {
			return any
		}
		any = true
		s := node.socks[slot]
		if s == nil || s.full {
			w.fail(fmt.Errorf("%d bytes for slot %d, whose socket takes none", len(b), slot), "%s", node.name)
			return any
		}
		if s.slow && w.IntN(200) == 0 {
			w.say("%s: the write fails", s.f.name)
			w.gone(s)
			continue
		}
		w.write(s, b)
	}
	return any
}

func (w *world) write(s *sock, b []byte) {
	n := len(b)
	if s.slow {
		n = min(n, s.room)
		s.room -= n
		// A socket may also take the last byte and then no more.
		s.full = n < len(b) && w.IntN(8) > 0 || s.room == 0 || w.IntN(8) == 0
	}
	if w.tracing {
		w.say("%s: writes %d of %d, full %v", s.f.name, n, len(b), s.full)
	}
	w.fail(s.oneBlock(b, n), "%s", s.f.name)
	s.down = append(s.down, b[:n]...)
	s.node.shard.Wrote(s.ref.Slot, n, s.full, w.now)
}

// oneBlock checks that a block does not go on with the offset at which the
// last one ended, though the socket took all of that.
func (s *sock) oneBlock(b []byte, n int) error {
	within := s.partial
	s.partial = n < len(b)
	if within { // the block is the rest of a frame
		s.whole = 0
		return nil
	}
	first, last := int64(0), int64(0)
	for rest, i := b, 0; len(rest) > 0; i++ {
		_, payload, size, err := parseFrame(rest, s.book)
		if err != nil || size == 0 {
			return fmt.Errorf("a block that is no whole frames: %.80q %w", rest, err)
		}
		rest = rest[size:]
		var m frameMsg
		if last = 0; json.Unmarshal(payload, &m) == nil && m.Type == protocol.TypeSignal {
			last = m.Offset
		}
		if i == 0 {
			first = last
		}
	}
	if first != 0 && first == s.whole {
		return fmt.Errorf("the frames of offset %d are in two blocks", first)
	}
	if s.whole = last; n < len(b) {
		s.whole = 0
	}
	return nil
}

// parseFrame takes a server's frame apart; size is 0 when it is incomplete. One
// that is compressed is read in the book; without one there must be none.
func parseFrame(b []byte, book *codebook) (op frame.Opcode, payload []byte, size int, err error) {
	if len(b) < 2 {
		return 0, nil, 0, nil
	}
	n, h, packed := int(b[1]), 2, book != nil && b[0] == 0xc1
	switch {
	case b[0]&0xf0 != 0x80 && !packed || n >= 128:
		return 0, nil, 0, fmt.Errorf("not a final, unmasked frame: % x", b[:min(len(b), 20)])
	case n == 126:
		if h = 4; len(b) >= h {
			n = int(b[2])<<8 | int(b[3])
		}
	case n == 127:
		return 0, nil, 0, fmt.Errorf("a frame of more than 64 KiB")
	}
	if len(b) < h+n {
		return 0, nil, 0, nil
	}
	payload, size = b[h:h+n], h+n
	if packed {
		payload, err = book.Inflate(nil, payload, 1<<20)
	}
	return frame.Opcode(b[0] & 15), payload, size, err
}

// read lets the follower read up to n frames.
func (w *world) read(s *sock, n int) (any bool) {
	for range n {
		op, payload, size, err := parseFrame(s.down, s.book)
		if err != nil || size == 0 {
			w.fail(err, "%s", s.f.name)
			break
		}
		any = true
		s.down = s.down[size:]
		w.say("%s reads op %d %.200s", s.f.name, op, payload)
		w.fail(s.frame(op, payload), "%s", s.f.name)
	}
	if s.done && !any && s.f.sock == s {
		w.say("%s: closed by the server", s.f.name)
		s.f.sock = nil
		if !s.slow && !w.forgets {
			w.fail(fmt.Errorf("a connection that keeps up was closed"), "%s", s.f.name)
		}
	}
	return any
}

func (s *sock) frame(op frame.Opcode, payload []byte) error {
	if s.closing {
		return fmt.Errorf("a frame after the close frame: %.80s", payload)
	}
	switch op {
	case frame.Close:
		s.closing = true
		s.f.w.closed++
		s.up = frame.AppendMasked(s.up, frame.Close, true, [4]byte{1, 1, 1, 1}, payload)
		if code, reason, err := frame.ParseClose(payload); err != nil || code != 4508 {
			return fmt.Errorf("closed with %d %s %w", code, reason, err)
		}
	case frame.Ping:
		s.up = frame.AppendMasked(s.up, frame.Pong, true, [4]byte{1, 1, 1, 1}, payload)
	case frame.Text:
		if !utf8.Valid(payload) {
			return fmt.Errorf("not UTF-8: %q", payload)
		}
		s.f.w.delivered++
		return s.f.receive(payload)
	default:
		return fmt.Errorf("opcode %d", op)
	}
	return nil
}

func (w *world) writable(s *sock) bool {
	if !s.full {
		return false
	}
	s.full, s.room = false, max(1, w.roomFor())
	if w.IntN(20) == 0 {
		s.room = 0 // it was wrong
	}
	w.say("%s: writable, room %d", s.f.name, s.room)
	s.node.shard.Writable(s.ref.Slot, w.now)
	return true
}

// gone cuts a connection: what was on its way is lost.
func (w *world) gone(s *sock) {
	s.node.shard.Gone(s.ref.Slot, w.now)
	delete(s.node.socks, s.ref.Slot)
	s.up = nil
	if s.f.sock == s && !s.done {
		s.f.sock = nil
		w.cut++
	}
}
