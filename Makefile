# Every target sets itself up: python3 (3.11 or newer) and make are enough.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.installed
ARGS ?=
# A process for each core, up to eight.
PYTEST := $(VENV)/bin/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal
CORE := architecture arguments batches census consistency cuda docs draw_kernel engines fused fuzz kernels launches \
	masks mix_kernel mixing operators package recipes subclasses tables teacher teacher_contexts teacher_updates \
	transforms volumes

.PHONY: train test check lint docs bench fuzz census mutants clean

# Repeated, it goes on with an interrupted run, and shows the scores of a finished one again.
train: $(READY)  ## run the main example; ARGS="--data DIR ..." for your own, ARGS=--overwrite to start anew
	$(VENV)/bin/python examples/train_camvid.py $(if $(findstring --overwrite,$(ARGS)),,--resume) $(ARGS)

test: $(READY)  ## run all tests; ARGS="-k masks" for some
	$(PYTEST) $(ARGS)

check: lint  ## lint, and the tests of cowmask alone
	$(PYTEST) cowmask $(CORE:%=tests/test_%.py) $(ARGS)

lint: $(READY)  ## style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy cowmask examples benchmarks tests docs

docs: $(READY)  ## build the site, docs/_build/html/index.html
	$(VENV)/bin/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build/html $(ARGS)

bench: $(READY)  ## time masks, mixing and training steps on this machine's CPU
	$(VENV)/bin/python -m benchmarks.masks $(ARGS)
	$(VENV)/bin/python -m benchmarks.mixing $(ARGS)
	$(VENV)/bin/python -m benchmarks.training $(ARGS)

fuzz: $(READY)  ## random calls of all public names; ARGS="--cases 500000" for many, ARGS="--case 12345" for one
	$(VENV)/bin/python -m tests.fuzz $(ARGS)

census: $(READY)  ## masks against Listing 1's; ARGS="--masks 1000000" for many
	$(VENV)/bin/python -m tests.census $(ARGS)

mutants: $(READY)  ## small faults that the tests must find; ARGS="--number 300" for many
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check "cosmic-ray>=8.4"
	OMP_NUM_THREADS=1 $(VENV)/bin/python tests/mutants.py $(ARGS)

# The tests only need a label table from cityscapesscripts. Skip its dependencies: its "typing" package shadows the
# standard library's.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps "cityscapesscripts>=2.2"
	touch $@

clean:  ## remove the environment
	rm -rf $(VENV)
