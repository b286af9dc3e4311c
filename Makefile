# make demo     set everything up, export the shipped NEU model to int8, prove parity, classify pictures
# make test     set everything up, check style, types and layers, run the tests
# make test-system   test against real cameras, brokers and browsers on loopback; as root it installs them by apt
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-system lint clean help

help:
	@sed -n 's/^# //p' Makefile

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else "edgecnn needs Python 3.11 to 3.13, %s is %d.%d: make PYTHON=python3.11 ..." % (sys.executable, *v))'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv module is missing: apt install python3-venv" >&2; exit 1; }
	@echo "Installing edgecnn with its tools into $(VENV) (TensorFlow is large: a minute or two) ..." >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(READY)
	@$(BIN)/python -m edgecnn_export.demo

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest

test-system: $(READY)
	@tests/system/install.sh
	$(BIN)/python -m pytest tests/system

clean:
	rm -rf $(VENV) build dist demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
