# `make run`: from a fresh clone to a promoted generator. `make test`, `make lint`: what CI runs.
.PHONY: run install fetch test test-faults bench lint lock help

PYTHON ?= python3
UV := .venv/bin/uv
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# None of the parts calls home.
export MLFLOW_DISABLE_TELEMETRY = true
export PREFECT_SERVER_ANALYTICS_ENABLED = false
export DVC_NO_ANALYTICS = 1

run: install fetch  ## fetch the embedded sample, run every stage, show the result
	dvc repro evaluate
# Always, because dvc.lock can have this very result while this clone's registry is empty.
	dvc repro --single-item --force register
	facegan summary artifacts/train artifacts/metrics.json artifacts/evaluation

install: .venv/installed  ## a virtual environment in .venv, with what requirements.lock says

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(UV) pip install --python .venv --require-hashes --compile-bytecode --requirements requirements.lock
	$(UV) pip install --python .venv --no-deps --no-build-isolation --editable .
	touch $@

# Photographs that are there already, whoever's they are, stay.
fetch: install  ## bring the embedded sample in, unless there are photographs
	test -d data || facegan fetch digits

# A crashed worker's test would be tried again and again.
PYTEST := pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 --durations 15

test: install  ## the tests, two files at a time
	$(PYTEST) -m "not faults"

test-faults: install  ## the slow ones, which kill what they test
	$(PYTEST) -m faults

bench: install  ## what is fast, measured against the usual way; make bench ONLY=photographs
	PYTHONPATH=tests python -m benchmarks $(ONLY)

lint: install  ## style, types, and that the lock is not behind pyproject.toml
	ruff check
	ruff format --check
	lint-imports
	mypy
	cp requirements.lock .venv/checked.lock
	$(UV) pip compile --quiet $(LOCK_OPTIONS) --output-file .venv/checked.lock pyproject.toml
	diff -u requirements.lock .venv/checked.lock

LOCK_OPTIONS := --universal --python-version 3.11 --all-extras --generate-hashes --no-header

lock: install  ## bring requirements.lock up to pyproject.toml; make lock UPGRADE="--upgrade-package X"
	$(UV) pip compile --quiet $(LOCK_OPTIONS) $(UPGRADE) --output-file requirements.lock pyproject.toml

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12
