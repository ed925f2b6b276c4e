package protocol

import "strings"

// A Kind is how a channel delivers.
type Kind uint8

// The two kinds of channel.
const (
	State Kind = iota // the newest value; a slow reader skips
	Log               // every entry, in order, exactly once
)

// MaxChannel is the longest channel name in bytes.
const MaxChannel = 128

// AllPrices is the channel of every tracked asset's price.
const AllPrices = "price:*"

// A Channel is a name that a client subscribed by, understood.
type Channel struct {
	Name      string // as the client spelled it; echoed on every frame
	Canonical string // tickers are slugs
	Kind      Kind
}

// A Directory knows the assets: it gives the slug for a slug, or for a ticker
// all upper or all lower case. Nothing else has capitals in a channel's name.
type Directory interface {
	Slug(asset string) (slug string, ok bool)
}

// ParseChannel understands name. The error is INVALID_CHANNEL and says what to
// do. It tells nothing about permission: check Forbids first.
func ParseChannel(name string, dir Directory) (Channel, *Error) {
	if why := checkName(name); why != "" {
		return Channel{}, invalidChannel(name, why)
	}
	family, rest, _ := strings.Cut(name, ":")
	switch family {
	case "price":
		return parsePrice(name, rest, dir)
	case "market":
		if rest == "summary" || rest == "volume" || rest == "sentiment" {
			return Channel{name, name, State}, nil
		}
	case "system":
		if rest == "status" {
			return Channel{name, name, State}, nil
		}
	case "test":
		return parseTest(name, rest)
	case "signals":
		return parseSignals(name, rest, dir)
	}
	return Channel{}, invalidChannel(name, "no such channel; see docs/protocol.md section 1 for the list")
}

func parsePrice(name, asset string, dir Directory) (Channel, *Error) {
	if asset == "*" {
		return Channel{name, name, State}, nil
	}
	slug, ok := dir.Slug(asset)
	if !ok {
		return Channel{}, invalidChannel(name, "no asset '"+asset+"'; GET /api/v1/assets lists them")
	}
	return Channel{name, "price:" + slug, State}, nil
}

func parseTest(name, rest string) (Channel, *Error) {
	switch {
	case name == TestLogChannel:
		return Channel{name, name, Log}, nil
	case plainWord(rest):
		return Channel{name, name, State}, nil
	}
	return Channel{}, invalidChannel(name, "a test channel is test: and a word of a-z 0-9 - _ .")
}

func parseSignals(name, rest string, dir Directory) (Channel, *Error) {
	if rest == "all" || rest == "high" {
		return Channel{name, name, Log}, nil
	}
	by, value, _ := strings.Cut(rest, ":")
	if by == "type" && plainWord(value) {
		return Channel{name, name, Log}, nil
	}
	if by == "entity" && value != "" && value != "*" {
		if slug, ok := dir.Slug(value); ok {
			return Channel{name, "signals:entity:" + slug, Log}, nil
		}
		if plainWord(value) {
			return Channel{name, name, Log}, nil
		}
	}
	return Channel{}, invalidChannel(name, "use signals:all, signals:high, signals:type:{type} or signals:entity:{entity}")
}

// checkName says what breaks the grammar of names, or nothing. Upper case is
// let through for tickers; only the asset table decides about them.
func checkName(name string) string {
	if name == "" || len(name) > MaxChannel {
		return "a channel name has 1 to 128 characters"
	}
	for i := 0; i < len(name); i++ {
		if c := name[i]; !wordByte(c) && c != ':' && c != '*' && (c < 'A' || c > 'Z') {
			return "a channel name has only a-z 0-9 - _ . : *"
		}
	}
	return ""
}

func wordByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.'
}

// plainWord reports whether s can be a type, an entity or a test channel.
func plainWord(s string) bool {
	for i := 0; i < len(s); i++ {
		if !wordByte(s[i]) {
			return false
		}
	}
	return s != ""
}

func invalidChannel(name, why string) *Error {
	return &Error{Code: InvalidChannel, Message: "'" + ClipName(name) + "': " + why}
}

// ClipName shortens a name that is too long to be one before it is echoed.
func ClipName(name string) string { return name[:min(len(name), MaxChannel)] }

// PublishableChannel reports whether clients may send state publications to
// channel directly: the market channels and test:{name}, but not the two test
// channels the server itself drives.
func PublishableChannel(channel string) bool {
	switch channel {
	case "market:summary", "market:volume", "market:sentiment":
		return true
	case "test:state", TestLogChannel:
		return false
	}
	rest, ok := strings.CutPrefix(channel, "test:")
	return ok && plainWord(rest) && len(channel) <= MaxChannel
}

// Shows reports whether an entry of the event log appears on the log channel
// with this canonical name.
func Shows(canonical string, p *Publication) bool {
	s := p.Signal
	switch {
	case s == nil:
		return false
	case canonical == TestLogChannel || p.Channel == TestLogChannel:
		return canonical == p.Channel
	case canonical == "signals:all":
		return true
	case canonical == "signals:high":
		return s.High
	}
	if kind, ok := strings.CutPrefix(canonical, "signals:type:"); ok {
		return s.Type == kind
	}
	entity, ok := strings.CutPrefix(canonical, "signals:entity:")
	return ok && contains(s.Entities, entity)
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
