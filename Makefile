# Every target creates the environment that it needs. Requires Python 3.11 or later and a package index.
# The newest supported version that runs: a command may exist (as a pyenv shim) without a version behind it.
PYTHON ?= $(shell for v in 3.13 3.12 3.11 3; do python$$v -c '' 2>/dev/null && echo python$$v && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Tests run on the CPU; comparisons and benchmarks use the accelerator that JAX finds.
export JAX_PLATFORMS ?=

# XLA on a CPU allocates temporaries anew at each step. These settings make glibc keep freed pages for reuse.
compare bench: export MALLOC_MMAP_MAX_ = 0
compare bench: export MALLOC_TRIM_THRESHOLD_ = -1
compare bench: export MALLOC_ARENA_MAX = 1

.PHONY: help compare test test-selection test-peers lint format bench docs figures clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

compare: $(VENV)/.base ## compare five families on real digits: runs/compare-digits/report.html
	$(BIN)/genjax compare --config=compare/digits

test: $(VENV)/.dev ## run the tests
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n 3 --dist loadgroup --ignore=tests/peers

# What differs between versions of Python and JAX: compilation, convolutions, sharding, checkpoints, decoding, the CLI.
SELECTION := $(addprefix tests/test_,architecture.py conv.py dit.py gpt.py training_engine.py training_optimizers.py \
  checkpoint.py resume.py decoding.py t5.py nnx.py config.py cli.py)

test-selection: $(VENV)/.dev ## run a selection of the tests, for a second version of Python
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n 2 --dist loadgroup $(SELECTION)

test-peers: $(VENV)/.peers ## compare with torch, transformers, pytorch-fid, prdc and others
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest tests/peers

lint: $(VENV)/.dev ## check format, lint and types (ruff, pyright)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

format: $(VENV)/.dev ## format, and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.peers ## time genjax against PyTorch and others (experiments/benchmarks)
	$(BIN)/python -m experiments.benchmarks

docs: $(VENV)/.docs ## build the documentation: build/site/index.html (search needs a server: python -m http.server -d build/site)
	JAX_PLATFORMS=cpu NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

figures: $(VENV)/.base ## draw the README's picture from runs/compare-digits
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

$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install -q -c constraints.txt -e '.[docs]'
	@touch $@

# On Linux the default torch is a CUDA build of several gigabytes. pip keeps a CPU build that is already installed.
$(VENV)/.peers: $(VENV)/.dev
	$(PIP) install -q -c constraints.txt -e '.[dev,peers]'
	@touch $@
