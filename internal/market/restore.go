package market

import (
	"strings"
	"time"

	"cryptointel/protocol"
)

// Restore tells the market the last publication of an asset that others have
// seen, so that its offsets, its price and the price's time go on from there
// after a restart or a takeover: it turns stale when nothing fresh comes. A
// price that this market has made itself stays.
func (m *Market) Restore(p protocol.Publication) {
	m.mu.Lock()
	defer m.mu.Unlock()
	slug, _ := strings.CutPrefix(p.Channel, "price:")
	a := m.assetLocked(slug)
	if a == nil || p.Offset <= a.offset {
		return
	}
	a.offset, a.newest = p.Offset, p
	if len(a.sources) == 0 {
		a.restore(p, m.now())
	}
}

// restore takes price and times from the data of a publication. Times that
// are ahead of the clock are not believed: no tick could follow.
func (a *asset) restore(p protocol.Publication, now protocol.Time) {
	r, ok := readPrice(p.Data)
	if !ok || r.at > now+protocol.Minute {
		return
	}
	a.price, a.shown, a.at = r.price, r.price, min(r.at, now)
	a.arrived = now
	if p.TS >= 0 && p.TS < now.Millis() {
		a.arrived = protocol.Time(p.TS) * protocol.Millisecond
	}
	a.shownAt = a.arrived
	a.stale, a.demo, a.restored = r.stale, r.demo, true
}

// A reading is what a price's data says that another market goes on from.
type reading struct {
	price       float64
	at          protocol.Time
	stale, demo bool
}

// readPrice reads the data of a price_update; false when it is none.
func readPrice(data []byte) (r reading, ok bool) {
	v, err := protocol.ParseValue(data)
	if err != nil {
		return r, false
	}
	for key, f := range v.Fields() {
		switch string(key) {
		case "price":
			price, _ := f.Float()
			r.price = known(price)
		case "timestamp":
			text, _ := f.Text()
			if t, err := time.Parse(time.RFC3339Nano, text); err == nil && t.Unix() > 0 && t.Year() < 2200 {
				r.at = protocol.Time(t.UnixNano())
			}
		case "stale":
			r.stale, _ = f.Bool()
		case "demo":
			r.demo, _ = f.Bool()
		}
	}
	return r, r.price > 0 && r.at > 0
}
