// Package metrics shows the server's counters to Prometheus. It counts
// nothing itself: parts count in plain fields that they own, and a snapshot is
// taken when somebody asks, so that hot paths pay for no atomics.
package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"cryptointel/internal/hub"
	"cryptointel/protocol"
)

// NewRegistry returns a registry with the server's metrics and those of the Go
// runtime and the process. take is called at each scrape, from any goroutine.
func NewRegistry(version string, take func() Snapshot) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		newCollector(take),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: prefix + infoName, Help: infoHelp, ConstLabels: prometheus.Labels{"version": version},
		}, func() float64 { return 1 }),
	)
	return r
}

const (
	prefix   = "cryptointel_"
	infoName = "info"
	infoHelp = "Always 1; the label says which build this is."
)

// A metric is a number, or one for each value of its labels.
type metric struct {
	name, help string
	kind       prometheus.ValueType
	labels     []string
	each       func(*Snapshot, emit)

	desc *prometheus.Desc
}

// emit shows one number of a metric, with a value for each label.
type emit func(v float64, labels ...string)

const (
	latencyName = "delivery_latency_seconds"
	latencyHelp = "Seconds from when a publication entered the system to each socket it was delivered to live."
)

// A collector turns a snapshot into metrics.
type collector struct {
	take    func() Snapshot
	metrics []metric
	latency *prometheus.Desc
}

func newCollector(take func() Snapshot) *collector {
	c := &collector{take: take, metrics: allMetrics()}
	for i := range c.metrics {
		m := &c.metrics[i]
		m.desc = prometheus.NewDesc(prefix+m.name, m.help, m.labels, nil)
	}
	c.latency = prometheus.NewDesc(prefix+latencyName, latencyHelp, nil, nil)
	return c
}

// allMetrics is every metric that a Snapshot's typed parts show, but for the
// histogram.
func allMetrics() []metric {
	return slices.Concat(hubMetrics(), compressionMetrics(), doorMetrics(), tokenMetrics(), feedMetrics(),
		tradeMetrics(), marketMetrics(), brokerMetrics(), linkMetrics(), loopMetrics())
}

// Describe sends every metric there can be; a missing part shows none of its.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		ch <- m.desc
	}
	ch <- c.latency
}

// Collect takes a snapshot and sends it.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.take()
	for _, m := range c.metrics {
		m.each(&s, func(v float64, labels ...string) {
			ch <- checked(prometheus.NewConstMetric(m.desc, m.kind, v, labels...))
		})
	}
	ch <- histogram(c.latency, s.Hub.Latency)
}

// checked makes a number that Prometheus refuses fail its scrape, not the
// process.
func checked(m prometheus.Metric, err error) prometheus.Metric {
	if err != nil {
		return prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
	}
	return m
}

// histogram is h with counts that include the ones below, as Prometheus wants.
func histogram(desc *prometheus.Desc, h hub.Histogram) prometheus.Metric {
	buckets := make(map[float64]uint64, len(hub.LatencyBounds))
	var all uint64
	for i, bound := range hub.LatencyBounds {
		all += h.Counts[i]
		buckets[seconds(bound)] = all
	}
	all += h.Counts[len(hub.LatencyBounds)]
	return checked(prometheus.NewConstHistogram(desc, all, seconds(h.Sum), buckets))
}

func seconds(t protocol.Time) float64 { return float64(t) / float64(protocol.Second) }
