# What a developer runs; `make` alone lists it. Every target sets up what it needs.

PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.setup-done

.DEFAULT_GOAL := help
.PHONY: help setup proto proto-check lint format types test test-others test-system test-servers
.PHONY: sim sim-crashes sim-storms sim-mutants bench failover failover-storm demo check check-all clean molecule
.PHONY: ansible-lint vagrant-check

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(SETUP) ## Make .venv and install dcron with everything to develop it, at the pinned versions

$(SETUP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "dcron needs Python 3.11 or newer: make setup PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt hatchling editables
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $@

proto: $(SETUP) ## Generate dcron/rpc from proto/dcron.proto
	$(BIN)/python proto/generate.py

proto-check: $(SETUP) ## Fail when dcron/rpc is stale
	$(BIN)/python proto/generate.py --check

lint: proto-check ## Check style, format, import direction, the protocol's conventions and generated code
	$(BIN)/python proto/lint.py
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

format: $(SETUP) ## Mend what ruff can mend by itself
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(SETUP) ## Check types
	$(BIN)/mypy

# A server that cannot be installed is no error here: its tests say that they are skipped, or fail
# where DCRON_TEST_REQUIRE_SERVERS=1.
test-servers: $(SETUP) ## Install the CouchDB and S3 servers of the tests into .cache
	-$(BIN)/python -c 'from tests.couchdb_server import couch_server_program as p; print(p())'
	-PIP_CONSTRAINT=tests/swift-constraints.txt $(BIN)/python -m tests.swift_venv

# A report for each: CI gathers from them which tests took longest.
REPORT = $(if $(DCRON_TEST_REPORTS),--junitxml=$(DCRON_TEST_REPORTS)/$@.xml)

test: test-others test-system ## Run all tests

test-others: test-servers ## Run all tests but those of whole clusters of processes
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile --ignore tests/system $(REPORT)

# They wait for leases, timeouts and schedules most of the time. Servers of one's own are for one at a time.
test-system: test-servers ## Run the tests of whole clusters of processes
	$(BIN)/pytest tests/system $(REPORT) \
	  $(if $(DCRON_TEST_COUCHDB_URL)$(DCRON_TEST_S3_URL),,--numprocesses 2 --dist loadgroup)

sim: $(SETUP) ## Simulate the cluster under faults: SEEDS=200 of them from FIRST=1 on, or one SEED=n
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),200) --first $(or $(FIRST),1))

sim-crashes: $(SETUP) ## Kill a node at each await of an occurrence, or at one: CASE=worker:quick:timeout:30
	$(BIN)/python -m tests.simulation.crashes $(if $(CASE),--case $(CASE) --verbose)

sim-storms: $(SETUP) ## Simulate leaders that change every few seconds: SEEDS=20 storms from FIRST=1 on, or one SEED=n
	$(BIN)/python -m tests.simulation.storms $(if $(SEED),--seed $(SEED) --verbose,--seeds $(or $(SEEDS),20) --first $(or $(FIRST),1))

sim-mutants: $(SETUP) ## Show that the simulation finds deliberate bugs
	$(BIN)/python -m tests.simulation.mutants

bench: test-servers ## Measure dcron beside its yardsticks; BENCH=quick, default or full; ONLY="due_at_once …"
	$(BIN)/python -m tests.bench $(ONLY)

failover: test-servers ## How long a change of leaders takes, and what it loses or doubles: ROUNDS=100 of each kind
	$(BIN)/python -m tests.bench.failover $(ROUNDS)
	$(BIN)/python -m tests.bench.failover_storm $(STORM)

failover-storm: test-servers ## How long attempts stand still while leaders keep changing: STORM=120 seconds
	$(BIN)/python -m tests.bench.failover_storm $(STORM)

demo: $(SETUP) ## Run the main job on a three-node cluster on this machine, and show it
	$(BIN)/dcron demo

# The Ansible bundle has an environment of its own, in .cache/ansible. As root on Debian, what is missing is installed by apt.
molecule: ## Test the Ansible bundle on podman hosts: all scenarios, or one SCENARIO=dcron_node
	ansible/molecule.sh $(or $(SCENARIO),all) test

ansible-lint: ## Check the style of the Ansible bundle
	ansible/lint.sh

vagrant-check: ## Bring the Vagrantfile's machines up on podman, provision them twice, run a job, destroy them
	ansible/vagrant_check.sh

check: lint types test ## Everything that has to pass before a change is done

check-all: export DCRON_TEST_SHARE =
check-all: check demo bench sim-crashes sim-storms sim-mutants ansible-lint molecule vagrant-check ## All there is, before a release
	$(MAKE) sim SEEDS=2000

clean: ## Remove .venv, .cache and all that is generated, but for dcron/rpc
	rm -rf .venv .cache build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
