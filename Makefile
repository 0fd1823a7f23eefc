# Gnomon's own chores. `make run` and `make test` do all their set-up themselves; everything fetched is kept in .cache,
# in Go's and npm's own caches and in node_modules, so that the next time is quick.
SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS   += --no-print-directory

VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
PLATFORM := $(shell go env GOOS 2>/dev/null)/$(shell go env GOARCH 2>/dev/null)
PLUGINS  := $(notdir $(patsubst %/plugin.yaml,%,$(wildcard plugins/*/plugin.yaml)))
CHDB     := core/engine/libchdb/node_modules/.package-lock.json
TOOLS    := .cache/bin
ASKJS    := core/gateway/testdata/javascript/node_modules/.package-lock.json
ASKPY    := .cache/python/.installed
PROFILE  := core/cmd/gnomon/server.pgo
MADE     := sdk/proto core/store/sqlcgen core/calendar/holidays.json openapi

say  = @printf '\033[36m==>\033[0m %s\n' "$(1)"
need = @command -v $(1) >/dev/null || { echo "$(1) is not installed: $(2)" >&2; exit 1; }

.PHONY: help run build clients test race chaos simulate check bench profile generate format lint vet fresh servers tools-go clean

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

run: build ## run a small hospital's background work, with everything embedded; Ctrl-C ends it
	@exec bin/hospital run --gnomon bin/gnomon --dir .data

build: tools-go $(CHDB) ## build bin/gnomon, the bundled plugins and the demo
	$(call say,building bin/gnomon and plugins: $(PLUGINS))
	@mkdir -p bin
	@go build -pgo=$(PROFILE) -ldflags "-X main.version=$(VERSION)" -o bin/gnomon ./core/cmd/gnomon
	@go build -o bin/hospital ./deploy/demo/hospital
	@for p in $(PLUGINS); do \
		mkdir -p bin/plugins/$$p; \
		go build -o bin/plugins/$$p/$$p ./plugins/$$p; \
		{ cat plugins/$$p/plugin.yaml; \
		  printf 'executables:\n  %s:\n    path: %s\n    sha256: %s\n' $(PLATFORM) $$p "$$(sha256sum bin/plugins/$$p/$$p | cut -d' ' -f1)"; \
		} > bin/plugins/$$p/plugin.yaml; \
		cp plugins/$$p/README.md bin/plugins/$$p/; \
	done
	@ln -sfn ../scripts bin/scripts
	@lib=$$(ls -d core/engine/libchdb/node_modules/@chdb/lib-*/libchdb.so 2>/dev/null | head -n 1); \
	 if [ -n "$$lib" ]; then ln -sfn "../$$lib" bin/libchdb.so; \
	 else echo "there is no embedded engine for $(PLATFORM): put libchdb.so into bin, or name a ClickHouse in GNOMON_CLICKHOUSE_DSN" >&2; fi

test: tools-go $(CHDB) servers clients ## run every test, on SQLite, PostgreSQL and the ClickHouse engine
	$(call say,running all tests)
	@go test -shuffle=on -timeout 20m ./...

race: tools-go $(CHDB) servers clients ## run every test under the race detector (slow)
	@go test -race -shuffle=on -timeout 60m ./...

chaos: tools-go $(CHDB) servers ## kill and stop servers and their children and set their clocks, with an outside checker
	@go test -tags chaos ./core/cmd/gnomon -run 'TestKilling' -kills 20 -count=1 -v -timeout 20m
	@go test ./core/cmd/gnomon -run TestEveryLineIsAccounted -count=1 -v -timeout 20m -args -faults.rounds 10
	@go test -tags chaos ./core/cmd/gnomon -run TestPoliciesUnderFaults -count=1 -v -timeout 60m -args \
		-chaos.kills 20 -chaos.stops 10 -chaos.steps 10 -chaos.children 5 -chaos.lease 5s

simulate: tools-go ## simulate 1,000,000 seeded worlds of crashes, stalls, lost answers, clock steps and people (an hour)
	@go test ./core/simulation -run TestFiring -count=1 -timeout 6h -args -seeds 1000000

check: format vet lint fresh ## format, vet, lint, generated files, room map
	@go test ./core
	$(call say,everything is in order)

bench: build ## measure lateness, throughput and ingest on this machine
	@bin/gnomon bench fire --rate 1000 --duration 30s
	@bin/gnomon bench throughput
	@bin/gnomon bench ingest
	@bin/gnomon bench tail

profile: build ## measure anew where a busy server spends its time; the compiler goes by it
	@for load in plugin lua; do \
		GNOMON_BENCH_CPU_PROFILE=.cache/$$load.pprof bin/gnomon bench throughput --type $$load --duration 30s; done
	@go tool pprof -proto .cache/plugin.pprof .cache/lua.pprof > .cache/server.pgo
	@mv .cache/server.pgo $(PROFILE)

format: tools-go
	$(call say,format)
	@unformatted=$$(gofmt -l core deploy openapi plugins sdk); \
	 [ -z "$$unformatted" ] || { echo "not formatted (gofmt -w mends it):"; echo "$$unformatted"; exit 1; }

vet: tools-go
	$(call say,vet)
	@go vet ./...
	@go vet -tags chaos ./core/cmd/gnomon

lint: $(TOOLS)/golangci-lint
	$(call say,lint)
	@$(TOOLS)/golangci-lint run ./...

generate: tools-go $(addprefix $(TOOLS)/,buf protoc-gen-go protoc-gen-go-grpc sqlc) ## make generated files anew: contract, queries, holidays, OpenAPI, schema
	$(call say,generating contract and queries and holidays and OpenAPI document and schema)
	@cd sdk/proto && export PATH="$(CURDIR)/$(TOOLS):$$PATH" && buf lint && buf generate
	@cd core/store && $(CURDIR)/$(TOOLS)/sqlc generate
	@node .ci/tools/holidays.mjs
	@go run ./core/cmd/gnomon openapi > .cache/openapi.yaml && mv .cache/openapi.yaml openapi/openapi.yaml
	@go run ./core/cmd/gnomon schema > .cache/schema.json && mv .cache/schema.json openapi/definitions.schema.json

fresh: ## compare generated files with what make generate gives
	@rm -rf .cache/fresh && mkdir -p .cache/fresh && cp -R --parents $(MADE) .cache/fresh
	@$(MAKE) generate
	$(call say,generated files are fresh)
	@changed=; for made in $(MADE); do diff -rq ".cache/fresh/$$made" "$$made" || changed=1; done; [ -z "$$changed" ] \
		|| { echo "make generate has changed the files above; keep the result"; exit 1; }

$(CHDB): core/engine/libchdb/package-lock.json
	$(call need,npm,it fetches the embedded ClickHouse engine; install Node.js 20 or newer)
	$(call say,fetching the embedded ClickHouse engine (libchdb) with npm; about 180 MB once)
	@cd core/engine/libchdb && npm ci --no-audit --no-fund --loglevel=error && touch node_modules/.package-lock.json

$(TOOLS)/buf: .ci/tools/package-lock.json
	$(call need,npm,it fetches buf and holidays; install Node.js 20 or newer)
	$(call say,fetching buf and holidays with npm (once))
	@mkdir -p $(TOOLS)
	@cd .ci/tools && npm ci --no-audit --no-fund --loglevel=error
	@buf=$$(ls .ci/tools/node_modules/@bufbuild/buf-*/bin/buf 2>/dev/null || command -v buf) \
		|| { echo "there is no buf for $(PLATFORM) in .ci/tools/package.json: put buf on PATH" >&2; exit 1; }; \
	 cp "$$buf" $@ && touch $@

$(TOOLS)/golangci-lint $(TOOLS)/protoc-gen-go $(TOOLS)/protoc-gen-go-grpc: .ci/tools/go.sum | tools-go
	$(call say,building $(notdir $@) (once))
	@mkdir -p $(TOOLS)
	@cd .ci/tools && go build -o $(CURDIR)/$@ $$(go list -f '{{.ImportPath}}' tool | grep '/$(notdir $@)$$')

$(TOOLS)/sqlc: .ci/tools/sqlc/go.sum | tools-go
	$(call need,cc,building sqlc takes a C compiler; install gcc or clang)
	$(call say,building sqlc (once; two minutes))
	@mkdir -p $(TOOLS)
	@cd .ci/tools/sqlc && go build -o $(CURDIR)/$@ $$(go list -f '{{.ImportPath}}' tool)

tools-go:
	$(call need,go,install Go 1.26 or newer)

servers: $(TOOLS)/clickhouse-old ## install the servers that the tests start for themselves: PostgreSQL, and a ClickHouse too old to be used
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || { \
		echo "==> installing PostgreSQL for the tests (apt)"; \
		sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
		$$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends postgresql >/dev/null; }

# Only its program is taken out of its package, so that no service is started.
$(TOOLS)/clickhouse-old:
	$(call say,installing an old ClickHouse for the tests (apt))
	@mkdir -p $(TOOLS); sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	 $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends clickhouse-common >/dev/null; \
	 dir=$$(mktemp -d); cd "$$dir"; apt-get download -qq clickhouse-server 2>/dev/null; dpkg -x clickhouse-server_*.deb .; \
	 install -m 755 usr/sbin/clickhouse-server $(CURDIR)/$@; rm -rf "$$dir"

clients: $(ASKJS) $(ASKPY) ## install the official ClickHouse clients for Node.js and Python, as the tests ask with them

$(ASKJS): core/gateway/testdata/javascript/package-lock.json
	$(call need,npm,it fetches the ClickHouse client for Node.js; install Node.js 20 or newer)
	$(call say,fetching the ClickHouse client for Node.js with npm (once))
	@cd core/gateway/testdata/javascript && npm ci --no-audit --no-fund --loglevel=error && touch node_modules/.package-lock.json

$(ASKPY): core/gateway/testdata/python/requirements.txt
	$(call need,python3,it runs the ClickHouse client for Python; install Python 3.10 or newer with venv)
	$(call say,fetching the ClickHouse client for Python with pip (once))
	@python3 -m venv .cache/python && .cache/python/bin/pip install --quiet --disable-pip-version-check --requirement $< && touch $@

clean: ## remove what was built and the demo's data
	@rm -rf bin .data
