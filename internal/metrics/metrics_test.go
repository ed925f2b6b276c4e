package metrics

import (
	"math"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"cryptointel/internal/hub"
	"cryptointel/protocol"
)

// gathered is every metric of ours by name and label value.
func gathered(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.Metric {
			key := f.GetName()
			for _, l := range m.Label {
				key += "/" + l.GetValue()
			}
			got[key] = value(m)
		}
	}
	return got
}

func value(m *dto.Metric) float64 {
	switch {
	case m.Gauge != nil:
		return m.Gauge.GetValue()
	case m.Counter != nil:
		return m.Counter.GetValue()
	}
	return math.NaN()
}

func TestRegistry(t *testing.T) {
	s := Snapshot{
		Hub: hub.Stats{
			Connections: 3, Authenticated: 2, Subscriptions: 9, MessagesIn: 11, Deliveries: 1 << 40,
			Errors: map[protocol.Code]uint64{protocol.InvalidMessage: 4},
			Closes: map[int]uint64{4401: 5},
		},
		Door: Door{
			Upgrades: 6, Pending: 2,
			Refused:   map[protocol.Code]uint64{protocol.RateLimited: 7},
			Published: map[string]uint64{"price_update": 8},
		},
	}
	r := NewRegistry("v1", func() Snapshot { return s })
	got := gathered(t, r)
	for name, want := range map[string]float64{
		"cryptointel_info/v1":                             1,
		"cryptointel_connections":                         3,
		"cryptointel_connections_authenticated":           2,
		"cryptointel_subscriptions":                       9,
		"cryptointel_messages_received_total":             11,
		"cryptointel_deliveries_total":                    1 << 40,
		"cryptointel_errors_total/INVALID_MESSAGE":        4,
		"cryptointel_closes_total/4401":                   5,
		"cryptointel_upgrades_total":                      6,
		"cryptointel_pending_sockets":                     2,
		"cryptointel_requests_refused_total/RATE_LIMITED": 7,
		"cryptointel_published_total/price_update":        8,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s: got %v (there: %v), want %v", name, v, ok, want)
		}
	}
	if _, ok := got["go_goroutines"]; !ok {
		t.Error("the Go runtime's metrics are missing")
	}
	s.Hub.Connections = 4
	if got := gathered(t, r)["cryptointel_connections"]; got != 4 {
		t.Errorf("the next scrape says %v, want 4", got)
	}
}
