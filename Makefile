# `make demo` needs Python 3.11+, venv and make; no root, no Docker. `make test` runs every layer the machine allows.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(BIN)/uv

# uv trusts what the machine trusts, as pip does: a company's own authority counts.
export UV_SYSTEM_CERTS ?= 1

.DEFAULT_GOAL := help
.PHONY: help install demo test unit lint bench-cutover bench-faults bench-rollback bench-figures bench-engine bench-warm chaos docs lock clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/uv: requirements/uv.lock
	$(PYTHON) -c 'import sys; sys.exit("mcpops needs Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.lock
	touch $@

$(VENV)/.installed: $(BIN)/uv requirements/dev.lock pyproject.toml
	$(UV) pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements/dev.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

# Clients of the MCP SDK 1.x live in an environment of their own: both SDKs are called `mcp`.
.venv-mcp1/.installed: $(BIN)/uv requirements/mcp1.lock
	$(UV) venv --quiet --allow-existing --python $(BIN)/python .venv-mcp1
	$(UV) pip sync --quiet --compile-bytecode --python .venv-mcp1/bin/python --require-hashes requirements/mcp1.lock
	touch $@

# What `make bench-warm` measures us beside; mitogen wants the same ansible-core as ours in its own environment.
.venv-peers/.installed: $(BIN)/uv requirements/peers.lock
	$(UV) venv --quiet --allow-existing --python $(BIN)/python .venv-peers
	$(UV) pip sync --quiet --compile-bytecode --python .venv-peers/bin/python --require-hashes requirements/peers.lock
	touch $@

wheelhouse/.filled: $(VENV)/.installed $(wildcard releases/*.lock)
	$(BIN)/python -m mcpops.deploy.wheelhouse
	touch $@

install: $(VENV)/.installed .venv-mcp1/.installed wheelhouse/.filled ## Everything that is needed here, into this directory

demo: $(VENV)/.installed .venv-mcp1/.installed wheelhouse/.filled ## Real servers, a deploy, a broken deploy, a rollback; under three minutes
	$(BIN)/python -m demo.run $(DEMO_ARGS)

test: $(VENV)/.installed .venv-mcp1/.installed wheelhouse/.filled ## Lint, and every layer of tests that this machine allows
	$(BIN)/python -m tests.run_all

lint: $(VENV)/.installed ## ruff, mypy, import-linter, ansible-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/ansible-lint --offline --profile production playbooks roles

unit: $(VENV)/.installed ## Unit tests only: no network, seconds
	$(BIN)/pytest tests/unit

bench-cutover: $(VENV)/.installed .venv-mcp1/.installed ## 30 cutovers under load, ours and nginx reload in one run
	$(BIN)/python -m tests.bench.cutover build/bench

bench-faults: $(VENV)/.installed .venv-mcp1/.installed ## The new slot breaks after the switch: 500, kill, slow
	$(BIN)/python -m tests.bench.faults build/bench

bench-rollback: $(VENV)/.installed wheelhouse/.filled ## mcpops rollback against ansible-playbook, in one run
	$(BIN)/python -m tests.bench.rollback build/bench

bench-engine: $(VENV)/.installed ## What the engine costs over ansible-playbook, in the journal, and with 10,000 runs
	$(BIN)/python -m tests.bench.engine build/bench

bench-warm: $(VENV)/.installed .venv-peers/.installed ## The warm connection beside ansible-playbook, mitogen and pyinfra; as root, on lab hosts
	$(BIN)/python -m tests.bench.warm build/bench

chaos: $(VENV)/.installed ## Workers killed at random, 400 times on each database; and without the reaper
	$(BIN)/python -m tests.crash.chaos

bench-figures: $(VENV)/.installed ## What the benches measured, each figure beside its bar
	$(BIN)/python -m tests.bench.figures build/bench

docs: $(VENV)/.installed ## Write docs/reference/ and the tables of the roles from the code
	$(BIN)/python -m tests.docs.generate

lock: ## Resolve the dependencies again, with hashes
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --extra embedded --extra demo --extra lab --extra postgres --group dev pyproject.toml -o requirements/dev.lock
	echo uv | uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header - -o requirements/uv.lock
	echo 'mcp==1.30.0' | uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header - -o requirements/mcp1.lock
	printf '%s\n' ansible-core==2.19.14 mitogen==0.3.54 pyinfra==3.10.0 | uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header - -o requirements/peers.lock

clean: ## Remove what was installed and made here (not the record in .mcpops/)
	rm -rf $(VENV) .venv-mcp1 .venv-peers wheelhouse .mypy_cache .ruff_cache .pytest_cache
