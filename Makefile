# What a newcomer needs: Python >= 3.11 with venv, and make.
#
#   make demo [ONCE=1]                   the whole system in one process; ONCE=1: leave when it has answered
#   make test [TESTS=tests.test_config]  all tests, or some
#   make faults [QUICK=1] [ROW=3]        kill, freeze and part everything, and count the jobs; QUICK=1: in a quarter of an hour
#   make bench [QUICK=1] [BENCH=jobs]    how fast it is, and its peers are; QUICK=1: in two minutes, and not exact
#   make services                        RabbitMQ and MongoDB for the tests that use it (Debian)
#   make coverage / lint / docs / clean

PYTHON ?= python3
BIN = .venv/bin
TESTS ?= tests

.PHONY: demo test coverage faults bench lint docs services clean

demo: .venv/ready
	$(BIN)/python -m examples.movies.demo $(if $(ONCE),--once)

# BROKER=trixie (RabbitMQ 4.0), BROKER=forky (4.3) or BROKER=4 (the same as trixie): the RabbitMQ to test with, other
# than the installed one. See .ci/rabbitmq4.
ifdef BROKER
export TXMICRO_RABBITMQ_BIN = /var/cache/txmicro/rabbitmq/$(BROKER:4=trixie)/bin
endif

test: .venv/ready
	$(BIN)/trial $(TESTS)

coverage: .venv/ready
	$(BIN)/coverage erase
	$(BIN)/coverage run -m twisted.trial $(TESTS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

faults: .venv/ready
	$(BIN)/python -m tests.faults $(if $(QUICK),--quick) $(addprefix --row=,$(ROW))

bench: .venv/ready
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(addprefix --bench=,$(BENCH)) $(addprefix --system=,$(SYSTEM))

lint: .venv/tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/tools
	$(BIN)/sphinx-build -W --keep-going -q -b html docs build/docs

services:
	.ci/services
	.ci/rabbitmq4 trixie forky
	.ci/mongodb

clean:
	rm -rf .venv build dist *.egg-info _trial_temp* .coverage*

# "compat" puts this directory on the path as it is, so that twistd finds twisted/plugins from anywhere.
INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat --editable

.venv/ready: setup.py
	$(PYTHON) -m venv --clear .venv
	$(INSTALL) '.[test]'
	touch $@

.venv/tools: .venv/ready
	$(INSTALL) '.[dev]'
	touch $@
