# From a fresh clone with Python >= 3.12: `make fit`, `make test`. Another interpreter: make fit PYTHON=python3.13
# A finished fit is never overwritten: `mezikd fit` refuses its folder. A second one: make fit OUT=runs/second
# Options of the command: make fit OUT=runs/short ARGS="--chains 2 --draws 100"; ARGS= gives the draws of fits/successor2 (NUTS)

PYTHON ?= python3
OUT ?= runs/successor2

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
REQUIREMENTS := pyproject.toml constraints.txt
# The folders too, so that a removed module is noticed.
SOURCES := model inference $(wildcard model/*.py inference/*.py fits/*.py)

.DELETE_ON_ERROR:
.PHONY: help fit test test-slow lint bench notebooks clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

fit: ARGS ?= --method emulated
fit: .venv/.installed  ## fit the built-in trial into runs/successor2 (or OUT=folder); resumes an unfinished fit
	@mkdir -p $(dir $(OUT))
	$(BIN)/mezikd fit --out $(OUT) $(ARGS)

# Two workers for the two cores; a file stays with one of them, so that nothing is compiled twice.
test: lint  ## lint, then every test that takes seconds
	$(BIN)/python -m pytest -m "not slow and not benchmark" -n 2 --dist loadfile

test-slow: .venv/.installed-dev  ## statistical tests of minutes
	$(BIN)/python -m pytest -m slow

lint: .venv/.installed-dev .venv/.typecheck  ## ruff and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: .venv/.installed-dev  ## timings into tests/benchmarks/results.csv; all of them: ARGS=--long
	$(BIN)/python -m pytest tests/benchmarks -m benchmark -s $(ARGS)

notebooks: .venv/.installed-dev  ## run the notebooks from their .py and write the .ipynb with outputs
	$(BIN)/python notebooks/execute.py

clean:  ## remove the environment and caches; runs/ stays
	rm -rf .venv build mezikd.egg-info .pytest_cache .ruff_cache .hypothesis .jax_cache
	find model inference fits notebooks tests -name __pycache__ -type d -prune -exec rm -rf {} +

# ensurepip comes last, so a half-made environment is made again.
.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 12))' || { \
		echo "mezikd needs Python 3.12 or newer; '$(PYTHON)' is not. Name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; \
		exit 1; }
	$(PYTHON) -m venv .venv

.venv/.installed: $(REQUIREMENTS) | .venv/bin/pip
	$(PIP) install -q -c constraints.txt -e .
	@touch $@

.venv/.installed-dev: $(REQUIREMENTS) | .venv/bin/pip
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch .venv/.installed $@

# An editable install maps mezikd.* at run time, which pyright cannot follow: it reads an ordinary install (pyproject.toml,
# extraPaths). setuptools would install whatever an earlier build left in build/.
.venv/.typecheck: pyproject.toml $(SOURCES) | .venv/bin/pip
	@rm -rf build .venv/typecheck
	$(PIP) install -q --no-deps --no-compile --target .venv/typecheck .
	@rm -rf build
	@touch $@
