package protocol

import "testing"

const subscribeFive = `{"type":"subscribe","id":2,"channels":["price:bitcoin","price:ethereum","price:solana",` +
	`{"channel":"price:*","max_rate":2},{"channel":"signals:all","filter":{"type":["price_spike"],"min_confidence":0.9}}],"since":"k3f9-184401"}`

// text200 is 200 bytes of JSON as publishers send it.
const text200 = `{"symbol":"BTC","asset":"bitcoin","price":43250.75,"change_24h":2.34,"volume_24h":1250000000,` +
	`"high_24h":43900.5,"low_24h":42100.25,"sources":[{"name":"coinbase","price":43250.75}],"stale":false,"x":"abc"}`

var someFilter = &Filter{Type: []string{"price_spike", "volume"}, Entity: []string{"bitcoin", "ethereum"}, MinConfidence: 0.9}

func BenchmarkParseCommand(b *testing.B) {
	for _, c := range []struct{ name, in string }{
		{"ping", PlainPing},
		{"ping with id", `{"type":"ping","id":4,"t":1764678600000}`},
		{"subscribe 5", subscribeFive},
	} {
		b.Run(c.name, func(b *testing.B) {
			in := []byte(c.in)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseCommand(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCheckJSON(b *testing.B) {
	in := []byte(text200)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if err := CheckJSON(in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseChannel(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseChannel("price:bitcoin", someAssets); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendDelivery(b *testing.B) {
	for _, c := range []struct {
		name string
		d    Delivery
	}{
		{"state", Delivery{Channel: "price:bitcoin", Pub: bitcoin}},
		{"log", Delivery{Channel: "signals:all", Pub: spike, Prev: 183990}},
		{"merged", Delivery{Channel: "price:bitcoin", Pub: bitcoin, Merge: &Merge{37, 2301.5, 2309, 2299.1, true}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			buf := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				buf = AppendDelivery(buf[:0], c.d)
			}
		})
	}
}

func BenchmarkFilterLets(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if !someFilter.Lets(spike.Signal) {
			b.Fatal("the filter does not let the signal through")
		}
	}
}

// TestNoAllocation holds what the hot path relies on.
func TestNoAllocation(t *testing.T) {
	ping, buf := []byte(PlainPing), make([]byte, 0, 1024)
	merge := &Merge{}
	for _, c := range []struct {
		name string
		do   func()
	}{
		{"plain ping", func() { _, _ = ParseCommand(ping) }},
		{"pong", func() { buf = AppendPong(buf[:0], Command{}, start) }},
		{"state delivery", func() { buf = AppendDelivery(buf[:0], Delivery{Channel: "price:bitcoin", Pub: bitcoin}) }},
		{"log delivery", func() { buf = AppendDelivery(buf[:0], Delivery{Channel: "signals:all", Pub: spike, Prev: 1}) }},
		{"merge", func() { merge.Add(43250.75) }},
		{"merged delivery", func() { buf = AppendDelivery(buf[:0], Delivery{Channel: "price:*", Pub: bitcoin, Merge: merge}) }},
		{"mark", func() { buf = AppendPosition(buf[:0], "mark", "signals:all", 2, 1) }},
		{"filter", func() { someFilter.Lets(spike.Signal) }},
		{"shows", func() { Shows("signals:entity:ethereum", spike) }},
		{"shows by type", func() { Shows("signals:type:price_spike", spike) }},
		{"patterns", func() { MatchAny([]string{"market:*", "price:*"}, "price:bitcoin") }},
	} {
		if n := testing.AllocsPerRun(100, c.do); n != 0 {
			t.Errorf("%s allocates %g times", c.name, n)
		}
	}
}
