package market

import (
	"cmp"
	"slices"

	"cryptointel/protocol"
)

// A vote is a source that may be part of the price.
type vote struct {
	usd    float64
	weight float64 // of what is in: see asset.share
	i      int     // of the source
	in     bool    // it is
}

// poll lists the sources that are new enough, the cheapest first: exchanges'
// while one of them is fresh, else published ones. Scratch of the asset:
// nothing of it is kept.
func (a *asset) poll(now, counted protocol.Time) []vote {
	a.votes = a.votes[:0]
	published := !a.exchangeFresh(now)
	for i := range a.sources {
		s := &a.sources[i]
		if s.published != published || !s.counts(now, counted) {
			continue
		}
		v := vote{usd: s.convert(), i: i}
		// Insertion: there are few, and it needs no closure.
		a.votes = append(a.votes, v)
		k := len(a.votes) - 1
		for ; k > 0 && a.votes[k-1].usd > v.usd; k-- {
			a.votes[k] = a.votes[k-1]
		}
		a.votes[k] = v
	}
	return a.votes
}

// share gives the votes that are in their weights and returns the sum. What an
// exchange trades it says itself, so of three or more the largest, in all its
// quotes, stays below half: it is cut to what all others weigh and a tenth
// less, or to the second if that is more. A median of the others' prices then
// holds, whatever one of them claims.
func (a *asset) share() (total float64) {
	a.totals = slices.Grow(a.totals[:0], len(a.sources))[:len(a.sources)]
	clear(a.totals)
	for _, v := range a.votes {
		if v.in {
			a.totals[a.sources[v.i].first] += a.sources[v.i].weight
		}
	}
	largest, second, rest, exchanges := -1, 0.0, 0.0, 0
	for i, weight := range a.totals {
		switch {
		case weight == 0:
			continue
		case largest < 0:
			largest = i
		case weight > a.totals[largest]:
			second, rest, largest = a.totals[largest], rest+a.totals[largest], i
		default:
			second, rest = max(second, weight), rest+weight
		}
		exchanges++
	}
	cut := 1.0
	if exchanges >= 3 {
		cut = min(1, max(second, 0.9*rest)/a.totals[largest])
	}
	for k := range a.votes {
		v := &a.votes[k]
		if v.weight = 0; v.in {
			v.weight = a.sources[v.i].weight
			if a.sources[v.i].first == largest {
				v.weight *= cut
			}
			total += v.weight
		}
	}
	return total
}

// median is the weighted median of the votes that are in: the price at which
// half of the weight is below, so a real price of a source unless two share
// the middle. 0 when none is in.
func (a *asset) median() float64 {
	total := a.share()
	below, last := 0.0, 0.0
	for _, v := range a.votes {
		if !v.in {
			continue
		}
		if below*2 >= total && last > 0 {
			if below*2 > total {
				break
			}
			return last/2 + v.usd/2
		}
		below, last = below+v.weight, v.usd
	}
	return last
}

// composite is the median of the poll's sources that are not quarantined.
func (a *asset) composite() float64 {
	for k := range a.votes {
		a.votes[k].in = !a.sources[a.votes[k].i].outlier
	}
	return a.median()
}

// judge polls the sources and decides whether the one that has just spoken is
// off the others. It is quarantined when it is more than a share away from
// the median of the good ones, until it agrees with them again or they are
// outvoted.
func (a *asset) judge(i int, now, counted protocol.Time, share float64) {
	votes := a.poll(now, counted)
	s := &a.sources[i]
	me, others := -1, 0
	for k := range votes {
		v := &votes[k]
		v.in = v.i != i && !a.sources[v.i].outlier
		if v.in {
			others++
		}
		if v.i == i {
			me = k
		}
	}
	if me < 0 || share == 0 {
		return
	}
	middle := a.median()
	if others == 0 || !apart(s.usd, middle, share) {
		s.off, s.agreed = claim{}, cmp.Or(middle, s.usd)
		for _, v := range votes {
			if v.in {
				a.sources[v.i].agreed = s.usd
			}
		}
		a.mark(s, false)
		return
	}
	a.contest(me, now, share)
}

