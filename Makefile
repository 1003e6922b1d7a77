# Everything below sets up what it needs by itself, in .venv, on a machine that has Python 3.11 to 3.13 and make.
#
#   make demo        built-in data -> sweep of all models -> reports/demo/leaderboard.html
#   make test        the fast tests                      make test-all   the slow ones too
#   make lint        ruff, mypy --strict, import-linter  make format     ruff's formatter and its safe mends
#   make perf        the speed claims -> perf/RESULTS.md (PEER_PYTHON=PATH: the python of an environment with the peer)
#   make docs        the documentation as pages in build/site/
#   make clean       caches and build outputs            make distclean  .venv as well (workspaces are never touched)
#
#   make demo PYTHON=/path/to/python3.12                           another Python
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu     torch without CUDA: a smaller download

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all lint format perf docs clean distclean

SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	"$$p" -c '$(SUITABLE)' >/dev/null 2>&1 && { command -v "$$p"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2

export PIP_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Byte code is made when a module is first imported: compiling all of it at once costs a minute for what is mostly never loaded.
# It must then be kept, or every process of a sweep would compile torch and Ray anew.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip install --quiet --no-compile --prefer-binary $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

help:
	@sed -n 's/^#   //p' Makefile

# ---------------------------------------------------------------------------------------------------------------- set-up
$(VENV)/.made:
	$(if $(strip $(PYTHON)),,$(error benchbed needs Python 3.11, 3.12 or 3.13, and none was found; install one, or name it: make PYTHON=/path/to/python3.12))
	@"$(PYTHON)" -c '$(SUITABLE)' 2>/dev/null || { \
		echo "benchbed needs Python 3.11, 3.12 or 3.13; $(PYTHON) is $$("$(PYTHON)" -V 2>/dev/null || echo none that runs); name another: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) has no venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "making $(VENV) with $(PYTHON)"
	@"$(PYTHON)" -m venv $(VENV)
	@touch $@

# The second make installs nothing, unless pyproject.toml or constraints.txt changed.
$(VENV)/.runtime: pyproject.toml constraints.txt hatch_build.py | $(VENV)/.made
	@echo "installing benchbed and its dependencies (once; some minutes with a slow network)"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt hatch_build.py | $(VENV)/.made
	@echo "installing benchbed, its dependencies and the tools of its developers (once; some minutes with a slow network)"
	@$(PIP) --editable '.[dev]'
	@touch $(VENV)/.runtime $@

$(VENV)/.docs: pyproject.toml constraints.txt hatch_build.py | $(VENV)/.made
	@$(PIP) --editable '.[docs]'
	@touch $(VENV)/.runtime $@

# ------------------------------------------------------------------------------------------------------------------ work
demo: $(VENV)/.runtime
	$(BIN)/benchbed demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-all: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "slow or not slow"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

perf: $(VENV)/.runtime
	$(BIN)/python perf/results.py $(if $(PEER_PYTHON),--peer-python "$(PEER_PYTHON)")

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --quiet --site-dir build/site
	@echo "build/site/index.html"

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find benchbed tests perf -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
