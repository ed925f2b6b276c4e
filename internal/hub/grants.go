package hub

import "cryptointel/protocol"

// grants keeps the permissions of tokens, each distinct set once: thousands of
// users have the same few.
type grants struct {
	list  []*protocol.Grant // index 0 is nobody's
	refs  []int
	free  []uint32
	index map[string]uint32
}

func newGrants() grants {
	return grants{list: []*protocol.Grant{nil}, refs: []int{0}, index: map[string]uint32{}}
}

func (g *grants) intern(p *protocol.Grant) uint32 {
	key := permissions(p)
	if i, ok := g.index[key]; ok {
		g.refs[i]++
		return i
	}
	i := uint32(len(g.list))
	if n := len(g.free); n > 0 {
		i, g.free = g.free[n-1], g.free[:n-1]
	} else {
		g.list, g.refs = append(g.list, nil), append(g.refs, 0)
	}
	g.list[i] = &protocol.Grant{Channels: p.Channels, Publish: p.Publish, Filter: p.Filter, Admin: p.Admin}
	g.refs[i], g.index[key] = 1, i
	return i
}

func (g *grants) release(i uint32) {
	if i == 0 {
		return
	}
	if g.refs[i]--; g.refs[i] == 0 {
		delete(g.index, permissions(g.list[i]))
		g.list[i], g.free = nil, append(g.free, i)
	}
}

// permissions is the same text for tokens that allow the same, and only for
// them: a pattern may hold any character.
func permissions(p *protocol.Grant) string {
	var b []byte
	for _, list := range [][]string{p.Channels, p.Publish, {p.Admin}} {
		for _, s := range list {
			b = protocol.AppendString(b, s)
		}
		b = append(b, ';')
	}
	if p.Filter != nil {
		b = protocol.AppendFilter(b, p.Filter)
	}
	return string(b)
}
