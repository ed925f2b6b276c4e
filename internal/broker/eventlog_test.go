package broker

import (
	"context"
	"errors"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"cryptointel/protocol"
)

func signal(id, data string) *protocol.Publication {
	return &protocol.Publication{Channel: protocol.LogChannel, Type: protocol.TypeSignal, Data: []byte(data),
		Signal: &protocol.Signal{ID: id, Type: "price_spike", Entities: []string{"bitcoin"}, Sources: []string{"a", "b"},
			Severity: "high", Confidence: 0.9, HasConfidence: true, High: true}}
}

func TestAppend(t *testing.T) {
	b, c := open(t, nil)
	heard := listen(t, b)
	first, second := signal("a", `{"n":1}`), signal("b", `{"n":2}`)
	second.Channel, second.TS = protocol.TestLogChannel, 5
	for i, p := range []*protocol.Publication{first, second} {
		offset, err := b.Append(t.Context(), "u1", p, nil)
		if err != nil || offset != int64(i+1) || p.Offset != offset {
			t.Fatalf("entry %d: got offset %d (%d in it), %v", i, offset, p.Offset, err)
		}
		if got := next(t, heard); !reflect.DeepEqual(got, p) {
			t.Errorf("entry %d: got %+v; want %+v", i, got, p)
		}
	}
	if first.TS != c.now().UnixMilli() || second.TS != 5 {
		t.Errorf("got TS %d and %d; want now and 5", first.TS, second.TS)
	}
	if got := b.Read(0, 10, nil); !reflect.DeepEqual(got, []*protocol.Publication{first, second}) {
		t.Errorf("read: got %+v", got)
	}
}

func TestAppendOnce(t *testing.T) {
	b, c := open(t, nil)
	heard := listen(t, b)
	steps := []struct {
		name, issuer, id, data string
		later                  time.Duration // before this step
		offset                 int64         // 0 for Conflict
	}{
		{"first", "u1", "a", `{"n":1}`, 0, 1},
		{"the same again", "u1", "a", `{"n":1}`, 0, 1},
		{"other content", "u1", "a", `{"n":2}`, 0, 0},
		{"another issuer's id", "u2", "a", `{"n":2}`, 0, 2},
		{"issuer and id are not joined", "u", "1a", `{"n":2}`, 0, 3},
		{"no id", "u1", "", `{}`, 0, 4},
		{"no id again", "u1", "", `{}`, 0, 5},
		{"at the end of the hour", "u1", "a", `{"n":1}`, time.Hour - 1, 1},
		{"after the hour", "u1", "a", `{"n":3}`, 1, 6},
		{"the later one again", "u1", "a", `{"n":3}`, time.Minute, 6},
	}
	for _, s := range steps {
		c.advance(s.later)
		offset, err := b.Append(t.Context(), s.issuer, signal(s.id, s.data), nil)
		var refused *protocol.Error
		if s.offset == 0 {
			if !errors.As(err, &refused) || refused.Code != protocol.Conflict {
				t.Errorf("%s: got %d, %v; want a conflict", s.name, offset, err)
			}
		} else if offset != s.offset || err != nil {
			t.Errorf("%s: got %d, %v; want %d", s.name, offset, err, s.offset)
		}
	}
	for want := int64(1); want <= 6; want++ {
		if got := next(t, heard).Offset; got != want {
			t.Errorf("delivered offset %d; want %d", got, want)
		}
	}
	if len(heard) > 0 || b.Head() != 6 {
		t.Errorf("%d more delivered, head %d; want none and 6", len(heard), b.Head())
	}
	if n := len(b.events.ids); n != b.events.idsByAge.len() || n != 1 {
		t.Errorf("%d ids, %d by age; want the one of the last hour", n, b.events.idsByAge.len())
	}
}

func TestAppendRefuses(t *testing.T) {
	b, _ := open(t, nil)
	done, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name   string
		ctx    context.Context
		change func(*protocol.Publication)
	}{
		{"context over", done, func(*protocol.Publication) {}},
		{"no signal", t.Context(), func(p *protocol.Publication) { p.Signal = nil }},
		{"a state channel", t.Context(), func(p *protocol.Publication) { p.Channel = "price:bitcoin" }},
		{"no data", t.Context(), func(p *protocol.Publication) { p.Data = nil }},
		{"over 1 MiB", t.Context(), func(p *protocol.Publication) { p.Data = make([]byte, maxEncoded) }},
		{"entities", t.Context(), func(p *protocol.Publication) { p.Signal.Entities = make([]string, maxNames+1) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := signal("a", `{}`)
			tt.change(p)
			if offset, err := b.Append(tt.ctx, "u1", p, nil); err == nil || offset != 0 {
				t.Errorf("got %d, %v; want an error", offset, err)
			}
		})
	}
	if offset, err := b.Append(t.Context(), "u1", signal("a", `{}`), nil); offset != 1 || err != nil {
		t.Errorf("got %d, %v; want 1: a refused entry takes neither offset nor id", offset, err)
	}
}

