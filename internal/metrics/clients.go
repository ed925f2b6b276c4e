package metrics

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"cryptointel/protocol"
)

// What is shown about clients: their connections, messages, requests, tokens.

func gauge(name, help string, of func(*Snapshot) float64) metric {
	return metric{name: name, help: help, kind: prometheus.GaugeValue,
		each: func(s *Snapshot, emit emit) { emit(of(s)) }}
}

func counter(name, help string, of func(*Snapshot) uint64) metric {
	return metric{name: name, help: help, kind: prometheus.CounterValue,
		each: func(s *Snapshot, emit emit) { emit(float64(of(s))) }}
}

// byCode counts by error code.
func byCode(name, help string, of func(*Snapshot) map[protocol.Code]uint64) metric {
	return metric{name: name, help: help, kind: prometheus.CounterValue, labels: []string{"code"},
		each: func(s *Snapshot, emit emit) {
			for code, n := range of(s) {
				emit(float64(n), string(code))
			}
		}}
}

func hubMetrics() []metric {
	return []metric{
		gauge("connections", "Open connections.", func(s *Snapshot) float64 { return float64(s.Hub.Connections) }),
		gauge("connections_authenticated", "Open connections with a token.", func(s *Snapshot) float64 { return float64(s.Hub.Authenticated) }),
		gauge("connections_slow", "Connections whose socket takes no more for now.", func(s *Snapshot) float64 { return float64(s.Hub.Slow) }),
		counter("connections_opened_total", "Connections opened. Its rate, with that of connections_closed_total, is the churn.", func(s *Snapshot) uint64 { return s.Hub.Opened }),
		counter("connections_closed_total", "Connections closed, by either side.", func(s *Snapshot) uint64 { return s.Hub.Closed }),
		gauge("subscriptions", "Subscriptions of all connections.", func(s *Snapshot) float64 { return float64(s.Hub.Subscriptions) }),
		gauge("subscriptions_behind", "Log subscriptions that are not caught up.", func(s *Snapshot) float64 { return float64(s.Hub.Behind) }),
		gauge("cohorts", "Groups of subscriptions that share their frames.", func(s *Snapshot) float64 { return float64(s.Hub.Cohorts) }),
		gauge("held_bytes", "Bytes kept for slow or half-sent connections.", func(s *Snapshot) float64 { return float64(s.Hub.HeldBytes) }),
		gauge("backlog_frames", "Frames queued and not yet handed to sockets.", func(s *Snapshot) float64 { return float64(s.Hub.BacklogFrames) }),
		counter("messages_received_total", "Text messages from clients.", func(s *Snapshot) uint64 { return s.Hub.MessagesIn }),
		counter("received_bytes_total", "Bytes read from clients, as on the wire but for TLS.", func(s *Snapshot) uint64 { return s.Hub.BytesIn }),
		counter("publications_total", "Publications shown to the event loops, once a loop.", func(s *Snapshot) uint64 { return s.Hub.Publications }),
		counter("deliveries_total", "Frames of publications handed to sockets.", func(s *Snapshot) uint64 { return s.Hub.Deliveries }),
		counter("sent_bytes_total", "Bytes handed to sockets, as on the wire but for TLS.", func(s *Snapshot) uint64 { return s.Hub.BytesOut }),
		counter("writes_total", "Blocks handed to sockets; one holds many frames under load.", func(s *Snapshot) uint64 { return s.Hub.Writes }),
		counter("conflated_total", "State publications that slow readers skipped: they had a newer one.", func(s *Snapshot) uint64 { return s.Hub.Conflated }),
		byCode("errors_total", "Errors told to connections, by code.", func(s *Snapshot) map[protocol.Code]uint64 { return s.Hub.Errors }),
		{name: "closes_total", help: "WebSocket close codes sent, by number.", kind: prometheus.CounterValue, labels: []string{"code"},
			each: func(s *Snapshot, emit emit) {
				for code, n := range s.Hub.Closes {
					emit(float64(n), strconv.Itoa(code))
				}
			}},
	}
}

