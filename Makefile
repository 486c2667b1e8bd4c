# Bare "make" lists the targets. Each is a line that a person could type.
.DEFAULT_GOAL := help
export CGO_ENABLED = 0
SEEDS ?= 1000
FUZZTIME ?= 20s

.PHONY: help build run cluster cluster-down test lint bench fuzz seeds mutate packages clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

build: ## build bin/keelson, one static binary
	go build -trimpath -ldflags "-s -w" -o bin/keelson ./cmd/keelson

run: build ## start a cluster of three real processes on this machine (Ctrl-C stops it, data stays in ./data)
	bin/keelson dev

cluster: packages build ## boot three machines with real systemd on this host, with keelson on them (root)
	go build -o bin/cluster ./internal/machines/cluster
	bin/cluster up bin/keelson

cluster-down: ## take these machines away, with every trace
	go run ./internal/machines/cluster down

packages: ## install the Debian packages that the tests use (root)
	@missing=""; for p in etcd-server etcd-client iproute2 curl strace systemd-container mmdebstrap util-linux; do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; fi

# Packages that start real processes have the machine to themselves.
REAL = ./cmd/... ./differential ./e2e/...

test: packages build lint ## run everything that must pass: lint, tests, seeds, planted bugs of class A
	go test $$(go list ./... | grep -vE '/(cmd|differential|e2e)(/|$$)')
	go test -p 1 $(REAL)
	CGO_ENABLED=1 go test -race ./realnet/...
	go test -short -run '^$$' -bench . -benchtime 1x ./core/... ./realnet/... >/dev/null
	bin/keelson sim swarm --seeds 500 --twice --must
	$(MAKE) --no-print-directory mutate CLASS=A SLACK=4

lint: ## vet, floors, determinism, comments, form
	go vet ./...
	go vet -tags planted ./...
	go test -count=1 .

bench: packages build ## measure the benchmarks of docs/performance.md against Debian's etcd, and the simulator
	go run ./bench/keys
	go run ./bench/units
	bin/keelson sim bench

fuzz: ## run every fuzz target for FUZZTIME (default 20s)
	@go test -list '^Fuzz' ./... | awk '/^Fuzz/ {names[++n]=$$1} /^ok/ {for (i=1;i<=n;i++) print names[i], $$2; n=0}' | \
	while read name pkg; do echo "$$pkg $$name"; go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; done

seeds: build ## run SEEDS seeds of 60 virtual seconds (default 1000): make seeds SEEDS=5000
	bin/keelson sim swarm --seeds $(SEEDS)

CLASS ?= AB
SLACK ?= 1
mutate: ## plant each known bug and show that its oracle finds it: make mutate CLASS=ABC
	go run -tags planted ./cmd/keelson sim mutate --class $(CLASS) --slack $(SLACK)

clean: ## remove what was built and the demo's data
	rm -rf bin data
