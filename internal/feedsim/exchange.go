package feedsim

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// A venue is how one exchange speaks. It holds no state.
type venue interface {
	rules() rules
	listings() []listing
	// open greets a new connection; the request may carry subscriptions.
	open(c *conn, r *http.Request)
	// message answers what the client said.
	message(c *conn, msg []byte)
	// trades tells new trades of a subscription to trades.
	trades(c *conn, s *sub, list []Trade)
	// ticker tells the newest state to a subscription to tickers.
	ticker(c *conn, s *sub)
	// beat tells that the connection lives.
	beat(c *conn)
	// limited tells that the client asks too much, and ends the connection if
	// the exchange does.
	limited(c *conn)
	// moving is the frame that asks for a new connection; empty when there is
	// no such.
	moving() string
	// serve answers a REST request.
	serve(x *exchange, w http.ResponseWriter, r *http.Request)
	// tooMany is the body of REST's 429.
	tooMany() string
}

// rules are what an exchange grants its clients. Zero means no such rule.
type rules struct {
	hosts           []string      // that its public URLs name
	resolution      time.Duration // of times in frames
	gaps            bool          // lost frames can be noticed
	tickerEvery     time.Duration // shortest time between two tickers of a symbol
	beatEvery       time.Duration // heartbeats, to connections that have any
	beatIdle        bool          // only while nothing else is sent
	subscribeWithin time.Duration // connections without a subscription end then
	idle            time.Duration // the client must have said something
	quiet           time.Duration // either side must have said something
	pingEvery       time.Duration // the server's pings
	pongWithin      time.Duration
	life            time.Duration // of a connection
	connects        limit         // by all clients
	messages        limit         // on a connection
	requests        limit         // REST, by all clients
}

// An exchange is one simulated exchange.
type exchange struct {
	sim   *Sim
	name  string
	venue venue
	rules rules // immutable, as the next two
	tapes map[string]*tape
	order []string // of the symbols

	mu       sync.Mutex // guards the fields below
	due      []Fault    // in order of time
	until    map[Kind]time.Time
	connects window
	requests window
	conns    map[*conn]struct{}
	stats    Stats
}

func newExchange(s *Sim, name string, v venue) (*exchange, error) {
	x := &exchange{
		sim: s, name: name, venue: v, rules: v.rules(),
		tapes: make(map[string]*tape), until: make(map[Kind]time.Time), conns: make(map[*conn]struct{}),
		due: plan(s.cfg, s.start, name, v),
	}
	x.connects.limit, x.requests.limit = x.rules.connects, x.rules.requests
	begin := s.start.UTC().Truncate(barLength).Add(-warmUp)
	for _, l := range v.listings() {
		rec := s.cfg.Recordings.by[l.from]
		if rec == nil {
			return nil, fmt.Errorf("feedsim: no trades of %s in the recordings; there are %s", l.from,
				strings.Join(slices.Sorted(maps.Keys(s.cfg.Recordings.by)), ", "))
		}
		l.speed = cmp.Or(l.speed, 1) * s.cfg.Speed
		x.tapes[l.symbol] = newTape(l, rec, begin, x.rules.resolution, s.drift)
		x.order = append(x.order, l.symbol)
	}
	return x, nil
}

// holds says whether a kind that is a state of the exchange is on.
func (x *exchange) holds(k Kind) bool {
	now := time.Now()
	x.mu.Lock()
	done := x.advanceLocked(now)
	on := now.Before(x.until[k])
	x.mu.Unlock()
	for _, f := range done {
		x.sim.did(f)
	}
	return on
}

// advanceLocked turns on what is due.
func (x *exchange) advanceLocked(now time.Time) (done []Fault) {
	x.due = slices.DeleteFunc(x.due, func(f Fault) bool {
		if !f.Kind.holds() || f.At.After(now) {
			return false
		}
		x.until[f.Kind] = later(x.until[f.Kind], f.At.Add(f.For))
		f.Note = "until " + f.At.Add(f.For).UTC().Format("15:04:05.000")
		done = append(done, f)
		return true
	})
	return done
}

