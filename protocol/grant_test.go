package protocol

import "testing"

func TestMatchAny(t *testing.T) {
	for _, c := range []struct {
		name     string
		patterns []string
		channel  string
		want     bool
	}{
		{"no pattern", nil, "price:bitcoin", false},
		{"exact", []string{"price:bitcoin"}, "price:bitcoin", true},
		{"longer than the exact one", []string{"price:bitcoin"}, "price:bitcoin-cash", false},
		{"shorter than the exact one", []string{"price:bitcoin"}, "price:bit", false},
		{"other case", []string{"price:btc"}, "price:BTC", false},
		{"wildcard", []string{"price:*"}, "price:bitcoin", true},
		{"wildcard covers the channel of all", []string{"price:*"}, "price:*", true},
		{"wildcard covers the empty rest", []string{"price:*"}, "price:", true},
		{"one asset does not cover all", []string{"price:bitcoin"}, "price:*", false},
		{"wildcard within a word", []string{"price:bit*"}, "price:bitcoin", true},
		{"wildcard of another family", []string{"price:*"}, "signals:all", false},
		{"wildcard and a name without colon", []string{"price:*"}, "price", false},
		{"star alone", []string{"*"}, "signals:all", true},
		{"star alone and no name", []string{"*"}, "", true},
		{"star in the middle is exact", []string{"a*b"}, "axb", false},
		{"star in the middle, itself", []string{"a*b"}, "a*b", true},
		{"only the last star is a wildcard", []string{"price:**"}, "price:bitcoin", false},
		{"star in front is exact", []string{"*:bitcoin"}, "price:bitcoin", false},
		{"empty pattern covers nothing", []string{""}, "price:bitcoin", false},
		{"any of several", []string{"market:*", "price:bitcoin"}, "price:bitcoin", true},
		{"none of several", []string{"market:*", "price:bitcoin"}, "price:ethereum", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := MatchAny(c.patterns, c.channel); got != c.want {
				t.Errorf("MatchAny(%q, %q) = %v, want %v", c.patterns, c.channel, got, c.want)
			}
		})
	}
}

func TestGrant(t *testing.T) {
	type allows struct{ follows, publishes bool }
	reader := &Grant{Subject: "u1", Channels: []string{"price:*", "signals:all"}}
	writer := &Grant{Subject: "d1", Publish: []string{"signals:type:*", "watchlist:me"}}
	for _, c := range []struct {
		name    string
		grant   *Grant
		channel string
		want    allows
	}{
		{"following by pattern", reader, "price:bitcoin", allows{true, false}},
		{"following by name", reader, "signals:all", allows{true, false}},
		{"not listed", reader, "signals:high", allows{false, false}},
		{"one's own watchlist needs no claim", reader, "watchlist:me", allows{true, false}},
		{"somebody else's watchlist", reader, "watchlist:u2", allows{false, false}},
		{"publishing is not following", writer, "signals:type:volume", allows{false, true}},
		{"publishing needs its claim", writer, "signals:all", allows{false, false}},
		{"a grant of nothing", &Grant{}, "price:bitcoin", allows{false, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := (allows{c.grant.Follows(c.channel), c.grant.Publishes(c.channel)}); got != c.want {
				t.Errorf("%s: got %+v, want %+v", c.channel, got, c.want)
			}
		})
	}
}
