package metrics

import "github.com/prometheus/client_golang/prometheus"

// What is shown about the other parts: feeds, market, broker, loops.

// A part is a part of a snapshot that may be missing, and its metrics with it.
type part[T any] struct{ get func(*Snapshot) *T }

func from[T any](get func(*Snapshot) *T) part[T] { return part[T]{get} }

func (p part[T]) gauge(name, help string, number func(*T) float64) metric {
	return metric{name: name, help: help, kind: prometheus.GaugeValue, each: p.each(number)}
}

func (p part[T]) counter(name, help string, number func(*T) uint64) metric {
	return metric{name: name, help: help, kind: prometheus.CounterValue,
		each: p.each(func(x *T) float64 { return float64(number(x)) })}
}

func (p part[T]) each(number func(*T) float64) func(*Snapshot, emit) {
	return func(s *Snapshot, emit emit) {
		if x := p.get(s); x != nil {
			emit(number(x))
		}
	}
}

// ofFeeds is a number for each feed.
func ofFeeds(name, help string, kind prometheus.ValueType, number func(*Feed) float64) metric {
	return metric{name: name, help: help, kind: kind, labels: []string{"exchange"},
		each: func(s *Snapshot, emit emit) {
			for i := range s.Feeds {
				emit(number(&s.Feeds[i]), s.Feeds[i].Exchange)
			}
		}}
}

func feedGauge(name, help string, number func(*Feed) float64) metric {
	return ofFeeds(name, help, prometheus.GaugeValue, number)
}

func feedCounter(name, help string, number func(*Feed) uint64) metric {
	return ofFeeds(name, help, prometheus.CounterValue, func(f *Feed) float64 { return float64(number(f)) })
}

func feedMetrics() []metric {
	return []metric{
		{name: "feed_state", help: "1 for the state that the exchange's feed is in: connecting, live or down.",
			kind: prometheus.GaugeValue, labels: []string{"exchange", "state"}, each: feedStates},
		feedGauge("feed_silent_seconds", "Seconds since the exchange sent anything.", func(f *Feed) float64 { return f.SilentSeconds }),
		feedGauge("feed_symbols", "Markets of the exchange that are followed.", func(f *Feed) float64 { return float64(f.Symbols) }),
		feedCounter("feed_frames_total", "Frames from the exchange.", func(f *Feed) uint64 { return f.Frames }),
		feedCounter("feed_ticks_total", "Ticks made of those frames.", func(f *Feed) uint64 { return f.Ticks }),
		feedCounter("feed_malformed_total", "Frames that were not understood.", func(f *Feed) uint64 { return f.Malformed }),
		feedCounter("feed_out_of_order_total", "Frames with an earlier sequence number, dropped.", func(f *Feed) uint64 { return f.OutOfOrder }),
		feedCounter("feed_unknown_total", "Ticks of symbols without an asset, skipped.", func(f *Feed) uint64 { return f.Unknown }),
		feedCounter("feed_reconnects_total", "Connections to the exchange after the first, planned ones included.", func(f *Feed) uint64 { return f.Reconnects }),
		feedCounter("feed_rest_errors_total", "REST requests to the exchange that failed.", func(f *Feed) uint64 { return f.RESTErrors }),
	}
}

// tradeMetrics are about single trades: doubled, missing, found again.
func tradeMetrics() []metric {
	return []metric{
		feedCounter("feed_duplicates_total", "Trades that came again, dropped.", func(f *Feed) uint64 { return f.Duplicates }),
		feedCounter("feed_gaps_total", "Places where frames or trades were missing.", func(f *Feed) uint64 { return f.Gaps }),
		feedCounter("feed_missing_total", "Frames or trades that were missing there.", func(f *Feed) uint64 { return f.Missing }),
		feedCounter("feed_recovered_total", "Missing trades that came after all, by a new connection or by REST.", func(f *Feed) uint64 { return f.Recovered }),
		feedCounter("feed_refilled_total", "Missing trades that REST gave.", func(f *Feed) uint64 { return f.Refilled }),
		feedCounter("feed_lost_total", "Missing trades that nobody gave.", func(f *Feed) uint64 { return f.Lost }),
		feedGauge("feed_refills_waiting", "Gaps that REST is still asked about.", func(f *Feed) float64 { return float64(f.Asking) }),
	}
}

func feedStates(s *Snapshot, emit emit) {
	for _, f := range s.Feeds {
		for _, state := range []string{"connecting", "live", "down"} {
			v := 0.0
			if f.State == state {
				v = 1
			}
			emit(v, f.Exchange, state)
		}
	}
}

