package protocol

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"testing"
)

// exampleLines is the frames of testdata/examples.jsonl, which show every
// message of the protocol as the documentation has it.
func exampleLines(tb testing.TB) [][]byte {
	tb.Helper()
	b, err := os.ReadFile("testdata/examples.jsonl")
	if err != nil {
		tb.Fatal(err)
	}
	return bytes.Split(bytes.TrimSpace(b), []byte("\n"))
}

// start is a moment that the examples name: 2025-12-02T12:30:00Z.
const start = 1764678600 * Second

var bitcoin = &Publication{
	Channel: "price:bitcoin", Type: TypePrice, Offset: 1764678600123456, TS: 1764678600123, Price: 43250.75,
	Data: []byte(`{"symbol":"BTC","asset":"bitcoin","price":43250.75,"change_24h":2.34,"volume_24h":1250000000,"timestamp":"2025-12-02T12:30:00.100Z"}`),
}

var spike = &Publication{
	Channel: LogChannel, Type: TypeSignal, Offset: 184467, TS: 1764678601000,
	Data:   []byte(`{"id":"price_spike-ethereum-1764678600","type":"price_spike","symbol":"ETH","entities":["ethereum"],"confidence":0.91,"description":"Unusual price movement","timestamp":"2025-12-02T12:30:01Z","metadata":{"price_change":5.2}}`),
	Signal: &Signal{ID: "price_spike-ethereum-1764678600", Type: "price_spike", Entities: []string{"ethereum"}, Confidence: 0.91, HasConfidence: true},
}

// serverFrames makes with the encoders the server's frames of the examples.
func serverFrames() [][]byte {
	merged := &Publication{
		Channel: "price:ethereum", Type: TypePrice, Offset: 1764678600223456, TS: 1764678601200,
		Data: []byte(`{"symbol":"ETH","asset":"ethereum","price":2305.2,"timestamp":"2025-12-02T12:30:01Z"}`),
	}
	last := &Publication{
		Channel: "price:bitcoin", Type: TypePrice, Offset: 1764678590000000, TS: 1764678590000,
		Data: []byte(`{"symbol":"BTC","asset":"bitcoin","price":43250.75,"timestamp":"2025-12-02T12:29:50Z"}`),
	}
	at := Position{Log: true, Channel: "signals:all", From: 184401, Head: 184466, Resumed: true}
	return [][]byte{
		AppendDelivery(nil, Delivery{Channel: "price:bitcoin", Pub: bitcoin}),
		AppendDelivery(nil, Delivery{Channel: "signals:all", Pub: spike, Prev: 183990}),
		AppendAck(nil, &Ack{ID: []byte("2"), For: CmdSubscribe, Epoch: "k3f9",
			Channels: []Position{{Channel: "price:bitcoin"}, {Channel: "price:ethereum"}, at},
			Errors: []Refusal{{"price:nope", &Error{Code: InvalidChannel,
				Message: "no asset 'nope'; GET /api/v1/assets lists them"}}}}),
		AppendPong(nil, Command{}, start),
		AppendError(nil, []byte("7"), "price:invalid", &Error{Code: InvalidChannel, Message: "no asset 'invalid'"}, start),
		AppendUnsubscribed(nil, "signals:all", Forbidden),
		AppendDelivery(nil, Delivery{Channel: "price:ethereum", Pub: merged,
			Merge: &Merge{N: 37, Open: 2301.5, High: 2309, Low: 2299.1, Priced: true}}),
		AppendDelivery(nil, Delivery{Channel: "price:bitcoin", Pub: last, Snapshot: true}),
		AppendPosition(nil, "mark", "signals:all", 184610, 184467),
		AppendPosition(nil, "caught_up", "signals:all", 184466, 184460),
	}
}

// TestExamples holds that every client frame of the examples is accepted and
// every server frame is what the encoders write.
func TestExamples(t *testing.T) {
	commands := []string{CmdAuth, CmdSubscribe, CmdUnsubscribe, CmdPing, CmdStatus, CmdSeen}
	made := serverFrames()
	var seen []string
	for _, line := range exampleLines(t) {
		var head struct{ Type string }
		if err := json.Unmarshal(line, &head); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		switch {
		case slices.Contains(commands, head.Type):
			seen = append(seen, head.Type)
			if _, err := ParseCommand(line); err != nil {
				t.Errorf("%s\nis refused: %v", line, err)
			}
		case head.Type == TypeStatus: // internal/session writes these
		case len(made) == 0:
			t.Fatalf("nothing here makes\n%s", line)
		default:
			if !bytes.Equal(made[0], line) {
				t.Errorf("frame\n got %s\nwant %s", made[0], line)
			}
			made = made[1:]
		}
	}
	if len(made) > 0 {
		t.Errorf("not in the examples: %s", made[0])
	}
	slices.Sort(seen)
	if seen = slices.Compact(seen); len(seen) != len(commands) {
		t.Errorf("the examples show only the commands %v", seen)
	}
}

// TestServerFramesParse holds that what the encoders write is one JSON object
// to encoding/json and to ourselves.
func TestServerFramesParse(t *testing.T) {
	for _, b := range serverFrames() {
		fields(t, b)
	}
}

// fields is the JSON object b as encoding/json reads it.
func fields(t *testing.T, b []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatalf("%s\nis not JSON: %v", b, err)
	}
	if err := CheckJSON(b); err != nil {
		t.Fatalf("%s\nis not accepted by ourselves: %v", b, err)
	}
	return m
}

// TestBroadcastFields holds that a frame for many connections has no field
// that belongs to one of them: otherwise it could not be encoded once.
func TestBroadcastFields(t *testing.T) {
	shared := []string{"type", "channel", "snapshot", "offset", "prev", "ts", "conflated", "data"}
	log := &Publication{Channel: LogChannel, Type: TypeSignal, Data: []byte(`{}`), Signal: &Signal{}}
	for _, b := range [][]byte{
		AppendDelivery(nil, Delivery{Channel: "price:btc", Pub: bitcoin, Snapshot: true, Merge: &Merge{N: 2}}),
		AppendDelivery(nil, Delivery{Channel: "signals:all", Pub: log, Prev: 1, Snapshot: true, Merge: &Merge{N: 2}}),
		AppendPosition(nil, "mark", "signals:all", 2, 1),
	} {
		for key := range maps.Keys(fields(t, b)) {
			if !slices.Contains(shared, key) {
				t.Errorf("%s\nhas the field %q", b, key)
			}
		}
	}
}