func compressionMetrics() []metric {
	return []metric{
		gauge("connections_compressing", "Open connections that negotiated compression.", func(s *Snapshot) float64 { return float64(s.Hub.Compressing) }),
		counter("upgrades_compressed_total", "WebSocket upgrades that negotiated compression.", func(s *Snapshot) uint64 { return s.Door.Compressed }),
		counter("deflated_frames_total", "Frames compressed, each once for all its receivers.", func(s *Snapshot) uint64 { return s.Hub.Deflated }),
		counter("deflate_in_bytes_total", "Bytes of those frames' messages before compression.", func(s *Snapshot) uint64 { return s.Hub.DeflateIn }),
		counter("deflate_out_bytes_total", "Bytes of those frames' messages after compression.", func(s *Snapshot) uint64 { return s.Hub.DeflateOut }),
		counter("inflated_messages_total", "Compressed messages from clients.", func(s *Snapshot) uint64 { return s.Hub.Inflated }),
	}
}

func doorMetrics() []metric {
	return []metric{
		counter("upgrades_total", "WebSocket upgrades.", func(s *Snapshot) uint64 { return s.Door.Upgrades }),
		byCode("upgrades_turned_total", "Upgrades that were only told why not, by code.", func(s *Snapshot) map[protocol.Code]uint64 { return s.Door.Turned }),
		byCode("requests_refused_total", "Requests refused in plain HTTP, by code.", func(s *Snapshot) map[protocol.Code]uint64 { return s.Door.Refused }),
		gauge("pending_sockets", "Sockets open and not upgraded.", func(s *Snapshot) float64 { return float64(s.Door.Pending) }),
		counter("sockets_turned_away_total", "Sockets closed before a request was read: gateway.pending or gateway.pending_per_ip was reached.", func(s *Snapshot) uint64 { return s.Door.TurnedAway }),
		counter("tls_handshake_failures_total", "TLS handshakes that failed.", func(s *Snapshot) uint64 { return s.Door.HandshakeFailures }),
		{name: "certificate_expires_seconds", help: "When the TLS certificate expires, in seconds since 1970.", kind: prometheus.GaugeValue,
			each: func(s *Snapshot, emit emit) {
				if s.Door.CertificateEnds != 0 {
					emit(float64(s.Door.CertificateEnds))
				}
			}},
		{name: "published_total", help: "Messages published through the API, by type.", kind: prometheus.CounterValue, labels: []string{"type"},
			each: func(s *Snapshot, emit emit) {
				for kind, n := range s.Door.Published {
					emit(float64(n), kind)
				}
			}},
		byCode("publish_refused_total", "Messages of an array that were not published, by code.", func(s *Snapshot) map[protocol.Code]uint64 { return s.Door.Unpublished }),
		counter("history_answers_total", "Requests for candles that were answered.", func(s *Snapshot) uint64 { return s.Door.HistoryAnswers }),
	}
}

func tokenMetrics() []metric {
	return []metric{
		byCode("tokens_refused_total", "Tokens and tickets refused, by code; errors_total and requests_refused_total count them too.", refusedTokens),
		from(func(s *Snapshot) *Tokens { return s.Tokens }).gauge("tokens_pending", "Tokens that wait for their verdict.",
			func(t *Tokens) float64 { return float64(t.Pending) }),
		counter("tickets_issued_total", "Tickets issued.", func(s *Snapshot) uint64 { return s.Door.TicketsIssued }),
		counter("tickets_redeemed_total", "Tickets that let a connection in.", func(s *Snapshot) uint64 { return s.Door.TicketsRedeemed }),
		counter("tickets_refused_total", "Tickets in the URL of an upgrade that were not accepted.", func(s *Snapshot) uint64 { return s.Door.TicketsRefused }),
		from(keySet).gauge("keyset_keys", "Keys that the key set's endpoint gives.", func(k *Keys) float64 { return float64(k.Current) }),
		from(keySet).gauge("keyset_keys_retired", "Keys that the endpoint gave before and that still hold.", func(k *Keys) float64 { return float64(k.Retired) }),
		from(keySet).gauge("keyset_age_seconds", "Seconds since the key set was last fetched well; NaN before that.", func(k *Keys) float64 { return k.AgeSeconds }),
		from(keySet).counter("keyset_fetches_total", "Fetches of the key set.", func(k *Keys) uint64 { return k.Fetches }),
		from(keySet).counter("keyset_fetches_failed_total", "Fetches that gave no usable key set.", func(k *Keys) uint64 { return k.Failed }),
	}
}

func keySet(s *Snapshot) *Keys { return s.Keys }

// refusedTokens sums what connections and HTTP requests were told.
func refusedTokens(s *Snapshot) map[protocol.Code]uint64 {
	sum := make(map[protocol.Code]uint64)
	for _, code := range []protocol.Code{protocol.InvalidToken, protocol.ExpiredToken} {
		sum[code] = s.Hub.Errors[code] + s.Door.Refused[code]
	}
	return sum
}
