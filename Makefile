# make demo    the whole product in 15 seconds: a real server, a noisy synthetic actor, a live table, one picture
# make test    lint, types and every test, as CI runs them
# make docs    the documentation as a site in site/, warnings are errors
# make lint    ruff and mypy only;  make format  lets ruff rewrite;  make clean  removes what these made
#
# Each target makes .venv by itself and installs what it needs once. The demo needs no torch; the tests do.

PYTHON ?= python3
# Pinned, and installed before the rest: a range would draw the newest build with its several GB of GPU packages.
TORCH ?= torch==2.13.0
# 230 MB, six seconds: builds real engines without a GPU. Where there is none of it, its tests are visible skips.
TENSORRT ?= tensorrt-rtx==1.6.1.120
# 150 MB: a real estimator on a real video. Where there is none of it, its tests are visible skips.
MEDIAPIPE ?= mediapipe==1.2.3
# 55 MB: a real Triton server for the CPU, in an environment of its own, .venv/triton (it wants numpy<2; 30 seconds, 400 MB).
# Where there is none of it, its tests are visible skips.
TRITON ?= nvidia-pytriton==0.7.0
DEMO_ARGS ?=
PYTEST_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
# Twice quiet: errors only. Warnings about an index that lacks a package come by the dozen.
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
TRITON_PIP := $(VENV)/triton/bin/python -m pip -qq --disable-pip-version-check install
# Stamps live inside .venv, so that removing it forgets them too.
MADE := $(VENV)/.made
PACKAGES := streamer model bench tests examples
# A few threads of every library on two cores only get in each other's way, and make timings jump.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: demo test lint format docs clean
.DELETE_ON_ERROR:

demo: $(MADE)/demo
	$(BIN)/hpstm demo $(DEMO_ARGS)

test: lint
	@# Two workers for all but what says how long something takes: that has the machine to itself.
	$(ONE_THREAD) $(BIN)/python -m pytest -m 'not timed' --numprocesses 2 --dist loadgroup $(PYTEST_ARGS)
	$(ONE_THREAD) $(BIN)/python -m pytest -m timed $(PYTEST_ARGS)

lint: $(MADE)/test
	$(BIN)/ruff check $(PACKAGES)
	$(BIN)/ruff format --check $(PACKAGES)
	$(BIN)/mypy

format: $(MADE)/test
	$(BIN)/ruff check --fix $(PACKAGES)
	$(BIN)/ruff format $(PACKAGES)

docs: $(MADE)/docs
	$(BIN)/python -m mkdocs build --strict

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(MADE)/demo: pyproject.toml | $(BIN)/python
	@echo "installing the filter, the server and the demo into $(VENV) (once) ..."
	@$(PIP) install --editable '.[bench]'
	@mkdir -p $(MADE) && touch $@

$(MADE)/test: pyproject.toml | $(BIN)/python
	@echo "installing $(TORCH) and the extras for training, documents and development into $(VENV) (once) ..."
	@$(PIP) install '$(TORCH)'
	@$(PIP) install --editable '.[train,bench,docs,dev]'
	@$(PIP) install '$(TENSORRT)' || echo "no $(TENSORRT) for this machine: the tests that build engines are skipped"
	@$(PIP) install '$(MEDIAPIPE)' || echo "no $(MEDIAPIPE) for this machine: the tests of a real estimator are skipped"
	@{ $(PYTHON) -m venv $(VENV)/triton && $(TRITON_PIP) --editable . 'tritonclient[grpc]' 'numpy<2' \
		&& $(TRITON_PIP) --no-deps '$(TRITON)'; } || echo "no $(TRITON) for this machine: the tests of serving by it are skipped"
	@mkdir -p $(MADE) && touch $@ $(MADE)/demo

$(MADE)/docs: pyproject.toml | $(BIN)/python
	@echo "installing what builds the site into $(VENV) (once) ..."
	@$(PIP) install --editable '.[docs]'
	@mkdir -p $(MADE) && touch $@

clean:
	rm -rf $(VENV) build dist site demo_out .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find $(PACKAGES) -name __pycache__ -type d -prune -exec rm -rf {} +
