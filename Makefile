# Every target sets itself up from a bare Python 3.11 (or later): nothing else is needed.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
export JAX_PLATFORMS ?=
# Tests and lint run anywhere; a comparison uses whatever accelerator JAX finds.

# XLA on a CPU allocates its temporaries anew at each step: keep the pages instead of faulting them in again.
compare bench: export MALLOC_MMAP_MAX_ = 0
compare bench: export MALLOC_TRIM_THRESHOLD_ = -1
compare bench: export MALLOC_ARENA_MAX = 1

.PHONY: help compare test test-peers lint format bench figures clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

compare: $(VENV)/.base ## five families side by side on real digits: runs/compare-digits/report.html
	$(BIN)/genjax compare --config=compare/digits

test: $(VENV)/.dev ## the project's own tests
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n 2 --dist loadgroup --ignore=tests/peers

test-peers: $(VENV)/.peers ## parity with torch, pytorch-fid, prdc and other libraries
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest tests/peers

lint: $(VENV)/.dev ## ruff (format and lint) and pyright
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

format: $(VENV)/.dev ## let ruff mend what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.peers ## speed beside what a user would pick instead (experiments/benchmarks)
	$(BIN)/python -m experiments.benchmarks

figures: $(VENV)/.base ## the README's picture, from runs/compare-digits
	$(BIN)/python -c "from genjax.report import figure; figure.write_figure('runs/compare-digits', 'docs/comparison.png')"

clean: ## remove the environment and the runs
	rm -rf $(VENV) runs

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q --upgrade pip

$(VENV)/.base: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $@

# On Linux a plain torch is a CUDA build of gigabytes; with a CPU build installed or findable, pip keeps it.
$(VENV)/.peers: $(VENV)/.dev
	$(PIP) install -q -c constraints.txt -e '.[dev,peers]'
	@touch $@
