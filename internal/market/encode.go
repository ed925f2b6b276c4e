package market

import (
	"math"
	"strconv"

	"cryptointel/protocol"
)

// appendData writes the data of a price_update. What is not known is left out.
func (a *asset) appendData(dst []byte, now, staleAfter protocol.Time) []byte {
	dst = append(dst, `{"symbol":`...)
	dst = protocol.AppendString(dst, a.Ticker)
	dst = append(dst, `,"asset":`...)
	dst = protocol.AppendString(dst, a.Slug)
	dst = appendField(dst, `,"price":`, a.price)
	f := a.figures(now)
	// A change of a hundredth of a basis point and a cent of volume are
	// noise: rounded they cost fewer bytes in every frame.
	if !math.IsNaN(f.change) {
		dst = protocol.AppendFloat(append(dst, `,"change_24h":`...), round(f.change, 1e4))
	}
	dst = appendField(dst, `,"volume_24h":`, round(f.volume, 100))
	dst = appendField(dst, `,"high_24h":`, f.high)
	dst = appendField(dst, `,"low_24h":`, f.low)
	dst = a.appendSources(append(dst, `,"sources":[`...), now, staleAfter)
	dst = append(dst, ']')
	if a.stale {
		dst = append(dst, `,"stale":true`...)
	}
	if a.demo {
		dst = append(dst, `,"demo":true`...)
	}
	dst = append(dst, `,"timestamp":"`...)
	dst = protocol.AppendTime(dst, a.at)
	return append(dst, '"', '}')
}

// appendSources lists the newest price of each fresh exchange: of one that
// quotes in several dollars the newest. The price is in dollars; what it was
// made from is said, and whether the rate is assumed: not known, or for more
// than five minutes not heard of.
func (a *asset) appendSources(dst []byte, now, staleAfter protocol.Time) []byte {
	first := true
	for i := range a.sources {
		s := &a.sources[i]
		if !s.fresh(now, staleAfter) || a.newerQuote(i, now, staleAfter) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, `{"name":`...)
		dst = protocol.AppendString(dst, s.name)
		dst = appendField(dst, `,"price":`, s.convert())
		if s.quote != "USD" {
			dst = protocol.AppendString(append(dst, `,"quote":`...), s.quote)
			dst = appendField(dst, `,"rate":`, s.rate)
			if s.assumed(now) {
				dst = append(dst, `,"assumed":true`...)
			}
		}
		dst = append(dst, `,"age_ms":`...)
		dst = strconv.AppendInt(dst, s.age(now).Millis(), 10)
		if s.outlier {
			dst = append(dst, `,"outlier":true`...)
		}
		dst = append(dst, '}')
	}
	return dst
}

// newerQuote reports whether another quote of the same exchange is newer.
func (a *asset) newerQuote(i int, now, staleAfter protocol.Time) bool {
	s := &a.sources[i]
	for j := range a.sources {
		o := &a.sources[j]
		newer := o.time > s.time || o.time == s.time && j > i
		if j != i && o.first == s.first && newer && o.fresh(now, staleAfter) {
			return true
		}
	}
	return false
}

// appendField writes a name and a number, nothing for the unknown 0.
func appendField(dst []byte, name string, v float64) []byte {
	if v == 0 {
		return dst
	}
	return protocol.AppendFloat(append(dst, name...), v)
}

// round keeps 1/unit of v; a v too large to have such digits stays as it is.
func round(v, unit float64) float64 {
	if math.Abs(v) >= 1<<52/unit {
		return v
	}
	return math.Round(v*unit) / unit
}
