package protocol

import "strings"

// A Grant is what a verified token allows.
type Grant struct {
	Subject string // claim sub
	ID      string // claim jti; may be empty
	Expires Time   // claim exp
	Issued  Time   // claim iat; 0 when absent

	Channels []string // claim ch: patterns, exact or ending in *
	Publish  []string // claim pub: patterns
	Filter   *Filter  // claim flt: ANDed to every log subscription; nil for none
	Admin    string   // claim adm: "", "read" or "write"
}

// Follows reports whether the grant lets its holder subscribe to channel,
// given in canonical spelling. watchlist:me is always the caller's own.
func (g *Grant) Follows(channel string) bool {
	return channel == "watchlist:me" || MatchAny(g.Channels, channel)
}

// Publishes reports whether the grant lets its holder publish to channel.
func (g *Grant) Publishes(channel string) bool { return MatchAny(g.Publish, channel) }

// MatchAny reports whether one of the patterns covers name. A pattern is exact
// or ends in *; a lone * covers everything.
func MatchAny(patterns []string, name string) bool {
	for _, p := range patterns {
		if prefix, ok := strings.CutSuffix(p, "*"); ok && strings.HasPrefix(name, prefix) || p == name {
			return true
		}
	}
	return false
}
