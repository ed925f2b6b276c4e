package market

import (
	"encoding/json"
	"testing"

	"cryptointel/protocol"
)

func TestMarkStale(t *testing.T) {
	for _, tt := range []struct{ name, data, want string }{
		{"a price", `{"price":1,"sources":[],"timestamp":"t"}`, `{"price":1,"sources":[],"stale":true,"timestamp":"t"}`},
		{"a simulated one", `{"price":1,"sources":[],"demo":true,"timestamp":"t"}`, `{"price":1,"sources":[],"stale":true,"demo":true,"timestamp":"t"}`},
		{"stale already", `{"price":1,"stale":true,"timestamp":"t"}`, ""},
		{"something else", `{"n":1}`, ""},
	} {
		got, ok := MarkStale([]byte(tt.data))
		if string(got) != tt.want || ok != (tt.want != "") {
			t.Errorf("%s: MarkStale = %s, %v, want %s", tt.name, got, ok, tt.want)
		}
	}
}

// What a market publishes when it sweeps is what another node makes of the
// price before.
func TestMarkStaleIsWhatSweepPublishes(t *testing.T) {
	f := newFixture(t)
	f.observe(tick("coinbase", 65000, 0))
	fresh := f.published[0]
	got, ok := MarkStale(fresh.Data)
	var marked struct {
		Stale bool
		Price float64
	}
	if err := json.Unmarshal(got, &marked); err != nil || !ok || !marked.Stale || marked.Price != 65000 {
		t.Errorf("MarkStale(%s) = %s, %v (%v)", fresh.Data, got, ok, err)
	}
	f.Sweep(f.now + 5*protocol.Minute)
	if swept := f.published[len(f.published)-1]; swept.Offset == fresh.Offset {
		t.Errorf("the market has not published the price as stale")
	} else if _, again := MarkStale(swept.Data); again {
		t.Errorf("MarkStale does not see that %s is stale", swept.Data)
	}
}
