# Everything runs in .venv, which is made on first use and updated when pyproject.toml or constraints.txt change.
# Required: Python 3.11 or newer (PYTHON=... chooses one), make and a package index.

PYTHON ?= python3
BIN := .venv/bin

# Most tests wait for Airflow or an emulated job, so two cores keep four workers busy, and six where no Airflow runs.
WORKERS ?= 4
PYTEST = $(BIN)/python -m pytest --numprocesses=$(WORKERS)

.DEFAULT_GOAL := help
.PHONY: help demo demo-stop test test-fast model coverage matrix chaos cluster bench lint package constraints clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: .venv/ready ## process one photo with real Airflow. KEEP=1: leave Airflow running. IMAGE=file or URL. SEGMIND_API_KEY: use the real service
	@$(BIN)/python -m demo

demo-stop: .venv/ready ## stop what `make demo KEEP=1` left running
	@$(BIN)/python -m demo.stop

test: .venv/ready ## run all tests. ARGS="...": arguments for pytest. WORKERS=n: number of processes
	@$(PYTEST) $(ARGS)

test-fast: WORKERS = 6
test-fast: .venv/ready ## run the tests that start no Airflow processes, with fewer examples of the state machine
	@SEGMIND_MODEL_EXAMPLES=300 $(PYTEST) --ignore=tests/airflow_processes $(ARGS)

model: EXAMPLES = 10000
model: .venv/ready ## search for ways to pay twice with random examples of the state machine. EXAMPLES=n
	@SEGMIND_MODEL_RANDOM=1 SEGMIND_MODEL_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/model $(ARGS)

coverage: .venv/ready ## like test-fast, and report which lines of the package were not run
	@$(PYTEST) --ignore=tests/airflow_processes --cov --cov-report=term-missing:skip-covered $(ARGS)

matrix: .venv/ready ## run the tests of hooks, triggers, operators and files on each supported Airflow, and kill tasks on two. ONLY=airflow-3.1.8: on one
	@$(BIN)/python .ci/matrix.py $(ONLY) $(ARGS)

chaos: .venv/ready ## process hundreds of images with real Airflow and PostgreSQL while more than 100 processes are killed. SEED=n: repeat a plan. REPORT=file.json
	@$(BIN)/python -m chaos $(if $(SEED),--seed=$(SEED)) $(if $(REPORT),--report=$(REPORT)) $(ARGS)

cluster: .venv/cluster ## process 400 images with two Celery workers and two triggerers, of which some are killed. REPORT=file.json
	@$(BIN)/python -m cluster $(if $(REPORT),--report=$(REPORT)) $(ARGS)

bench: .venv/bench ## run all benchmarks (half an hour) and write docs/benchmark-results.md. RUNS=n: how often. QUICK=1: only check that they run
	@$(BIN)/python -m benchmarks $(if $(RUNS),--runs=$(RUNS)) $(if $(QUICK),--quick)

lint: .venv/ready ## check style and types with ruff and mypy
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

package: .venv/ready ## build the sdist and the wheel into dist/ and check them
	@$(BIN)/python .ci/check_package.py

constraints: .venv/ready ## resolve constraints/ again after a change of the dependencies
	@$(BIN)/python .ci/pin_versions.py

clean: ## remove the virtual environments, build results and caches
	rm -rf .venv .venv-matrix .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage build dist
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

.venv/ready: pyproject.toml constraints.txt .ci/make_venv.py
	@$(PYTHON) .ci/make_venv.py

.venv/bench: .venv/ready
	@$(BIN)/python -m pip --quiet --disable-pip-version-check install --constraint constraints.txt --no-build-isolation --editable ".[bench]"
	@touch $@

.venv/cluster: .venv/ready
	@$(BIN)/python -m pip --quiet --disable-pip-version-check install --constraint constraints.txt --no-build-isolation --editable ".[cluster]"
	@touch $@
