package server

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"cryptointel/internal/eventloop"
	"cryptointel/internal/feed"
	"cryptointel/internal/market"
	"cryptointel/protocol"
)

// An exchangeLine plays an exchange's connection: frames as Binance sends
// them, through codec, market and broker, with a price that says which frame
// it was.
type exchangeLine struct {
	s     *Server
	codec *feed.Binance
	names []string // tickers
	ticks []market.Tick
	sent  []atomic.Int64 // when frame n was given to the codec, by n modulo its length
	n     int64
}

func newExchangeLine(s *Server, assets int) *exchangeLine {
	l := &exchangeLine{s: s, codec: feed.NewBinance(s.assets), sent: make([]atomic.Int64, 1<<16)}
	for _, a := range s.assets.All() {
		if slug, ok := s.assets.Slug(a.Ticker); ok && slug == a.Slug && strings.Trim(a.Ticker, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" &&
			!slices.Contains([]string{"USDT", "USDC", "USDE", "USDS", "DAI"}, a.Ticker) && len(l.names) < assets {
			l.names = append(l.names, a.Ticker)
		}
	}
	return l
}

// basePrice is that of frame 0; a cent more for each frame after it.
const basePrice = 100_000

// tick sends one frame through everything.
func (l *exchangeLine) tick(tb testing.TB) {
	now := time.Now()
	slot := l.n % int64(len(l.sent))
	l.sent[slot].Store(now.UnixNano())
	ms := now.UnixMilli()
	name := l.names[l.n%int64(len(l.names))]
	frame := fmt.Appendf(nil, `{"stream":"x@aggTrade","data":{"e":"aggTrade","E":%d,"s":"%sUSDT","a":%d,"p":"%d.%02d","q":"0.5","f":1,"l":1,"T":%d,"m":true,"M":true}}`,
		ms, name, 1+l.n/int64(len(l.names)), basePrice+slot/100, slot%100, ms)
	l.n++
	ticks, err := l.codec.Decode(frame, protocol.Time(now.UnixNano()), l.ticks[:0])
	if err != nil || len(ticks) != 1 {
		tb.Fatalf("%s: %d ticks, %v", frame, len(ticks), err)
	}
	l.ticks = ticks
	if err := l.s.market.Deliver(tb.Context(), ticks); err != nil {
		tb.Fatal(err)
	}
}

// second sends frames for a second, evenly spread over its milliseconds.
func (l *exchangeLine) second(tb testing.TB, rate int) {
	begin := time.Now()
	for ms := range 1000 {
		for range rate*(ms+1)/1000 - rate*ms/1000 {
			l.tick(tb)
		}
		time.Sleep(time.Until(begin.Add(time.Duration(ms+1) * time.Millisecond)))
	}
}

func ingestServer(b *testing.B) *Server {
	cfg := testConfig(eventloop.KindAuto)
	cfg.Loops = 0
	cfg.Gateway.AcceptRate = 0
	cfg.Broker.Pending = 1 << 20
	s, _ := begin(b, cfg)
	return s
}

// BenchmarkIngest takes 5,000 ticks a second in, of 50 assets, each with
// another price, and nobody listens. cores is the CPU time that all of the
// process took a second, the making of the frames included.
func BenchmarkIngest(b *testing.B) {
	const rate = 5000
	l := newExchangeLine(ingestServer(b), 50)
	l.second(b, rate)
	before, from, seconds := processTime(), time.Now(), 0
	for b.Loop() {
		l.second(b, rate)
		seconds++
	}
	b.ReportMetric((processTime()-before).Seconds()/time.Since(from).Seconds(), "cores")
	b.ReportMetric(float64(rate*seconds)/time.Since(from).Seconds(), "ticks/s")
	if n := l.s.market.stats().Published; n < uint64(rate*seconds) {
		b.Fatalf("%d of %d ticks were published", n, rate*seconds)
	}
}

// BenchmarkTickToSocket sends 1,000 ticks a second of 50 assets to 100
// clients over real sockets, each on five assets, or each on all of them, and
// measures from the codec to the client's read.
func BenchmarkTickToSocket(b *testing.B) {
	for _, assets := range []int{5, 50} {
		b.Run(fmt.Sprint("assets=", assets), func(b *testing.B) { tickToSocket(b, assets) })
	}
}

func tickToSocket(b *testing.B, assets int) {
	const rate, clients = 1000, 100
	s := ingestServer(b)
	l := newExchangeLine(s, 50)
	var readers sync.WaitGroup
	took := make([][]time.Duration, clients)
	for i := range clients {
		c := connect(b, s)
		var channels []string
		for j := range assets {
			channels = append(channels, `"price:`+l.names[(i*5+j)%len(l.names)]+`"`)
		}
		c.subscribe(b, strings.Join(channels, ","))
		readers.Go(func() { took[i] = l.read(c) })
	}
	l.second(b, rate)
	for b.Loop() {
		l.second(b, rate)
	}
	b.StopTimer()
	for s.hubStats(b.Context()).BacklogFrames > 0 {
		time.Sleep(time.Millisecond)
	}
	s.loops.Drain(protocol.Millisecond)
	readers.Wait()
	all := slices.Concat(took...)
	// A client that is slow, since all share two cores here, skips prices.
	skipped := int(s.hubStats(b.Context()).Conflated)
	if want := int(l.n) * clients * assets / 50; len(all)+skipped < want {
		b.Fatalf("%d deliveries and %d skipped, want %d", len(all), skipped, want)
	}
	b.ReportMetric(float64(skipped), "skipped")
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(all[len(all)-1].Microseconds())/1000, "max-ms")
}

// read notes how long each price took, to the end of the connection.
func (l *exchangeLine) read(c *socket) (took []time.Duration) {
	var payload []byte
	_ = c.conn.SetDeadline(time.Time{})
	for {
		h, err := ws.ReadHeader(c.in)
		if err != nil {
			return took
		}
		payload = slices.Grow(payload[:0], int(h.Length))[:h.Length]
		if _, err := io.ReadFull(c.in, payload); err != nil {
			return took
		}
		now := time.Now().UnixNano()
		_, rest, ok := bytes.Cut(payload, []byte(`"price":`))
		end := bytes.IndexByte(rest, ',')
		if !ok || end < 0 {
			continue
		}
		price, err := strconv.ParseFloat(string(rest[:end]), 64)
		if err != nil {
			continue
		}
		slot := int64(price*100+0.5) - basePrice*100
		took = append(took, time.Duration(now-l.sent[slot].Load()))
	}
}