// take hands a due fault to a connection.
func (x *exchange) take(now time.Time) (Fault, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if end := x.sim.start.Add(x.sim.cfg.Duration); now.After(end) {
		x.due = slices.DeleteFunc(x.due, func(f Fault) bool { return f.planned && !f.Kind.holds() })
	}
	for i, f := range x.due {
		if f.At.After(now) {
			break
		}
		if f.Kind.holds() {
			continue
		}
		x.due = slices.Delete(x.due, i, i+1)
		if f.Kind == RateLimit {
			x.until[RateLimit] = now.Add(f.For)
		}
		return f, true
	}
	return Fault{}, false
}

// nextFault is when the next planned fault after now is due.
func (x *exchange) nextFault(now time.Time) (at time.Time, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, f := range x.due {
		if f.At.After(now) {
			return f.At, true
		}
	}
	return at, false
}

func (x *exchange) breach(conn uint64, format string, args ...any) {
	x.sim.did(Fault{Exchange: x.name, Kind: Breach, Conn: conn, Note: fmt.Sprintf(format, args...)})
}

// ServeHTTP is the exchange's door.
func (x *exchange) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if x.holds(Outage) {
		x.count(func(st *Stats) { st.Refused++ })
		panic(http.ErrAbortHandler) // The connection ends without an answer.
	}
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		x.upgrade(w, r)
		return
	}
	x.request(w, r)
}

func (x *exchange) count(f func(*Stats)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	f(&x.stats)
}

// upgrade accepts a connection and serves it until it ends.
func (x *exchange) upgrade(w http.ResponseWriter, r *http.Request) {
	x.mu.Lock()
	now := time.Now()
	fair := x.connects.allow(now)
	limited := !fair || now.Before(x.until[RateLimit])
	x.mu.Unlock()
	if !fair {
		x.breach(0, "more than %s connection attempts", x.rules.connects)
	}
	if limited {
		x.count(func(st *Stats) { st.Refused++ })
		tooManyRequests(w, "Too Many Requests")
		return
	}
	if !x.sim.enter() {
		panic(http.ErrAbortHandler)
	}
	defer x.sim.conns.Done()
	c := &conn{x: x, in: make(chan []byte, 256), kick: make(chan struct{}, 1)}
	hijack := &hijacker{ResponseWriter: w}
	ws, err := websocket.Accept(hijack, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return // Accept has answered.
	}
	c.ws, c.wire, c.messages = ws, hijack.wire, window{limit: x.rules.messages}
	x.enter(c)
	c.run(x.sim.ctx, r)
	x.leave(c)
}

// enter counts a connection that Close waits for.
func (s *Sim) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.conns.Add(1)
	}
	return !s.ended
}

func (x *exchange) enter(c *conn) {
	x.sim.mu.Lock()
	x.sim.conn++
	c.id = x.sim.conn
	x.sim.mu.Unlock()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.conns[c] = struct{}{}
	x.stats.Connects++
}

func (x *exchange) leave(c *conn) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.conns, c)
}

func keys[K comparable, V any](m map[K]V) iter.Seq[K] { return maps.Keys(m) }

// A limit is how many of something are granted in a time.
type limit struct {
	n   int
	per time.Duration
}

func (l limit) String() string { return fmt.Sprintf("%d in %s", l.n, l.per) }

// A window counts against a limit, over the time that has just passed.
type window struct {
	limit
	times []time.Time
}

// allow counts one more and says whether it is granted.
func (w *window) allow(now time.Time) bool {
	if w.n == 0 {
		return true
	}
	w.times = slices.DeleteFunc(w.times, func(t time.Time) bool { return now.Sub(t) >= w.per })
	if len(w.times) >= w.n {
		return false
	}
	w.times = append(w.times, now)
	return true
}