func marketMetrics() []metric {
	m := from(func(s *Snapshot) *Market { return s.Market })
	return []metric{
		{name: "ticks_total", help: "Ticks that reached the market, by what became of them: accepted, or why it set no price.",
			kind: prometheus.CounterValue, labels: []string{"outcome"},
			each: func(s *Snapshot, emit emit) {
				if s.Market == nil {
					return
				}
				for outcome, n := range s.Market.Outcomes {
					emit(float64(n), outcome)
				}
			}},
		m.gauge("market_assets_with_price", "Assets that have a price.", func(m *Market) float64 { return float64(m.Assets) }),
		m.gauge("market_assets_stale", "Assets whose price is stale: nothing fresh for market.stale_after.", func(m *Market) float64 { return float64(m.StaleAssets) }),
		m.gauge("market_sources_quarantined", "Sources that are off the others now, and no part of a price.", func(m *Market) float64 { return float64(m.Quarantined) }),
		m.counter("market_stale_total", "Prices published as stale.", func(m *Market) uint64 { return m.Stale }),
		m.counter("market_settled_total", "Prices published because a source fell silent.", func(m *Market) uint64 { return m.Settled }),
		m.counter("market_suspect_bars_total", "Bars of the past, from exchanges, that were not believed.", func(m *Market) uint64 { return m.SuspectBars }),
		m.counter("market_suspect_days_total", "24 hour figures of exchanges that were not believed.", func(m *Market) uint64 { return m.SuspectDays }),
	}
}

func brokerMetrics() []metric {
	b := from(func(s *Snapshot) *Broker { return s.Broker })
	return []metric{
		b.gauge("state_channels", "State channels with a last value.", func(b *Broker) float64 { return float64(b.StateChannels) }),
		b.gauge("log_entries", "Entries that the event log holds.", func(b *Broker) float64 { return float64(b.LogEntries) }),
		b.gauge("log_bytes", "Bytes that the event log holds.", func(b *Broker) float64 { return float64(b.LogBytes) }),
		b.counter("broker_skipped_total", "Messages that found a subscriber's queue full; nothing of the log is lost by that.", func(b *Broker) uint64 { return b.Skipped }),
	}
}

// link is nil on a node that is alone.
func link(s *Snapshot) *Link {
	if s.Link == nil || !s.Link.Configured {
		return nil
	}
	return s.Link
}

func linkMetrics() []metric {
	l := from(link)
	return []metric{
		l.gauge("nats_connected", "1 while the external NATS is connected, else 0.", func(l *Link) float64 {
			if l.Connected {
				return 1
			}
			return 0
		}),
		l.gauge("nats_nodes", "Other nodes heard in the last half minute.", func(l *Link) float64 { return float64(l.Nodes) }),
		l.gauge("nats_waiting", "Publications and log entries that are to be sent to the other nodes.", func(l *Link) float64 { return float64(l.Waiting) }),
		l.counter("nats_sent_total", "Messages sent to the other nodes.", func(l *Link) uint64 { return l.Sent }),
		l.counter("nats_received_total", "Messages of the other nodes.", func(l *Link) uint64 { return l.Received }),
		l.counter("nats_refused_total", "Messages on our NATS subjects that were none of a node of this version.", func(l *Link) uint64 { return l.Refused }),
		l.counter("nats_skipped_total", "Messages of other nodes that found the queue full; made up for by asking.", func(l *Link) uint64 { return l.Skipped }),
		l.counter("nats_quarrels_total", "Publications to a channel that another node writes too.", func(l *Link) uint64 { return l.Quarrels }),
		l.counter("nats_lost_total", "Log entries of other nodes that could not be had.", func(l *Link) uint64 { return l.Lost }),
		l.counter("nats_unsent_total", "Own log entries that were given up unsent: nats-outbox was full.", func(l *Link) uint64 { return l.Unsent }),
		l.counter("nats_dropped_total", "State publications that were given up unsent; a newer value follows.", func(l *Link) uint64 { return l.Dropped }),
		l.counter("nats_too_large_total", "Publications over the NATS server's max_payload.", func(l *Link) uint64 { return l.TooLarge }),
		l.counter("nats_returns_total", "Times that the connection to the external NATS came back.", func(l *Link) uint64 { return l.Returns }),
	}
}

func loopMetrics() []metric {
	l := from(func(s *Snapshot) *Loops { return s.Loops })
	return []metric{
		l.gauge("loops", "Event loops.", func(l *Loops) float64 { return float64(l.Count) }),
		l.counter("loop_wakeups_total", "Times that event loops came back from waiting.", func(l *Loops) uint64 { return l.Wakeups }),
		l.counter("loop_writes_blocked_total", "Writes that filled their socket.", func(l *Loops) uint64 { return l.Blocked }),
		l.counter("loop_entries_missed_total", "Log entries that found an event loop's inbox full; they are read from the log.", func(l *Loops) uint64 { return l.Missed }),
		l.counter("loop_rereads_total", "Pages read from the log because of that.", func(l *Loops) uint64 { return l.Rereads }),
		l.counter("loop_entries_lost_total", "Times that missed entries could not be read.", func(l *Loops) uint64 { return l.Lost }),
	}
}