func TestLogBounds(t *testing.T) {
	size := sizeOf(signal("1", `{}`))
	tests := []struct {
		name                 string
		entries              int
		bytes                int64
		after                int64
		most                 int
		oldest, first, count int64
	}{
		{"by entries", 4, 0, 0, 10, 7, 7, 4},
		{"by bytes", 0, 3 * size, 0, 10, 8, 8, 3},
		{"smaller than one entry", 0, 1, 0, 10, 10, 10, 1},
		{"from the middle", 4, 0, 8, 10, 7, 9, 2},
		{"a slice", 4, 0, 0, 2, 7, 7, 2},
		{"from the head", 4, 0, 10, 10, 7, 0, 0},
		{"beyond the head", 4, 0, 99, 10, 7, 0, 0},
		{"everything", 100, 1 << 20, 0, 99, 1, 1, 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, _ := open(t, func(c *Config) { c.LogEntries, c.LogBytes = tt.entries, tt.bytes })
			if b.Head() != 0 || b.Oldest() != 1 || b.Read(0, 1, nil) != nil {
				t.Errorf("empty: head %d, oldest %d; want 0 and 1", b.Head(), b.Oldest())
			}
			for i := range 10 {
				if _, err := b.Append(t.Context(), "u1", signal(strconv.Itoa(i), `{}`), nil); err != nil {
					t.Fatal(err)
				}
			}
			var want []int64
			for i := range tt.count {
				want = append(want, tt.first+i)
			}
			var got []int64
			for _, p := range b.Read(tt.after, tt.most, nil) {
				got = append(got, p.Offset)
			}
			if b.Oldest() != tt.oldest || !reflect.DeepEqual(got, want) {
				t.Errorf("oldest %d, read %v; want %d and %v", b.Oldest(), got, tt.oldest, want)
			}
			held := b.Stats()
			if held.LogBytes != size*int64(held.LogEntries) {
				t.Errorf("%d entries of %d bytes are counted as %d", held.LogEntries, size, held.LogBytes)
			}
		})
	}
}

// TestLogKeepsUndelivered: what a subscriber has not got is not overwritten.
func TestLogKeepsUndelivered(t *testing.T) {
	b, _ := open(t, func(c *Config) { c.LogEntries = 2 })
	hold, heard := make(chan struct{}), make(chan int64, 10)
	if _, err := b.Subscribe(func(p *protocol.Publication) {
		<-hold
		heard <- p.Offset
	}); err != nil {
		t.Fatal(err)
	}
	add := func(id string) error {
		_, err := b.Append(t.Context(), "u1", signal(id, `{}`), nil)
		return err
	}
	var refused *protocol.Error
	if err := errors.Join(add("a"), add("b")); err != nil {
		t.Fatal(err)
	}
	if err := add("c"); !errors.As(err, &refused) || !refused.Code.Retryable() {
		t.Fatalf("got %v; want a refusal that may be tried again", err)
	}
	close(hold)
	for want := int64(1); want <= 2; want++ {
		if got := <-heard; got != want {
			t.Errorf("delivered %d; want %d", got, want)
		}
	}
	publish(t, b, price("bitcoin", 1)) // delivered after the log's position is noted
	<-heard
	if err := add("c"); err != nil {
		t.Errorf("after delivery: %v", err)
	}
}

func TestEpoch(t *testing.T) {
	a, b := newEpoch(), newEpoch()
	if ok := regexp.MustCompile(`^[a-z0-9]{4,16}$`).MatchString; !ok(a) || a == b {
		t.Errorf("got %q and %q", a, b)
	}
}

func TestFifo(t *testing.T) {
	var q fifo[int]
	pushed, popped := 0, 0
	for _, n := range strings.Fields("5 -3 10 -12 1 -1 100 -99") {
		for i, _ := strconv.Atoi(n); i != 0; {
			if i > 0 {
				q.push(pushed)
				pushed++
				i--
			} else {
				if got := q.pop(); got != popped {
					t.Fatalf("popped %d; want %d", got, popped)
				}
				popped++
				i++
			}
		}
	}
	if q.len() != 1 || q.at(0) != pushed-1 || len(q.items) > 100 {
		t.Errorf("left: %v of %v", q.len(), q.items)
	}
}
