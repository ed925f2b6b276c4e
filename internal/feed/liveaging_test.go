package feed

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"cryptointel/internal/market"
)

// TestLiveProbe finds a dead connection to an exchange that may be silent for
// long, by a ping of ours.
func TestLiveProbe(t *testing.T) {
	b := &bed{name: "binance", venue: &venue{rest: answers("/api/v3/exchangeInfo", binanceInfo)}}
	b.upgrade = func(w http.ResponseWriter, r *http.Request) {
		n := b.count().opened
		dead := n == 1
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{
			OnPingReceived: func(context.Context, []byte) bool { return !dead },
		})
		if err != nil {
			t.Error(err)
			return
		}
		defer ws.CloseNow()
		ws.Write(context.Background(), websocket.MessageText, []byte(binanceAck))
		ws.Write(context.Background(), websocket.MessageText, []byte(aggTrade(n)))
		for err == nil {
			_, _, err = ws.Read(context.Background())
		}
	}
	b.run(t, func() {
		pass(time.Minute)
		if again := b.gaps()[0]; again < probeAfter+pongWithin || again > probeAfter+pongWithin+2*time.Second {
			t.Errorf("connected again after %v, want soon after %v", again, probeAfter+pongWithin)
		}
		if b.log.count("no answer to a ping") != 1 {
			t.Errorf("logged %q", b.log.lines)
		}
		pass(time.Hour) // a quiet one that answers stays
		if n := b.count().opened; n != 2 {
			t.Errorf("%d connections, want 2", n)
		}
	})
}

const bybitTickersAnswer = `{"retCode":0,"retMsg":"OK","result":{"category":"spot","list":[{"symbol":"BTCUSDT","lastPrice":"1","turnover24h":"1"}]},"time":946684800000}`

// bybitAt is a frame of Bybit's with trades of the bubble's time: trade n is
// at second n.
func bybitAt(ids ...int) string {
	var all []string
	for _, id := range ids {
		all = append(all, strings.Replace(bybitTradeText("BTCUSDT", id), fmt.Sprint(bybitTime+id), fmt.Sprint(946684800000+id*1000), 1))
	}
	return bybitTradesFrame(all...)
}

const bybitAck = `{"success":true,"ret_msg":"subscribe","conn_id":"1","req_id":"BTCUSDT","op":"subscribe"}`

// TestLiveAging asks for what was missed as soon as the subscription is
// confirmed, though no trade comes for long, and delivers nothing twice when
// they come.
func TestLiveAging(t *testing.T) {
	var asked []time.Duration
	var start time.Time
	rest := func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/v5/market/recent-trade") {
			fmt.Fprint(w, bybitTickersAnswer)
			return
		}
		asked = append(asked, time.Since(start).Round(time.Second))
		if len(asked) == 1 {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "slow down", http.StatusTooManyRequests)
			return
		}
		w.Write(bybitRecent(20, 15, 12, 10))
	}
	b := &bed{name: "bybit", assets: []string{"BTC"}, venue: &venue{rest: rest}}
	b.talk = func(_ context.Context, n int, c *talk) {
		c.await(1)
		if n == 0 {
			c.say(bybitAck, bybitAt(5, 10))
			return
		}
		start = time.Now()
		c.say(bybitAck)
		sleep(c.ctx, 10*time.Second)
		c.say(bybitAt(20), bybitAt(40))
		c.stay()
	}
	b.run(t, func() {
		pass(30 * time.Second)
		equalTrades(t, b.out.trades(), "5", "10", "12late", "15late", "20late", "40")
		if len(asked) != 2 || asked[0] > time.Second || asked[1] > 4*time.Second {
			t.Errorf("asked %v after the subscription, want at once and once again", asked)
		}
		if s := b.status(); s.RefillFailed != 0 || s.RefillWaiting != 0 || s.Refilled != 3 {
			t.Errorf("got %+v", s)
		}
	})
}

// TestLiveAsksWithoutConnection: REST can be there when the stream is not.
func TestLiveAsksWithoutConnection(t *testing.T) {
	rest := func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/v3/exchangeInfo") {
			fmt.Fprint(w, binanceInfo)
			return
		}
		fmt.Fprint(w, aggTrades(3, 4))
	}
	b := &bed{name: "binance", venue: &venue{rest: rest}}
	b.upgrade = func(w http.ResponseWriter, r *http.Request) {
		if b.count().opened > 1 {
			http.Error(w, "closed", http.StatusServiceUnavailable)
			return
		}
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer ws.CloseNow()
		ws.Read(context.Background()) // the subscription
		for _, f := range []string{binanceAck, aggTrade(1), aggTrade(2), aggTrade(5)} {
			ws.Write(context.Background(), websocket.MessageText, []byte(f))
		}
	}
	b.run(t, func() {
		pass(20 * time.Second)
		equalTrades(t, b.out.trades(), "1", "2", "5", "3late", "4late")
	})
}

