package protocol

import (
	"reflect"
	"strings"
	"testing"
)

const (
	badID      = "'id' must be a string of at most 64 bytes or a whole number"
	badT       = "'t' must be a number"
	badOffset  = "'offset' must be a whole number"
	badReplace = "'replace' must be true or false"
	badElement = "an element of 'channels' is a name or an object with 'channel'"
	noChannel  = "an element of 'channels' has no 'channel'"
	noChannels = "'channels' must name at least one channel"
	badRate    = "'max_rate' must be a number above 0, messages a second"
	useTypes   = "'; use auth, subscribe, unsubscribe, ping, status or seen"
)

var x64, x65 = strings.Repeat("x", 64), strings.Repeat("x", 65)

// onlyA is a command's channels where they are not what a case is about.
var onlyA = []Item{{Channel: "a"}}

// goodCommands are accepted as want.
var goodCommands = []struct {
	name string
	in   string
	want Command
}{
	{"plain ping", PlainPing, Command{Type: CmdPing}},
	{"ping with space", ` { "type" : "ping" } `, Command{Type: CmdPing}},
	{"ping with id and t", `{"type":"ping","id":4,"t":1764678600000}`,
		Command{Type: CmdPing, ID: []byte("4"), T: []byte("1764678600000")}},
	{"t is echoed as written", `{"type":"ping","t":1.50e3}`, Command{Type: CmdPing, T: []byte("1.50e3")}},
	{"type with escapes", `{"type":"\u0070ing"}`, Command{Type: CmdPing}},
	{"type last", `{"id":1,"type":"status"}`, Command{Type: CmdStatus, ID: []byte("1")}},
	{"status", `{"type":"status","id":5}`, Command{Type: CmdStatus, ID: []byte("5")}},
	{"seen", `{"type":"seen","offset":184467}`, Command{Type: CmdSeen, Offset: 184467}},
	{"auth", `{"type":"auth","token":"a.b.c"}`, Command{Type: CmdAuth, Token: "a.b.c"}},
	{"auth with everything", `{"type":"auth","id":1,"token":"a.b.c","instance":"7b1c-phone","replace":true}`,
		Command{Type: CmdAuth, ID: []byte("1"), Token: "a.b.c", Instance: "7b1c-phone", Replace: true}},
	{"auth that replaces nobody", `{"type":"auth","token":"a","replace":false}`, Command{Type: CmdAuth, Token: "a"}},
	{"instance of 64 bytes", `{"type":"auth","token":"a","instance":"` + x64 + `"}`, Command{Type: CmdAuth, Token: "a", Instance: x64}},
	{"unsubscribe", `{"type":"unsubscribe","id":3,"channels":["price:bitcoin"]}`,
		Command{Type: CmdUnsubscribe, ID: []byte("3"), Channels: []Item{{Channel: "price:bitcoin"}}}},
	{"unsubscribe by object", `{"type":"unsubscribe","channels":[{"channel":"a"}]}`, Command{Type: CmdUnsubscribe, Channels: onlyA}},
	{"subscribe", `{"type":"subscribe","channels":["a","b"]}`,
		Command{Type: CmdSubscribe, Channels: []Item{{Channel: "a"}, {Channel: "b"}}}},
	{"subscribe with everything", `{"type":"subscribe","id":2,"since":"k3f9-1","channels":["price:bitcoin",{"channel":"price:ethereum","max_rate":2},` +
		`{"channel":"signals:all","since":"k3f9-2","filter":{"type":["b","a"],"min_confidence":0.9}}]}`,
		Command{Type: CmdSubscribe, ID: []byte("2"), Since: "k3f9-1", Channels: []Item{
			{Channel: "price:bitcoin"}, {Channel: "price:ethereum", MaxRate: 2},
			{Channel: "signals:all", Since: "k3f9-2", Filter: &Filter{Type: []string{"a", "b"}, MinConfidence: 0.9}}}}},
	{"a channel that cannot be is refused later", `{"type":"subscribe","channels":["","no such"]}`,
		Command{Type: CmdSubscribe, Channels: []Item{{}, {Channel: "no such"}}}},
	{"wrong options spoil only their channel", `{"type":"subscribe","channels":["a",{"channel":"b","max_rate":0},{"channel":"c","since":1},{"filter":{"x":1},"channel":"d"}]}`,
		Command{Type: CmdSubscribe, Channels: []Item{{Channel: "a"}, {Channel: "b", Err: invalid(badRate)},
			{Channel: "c", Err: invalid("'since' must be a string")}, {Channel: "d", Err: invalidFilter("unknown key 'x'" + knownKeys)}}}},
	{"the first wrong option is told", `{"type":"subscribe","channels":[{"channel":"a","max_rate":-1,"filter":{}}]}`,
		Command{Type: CmdSubscribe, Channels: []Item{{Channel: "a", Filter: &Filter{}, Err: invalid(badRate)}}}},
	{"fields nobody knows", `{"type":"subscribe","color":{"a":[1]},"channels":[{"channel":"a","future":[true]}],"Type":1}`,
		Command{Type: CmdSubscribe, Channels: onlyA}},

	{"id 0", `{"type":"status","id":0}`, Command{Type: CmdStatus, ID: []byte("0")}},
	{"negative id", `{"type":"status","id":-7}`, Command{Type: CmdStatus, ID: []byte("-7")}},
	{"id beyond 2^53", `{"type":"status","id":1764678600123456789}`, Command{Type: CmdStatus, ID: []byte("1764678600123456789")}},
	{"id of 64 digits", `{"type":"status","id":` + strings.Repeat("9", 64) + `}`, Command{Type: CmdStatus, ID: []byte(strings.Repeat("9", 64))}},
	{"id as text", `{"type":"status","id":"a-1"}`, Command{Type: CmdStatus, ID: []byte(`"a-1"`)}},
	{"empty id", `{"type":"status","id":""}`, Command{Type: CmdStatus, ID: []byte(`""`)}},
	{"id of 64 bytes", `{"type":"status","id":"` + x64 + `"}`, Command{Type: CmdStatus, ID: []byte(`"` + x64 + `"`)}},
	{"id of 64 escapes", `{"type":"status","id":"` + strings.Repeat(`\u0041`, 64) + `"}`,
		Command{Type: CmdStatus, ID: []byte(`"` + strings.Repeat(`\u0041`, 64) + `"`)}},
}

