# Every target sets itself up: python3 (3.11 or newer) and make are enough.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.installed
ARGS ?=

.PHONY: train test lint bench clean

train: $(READY)  ## run the main example; ARGS="--data DIR ..." for your own
	$(VENV)/bin/python examples/train_camvid.py $(ARGS)

test: $(READY)  ## run all tests; ARGS="-k masks" for some
	$(VENV)/bin/python -m pytest $(ARGS)

lint: $(READY)  ## style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy cowmask examples benchmarks tests

bench: $(READY)  ## time masks, mixing and training steps on this machine's CPU
	$(VENV)/bin/python -m benchmarks.masks $(ARGS)
	$(VENV)/bin/python -m benchmarks.mixing $(ARGS)
	$(VENV)/bin/python -m benchmarks.training $(ARGS)

# Of cityscapesscripts the tests need a table; what it depends on, as "typing", would stand in the way of Python's own.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps "cityscapesscripts>=2.2"
	touch $@

clean:  ## remove the environment
	rm -rf $(VENV)
