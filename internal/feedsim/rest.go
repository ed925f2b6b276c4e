package feedsim

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// request answers a REST request, or misbehaves.
func (x *exchange) request(w http.ResponseWriter, r *http.Request) {
	x.mu.Lock()
	x.stats.Requests++
	fair := x.requests.allow(time.Now())
	x.mu.Unlock()
	if !fair {
		x.breach(0, "more than %s requests", x.rules.requests)
	}
	switch {
	case !fair || x.holds(REST429):
		x.count(func(st *Stats) { st.Throttled++ })
		tooManyRequests(w, x.venue.tooMany())
		return
	case x.holds(REST500):
		http.Error(w, "<html><body>500 Internal Server Error</body></html>", http.StatusInternalServerError)
		return
	case x.holds(RESTSlow):
		t := time.NewTimer(slowAnswer)
		defer t.Stop()
		select {
		case <-t.C:
		case <-r.Context().Done():
			return
		case <-x.sim.ctx.Done():
			return
		}
	}
	if r.Method != http.MethodGet {
		http.Error(w, "GET only", http.StatusMethodNotAllowed)
		return
	}
	x.venue.serve(x, w, r)
}

// tooManyRequests answers 429 as a load balancer does.
func tooManyRequests(w http.ResponseWriter, body string) {
	w.Header().Set("Retry-After", "2")
	http.Error(w, body, http.StatusTooManyRequests)
}

// answer sends v as JSON.
func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // The client may be gone: nothing to do then.
}

// quoted is what a client said as a JSON string; %q is for our own words only.
func quoted(s string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // Exchanges write > as it is.
	enc.Encode(s)            // a string into memory: cannot fail
	return strings.TrimSuffix(b.String(), "\n")
}

// An object is a JSON object.
type object = map[string]any

// A list is a JSON array.
type list = []any

// intParam is a whole number of the query, otherwise def.
func intParam(r *http.Request, name string, def int64) int64 {
	n, err := strconv.ParseInt(r.URL.Query().Get(name), 10, 64)
	if err != nil {
		return def
	}
	return n
}

// limitParam is the number of items asked for, at most most.
func limitParam(r *http.Request, def, most int) int {
	n := int(intParam(r, "limit", int64(def)))
	if n <= 0 {
		n = def
	}
	return min(n, most)
}

// millisParam is a time in ms of the query, otherwise def.
func millisParam(r *http.Request, name string, def time.Time) time.Time {
	if r.URL.Query().Get(name) == "" {
		return def
	}
	return time.UnixMilli(intParam(r, name, 0))
}

// newest are the last n of a list, newest first.
func newest[T any](list []T, n int) []T {
	out := slices.Clone(list[max(0, len(list)-n):])
	slices.Reverse(out)
	return out
}

// decimal writes a figure as the exchanges do.
func decimal(f float64, digits int) string { return strconv.FormatFloat(f, 'f', digits, 64) }

func integer(n int64) string { return strconv.FormatInt(n, 10) }
