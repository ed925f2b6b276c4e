package protocol

import (
	"reflect"
	"testing"
)

func TestParseSignal(t *testing.T) {
	for _, c := range []struct {
		name string
		in   string
		want *Signal
		err  *Error
	}{
		{"of the documentation", string(spike.Data), spike.Signal, nil},
		{"empty", `{}`, &Signal{}, nil},
		{"everything", ` {"id":"a","type":"t","entities":["b","a"],"sources":["s"],"severity":"high","confidence":0} `,
			&Signal{ID: "a", Type: "t", Entities: []string{"b", "a"}, Sources: []string{"s"}, Severity: "high", HasConfidence: true}, nil},
		{"other fields are not looked at", `{"status":1,"metadata":{"type":2,"confidence":"x"},"High":true}`, &Signal{}, nil},
		{"empty lists", `{"entities":[],"sources":[]}`, &Signal{}, nil},

		{"not JSON", `{`, nil, invalid("data: not valid JSON")},
		{"a key twice", `{"id":"a","id":"b"}`, nil, invalid("data: an object has the same key twice")},
		{"a list", `[]`, nil, invalid("data must be an object")},
		{"id", `{"id":1}`, nil, invalid("'id' must be a string")},
		{"type", `{"type":null}`, nil, invalid("'type' must be a string")},
		{"severity", `{"severity":3}`, nil, invalid("'severity' must be a string")},
		{"entities", `{"entities":"bitcoin"}`, nil, invalid("'entities' must be a list of strings")},
		{"sources", `{"sources":[1]}`, nil, invalid("'sources' must be a list of strings")},
		{"confidence as text", `{"confidence":"0.9"}`, nil, invalid("'confidence' must be a number from 0 to 1")},
		{"confidence below 0", `{"confidence":-0.5}`, nil, invalid("'confidence' must be a number from 0 to 1")},
		{"confidence in percent", `{"confidence":91}`, nil, invalid("'confidence' must be a number from 0 to 1")},
		{"confidence null", `{"confidence":null}`, nil, invalid("'confidence' must be a number from 0 to 1")},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseSignal([]byte(c.in))
			if !reflect.DeepEqual(got, c.want) || !reflect.DeepEqual(err, c.err) {
				t.Errorf("%s\n got %+v, %v\nwant %+v, %v", c.in, got, err, c.want, c.err)
			}
		})
	}
}
