# Two commands are all there is to know, on a fresh machine and in either order:
#   make train    set up what is missing, then run the main job
#   make test     set up what is missing, then run the tests
# Also: make lint, make clean; make test-newest, the tests with the newest Python here; and
# make mutants ROOM=agents/rl, whether tests notice broken lines.  ARGS="..." adds options to the
# command that is run; WORKERS=1 runs the tests in one process.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Most of the time is compilation, which takes one core.
WORKERS ?= 2
# Inside the environment, so that removing it by hand is enough to start again.
DONE := $(VENV)/done
# Python 3.11 has the oldest JAX that is supported, 3.12 and later the newest.
NEWEST ?= $(firstword $(foreach python,python3.14 python3.13 python3.12,\
    $(shell $(python) -c "print('$(python)')" 2>/dev/null)) $(lastword $(sort $(ELSEWHERE))))
# Those of pyenv and of uv need not be on the PATH.
ELSEWHERE = $(wildcard $(foreach folder,.pyenv/versions/ .local/share/uv/python/cpython-,\
    $(HOME)/$(folder)3.1[2-4].*/bin/python3))

.PHONY: train test test-newest lint mutants clean
.DELETE_ON_ERROR:

train: $(DONE)/setup
	$(BIN)/loomax train --config quickstart $(ARGS)

test: $(DONE)/setup
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-newest:
	@test -n "$(NEWEST)" || { echo "no Python 3.12 or later is here: give one, NEWEST=/path/to/python3.13" >&2; exit 2; }
	$(MAKE) test VENV=.venv-newest PYTHON=$(NEWEST)

lint: $(DONE)/setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check

mutants: $(DONE)/setup
	$(BIN)/python tests/mutants.py $(ROOM) $(ARGS)

clean:
	rm -rf .venv .venv-newest dist build .pytest_cache .ruff_cache .hypothesis

$(DONE)/setup: $(DONE)/install $(wildcard jaxlib_ext/csrc/* jaxlib_ext/csrc/*/* jaxlib_ext/build.py)
	$(BIN)/python -m loomax.jaxlib_ext.build
	@touch $@

$(DONE)/install: $(DONE)/venv pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable ".[dev]"
	@touch $@

# Debian keeps ensurepip in a package of its own; without it uv makes the environment.
$(DONE)/venv:
	@if $(PYTHON) -c "import ensurepip" 2>/dev/null; then \
	    $(PYTHON) -m venv $(VENV) && $(BIN)/pip install --quiet --disable-pip-version-check uv; \
	else \
	    echo "$(PYTHON) has no ensurepip: making $(VENV) with uv"; \
	    $(PYTHON) -m pip install --quiet --user --break-system-packages uv \
	        || $(PYTHON) -m pip install --quiet --user uv && \
	    $(PYTHON) -m uv venv --quiet --clear --python $(PYTHON) $(VENV) && \
	    $(PYTHON) -m uv pip install --quiet --python $(BIN)/python uv; \
	fi
	@mkdir -p $(DONE) && touch $@
