# Everything happens in .venv, made on first use and again when pyproject.toml or constraints.txt change.
# Needed besides: Python 3.11 or newer (PYTHON=...), make, and a package index.

PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo demo-stop test chaos lint clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: .venv/ready ## one photo through real Airflow; KEEP=1 leaves it running, IMAGE=file-or-URL, SEGMIND_API_KEY: the real service
	@$(BIN)/python -m demo

demo-stop: .venv/ready ## end what `make demo KEEP=1` has left running
	@$(BIN)/python -m demo.kept

test: .venv/ready ## the whole test suite; ARGS="..." goes to pytest
	@$(BIN)/python -m pytest $(ARGS)

chaos: .venv/ready ## 300 images through real Airflow and PostgreSQL while over 100 processes are killed; SEED=n repeats a plan, REPORT=file.json
	@$(BIN)/python -m chaos $(if $(SEED),--seed=$(SEED)) $(if $(REPORT),--report=$(REPORT)) $(ARGS)

lint: .venv/ready ## ruff and mypy
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

clean: ## remove the virtual environment and all caches
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

.venv/ready: pyproject.toml constraints.txt .ci/make_venv.py
	@$(PYTHON) .ci/make_venv.py
