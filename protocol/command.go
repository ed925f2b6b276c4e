package protocol

// MaxID is the longest command id, in bytes: of a string without its quotes
// and escapes, of a number as it is written.
const MaxID = 64

const (
	maxT     = 32  // bytes of a ping's t, as written
	maxItems = 256 // elements of a command's channels: each one refused is answered
)

// A Command is one message from a client.
type Command struct {
	Type string
	ID   []byte // the JSON of `id`, echoed as it came; nil when absent
	T    []byte // ping: the JSON of `t`, echoed as it came; nil when absent

	Channels []Item // subscribe, unsubscribe
	Since    string // subscribe: for all log channels in Channels

	Token    string // auth
	Instance string // auth
	Replace  bool   // auth

	Offset int64 // seen
}

// An Item is one element of a command's channels.
type Item struct {
	Channel string
	Filter  *Filter
	MaxRate float64 // messages a second; 0 for all
	Since   string
	Err     *Error // the element was understood but its options are wrong
}

// Command types.
const (
	CmdAuth        = "auth"
	CmdSubscribe   = "subscribe"
	CmdUnsubscribe = "unsubscribe"
	CmdPing        = "ping"
	CmdStatus      = "status"
	CmdSeen        = "seen"
)

// PlainPing is the ping of the tickets and of the heartbeat, byte for byte.
const PlainPing = `{"type":"ping"}`

// ParseCommand reads a client's message. On an error the command still holds
// the id when it could be read, so that the answer can echo it. Strings are
// copies: nothing refers to b but ID and T.
func ParseCommand(b []byte) (Command, *Error) {
	if string(b) == PlainPing {
		return Command{Type: CmdPing}, nil
	}
	v, bad := ParseValue(b)
	if bad != nil {
		return Command{}, invalid(bad.Error())
	}
	if v.Kind() != '{' {
		return Command{}, invalid("a message is one JSON object")
	}
	var c Command
	var first *Error
	for key, val := range v.Fields() {
		if err := c.set(string(key), val); err != nil && first == nil {
			first = err
		}
	}
	// What a type from a later version carries may look wrong here: the client
	// must hear that the type is unknown.
	if err := c.check(); err != nil && (first == nil || err.Code == UnknownType) {
		first = err
	}
	return c, first
}

func (c *Command) set(key string, v Value) (err *Error) {
	switch key {
	case "type":
		return textField(&c.Type, key, v)
	case "id":
		return idField(&c.ID, v)
	case "t":
		if _, ok := v.Float(); !ok || len(v) > maxT {
			return invalid("'t' must be a number")
		}
		c.T = v
	case "token":
		return textField(&c.Token, key, v)
	case "instance":
		return instanceField(&c.Instance, v)
	case "since":
		return textField(&c.Since, key, v)
	case "replace":
		b, ok := v.Bool()
		if c.Replace = b; !ok {
			return invalid("'replace' must be true or false")
		}
	case "offset":
		n, ok := v.Integer()
		if c.Offset = n; !ok || n < 0 {
			return invalid("'offset' must be a whole number")
		}
	case "channels":
		c.Channels, err = parseItems(v)
	}
	return err
}

// check says what a command of this type lacks.
func (c *Command) check() *Error {
	switch c.Type {
	case "":
		return invalid("'type' is missing")
	case CmdSubscribe, CmdUnsubscribe:
		if len(c.Channels) == 0 {
			return invalid("'channels' must name at least one channel")
		}
	case CmdAuth:
		if c.Token == "" {
			return invalid("'token' is missing")
		}
	case CmdSeen:
		if c.Offset == 0 {
			return invalid("'offset' is missing")
		}
	case CmdPing, CmdStatus:
	default:
		return &Error{Code: UnknownType, Message: "unknown type '" + Clip(c.Type) +
			"'; use auth, subscribe, unsubscribe, ping, status or seen"}
	}
	return nil
}

func parseItems(v Value) ([]Item, *Error) {
	if v.Kind() != '[' {
		return nil, invalid("'channels' must be a list")
	}
	var items []Item
	for e := range v.Elements() {
		item, err := parseItem(e)
		if err != nil {
			return nil, err
		}
		if items = append(items, item); len(items) > maxItems {
			return nil, invalid("'channels' may have at most 256 elements")
		}
	}
	return items, nil
}

func parseItem(v Value) (Item, *Error) {
	if name, ok := v.Text(); ok {
		return Item{Channel: name}, nil
	}
	if v.Kind() != '{' {
		return Item{}, invalid("an element of 'channels' is a name or an object with 'channel'")
	}
	var item Item
	for key, val := range v.Fields() {
		if string(key) == "channel" {
			if err := textField(&item.Channel, "channel", val); err != nil {
				return Item{}, err
			}
		} else if err := item.option(string(key), val); err != nil && item.Err == nil {
			item.Err = err // of this channel only: the others stream
		}
	}
	if item.Channel == "" {
		return Item{}, invalid("an element of 'channels' has no 'channel'")
	}
	return item, nil
}

func (it *Item) option(key string, v Value) (err *Error) {
	switch key {
	case "since":
		return textField(&it.Since, key, v)
	case "filter":
		it.Filter, err = parseFilter(v)
	case "max_rate":
		r, ok := v.Float()
		if !ok || r <= 0 {
			return invalid("'max_rate' must be a number above 0, messages a second")
		}
		it.MaxRate = r
	}
	return err
}

func textField(dst *string, key string, v Value) *Error {
	s, ok := v.Text()
	if !ok {
		return invalid("'" + key + "' must be a string")
	}
	*dst = s
	return nil
}

// idField keeps an id as it was written, so that the echo is exact.
func idField(dst *[]byte, v Value) *Error {
	s, text := v.Text()
	if text && len(s) <= MaxID || v.whole() && len(v) <= MaxID {
		*dst = v
		return nil
	}
	return invalid("'id' must be a string of at most 64 bytes or a whole number")
}

func instanceField(dst *string, v Value) *Error {
	s, ok := v.Text()
	if !ok || len(s) > 64 {
		return invalid("'instance' must be a string of at most 64 bytes")
	}
	*dst = s
	return nil
}

func invalid(why string) *Error { return &Error{Code: InvalidMessage, Message: why} }

// Rates are the values max_rate is taken down to, messages a second.
var rates = [...]float64{20, 10, 5, 2, 1, 0.5, 0.2}

// Rate is the allowed rate next below r; anything under the lowest is the
// lowest.
func Rate(r float64) float64 {
	for _, allowed := range rates {
		if r >= allowed {
			return allowed
		}
	}
	return rates[len(rates)-1]
}
