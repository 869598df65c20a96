# velocimeter. `make help` lists the targets.
GO       ?= go
BIN      := bin/velocimeter
# The race detector needs a C compiler; the product does not.
RACE     := $(shell [ "$$($(GO) env CGO_ENABLED)" = 1 ] && command -v $$($(GO) env CC) >/dev/null 2>&1 && echo -race)
LINT     := $(GO) tool -modfile=.ci/tools.mod golangci-lint
FUZZTIME ?= 20s
PACKAGES ?= ./...
FAULTTIME ?= 30m

.PHONY: help build run test vet lint fuzz bench cover check smoke nightly soak-kill soak-disk soak-faults clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/velocimeter, one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN) ./cmd/velocimeter

run: build ## build and serve a simulated market on 127.0.0.1:8080
	./$(BIN) serve

test: ## run every test; where a C compiler is at hand again under the race detector, with shorter random walks
	$(GO) test -shuffle=on -count=1 $(PACKAGES)
	$(if $(RACE),$(GO) test $(RACE) -short -shuffle=on -count=1 $(PACKAGES))

vet: ## go vet
	$(GO) vet ./...

lint: ## golangci-lint, pinned in .ci/tools.mod
	$(LINT) run ./...

fuzz: ## every fuzz target for FUZZTIME each
	@for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "== $$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	  done; \
	done

bench: ## every benchmark, once
	$(GO) test -run '^$$' -bench . -benchmem ./...

cover: ## coverage per function
	$(GO) test -coverprofile=cover.out ./... && $(GO) tool cover -func=cover.out | tail -1

smoke: build ## start the binary, ask it a few things, stop it
	.ci/smoke ./$(BIN)

check: vet test lint smoke ## what CI runs
	$(GO) mod tidy -diff

nightly: test ## long fuzzing and the race detector again
	$(MAKE) fuzz FUZZTIME=10m
	$(MAKE) soak-kill
	$(MAKE) soak-disk
	$(MAKE) soak-faults
	$(GO) test $(RACE) -count=5 ./...

soak-kill: ## kill the program a thousand times and compare what it comes back with
	$(GO) test -run '^TestKillAndRestart$$' -count=50 -timeout 2h ./cmd/velocimeter

soak-disk: ## ten thousand power cuts and as many flipped bits
	$(GO) test -run '^(TestPowerCut|TestBitFlips)$$' -timeout 3h ./persist -cuts 2000 -flips 10000

soak-faults: build ## FAULTTIME of faults of every kind, checked by bench/validator; SEED=n repeats a run
	$(GO) run ./bench/validator -binary $(BIN) -for $(FAULTTIME) -seed $(or $(SEED),0) -v

clean: ## remove what the targets made
	rm -rf bin cover.out