func TestParseCommand(t *testing.T) {
	for _, c := range goodCommands {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseCommand([]byte(c.in))
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("%s\n got %+v, %v\nwant %+v", c.in, got, err, c.want)
			}
		})
	}
}

// badCommands are refused with INVALID_MESSAGE and this message; id is what
// the answer can echo.
var badCommands = []struct{ name, in, id, want string }{
	{"nothing", ``, "", "not valid JSON"},
	{"not JSON", `ping`, "", "not valid JSON"},
	{"two messages", PlainPing + PlainPing, "", "not valid JSON"},
	{"too deep", `{"type":"ping","x":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `}`, "", "nested more than 32 deep"},
	{"a key twice", `{"type":"ping","type":"ping"}`, "", "an object has the same key twice"},
	{"a lone surrogate", `{"type":"ping","x":"\ud800"}`, "", "a string holds a lone surrogate or bytes that are not UTF-8"},
	{"a number out of range", `{"type":"ping","t":1e999}`, "", "a number is out of range"},
	{"a list", `[{"type":"ping"}]`, "", "a message is one JSON object"},
	{"a string", `"ping"`, "", "a message is one JSON object"},
	{"null", `null`, "", "a message is one JSON object"},
	{"no type", `{"id":1}`, "1", "'type' is missing"},
	{"empty type", `{"type":"","id":1}`, "1", "'type' is missing"},
	{"type in capitals is another field", `{"TYPE":"ping"}`, "", "'type' is missing"},
	{"type as a number", `{"type":1,"id":2}`, "2", "'type' must be a string"},

	{"id as a fraction", `{"type":"ping","id":1.5}`, "", badID},
	{"id with an exponent", `{"type":"ping","id":1e3}`, "", badID},
	{"id as an object", `{"type":"ping","id":{}}`, "", badID},
	{"id null", `{"type":"ping","id":null}`, "", badID},
	{"id true", `{"type":"ping","id":true}`, "", badID},
	{"id of 65 bytes", `{"type":"ping","id":"` + x65 + `"}`, "", badID},
	{"id of 65 digits", `{"type":"ping","id":` + strings.Repeat("9", 65) + `}`, "", badID},
	{"t as text", `{"type":"ping","id":1,"t":"now"}`, "1", badT},
	{"t null", `{"type":"ping","t":null}`, "", badT},

	{"no token", `{"type":"auth","id":1}`, "1", "'token' is missing"},
	{"empty token", `{"type":"auth","token":""}`, "", "'token' is missing"},
	{"token as a number", `{"type":"auth","token":1}`, "", "'token' must be a string"},
	{"instance of 65 bytes", `{"type":"auth","token":"a","instance":"` + x65 + `"}`, "", "'instance' must be a string of at most 64 bytes"},
	{"instance as a number", `{"type":"auth","token":"a","instance":7}`, "", "'instance' must be a string of at most 64 bytes"},
	{"replace as text", `{"type":"auth","token":"a","replace":"true"}`, "", badReplace},
	{"replace null", `{"type":"auth","token":"a","replace":null}`, "", badReplace},
	{"offset as text", `{"type":"seen","offset":"1"}`, "", badOffset},
	{"offset as a fraction", `{"type":"seen","offset":1.5}`, "", badOffset},
	{"negative offset", `{"type":"seen","offset":-1}`, "", badOffset},
	{"offset out of range", `{"type":"seen","offset":9007199254740993}`, "", badOffset},

	{"seen without offset", `{"type":"seen"}`, "", "'offset' is missing"},
	{"t of 33 digits", `{"type":"ping","t":1` + strings.Repeat("0", 32) + `}`, "", badT},
	{"257 channels", `{"type":"subscribe","channels":[` + strings.Repeat(`"a",`, 256) + `"a"]}`, "", "'channels' may have at most 256 elements"},

	{"subscribe to nothing", `{"type":"subscribe","id":4}`, "4", noChannels},
	{"subscribe to an empty list", `{"type":"subscribe","id":4,"channels":[]}`, "4", noChannels},
	{"unsubscribe from nothing", `{"type":"unsubscribe"}`, "", noChannels},
	{"channels as text", `{"type":"subscribe","channels":"a"}`, "", "'channels' must be a list"},
	{"channels as an object", `{"type":"subscribe","channels":{"channel":"a"}}`, "", "'channels' must be a list"},
	{"channels null", `{"type":"subscribe","channels":null}`, "", "'channels' must be a list"},
	{"a number among channels", `{"type":"subscribe","channels":["a",7]}`, "", badElement},
	{"null among channels", `{"type":"subscribe","channels":[null]}`, "", badElement},
	{"a list among channels", `{"type":"subscribe","channels":[["a"]]}`, "", badElement},
	{"an element without a name", `{"type":"subscribe","channels":[{"max_rate":1}]}`, "", noChannel},
	{"an element with an empty name", `{"type":"subscribe","channels":[{"channel":""}]}`, "", noChannel},
	{"an element's name as a number", `{"type":"subscribe","channels":[{"channel":1}]}`, "", "'channel' must be a string"},
	{"since as a number", `{"type":"subscribe","channels":["a"],"since":184401}`, "", "'since' must be a string"},
	{"the first wrong field is told", `{"type":"ping","t":"x","offset":-1}`, "", badT},
	{"id behind what is wrong", `{"type":"ping","t":"x","id":"late"}`, `"late"`, badT},
}

func TestParseCommandRefuses(t *testing.T) {
	for _, c := range badCommands {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseCommand([]byte(c.in))
			if want := invalid(c.want); !reflect.DeepEqual(err, want) || string(got.ID) != c.id {
				t.Errorf("%s\n got %v, id %s\nwant %v, id %s", c.in, err, got.ID, want, c.id)
			}
		})
	}
}

func TestParseCommandUnknownType(t *testing.T) {
	for _, c := range []struct{ name, in, id, quoted string }{
		{"unknown", `{"type":"dance","id":3}`, "3", "dance"},
		{"in capitals", `{"type":"PING"}`, "", "PING"},
		{"what a server says", `{"type":"pong"}`, "", "pong"},
		{"long", `{"type":"` + x65 + `"}`, "", x64 + "..."},
		{"reserved, with fields that mean something else here", `{"type":"replay","offset":"x","channels":{},"id":4}`, "4", "replay"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := &Error{Code: UnknownType, Message: "unknown type '" + c.quoted + useTypes}
			if got, err := ParseCommand([]byte(c.in)); !reflect.DeepEqual(err, want) || string(got.ID) != c.id {
				t.Errorf("%s\n got %v, id %s\nwant %v, id %s", c.in, err, got.ID, want, c.id)
			}
		})
	}
}

func TestRate(t *testing.T) {
	for in, want := range map[float64]float64{
		1e9: 20, 20.5: 20, 20: 20, 19.9: 10, 10: 10, 9: 5, 5: 5, 3: 2, 2: 2, 1.9: 1, 1: 1,
		0.9: 0.5, 0.5: 0.5, 0.4: 0.2, 0.2: 0.2, 0.1: 0.2, 1e-9: 0.2,
	} {
		if got := Rate(in); got != want {
			t.Errorf("Rate(%g) = %g, want %g", in, got, want)
		}
	}
}
