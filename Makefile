# One command for each habit; `make help` lists them. Needs python3 >= 3.11 and make, nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

SEEDS ?= 0-999
KILLS ?= 50
CALLS ?= 100000
MINUTES ?= 20
APPS := examples.contact_form:app examples.blog:app examples.webhooks:app
FEED := examples/data/github-webhooks.jsonl
SEED_RANGE = $(if $(SEED),$(SEED)-$(SEED),$(SEEDS))

.DEFAULT_GOAL := help
.PHONY: help install dev kafka test check sim fuzz chaos chaos-kafka bench

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

install: $(STAMP) ## make .venv and install millstream with its development tools

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "millstream needs Python 3.11 or newer, got: $$($(PYTHON) --version). Run: make PYTHON=python3.12 install"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

dev: $(STAMP) ## run the examples and feed them real webhooks; SMOKE=1 ends by itself
	$(BIN)/millstream dev $(APPS) --feed $(FEED) $(if $(SMOKE),--smoke)

kafka: ## start a real Kafka broker on 127.0.0.1:9092 (PORT=), data in .kafka/
	@$(PYTHON) deploy/kafka/broker start .kafka
	@echo "use it:   export MILLSTREAM_BROKERS=$$($(PYTHON) deploy/kafka/broker bootstrap .kafka) MILLSTREAM_REPLICATION_FACTOR=1 MILLSTREAM_MIN_INSYNC=1"
	@echo "          millstream topics apply --group demo --yes; millstream worker module:app --group demo"
	@echo "stop it:  deploy/kafka/broker stop .kafka     (rm -r .kafka forgets what it stored)"

test: $(STAMP) ## run every test layer, each within its time budget
	$(BIN)/python tests/run_layers.py

check: $(STAMP) ## format, lint, types, architecture; quick
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/architecture

sim: $(STAMP) ## simulate a hostile world: SEEDS=0-999 or SEED=42
	$(BIN)/python -m tests.sim $(SEED_RANGE)

fuzz: $(STAMP) ## any value into any step tool, any exception out of any step: CALLS=100000
	$(BIN)/python -m tests.faults.fuzz $(CALLS)

chaos: $(STAMP) ## kill -9 a loaded server KILLS=50 times and compare ledgers
	$(BIN)/python -m tests.chaos --kills $(KILLS)

chaos-kafka: $(STAMP) ## three brokers, three workers, everything killed and frozen for MINUTES=20
	$(BIN)/python -m tests.chaos.on_kafka --minutes $(MINUTES)

bench: $(STAMP) ## run every script of bench/ in a short form; FULL=1 for figures to publish
	$(BIN)/python -m bench $(if $(FULL),--full)
