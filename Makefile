# Gatehouse. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

GO      ?= go
BIN     := bin
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# The Kubernetes that kube/ builds; kube/go.mod names the same.
KUBE_VERSION := v1.36.3
KUBE_DATE    := 2026-07-22T18:07:38Z
KUBE_LDFLAGS := -s -w $(foreach p,k8s.io/component-base/version k8s.io/client-go/pkg/version,\
  -X $(p).gitVersion=$(KUBE_VERSION) -X $(p).gitMajor=1 -X $(p).gitMinor=36 -X $(p).gitCommit= -X $(p).gitTreeState=clean -X $(p).buildDate=$(KUBE_DATE))

# Azure/kubelogin is not needed by the product; the stories of e2e/ drive it unmodified.
KUBELOGIN_VERSION := v0.2.21
AXE_VERSION := 4.14.1

export CGO_ENABLED ?= 0
export GOFLAGS := $(GOFLAGS) -buildvcs=false

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.PHONY: build
build: $(BIN)/gatehouse $(BIN)/gatehouse-kube ## build bin/gatehouse and bin/gatehouse-kube (the latter takes 6 to 9 minutes once)

.PHONY: FORCE
$(BIN)/gatehouse: FORCE
	@mkdir -p $(BIN)
	$(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $@ ./cmd/gatehouse

$(BIN)/gatehouse-kube: $(wildcard kube/*.go kube/*/*.go) kube/go.mod kube/go.sum
	@mkdir -p $(BIN)
	@echo "building gatehouse-kube: real Kubernetes $(KUBE_VERSION) and etcd from source; the first build takes 6 to 9 minutes on 2 cores"
	cd kube && $(GO) build -trimpath -ldflags '$(KUBE_LDFLAGS)' -o ../$@ .

.PHONY: up
up: build ## run Gatehouse here: build what is missing, then `gatehouse up`
	$(BIN)/gatehouse up

.PHONY: test
test: build $(BIN)/e2e/kubelogin $(BIN)/e2e/azsdk $(BIN)/e2e/axe.min.js ## run every test: unit, contract, real clients (tools that are missing are named and skipped)
	@command -v gcc >/dev/null && race=-race || { race=; echo "note: gcc is missing (Debian package gcc): testing without the race detector"; }; \
	CGO_ENABLED=$$([ -n "$$race" ] && echo 1 || echo 0) $(GO) test $$race -timeout 40m $$($(GO) list ./... | grep -v /e2e$$) && \
	CGO_ENABLED=0 $(GO) test -timeout 40m -count 1 ./e2e
	cd kube && CGO_ENABLED=0 $(GO) test -trimpath ./...

$(BIN)/e2e/kubelogin:
	@mkdir -p $(BIN)/e2e
	GOBIN=$(CURDIR)/$(BIN)/e2e $(GO) install github.com/Azure/kubelogin@$(KUBELOGIN_VERSION)

$(BIN)/e2e/azsdk: $(wildcard e2e/azsdk/*.go) e2e/azsdk/go.mod e2e/azsdk/go.sum
	@mkdir -p $(BIN)/e2e
	cd e2e/azsdk && $(GO) build -trimpath -o ../../$@ .

# axe-core looks at the pages; only the tests use it.
$(BIN)/e2e/axe.min.js:
	@mkdir -p $(BIN)/e2e
	@if command -v npm >/dev/null; then \
	  cd $(BIN)/e2e && npm pack --silent axe-core@$(AXE_VERSION) >/dev/null && tar xzf axe-core-$(AXE_VERSION).tgz --strip-components 1 package/axe.min.js && rm axe-core-$(AXE_VERSION).tgz; \
	else echo "note: npm is missing (Debian package npm): the pages are not checked for accessibility"; fi

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, govulncheck where it can reach its data
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "gofmt needed: $$out"; exit 1; }
	$(GO) vet ./...
	cd e2e/azsdk && $(GO) vet -trimpath ./...
	cd kube && CGO_ENABLED=0 $(GO) vet -trimpath ./...   # as it was built, so that nothing is compiled twice
	$(GO) tool -modfile=.ci/tools.mod staticcheck ./...
	@$(GO) tool -modfile=.ci/tools.mod govulncheck ./... || { [ $$? -eq 3 ] && exit 1; echo "govulncheck: could not reach its data; skipped"; }

.PHONY: bench
bench: ## measure, as ratios within one run
	$(GO) test -run '^$$' -bench TokenReview -benchtime 1x -timeout 30m ./webhook
	$(GO) test -run '^$$' -bench Tokens -benchtime 1x -timeout 30m ./sts
	$(GO) test -run '^$$' -bench . -benchtime 1x -timeout 30m ./store
	GATEHOUSE_BENCH=1 $(GO) test -run TestSteps -count 1 -v ./e2e

.PHONY: clean
clean: ## remove what build made
	rm -rf $(BIN)
