package market

import (
	"slices"

	"cryptointel/protocol"
)

// A vote is a source that may be part of the price.
type vote struct {
	usd float64
	i   int  // of the source
	in  bool // it is
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
		v := vote{usd: s.convert(now), i: i}
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

// median is the volume-weighted median of the votes that are in: the price at
// which half of the volume is below, so a real price of a source unless two
// share the middle. 0 when none is in.
func (a *asset) median() float64 {
	total := 0.0
	for _, v := range a.votes {
		if v.in {
			total += a.sources[v.i].weight
		}
	}
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
		below, last = below+a.sources[v.i].weight, v.usd
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
	if others == 0 || !apart(s.usd, a.median(), share) {
		s.off = claim{}
		a.mark(s, false)
		return
	}
	a.contest(me, now, share)
}

// contest settles a vote that is off the good ones. It wins
//   - as the heavier of two,
//   - with those who agree with it the majority by number and by weight,
//   - with half of all, when it stays there and the others are silent.
func (a *asset) contest(me int, now protocol.Time, share float64) {
	votes := a.votes
	s := &a.sources[votes[me].i]
	sure := s.off.confirmed(s.usd, s.time)
	if s.off.ticks == 1 {
		s.offSince = now
	}
	count, weight, total, silent := 0, 0.0, 0.0, true
	for k := range votes {
		v := &votes[k]
		o := &a.sources[v.i]
		total += o.weight
		if v.in = !apart(v.usd, s.usd, share); v.in {
			count, weight = count+1, weight+o.weight
		} else if !o.outlier && o.arrived > s.offSince {
			silent = false
		}
	}
	heavier := len(votes) == 2 && 2*weight > total
	majority := 2*count > len(votes) && 2*weight > total
	if !heavier && !majority && !(sure && silent && 2*count >= len(votes)) {
		a.mark(s, true)
		return
	}
	s.off = claim{}
	for _, v := range votes {
		a.mark(&a.sources[v.i], !v.in)
	}
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

// at is the rate while it is fresh, else 1. It holds as long as statistics of
// a day do: one quiet minute of a coin must not move all prices in it.
func (p *peg) at(now protocol.Time) float64 {
	if p.rate > 0 && now-p.arrived <= dayFresh {
		return p.rate
	}
	return 1
}

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
	if share > 0 && apart(rate, p.at(now), share) && !p.moved.confirmed(rate, at) {
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
