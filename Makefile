# What a newcomer needs: Python >= 3.11 with venv, and make.
#
#   make demo [ONCE=1]                   the whole system in one process; ONCE=1: leave when it has answered
#   make test [TESTS=tests.unit]  all tests, or some
#   make test BROKER=4                   those that use RabbitMQ, on RabbitMQ 4.3 (4.0: BROKER=4.0); likewise make faults
#   make faults [QUICK=1] [ROW=3]        kill, freeze and part everything, and count the jobs; QUICK=1: in a quarter of an hour
#   make bench [QUICK=1] [BENCH=jobs]    how fast it is, and its peers are; QUICK=1: in two minutes, and not exact
#   make dist                            the sdist and the wheel, in dist
#   make services                        RabbitMQ, also 4.0 and 4.3, MongoDB, Prometheus and Chromium for the tests (Debian)
#   make screenshots                     the pictures in docs/images, from real runs
#   make changelog                       the fragments in changelog.d into CHANGELOG.rst, for a release
#   make dashboards                      Grafana's dashboards, from etc/grafana/*.py
#   make coverage / lint / docs / clean

PYTHON ?= python3
BIN = .venv/bin

# The RabbitMQ to test with, other than the installed one; .ci/rabbitmq4 installs them.
ifdef BROKER
SUITE = $(BROKER:4.0=trixie)
export TXMICRO_RABBITMQ_BIN = /var/cache/txmicro/rabbitmq/$(SUITE:4=forky)/bin
TESTS ?= $(subst /,.,$(basename $(shell grep -rlE 'require_rabbitmq|import .*\bRabbitMQ\b' --include='test_*.py' tests)))
endif
TESTS ?= tests

.PHONY: demo test coverage faults bench lint changelog docs screenshots dist dashboards services clean

demo: .venv/ready
	$(BIN)/python -m txmicro.examples.movies $(if $(ONCE),--once)

test: .venv/ready
	$(BIN)/trial $(TESTS)

coverage: .venv/ready
	$(BIN)/coverage erase
	$(BIN)/coverage run -m twisted.trial $(TESTS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report $(if $(filter tests,$(TESTS)),,--fail-under=0)

faults: .venv/ready
	$(BIN)/python -m tests.faults $(if $(QUICK),--quick) $(addprefix --row=,$(ROW))

bench: .venv/ready
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(addprefix --bench=,$(BENCH)) $(addprefix --system=,$(SYSTEM))

lint: .venv/tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/typos
	mkdir -p build
	$(BIN)/towncrier build --draft >build/changelog.rst
	$(BIN)/rst2pseudoxml --strict build/changelog.rst >/dev/null

changelog: .venv/tools
	$(BIN)/towncrier build --yes

screenshots: .venv/tools
	$(BIN)/python -m docs.screenshots

docs: .venv/tools
	$(BIN)/sphinx-build -W --keep-going -q -b html docs build/docs

dist: .venv/ready
	$(BIN)/python -m build --outdir dist .

dashboards: .venv/ready
	$(BIN)/python -m etc.grafana.dashboards

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
