package gateway

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"cryptointel/protocol"
)

// What parse accepts encoding/json reads the same; what it refuses as
// bad syntax encoding/json refuses too.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{"type":"price_update","channel":"test:c1","data":{"price":1.5,"metadata":{"_fb":"00017","pad":"x"}}}`,
		`[{"type":"signal_alert","data":{"id":"x","type":"a","entities":["b"],"confidence":0.9,"metadata":{ "k" : [1, 2e3, -0.5, true, null]}}},{}]`,
		`{"a":"\ud83d\ude00\u00e9\n","a\u0062":1}`, `{"k":1,"k":2}`, ` [ ] `, `{"n":1e400}`, `{"n":-0}`, `{"n":01}`, `[`, `[{"data":`, "{\"s\":\"\xff\"}", `[[[[]]]]`,
	} {
		f.Add([]byte(s))
	}
	run := new(publishRun)
	f.Fuzz(func(t *testing.T, b []byte) {
		run.body = b
		err := run.parse()
		valid := json.Valid(b)
		if valid && err != nil && strings.HasSuffix(err.Message, "not valid JSON") {
			t.Fatalf("refused what is JSON: %q", b)
		}
		if err != nil {
			return
		}
		if !valid || !utf8.Valid(b) {
			t.Fatalf("accepted what is not JSON: %q", b)
		}
		checkMessages(t, run, b)
	})
}

// checkMessages compares what was found in b with what encoding/json finds.
func checkMessages(t *testing.T, run *publishRun, b []byte) {
	t.Helper()
	var list []json.RawMessage
	if run.list {
		if err := json.Unmarshal(b, &list); err != nil {
			t.Fatal(err)
		}
	} else {
		list = []json.RawMessage{b}
	}
	if len(list) != len(run.messages) {
		t.Fatalf("%q: got %d messages, want %d", b, len(run.messages), len(list))
	}
	for i := range list {
		var fields map[string]json.RawMessage
		if json.Unmarshal(list[i], &fields) != nil {
			continue // not an object
		}
		m := &run.messages[i]
		same(t, fields["type"], m.kind)
		same(t, fields["channel"], m.channel)
		checkText(t, m.channel)
		if m.data.Kind() != '{' {
			continue
		}
		var want bytes.Buffer
		if err := json.Compact(&want, fields["data"]); err != nil {
			t.Fatal(err)
		}
		same(t, want.Bytes(), m.data.Compact())
		var data map[string]json.RawMessage
		if err := json.Unmarshal(fields["data"], &data); err != nil {
			t.Fatal(err)
		}
		for key, want := range data {
			if known, ok := fieldOf([]byte(key)); ok {
				same(t, want, m.fields[known])
				checkText(t, protocol.Value(want))
				checkTexts(t, protocol.Value(want))
			}
		}
	}
}

func same(t *testing.T, want, got []byte) {
	t.Helper()
	if !bytes.Equal(want, got) {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func checkText(t *testing.T, v protocol.Value) {
	t.Helper()
	var want *string
	err := json.Unmarshal(v, &want)
	got, ok := v.Text()
	if isText := err == nil && want != nil; ok != isText || ok && got != *want {
		t.Fatalf("text of %q: got %q, %v", v, got, ok)
	}
	if f, ok := v.Float(); ok {
		var want float64
		if err := json.Unmarshal(v, &want); err != nil || f != want {
			t.Fatalf("number of %q: got %v, want %v (%v)", v, f, want, err)
		}
	}
}

func checkTexts(t *testing.T, v protocol.Value) {
	t.Helper()
	got, ok := v.Texts()
	var want []*string
	all := json.Unmarshal(v, &want) == nil && v[0] == '['
	for i := range want {
		all = all && want[i] != nil
	}
	if ok != all || ok && len(got) != len(want) {
		t.Fatalf("texts of %q: got %q, %v", v, got, ok)
	}
	for i := range got {
		if ok && got[i] != *want[i] {
			t.Fatalf("texts of %q: got %q", v, got)
		}
	}
}
