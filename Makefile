# `make help` lists what there is. Only tools, demo, e2e and test need more than Go: Python 3.11 and Node 20.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS   += --no-print-directory

GO        ?= go
PYTHON    ?= python3
BENCH     ?= .
BENCHTIME ?= 1s
FUZZTIME  ?= 20s
# Arguments for the tests of the main module, such as ARGS='-run TestPolicy -v'.
ARGS      ?=
# For the end-to-end tests, such as E2E='-run Stream -v'.
E2E       ?=
# For the Kubernetes tests, such as K8S='-run Webhook -v'.
K8S       ?=
# make demo KEEP=1 leaves everything up at the end.
KEEP      ?=

VERSION   := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
REVISION  := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
COMMITTED := $(shell git log -1 --format=%ct 2>/dev/null || echo 0)

# Where programs are written.
BIN     ?= bin
# What make image calls the image, such as IMAGE=registry.example.com/usher:v1.0.0.
IMAGE   ?= localhost/usher:$(VERSION)
# The one of this machine, or of `make k8s-tools`.
BUILDAH ?= $(or $(shell command -v buildah),.tools/k8s/buildah)

.PHONY: help
help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: ## Write bin/usher
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $(BIN)/usher ./cmd/usher

# No image is pulled: the policy refuses every one, and no registry is known. The time is that of the commit, so that the same
# commit gives the same image.
.PHONY: image
image: build ## Build the image IMAGE (localhost/usher:VERSION) with buildah, and state its size
	@mkdir -p $(BIN)/image && echo '{"default": [{"type": "reject"}]}' >$(BIN)/image/policy.json && : >$(BIN)/image/registries.conf
	$(BUILDAH) --storage-driver vfs --registries-conf $(BIN)/image/registries.conf bud --isolation chroot \
		--signature-policy $(BIN)/image/policy.json --timestamp $(COMMITTED) \
		--build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) --file Dockerfile --tag $(IMAGE) $(BIN)
	@$(BUILDAH) --storage-driver vfs --registries-conf $(BIN)/image/registries.conf images --format '{{.Name}}:{{.Tag}} {{.Size}}' $(IMAGE)

.PHONY: test
test: fmt vet ## Everything: formatting, vet, unit tests with the race detector, end-to-end tests with the real parts
	@echo '== unit tests, with the race detector'
	$(GO) test -race -timeout 15m $(ARGS) $$($(GO) list ./... | grep -v /extauthz/attacktest$$)
	@$(MAKE) wycheproof
	@$(MAKE) attacks
	@$(MAKE) e2e
	@$(MAKE) k8s

.PHONY: wycheproof
wycheproof: ## The signature vectors of C2SP/wycheproof (a download of 26 MB)
	@echo '== Wycheproof vectors'
	cd extauthz/token/wycheproof && $(GO) test -count=1 -timeout 5m .

.PHONY: attacks
attacks: ## The attack cases, with the table of groups (ATTACKS='-attacks FILE -groups a,b')
	@echo '== attack cases, with the race detector'
	$(GO) test -race -count=1 -timeout 15m -v ./extauthz/attacktest $(ATTACKS) | grep -Ev '^ *(=== |--- PASS)'

.PHONY: race
race: ## The unit tests with the race detector, offline
	$(GO) test -race -timeout 15m $(ARGS) ./...

.PHONY: unit
unit: ## The unit tests without it, the quickest
	$(GO) test $(ARGS) ./...

.PHONY: e2e
e2e: tools ## The end-to-end tests: real Envoy, OpenID provider, LangGraph server and its JavaScript client
	@echo '== end-to-end tests, with the race detector'
	cd envoy/e2e && $(GO) test -race -count=1 -p 1 -timeout 25m $(if $(E2E),$(E2E),-skip '^TestAttack') ./...
ifeq ($(E2E),)
	@echo '== attack cases of level http, through a real Envoy'
	cd envoy/e2e && $(GO) test -race -count=1 -timeout 15m -v -run '^TestAttack' . | grep -Ev '^ *(=== |--- PASS|attacks_test.go:[0-9]+: status )'
endif

.PHONY: k8s
k8s: tools k8s-tools ## The tests against a real Kubernetes API server (K8S='-run Name -v')
	@echo '== Kubernetes: a real API server, with the race detector'
	cd k8s/e2e && $(GO) test -race -count=1 -p 1 -timeout 40m $(K8S) ./...

.PHONY: k8s-tools
k8s-tools: ## Build etcd, kube-apiserver, kubectl, helm and egctl into .tools/k8s (some minutes)
	@k8s/e2e/parts/install.sh

.PHONY: demo
demo: tools ## The story of Alice and Bob, told on the real parts (KEEP=1 leaves them up)
	@cd envoy/e2e && $(GO) build -o ../../.tools/bin/usher-demo ./demo
	@exec .tools/bin/usher-demo $(if $(filter-out 0 no false,$(KEEP)),--keep)

.PHONY: tools
tools: ## Install the parts of the demo and the end-to-end tests into .tools
	@PYTHON='$(PYTHON)' envoy/e2e/parts/install.sh

.PHONY: fmt
fmt:
	@echo '== formatting'
	@wrong=$$(find . -name .tools -prune -o -name .git -prune -o -name '*.go' -print0 | xargs -0 gofmt -l); \
	if [ -n "$$wrong" ]; then echo "gofmt would change:"; echo "$$wrong"; exit 1; fi

.PHONY: vet
vet:
	@echo '== vet'
	$(GO) vet ./...
	cd envoy/e2e && $(GO) vet ./...
	cd extauthz/token/wycheproof && $(GO) vet ./...
	cd k8s/e2e && $(GO) vet ./...
	cd k8s/api/gen && $(GO) vet ./...

.PHONY: lint
lint: fmt vet ## Formatting, vet, and golangci-lint where it is installed
	@if command -v golangci-lint >/dev/null; then golangci-lint run ./...; \
	else echo 'golangci-lint is not installed: skipped, see .golangci.yml'; fi

.PHONY: fuzz
fuzz: ## Each fuzz target for FUZZTIME (20s)
	@$(GO) test -list '^Fuzz' ./... | awk ' \
		/^Fuzz/ {names[++n] = $$1} \
		/^ok/   {for (i = 1; i <= n; i++) print $$2, names[i]; n = 0}' | \
	while read -r package name; do \
		echo "== $$package $$name"; \
		$(GO) test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZTIME) "$$package" </dev/null; \
	done

.PHONY: bench
bench: ## The benchmarks (BENCH=regexp, BENCHTIME=1s)
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem ./...

.PHONY: generate
generate: ## Write what is generated
	$(GO) generate ./...

.PHONY: verify
verify: generate ## Generated files and go.mod are current, dependencies are what go.sum says
	$(GO) mod tidy -diff
	cd envoy/e2e && $(GO) mod tidy -diff
	cd k8s/e2e && $(GO) mod tidy -diff
	cd k8s/api/gen && $(GO) mod tidy -diff
	cd extauthz/token/wycheproof && $(GO) mod tidy -diff
	$(GO) mod verify
	git diff --exit-code

.PHONY: clean
clean: ## Remove what make wrote: bin and .tools
	rm -rf bin .tools
