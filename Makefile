# One command for each habit; `make help` lists them. Needs python3 >= 3.11 and make, nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip install --disable-pip-version-check

SEEDS ?= 0-999
KILLS ?= 50
CALLS ?= 100000
MINUTES ?= 20
PAIRS ?= 10000
INPUTS ?= 200000
REQUESTS ?= 1000000
APPS := examples.contact_form:app examples.approval:app examples.orders:app examples.limits:app examples.blog:app examples.webhooks:app
FEED := examples/data/github-webhooks.jsonl
SEED_RANGE = $(if $(SEED),$(SEED)-$(SEED),$(SEEDS))

.DEFAULT_GOAL := help
.PHONY: help install dev kafka test check sim fuzz chaos chaos-kafka waits-kafka bench

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

install: $(DEV) ## make .venv and install millstream with what its tests and checks need

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "millstream needs Python 3.11 or newer, got: $$($(PYTHON) --version). Run: make PYTHON=python3.12 install"; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version); a few seconds."
	$(PYTHON) -m venv $(VENV)

$(RUN): pyproject.toml | $(BIN)/pip
	@echo "Installing what running needs into $(VENV), once: about 40 MB to fetch, 165 MB on the disk; 20 s to a few minutes."
	$(PIP) -e '.[fast]'
	@touch $@

$(DEV): pyproject.toml | $(BIN)/pip
	@echo "Installing what tests and checks need into $(VENV), once: up to 190 MB to fetch, 720 MB on the disk; half a minute to ten."
	$(PIP) -e '.[dev]'
	@touch $@ $(RUN)

dev: $(RUN) ## run the examples and feed them real webhooks; SMOKE=1 ends by itself
	$(BIN)/millstream dev $(APPS) --feed $(FEED) $(if $(SMOKE),--smoke)

kafka: ## start a real Kafka broker on 127.0.0.1:9092 (PORT=), data in .kafka/
	@$(PYTHON) deploy/kafka/broker start .kafka
	@echo "use it:   export MILLSTREAM_BROKERS=$$($(PYTHON) deploy/kafka/broker bootstrap .kafka) MILLSTREAM_REPLICATION_FACTOR=1 MILLSTREAM_MIN_INSYNC=1"
	@echo "          millstream topics apply --group demo --yes; millstream worker module:app --group demo"
	@echo "stop it:  deploy/kafka/broker stop .kafka     (rm -r .kafka forgets what it stored)"

test: $(DEV) ## run every test layer, each within its time budget
	$(BIN)/python tests/run_layers.py

check: $(DEV) ## format, lint, types, architecture; quick
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/architecture

sim: $(RUN) ## simulate a hostile world: SEEDS=0-999 or SEED=42
	$(BIN)/python -m tests.sim $(SEED_RANGE)

fuzz: $(DEV) ## any value into any step tool (CALLS=100000), any foreign record into a lane (INPUTS=200000), any bytes into the door (REQUESTS=1000000)
	$(BIN)/python -m tests.faults.fuzz $(CALLS)
	$(BIN)/python -m tests.wire.fuzz --inputs $(INPUTS)
	$(BIN)/python -m tests.api.fuzz --requests $(REQUESTS)

chaos: $(RUN) ## kill -9 a loaded server KILLS=50 times and compare ledgers
	$(BIN)/python -m tests.chaos --kills $(KILLS)

chaos-kafka: $(DEV) ## three brokers, three workers, everything killed and frozen for MINUTES=20
	$(BIN)/python -m tests.chaos.on_kafka --minutes $(MINUTES)

waits-kafka: $(DEV) ## PAIRS=10000 runs on Kafka wait for an answer each while workers are killed
	$(BIN)/python -m tests.chaos.on_kafka.pairs --pairs $(PAIRS)

bench: $(RUN) ## run every script of bench/ in a short form; FULL=1 for figures to publish
	$(BIN)/python -m bench $(if $(FULL),--full)
