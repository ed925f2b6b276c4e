// Package metrics shows the server's counters to Prometheus. It counts
// nothing itself: parts count in plain fields that they own, and a snapshot is
// taken when somebody asks, so that hot paths pay for no atomics.
package metrics

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"cryptointel/internal/hub"
	"cryptointel/protocol"
)

// Door is what the HTTP door has done since it was made.
type Door struct {
	Upgrades    uint64                   // WebSocket upgrades
	Turned      map[protocol.Code]uint64 // of them, only to be told why not
	Refused     map[protocol.Code]uint64 // requests refused in plain HTTP
	Published   map[string]uint64        // messages published, by type
	Unpublished map[protocol.Code]uint64 // messages of an array refused
	TurnedAway  uint64                   // sockets closed before a request
	Pending     int                      // sockets open and not upgraded
}

// A Snapshot is everything that is shown, at one moment. Extra holds what
// other parts count, by the metric's name (with its unit, counters ending in
// _total).
type Snapshot struct {
	Hub   hub.Stats // summed over the loops
	Door  Door
	Extra map[string]float64
}

// NewRegistry returns a registry with the server's metrics and those of the Go
// runtime and the process. take is called at each scrape, from any goroutine.
func NewRegistry(version string, take func() Snapshot) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		newCollector(take),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: prefix + "info", Help: "Always 1; says which build this is.",
			ConstLabels: prometheus.Labels{"version": version},
		}, func() float64 { return 1 }),
	)
	return r
}

const prefix = "cryptointel_"

// A collector turns a snapshot into metrics.
type collector struct {
	take   func() Snapshot
	plain  []plain
	counts []labelled
}

// A plain metric is one number.
type plain struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(*Snapshot) float64
}

// A labelled metric is one number for each value of its label.
type labelled struct {
	desc *prometheus.Desc
	each func(s *Snapshot, emit func(label string, n uint64))
}

func newCollector(take func() Snapshot) *collector {
	return &collector{take: take, plain: plainMetrics(), counts: labelledMetrics()}
}

// Describe sends nothing: Extra's names are known only at a scrape, which
// makes this an unchecked collector.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect takes a snapshot and sends it.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.take()
	for _, m := range c.plain {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.of(&s))
	}
	for _, m := range c.counts {
		m.each(&s, func(label string, n uint64) {
			ch <- prometheus.MustNewConstMetric(m.desc, prometheus.CounterValue, float64(n), label)
		})
	}
	for name, v := range s.Extra {
		ch <- extraMetric(name, v)
	}
}

func extraMetric(name string, v float64) prometheus.Metric {
	kind := prometheus.GaugeValue
	if len(name) > 6 && name[len(name)-6:] == "_total" {
		kind = prometheus.CounterValue
	}
	m, err := prometheus.NewConstMetric(prometheus.NewDesc(prefix+name, "Counted by the part that its name begins with.", nil, nil), kind, v)
	if err != nil {
		return prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
	}
	return m
}

