# The words: run test bench lint fmt. They mean the same on a laptop and in CI.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test bench lint fmt race fuzz npm npm-test tools

core := ./protocol ./internal/frame ./internal/limit ./internal/session ./internal/hub
edge := $(patsubst %,./%,$(wildcard edge/wasm))

gofiles = find . -name '*.go' -not -path '*/node_modules/*' -not -path './.git/*' -print0

help: ## say what there is
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/make \1	\2/p' Makefile

run: ## the demo: a simulated market on 127.0.0.1:8080; make run args='--listen=:8081'
	go run ./cmd/cryptointel demo $(args)

test: lint race npm-test fuzz ## everything: lint, all tests with the race detector, short fuzzing

bench: ## the Go benchmarks; make bench pkg=./internal/frame for one package
	go test -run='^$$' -bench=. -benchmem $(or $(pkg),./...)

lint: ## formatting, go vet, staticcheck
	@bad=$$($(gofiles) | xargs -0 gofmt -l); if [ -n "$$bad" ]; then printf 'not formatted (make fmt):\n%s\n' "$$bad"; exit 1; fi
	go vet ./...
	GOOS=wasip1 GOARCH=wasm go vet $(core) $(edge)
	@# The twins for other systems than Linux are compiled nowhere else.
	GOOS=darwin go vet ./internal/eventloop ./internal/bench
	go tool staticcheck ./...

fmt: ## format the Go code
	@$(gofiles) | xargs -0 gofmt -l -w

# The parts of test.

race: tools npm
	go test -race ./...

# Each target runs a number of inputs, not a time: a run limited by time fails
# now and then with "context deadline exceeded" (go.dev/issue/75804).
fuzztime ?= 20000x

fuzz:
	@grep -roE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' . | sort | while IFS=: read -r file func; do \
		name=$${func#func }; \
		echo "fuzz $${file%/*} $$name"; \
		go test -run='^$$' -fuzz="^$$name$$" -fuzztime=$(fuzztime) -fuzzminimizetime=100x "$${file%/*}" </dev/null; \
	done

# Every folder with a lock file is installed from it, then tested.
npmdirs := $(shell find . -name package-lock.json -not -path '*/node_modules/*' -exec dirname {} ';')
installed := $(npmdirs:=/node_modules)

npm: $(installed)

$(installed): %/node_modules: %/package-lock.json
	cd $* && npm ci --no-audit --no-fund
	@touch $@

npm-test: npm
	@for dir in $(npmdirs); do (cd $$dir && npm run test --if-present); done

tools:
	@command -v node >/dev/null || { echo 'make test needs Node 20 or later: a test runs a JavaScript client'; exit 1; }
	@command -v $$(go env CC) >/dev/null || { echo 'make test needs a C compiler: the race detector is linked with cgo'; exit 1; }