// TestLiveFetchesBarsAgain: a hole of a bar and more is filled from REST.
func TestLiveFetchesBarsAgain(t *testing.T) {
	var away atomic.Bool
	var bars atomic.Int64
	rest := func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/api/v3/exchangeInfo"):
			fmt.Fprint(w, binanceInfo)
		case strings.HasPrefix(r.URL.Path, "/api/v3/klines"):
			bars.Add(1)
			fmt.Fprint(w, "[]")
		default:
			fmt.Fprint(w, aggTrades(1))
		}
	}
	b := &bed{name: "binance", seeder: noBars{}, venue: &venue{rest: rest}}
	b.refuse = func(int) error {
		if away.Load() {
			return errors.New("nobody there")
		}
		return nil
	}
	b.talk = func(_ context.Context, n int, c *talk) {
		c.await(1)
		c.say(binanceAck)
		for id := 1; !away.Load() && c.say(aggTrade(n*10000+id)); id++ {
			sleep(c.ctx, time.Second)
		}
	}
	b.run(t, func() {
		for _, step := range []struct {
			away time.Duration
			want int64 // two assets
		}{{0, 2}, {time.Minute, 2}, {6 * time.Minute, 4}} {
			away.Store(step.away > 0)
			pass(step.away)
			away.Store(false)
			pass(2 * time.Minute)
			if n := bars.Load(); n != step.want {
				t.Errorf("%d requests for bars after %v without prices, want %d", n, step.away, step.want)
			}
		}
	})
}

type noBars struct{}

func (noBars) Seed(string, string, []market.Candle) {}

// TestResubscribed is the codec's side of it: what an answer gave, what the
// connection tells after all, and what is still missing between the two.
func TestResubscribed(t *testing.T) {
	note := func(from, to int64) Note {
		return Note{Kind: Gap, Symbol: "BTCUSDT", From: from, To: to, Text: uncounted}
	}
	acked := Note{Kind: Subscribed, Symbol: "BTCUSDT"}
	for _, c := range []struct {
		name   string
		first  []int  // trades of the first connection
		answer []int  // of REST, after the second one's ack
		next   []int  // trades of the second connection
		ticks  string // of answer and next
		notes  []Note // of the second connection
		rest   string
	}{
		{"nothing known yet", nil, nil, []int{30}, "[30]", []Note{acked}, ""},
		{"all there is", []int{10}, []int{20, 15, 10}, []int{20, 30}, "[15 20 30]", []Note{acked, note(11, openEnd)}, ""},
		{"made in between", []int{10}, []int{20, 15, 10}, []int{30}, "[15 20 30]", []Note{acked, note(11, openEnd), note(21, 29)}, ""},
		{"right behind it", []int{10}, []int{20, 15, 10}, []int{21}, "[15 20 21]", []Note{acked, note(11, openEnd)}, ""},
		{"nothing new", []int{10}, []int{10, 5}, []int{30}, "[30]", []Note{acked, note(11, openEnd), note(11, 29)}, ""},
		{"none at all", []int{10}, []int{}, []int{30}, "[30]", []Note{acked, note(11, openEnd), note(11, 29)}, ""},
		{"out of reach", []int{10}, []int{20, 15}, []int{30}, "[15 20 30]", []Note{acked, note(11, openEnd), note(21, 29)}, "11 to 14"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := NewBybit(registry(t))
			b.Reset()
			var got []market.Tick
			decode := func(frame string) (out []market.Tick) {
				out, err := b.Decode([]byte(frame), now0, nil)
				if err != nil {
					t.Fatal(err)
				}
				return out
			}
			for _, id := range c.first {
				decode(bybitAt(id))
			}
			b.Reset()
			decode(bybitAck)
			notes := slices.Clone(b.Notes())
			if len(notes) > 1 {
				ticks, rest, err := b.ParseRefill(notes[1], bybitRecent(c.answer...), now0)
				if err != nil {
					t.Fatal(err)
				}
				if text := fmt.Sprintf("%d to %d", rest.From, rest.To); rest.Kind != NoNote && text != c.rest || rest.Kind == NoNote && c.rest != "" {
					t.Errorf("rest %+v, want %q", rest, c.rest)
				}
				got = append(got, ticks...)
			}
			for _, id := range c.next {
				got = append(got, decode(bybitAt(id))...)
				notes = append(notes, b.Notes()...)
			}
			for i := range notes {
				notes[i].After, notes[i].Before = 0, 0
			}
			if fmt.Sprint(ids(got)) != c.ticks || !slices.Equal(notes, c.notes) {
				t.Errorf("got %v and %+v\nwant %s and %+v", ids(got), notes, c.ticks, c.notes)
			}
		})
	}
}
