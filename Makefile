.DEFAULT_GOAL := help
.PHONY: help up test check install format lint types imports wheel unit integration e2e bench test-clients test-demo clean

PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= dev
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
CLIENTS := $(VENV)/clients
AS_BUILT := --only-binary :all: --python-version 3.11 --implementation cp --abi cp311 --platform manylinux1_x86_64

help: ## One line per target
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

up: $(INSTALLED) ## Install if need be, then run Redis and the reward server until Ctrl-C
	@exec $(BIN)/assay up $(ARGS)

test: $(INSTALLED) ## Install if need be, then run every test
	$(BIN)/pytest --durations 15 $(ARGS)

check: lint types imports test ## What CI runs: lint, types, import rules, tests

install: $(INSTALLED) ## Virtual environment with everything, at the pinned versions

# torch first: on its own it takes the build that pip finds for this machine, at the pinned version.
# The tests' S3 server in an environment of its own: it needs an older python-dateutil. Trainers that
# tests talk to last, each in a folder of its own without what it depends on. OpenRLHF's wheel holds
# Python only, and names a version and a platform all the same.
$(INSTALLED): pyproject.toml constraints.txt tests/s3_server.txt tests/clients/openrlhf.txt tests/clients/verl.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	test -x $(VENV)/s3-server/bin/python || $(BIN)/python -m venv $(VENV)/s3-server
	$(VENV)/s3-server/bin/python -m pip install --quiet --requirement tests/s3_server.txt
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(CLIENTS)/verl --requirement tests/clients/verl.txt
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(CLIENTS)/openrlhf $(AS_BUILT) --requirement tests/clients/openrlhf.txt
	touch $@

format: $(INSTALLED) ## Format the code
	$(BIN)/ruff format shared services tests
	$(BIN)/ruff check --fix shared services tests

lint: $(INSTALLED) ## Style
	$(BIN)/ruff format --check shared services tests
	$(BIN)/ruff check shared services tests

types: $(INSTALLED) ## mypy --strict
	$(BIN)/mypy

imports: $(INSTALLED) ## Who may import whom
	$(BIN)/lint-imports --no-cache

unit: $(INSTALLED) ## Tests without servers
	$(BIN)/pytest tests/unit tests/contract

integration: $(INSTALLED) ## Tests with a real Redis or Ray
	$(BIN)/pytest tests/integration

e2e: $(INSTALLED) ## Tests of the commands
	$(BIN)/pytest tests/e2e

# Clients whose packages differ from Assay's: each has an environment that lies over Assay's own.
test-clients: $(CLIENTS)/verifiers/.installed $(CLIENTS)/tinker/.installed ## Clients in environments of their own
	$(BIN)/pytest -m own_environment tests/clients

$(CLIENTS)/%/.installed: tests/clients/%.txt $(INSTALLED)
	$(BIN)/python -m venv $(CLIENTS)/$*
	$(CLIENTS)/$*/bin/python -m pip install --quiet --no-deps --requirement $<
	$(BIN)/python tests/clients/lie_over.py $(CLIENTS)/$*
	touch $@

test-demo: $(INSTALLED) ## The demo of PPO reaches what it is meant to; takes minutes
	$(BIN)/pytest -m demo tests/e2e/test_demo.py

bench: $(INSTALLED) ## Measurements of tests/benchmarks; takes minutes
	$(BIN)/assay bench serve --data $(or $(ASSAY_DATA),../shared/data)/hh_harmless_base_test.jsonl.gz
	$(BIN)/assay bench latency

wheel: $(INSTALLED) ## Build the wheel into dist/
	$(BIN)/python -m build --wheel --installer pip

clean: ## Remove what was built
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
