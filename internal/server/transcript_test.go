package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"cryptointel/conformance"
	"cryptointel/internal/eventloop"
)

// TestTranscripts replays every transcript against the running server.
func TestTranscripts(t *testing.T) {
	all, err := conformance.All()
	if err != nil || len(all) == 0 {
		t.Fatalf("%d transcripts: %v", len(all), err)
	}
	for _, way := range []struct {
		kind  string
		loops int
	}{{eventloop.KindEpoll, 1}, {eventloop.KindEpoll, 2}, {eventloop.KindPortable, 1}} {
		for _, tr := range all {
			t.Run(fmt.Sprintf("%s %d/%s", way.kind, way.loops, tr.Name), func(t *testing.T) {
				t.Parallel()
				got, err := tr.Replay(newLive(t, way.kind, way.loops))
				if err != nil {
					t.Fatal(err)
				}
				want := tr.Text()
				if way.loops > 1 {
					want = apart(want, got)
				}
				if err := conformance.Same(want, got); err != nil {
					t.Errorf("%s.txt %v", tr.Name, err)
				}
			})
		}
	}
}

// apart is the transcript for connections on different loops. Those that
// follow one channel on one loop are a cohort, and prev is the last entry that
// the cohort matched; a cohort of its own may say 0 instead, as long as the
// connection begins at or behind that entry. So this is what may differ, and
// only in a caught_up.
func apart(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	from := map[string]int64{} // by connection and channel
	for i := range min(len(w), len(g)) {
		conn, text, _ := strings.Cut(w[i], "> ")
		var is, be said
		if json.Unmarshal([]byte(text), &be) != nil {
			continue
		}
		for _, channel := range be.Channels {
			from[conn+" "+channel] = be.From
		}
		for channel, at := range be.At {
			from[conn+" "+channel] = at.From
		}
		_, text, _ = strings.Cut(g[i], "> ")
		if be.Type == "caught_up" && json.Unmarshal([]byte(text), &is) == nil &&
			is.Prev == 0 && be.Prev <= from[conn+" "+be.Channel] {
			w[i] = strings.Replace(w[i], fmt.Sprintf(`"prev":%d`, be.Prev), `"prev":0`, 1)
		}
	}
	return strings.Join(w, "\n")
}
