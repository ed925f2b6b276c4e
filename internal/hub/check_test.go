package hub

import "fmt"

// check compares everything the shard counts with what is there, and says what
// is wrong: every packet has as many references as there are nodes and caches
// that name it, nothing is used after it was freed, members and subscriptions
// point at each other.
func (s *Shard) check() error {
	refs := map[uint32]int32{}
	nodes := 0
	for slot := range s.used {
		n, err := s.checkConn(slot, refs)
		if err != nil {
			return fmt.Errorf("slot %d: %w", slot, err)
		}
		nodes += n
	}
	for _, t := range s.values {
		for _, p := range t.snapshots {
			refs[p]++
		}
	}
	for _, p := range s.past {
		refs[p]++
	}
	if used := s.queue.nodes.used(); used != nodes {
		return fmt.Errorf("%d nodes in use, %d in lists", used, nodes)
	}
	return s.checkPackets(refs)
}

func (s *Shard) checkPackets(refs map[uint32]int32) error {
	q := &s.queue
	free := map[uint32]bool{}
	for _, i := range q.packets.free {
		if free[i] || i == 0 {
			return fmt.Errorf("packet %d freed twice", i)
		}
		free[i] = true
	}
	for i := 1; i < len(q.packets.items); i++ {
		p := &q.packets.items[i]
		switch n := refs[uint32(i)]; {
		case p.refs != n:
			return fmt.Errorf("packet %d has %d references and counts %d: %.80s", i, n, p.refs, p.bytes)
		case free[uint32(i)] != (n == 0):
			return fmt.Errorf("packet %d: free is %v with %d references: %.80s", i, free[uint32(i)], n, p.bytes)
		case n > 0 && len(p.bytes) == 0:
			return fmt.Errorf("packet %d is used after it was freed", i)
		}
	}
	return nil
}

func (s *Shard) checkConn(slot Slot, refs map[uint32]int32) (nodes int, err error) {
	c := s.conn(slot)
	if !c.flags.has(open) {
		if c.head != 0 || c.nsubs != 0 || c.grant != 0 {
			return 0, fmt.Errorf("closed and not empty: %+v", c)
		}
		return 0, nil
	}
	held, last := 0, uint32(0)
	for n := c.head; n != 0; n = s.queue.nodes.items[n].next {
		p := s.queue.nodes.items[n].packet
		refs[p]++
		held += len(s.queue.packets.items[p].bytes)
		nodes, last = nodes+1, n
	}
	if last != c.tail {
		return 0, fmt.Errorf("the list ends at node %d, tail is %d", last, c.tail)
	}
	x := s.stuck[slot]
	if x != nil {
		held += len(x.rest)
	}
	switch {
	case c.flags.has(blocked|refused) && x == nil:
		return 0, fmt.Errorf("blocked, and nothing is known of it")
	case c.flags.has(blocked) && held > s.cfg.HeldBytes:
		return 0, fmt.Errorf("%d bytes held for a blocked connection", held)
	case !c.flags.has(blocked) && !c.flags.has(dirty) && (c.head != 0 || c.flags.has(refused)):
		return 0, fmt.Errorf("something to write, and not in the queue")
	case x != nil && !c.flags.has(blocked|refused|dirty):
		return 0, fmt.Errorf("kept as stuck, but it is not: %+v", x)
	}
	return nodes, s.checkSubs(slot, c)
}

func (s *Shard) checkSubs(slot Slot, c *conn) error {
	behind := 0
	for i, x := range s.subsOf(c) {
		co := s.cohorts[x.cohort]
		switch {
		case co == nil:
			return fmt.Errorf("subscription %d is in cohort %d, which has ended", i, x.cohort)
		case x.at == notLive:
			behind++
		case int(x.at) >= len(co.members) || co.members[x.at] != slot:
			return fmt.Errorf("subscription %d of %s is not at place %d", i, co.spec.Key, x.at)
		}
	}
	l := s.lagged[slot]
	if (l != nil) != c.flags.has(lagging) || l != nil && len(l.readers) == 0 {
		return fmt.Errorf("lagging is %v with %+v", c.flags.has(lagging), l)
	}
	if l != nil && len(l.readers) != behind || l == nil && behind > 0 {
		return fmt.Errorf("%d subscriptions are behind, readers are %+v", behind, l)
	}
	return nil
}

// checkEmpty says what is left of connections that are all gone.
func (s *Shard) checkEmpty() error {
	s.Next(1) // drops what is kept for those behind
	for name, n := range map[string]int{
		"nodes": s.queue.nodes.used(), "packets": s.queue.packets.used(), "dirty": s.queue.dirty.n,
		"past": len(s.past), "behind": len(s.behind), "cohorts": len(s.byKey), "logs": len(s.logs),
		"places of cohorts": len(s.cohorts) - 1 - len(s.spare),
		"windows":           len(s.windows.all), "due": len(s.windows.due),
		"readers": len(s.readers), "strikes": len(s.strikes), "waiting": len(s.waiting), "draining": len(s.draining),
		"stuck": len(s.stuck), "lagged": len(s.lagged), "leaving": len(s.leaving), "pings": len(s.pings),
		"grants": len(s.grants.index), "places of grants": len(s.grants.list) - 1 - len(s.grants.free),
		"authenticated": s.authenticated, "subscriptions": s.stats.Subscriptions,
		"connections": s.Stats().Connections, "compressing": s.compressing, "begun": len(s.begun),
		"texts": s.texts.used(), "subs": s.subs.used(),
	} {
		if n != 0 {
			return fmt.Errorf("%d %s are left", n, name)
		}
	}
	for name, t := range s.values {
		if t.last == nil || len(t.cohorts)+len(t.snapshots) > 0 {
			return fmt.Errorf("value %s is left: %+v", name, t)
		}
	}
	return nil
}

// used is how many elements are handed out; it is exact while all fits into
// one chunk.
func (s *slab[T]) used() int {
	n := int(s.next) - 1
	for i, f := range s.free {
		n -= len(f) * s.sizes[i]
	}
	return n
}