// contest settles a vote that is off the good ones. It wins
//   - as the heavier of two exchanges, unless it is the one that has left the
//     price where both agreed, or is new: then it has to stay where it went,
//   - with those who agree with it the majority by number and by weight, of
//     which no single exchange has half,
//   - with half of all, when it stays there and the others are silent.
func (a *asset) contest(me int, now protocol.Time, share float64) {
	votes := a.votes
	s := &a.sources[votes[me].i]
	sure := s.off.confirmed(s.usd, s.time)
	if s.off.ticks == 1 {
		s.offSince = now
	}
	for k := range votes {
		votes[k].in = true
	}
	total := a.share()
	weight, silent := 0.0, true
	for k := range votes {
		v := &votes[k]
		o := &a.sources[v.i]
		if v.in = !apart(v.usd, s.usd, share); v.in {
			weight += v.weight
		} else if !o.outlier && o.arrived > s.offSince {
			silent = false
		}
	}
	with, against := a.sides()
	stayed := sure || !apart(s.usd, s.agreed, share)
	heavier := with == 1 && against == 1 && 2*weight > total && stayed
	majority := with > against && 2*weight > total
	if !heavier && !majority && !(sure && silent && with >= against) {
		a.mark(s, true)
		return
	}
	s.off = claim{}
	for _, v := range votes {
		a.mark(&a.sources[v.i], !v.in)
	}
}

// sides counts the exchanges with a vote that is in, and with one that is not:
// an exchange of several quotes is one, on each side that it is on.
func (a *asset) sides() (in, out int) {
	for k, v := range a.votes {
		first := a.sources[v.i].first
		counted := slices.ContainsFunc(a.votes[:k], func(o vote) bool {
			return o.in == v.in && a.sources[o.i].first == first
		})
		switch {
		case counted:
		case v.in:
			in++
		default:
			out++
		}
	}
	return in, out
}

// mark quarantines a source or lets it back.
func (a *asset) mark(s *source, outlier bool) {
	if s.outlier != outlier {
		s.outlier, a.changed = outlier, true
	}
}

// A peg is what a coin that others are quoted in is worth, by those who
// quote it in dollars themselves.
type peg struct {
	used    bool // somebody is quoted in it
	rate    float64
	arrived protocol.Time
	moved   claim
}

// at is the last rate that was known, however long ago: a coin that has lost
// its worth does not get it back when those who say so fall silent. 1 before
// anything is known.
func (p *peg) at() float64 { return cmp.Or(p.rate, 1) }

// assumed reports whether the rate is not known, or not known newly: for as
// long as statistics of a day hold.
func (p *peg) assumed(now protocol.Time) bool { return p.rate == 0 || now-p.arrived > dayFresh }

// repeg takes the rate from the dollar quotes of the poll. A rate that is
// further off than an outlier may be has to stay there to be believed: it
// moves the prices of all assets that are quoted in the coin.
func (a *asset) repeg(at, now protocol.Time, share float64) {
	for k := range a.votes {
		s := &a.sources[a.votes[k].i]
		a.votes[k].in = s.quote == "USD" && !s.outlier
	}
	rate := a.median()
	if rate == 0 {
		return
	}
	p := &a.peg
	if share > 0 && apart(rate, p.at(), share) && !p.moved.confirmed(rate, at) {
		return
	}
	p.rate, p.arrived, p.moved = rate, now, claim{}
}

// place finds or makes the tick's source; -1 when there are too many fresh
// ones. A source that is stale makes room.
func (a *asset) place(t *Tick, now, staleAfter protocol.Time, limit int) (i int, isNew bool) {
	free := -1
	for i := range a.sources {
		s := &a.sources[i]
		if s.name == t.Exchange && s.quote == t.Quote && s.published == t.Published {
			return i, false
		}
		if !s.fresh(now, staleAfter) {
			free = i
		}
	}
	if limit == 0 || len(a.sources) < limit {
		a.sources = append(a.sources, source{})
		free = len(a.sources) - 1
	}
	if free < 0 {
		return -1, false
	}
	a.sources[free] = source{name: t.Exchange, quote: t.Quote, published: t.Published, weight: minWeight}
	for i := range a.sources {
		name := a.sources[i].name
		a.sources[i].first = slices.IndexFunc(a.sources, func(s source) bool { return s.name == name })
	}
	return free, true
}
