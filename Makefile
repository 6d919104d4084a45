PYTHON ?= python3
BIN = .venv/bin
TESTS ?= tests

.PHONY: demo test coverage lint docs services clean

.venv/ready: setup.py
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --config-settings editable_mode=compat --editable '.[dev]'
	touch $@

test: .venv/ready
	$(BIN)/trial $(TESTS)
