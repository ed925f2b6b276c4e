package protocol

import (
	"bytes"
	"encoding/json"
	"reflect"
	"regexp"
	"slices"
	"testing"
)

// FuzzParseCommand holds ParseCommand to slowCommand, which reads the same
// with encoding/json.
func FuzzParseCommand(f *testing.F) {
	for _, c := range goodCommands {
		f.Add([]byte(c.in))
	}
	for _, c := range badCommands {
		f.Add([]byte(c.in))
	}
	for _, c := range filterCases {
		f.Add([]byte(`{"type":"subscribe","channels":[{"channel":"a","filter":` + c.in + `}]}`))
	}
	for _, line := range exampleLines(f) {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ParseCommand(b)
		want, code := slowCommand(b)
		if err != nil && err.Code != code || err == nil && code != "" {
			t.Fatalf("%q\n got %v\nwant %q", b, err, code)
		}
		if code != "" { // only the id counts then
			got, want = Command{ID: got.ID}, Command{ID: want.ID}
		}
		if !reflect.DeepEqual(forget(got), forget(want)) {
			t.Fatalf("%q\n got %+v\nwant %+v", b, got, want)
		}
	})
}

// forget leaves of an element with wrong options only that they are wrong:
// which is told first is the readers' own business.
func forget(c Command) Command {
	c.Channels = slices.Clone(c.Channels)
	for i, it := range c.Channels {
		if it.Err != nil {
			c.Channels[i] = Item{Channel: it.Channel, Err: &Error{}}
		}
	}
	return c
}

// A slowObject is a JSON object read by encoding/json; wrong is set when a
// field is not what it must be.
type slowObject struct {
	fields map[string]json.RawMessage
	wrong  bool
}

// slowRead reads one field; null is never a value.
func slowRead[T any](o *slowObject, key string) (value T) {
	b, given := o.fields[key]
	var p *T
	if given && (json.Unmarshal(b, &p) != nil || p == nil) {
		o.wrong = true
	}
	if p != nil {
		value = *p
	}
	return value
}

func slowFields(b []byte) (*slowObject, bool) {
	o := &slowObject{}
	err := json.Unmarshal(b, &o.fields)
	return o, err == nil && o.fields != nil
}

// slowCommand is a message as protocol.md section 3 describes it.
func slowCommand(b []byte) (c Command, code Code) {
	o, ok := slowFields(b)
	if !ok || CheckJSON(b) != nil {
		return c, InvalidMessage
	}
	c.Type = slowRead[string](o, "type")
	c.ID = slowID(o)
	if slowRead[float64](o, "t"); o.fields["t"] != nil {
		c.T = o.fields["t"]
	}
	c.Token, c.Instance = slowRead[string](o, "token"), slowRead[string](o, "instance")
	c.Since, c.Replace = slowRead[string](o, "since"), slowRead[bool](o, "replace")
	c.Offset = slowRead[int64](o, "offset")
	for _, e := range slowRead[[]json.RawMessage](o, "channels") {
		c.Channels = append(c.Channels, slowItem(o, e))
	}
	lacks := map[string]bool{
		CmdSubscribe: c.Channels == nil, CmdUnsubscribe: c.Channels == nil, CmdAuth: c.Token == "",
		CmdPing: false, CmdStatus: false, CmdSeen: c.Offset == 0, "": true,
	}
	missing, known := lacks[c.Type]
	switch {
	case !known:
		return c, UnknownType
	case missing, o.wrong, len(c.Instance) > 64, c.Offset < 0, c.Offset > 1<<53, len(c.T) > 32, len(c.Channels) > 256:
		return c, InvalidMessage
	}
	return c, ""
}

var wholeNumber = regexp.MustCompile(`^-?[0-9]+$`)

func slowID(o *slowObject) []byte {
	b := o.fields["id"]
	var s string
	text := json.Unmarshal(b, &s) == nil && len(b) > 0 && b[0] == '"'
	if text && len(s) <= 64 || wholeNumber.Match(b) && len(b) <= 64 {
		return b
	}
	o.wrong = o.wrong || b != nil
	return nil
}

func slowItem(command *slowObject, b []byte) Item {
	var name string
	if json.Unmarshal(b, &name) == nil && b[0] == '"' {
		return Item{Channel: name}
	}
	o, ok := slowFields(b)
	if !ok {
		command.wrong = true
		return Item{}
	}
	it := Item{Channel: slowRead[string](o, "channel")}
	command.wrong = command.wrong || o.wrong || it.Channel == ""
	it.Since, it.MaxRate = slowRead[string](o, "since"), slowRead[float64](o, "max_rate")
	filter := o.fields["filter"]
	if filter != nil {
		it.Filter, ok = slowFilter(filter)
	}
	if _, rated := o.fields["max_rate"]; o.wrong || !ok || rated && it.MaxRate <= 0 {
		it.Err = &Error{}
	}
	return it
}

// slowFilter is a filter as protocol.md section 3 describes it.
func slowFilter(b []byte) (*Filter, bool) {
	o, ok := slowFields(b)
	if !ok || len(b) > 512 {
		return nil, false
	}
	f := &Filter{MinConfidence: slowRead[float64](o, "min_confidence")}
	delete(o.fields, "min_confidence")
	values := 0
	for key, list := range map[string]*[]string{"type": &f.Type, "entity": &f.Entity, "source": &f.Source, "severity": &f.Severity} {
		for _, s := range slowRead[[]*string](o, key) {
			if s == nil {
				return nil, false
			}
			*list = append(*list, *s)
		}
		o.wrong = o.wrong || o.fields[key] != nil && *list == nil
		slices.Sort(*list)
		*list = slices.Compact(*list)
		values += len(*list)
		delete(o.fields, key)
	}
	known := len(o.fields) == 0
	return f, known && !o.wrong && values <= 50 && f.MinConfidence >= 0 && f.MinConfidence <= 1
}

// TestParseCommandKeepsNothing holds that the buffer of a message can be used
// for the next one: only ID and T refer to it.
func TestParseCommandKeepsNothing(t *testing.T) {
	for _, c := range goodCommands {
		b := []byte(c.in)
		got, err := ParseCommand(b)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		got.ID, got.T = bytes.Clone(got.ID), bytes.Clone(got.T)
		clear(b)
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: after the buffer's next use\n got %+v\nwant %+v", c.name, got, c.want)
		}
	}
}