func plainMetrics() []plain {
	gauge := func(name, help string, of func(*Snapshot) float64) plain {
		return plain{prometheus.NewDesc(prefix+name, help, nil, nil), prometheus.GaugeValue, of}
	}
	counter := func(name, help string, of func(*Snapshot) uint64) plain {
		return plain{prometheus.NewDesc(prefix+name, help, nil, nil), prometheus.CounterValue,
			func(s *Snapshot) float64 { return float64(of(s)) }}
	}
	return []plain{
		gauge("connections", "Open connections.", func(s *Snapshot) float64 { return float64(s.Hub.Connections) }),
		gauge("connections_authenticated", "Open connections with a token.", func(s *Snapshot) float64 { return float64(s.Hub.Authenticated) }),
		gauge("subscriptions", "Subscriptions of all connections.", func(s *Snapshot) float64 { return float64(s.Hub.Subscriptions) }),
		gauge("cohorts", "Groups of subscriptions that share their frames.", func(s *Snapshot) float64 { return float64(s.Hub.Cohorts) }),
		gauge("connections_slow", "Connections whose socket takes no more for now.", func(s *Snapshot) float64 { return float64(s.Hub.Slow) }),
		gauge("subscriptions_behind", "Log subscriptions that are not caught up.", func(s *Snapshot) float64 { return float64(s.Hub.Behind) }),
		gauge("held_bytes", "Bytes kept for slow or half-sent connections.", func(s *Snapshot) float64 { return float64(s.Hub.HeldBytes) }),
		gauge("backlog_frames", "Frames queued and not yet handed to sockets.", func(s *Snapshot) float64 { return float64(s.Hub.BacklogFrames) }),
		gauge("pending_sockets", "Sockets open and not upgraded.", func(s *Snapshot) float64 { return float64(s.Door.Pending) }),
		counter("connections_opened_total", "Connections opened.", func(s *Snapshot) uint64 { return s.Hub.Opened }),
		counter("connections_closed_total", "Connections closed.", func(s *Snapshot) uint64 { return s.Hub.Closed }),
		counter("messages_received_total", "Text messages from clients.", func(s *Snapshot) uint64 { return s.Hub.MessagesIn }),
		counter("received_bytes_total", "Bytes read from clients.", func(s *Snapshot) uint64 { return s.Hub.BytesIn }),
		counter("deliveries_total", "Frames of publications handed to sockets.", func(s *Snapshot) uint64 { return s.Hub.Deliveries }),
		counter("sent_bytes_total", "Bytes handed to sockets.", func(s *Snapshot) uint64 { return s.Hub.BytesOut }),
		counter("writes_total", "Blocks handed to sockets.", func(s *Snapshot) uint64 { return s.Hub.Writes }),
		counter("conflated_total", "State publications that slow readers skipped.", func(s *Snapshot) uint64 { return s.Hub.Conflated }),
		counter("publications_total", "Publications shown to the loops.", func(s *Snapshot) uint64 { return s.Hub.Publications }),
		counter("upgrades_total", "WebSocket upgrades.", func(s *Snapshot) uint64 { return s.Door.Upgrades }),
		counter("sockets_turned_away_total", "Sockets closed before a request was read.", func(s *Snapshot) uint64 { return s.Door.TurnedAway }),
	}
}

func labelledMetrics() []labelled {
	metric := func(name, help, label string, each func(*Snapshot, func(string, uint64))) labelled {
		return labelled{prometheus.NewDesc(prefix+name, help, []string{label}, nil), each}
	}
	codes := func(name, help string, of func(*Snapshot) map[protocol.Code]uint64) labelled {
		return metric(name, help, "code", func(s *Snapshot, emit func(string, uint64)) {
			for code, n := range of(s) {
				emit(string(code), n)
			}
		})
	}
	return []labelled{
		codes("errors_total", "Errors told to connections.", func(s *Snapshot) map[protocol.Code]uint64 { return s.Hub.Errors }),
		codes("upgrades_turned_total", "Upgrades that were only told why not.", func(s *Snapshot) map[protocol.Code]uint64 { return s.Door.Turned }),
		codes("requests_refused_total", "Requests refused in plain HTTP.", func(s *Snapshot) map[protocol.Code]uint64 { return s.Door.Refused }),
		codes("publish_refused_total", "Messages of an array that were not published.", func(s *Snapshot) map[protocol.Code]uint64 { return s.Door.Unpublished }),
		metric("closes_total", "WebSocket close codes sent.", "code", func(s *Snapshot, emit func(string, uint64)) {
			for code, n := range s.Hub.Closes {
				emit(strconv.Itoa(code), n)
			}
		}),
		metric("published_total", "Messages published through the API.", "type", func(s *Snapshot, emit func(string, uint64)) {
			for kind, n := range s.Door.Published {
				emit(kind, n)
			}
		}),
	}
}
