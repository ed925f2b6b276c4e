#!/usr/bin/env bash
# Measures the real binary on this machine: what docs/performance.md reports.
# usage: internal/bench/bench.sh [memory|connect|channels|fanout|flood|compress|all]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
what=${1:-all}
bin=$(mktemp -d)/cryptointel
go build -o "$bin" ./cmd/cryptointel
export CRYPTOINTEL_JWT_SECRET=${CRYPTOINTEL_JWT_SECRET:-bench-secret-bench-secret-bench-secret}
listen=127.0.0.1:18480 admin=127.0.0.1:18490
server=

# The limits that protect a server from one machine opening ten thousand
# connections are off: this is one machine opening ten thousand connections.
start() { # start [command in front...]
	"$@" "$bin" serve --listen $listen --admin-listen $admin --no-test-channels --log-level warn --feeds= --data-dir= \
		--limits.connects_per_minute_per_ip=0 --limits.connections_per_ip=0 --limits.requests_per_minute_per_ip=0 \
		--gateway.accept_rate=0 --gateway.pending=0 --gateway.pending_per_ip=0 >/dev/null &
	server=$!
	until curl -sf "http://$listen/readyz" >/dev/null; do kill -0 $server; sleep 0.1; done
}
stop() { [ -z "$server" ] || { kill $server; wait $server || true; server=; }; }
trap stop EXIT

run() { # run COMMAND [flags...]
	echo "== bench $*"
	"${generator[@]}" "$bin" bench "$1" --url ws://$listen/ws --pid $server "${@:2}"
}
generator=()

memory() { # a fresh server each time: memory once used is not given back to the slope
	for _ in 1 2 3; do start; run memory --admin http://$admin; stop; done
}
connect() { start; run connect; stop; }
channels() { start; run channels; stop; }
one_core() { # server and generator on a core each
	generator=(taskset -c 1)
	start env GOMAXPROCS=1 taskset -c 0
	run fanout --floor --loops 1 "$@"
	stop
	generator=()
}
fanout() { one_core; }
# compress: a publication of over 1 KiB to N clients (10,000), in plain and
# compressed in turn; the last section has the ratios.
compress() {
	generator=(taskset -c 1)
	start env GOMAXPROCS=1 taskset -c 0
	run fanout --loops 1 -n "${N:-10000}" --publish-rate "${RATE:-5}" --pad "${PAD:-2000}" --against-plain "${ROUNDS:-3}" "$@"
	stop
	generator=()
}
flood() { one_core -n 1000 --publish-rate 100 --flood 64 --pipeline 64; }

case $what in
all) memory; connect; channels; fanout; flood; compress ;;
memory | connect | channels | fanout | flood | compress) $what ;;
*) echo "unknown measurement $what: use memory, connect, channels, fanout, flood, compress or all" >&2; exit 2 ;;
esac
