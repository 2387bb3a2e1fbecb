# Everything a working copy needs, by name. `make` alone lists it.

STACK ?= dev
TARGET := $(or $(CARGO_TARGET_DIR),target)
STACKS := deploy/dev/stack
TOOLS := $(or $(RUNLEDGER_STACK_ROOT),.dev)/tools
BUF_VERSION := 1.75.0
BUF := $(TOOLS)/buf-$(BUF_VERSION)/node_modules/.bin/buf

# rustup's folder, for shells that have not read its profile yet
export PATH := $(PATH):$(HOME)/.cargo/bin

.DEFAULT_GOAL := help
.PHONY: help setup up down status demo test test-tls check proof bench bench-test bench-report clean lint fmt schema proto-lint \
        proto-breaking proto-release

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  up, down and status take STACK=dev (the default) or STACK=test; more in: $(STACKS) help"

setup: ## install what the machine lacks, or name it
	@$(STACKS) setup

up: ## start Kafka and Postgres, and wait until they are ready
	@$(STACKS) up $(STACK)

down: ## stop them; the data stay
	@$(STACKS) down $(STACK)

status: ## what runs, and where
	@$(STACKS) status $(STACK)

demo: setup ## from nothing to real agent runs in the terminal
	@$(STACKS) up dev
	cargo build --locked --bin runledger
	@eval "$$($(STACKS) env dev)" && $(TARGET)/debug/runledger demo

test: setup ## every test, on a real Kafka and Postgres of their own
	cargo build --locked --workspace --bins
	@$(STACKS) run test cargo test --locked --workspace

# Not part of `make test`: it builds OpenSSL, which takes minutes.
test-tls: setup ## Kafka over TLS and with SASL, against a broker that wants them
	@$(STACKS) run secure cargo test --locked -p runledger-eventlog --features tls --test secure --lib

check: lint proto-lint proto-breaking ## what a change must pass besides the tests

lint: ## format and compiler lints
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

fmt: ## format the code
	cargo fmt --all

proto-lint: $(BUF) ## lint the protos
	$(BUF) lint proto

RELEASED := proto/released.binpb

proto-breaking: $(BUF) ## whether clients and records of the last release are still understood
	$(BUF) breaking proto --against $(RELEASED)

# Only what breaks nothing can be released: there is no way around the check but by hand.
proto-release: proto-breaking ## take the protos as released: once a release, in its commit
	$(BUF) build proto --exclude-source-info -o $(RELEASED)

# The tests write the schema and the list down afresh, whether or not they pass.
schema: setup ## write down what new migrations make, after adding one
	@rm -rf $(TARGET)/tmp/schema
	-@$(STACKS) run test cargo test --locked --quiet -p runledger-postgres --test migrations > /dev/null
	cp $(TARGET)/tmp/schema/*.txt libs/postgres/tests/schema/
	cp $(TARGET)/tmp/schema/released.sha384 migrations/

# Installed beside its place and renamed, so that half an installation is never used.
$(BUF):
	@command -v npm >/dev/null || { echo "npm is missing: install Node.js with npm (apt-get install npm, dnf install npm, brew install node)" >&2; exit 1; }
	@rm -rf $(TOOLS)/buf-$(BUF_VERSION) $(TOOLS)/buf.new && mkdir -p $(TOOLS)/buf.new
	@npm install --prefix $(TOOLS)/buf.new --no-save --no-audit --no-fund --loglevel=error @bufbuild/buf@$(BUF_VERSION)
	@mv $(TOOLS)/buf.new $(TOOLS)/buf-$(BUF_VERSION)

proof: setup ## the long stories, in a release build; last, what faults under load made of the promises
	cargo build --locked --release --workspace --bins
	@RUNLEDGER_PROOF=full $(STACKS) run test cargo test --locked --release -p runledger-tests --test house --test stories
	@RUNLEDGER_PROOF=full cargo test --locked --release -p runledger-projection -p runledger-decider -p runledger-billing --lib simulation -- --nocapture
	@RUNLEDGER_PROOF=full cargo test --locked --release -p runledger-tests --test faults
	@$(MAKE) test-tls
	@cat $(TARGET)/tmp/faults.txt

FIGURES ?= all

bench: setup ## us beside what a user would take instead; FIGURES=load, replay, rebuild, governed, ledger, freshness or policy: a part
	cargo build --locked --release --bin runledger
	@deploy/dev/bench $(FIGURES)

bench-test: ## whether the drivers of the peers and the report are right; no measurement
	@tests/bench/peers/run test
	@tests/bench/report/run test

bench-report: ## the newest line of each figure, into the README with pictures; no measurement
	@tests/bench/report/run write

clean: ## stop all stacks; delete their data, the fetched tools and what was built
	@$(STACKS) wipe dev
	@$(STACKS) wipe test
	@$(STACKS) wipe secure
	@echo "deleting $(dir $(TOOLS)) and $(TARGET)"
	@rm -rf $(dir $(TOOLS))
	@cargo clean
