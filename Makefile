# `make run` takes a fresh clone to a promoted generator. `.ci/run` lists the targets of CI.
.PHONY: run install fetch stack test test-e2e test-faults test-servers test-stack mutants bench lint lock help

PYTHON ?= python3
UV := .venv/bin/uv
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# MLflow, Prefect and DVC send telemetry by default.
export MLFLOW_DISABLE_TELEMETRY = true
export PREFECT_SERVER_ANALYTICS_ENABLED = false
export DVC_NO_ANALYTICS = 1

run: install fetch  ## install, fetch the embedded sample, run every stage, print the result
	dvc repro evaluate
# Forced, because dvc.lock can match the outputs while the registry of this clone is empty.
	dvc repro --single-item --force register
	facegan summary artifacts/train artifacts/metrics.json artifacts/evaluation

install: .venv/installed .venv/web-runtime  ## create .venv from requirements.lock

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(UV) pip install --python .venv --require-hashes --compile-bytecode --requirements requirements.lock
	$(UV) pip install --python .venv --no-deps --no-build-isolation --editable .
	touch $@

# For `facegan export`, which says what is missing where there is no npm or no network.
.venv/web-runtime: src/facegan/export/web_runtime.py | .venv/installed
	-.venv/bin/python -m facegan.export.web_runtime
	touch $@

# An existing data/ is kept, whatever its origin.
fetch: install  ## fetch the embedded sample, unless data/ exists
	test -d data || facegan fetch digits

stack: install  ## run PostgreSQL, S3, MLflow, Prefect and a worker; make stack STACK="--cron '0 2 * * *'"
	@python -m infra.stack $(STACK)

# Without --max-worker-restart 0, a test that crashes its worker is retried forever.
PYTEST := pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 --durations 15

test: install  ## run all tests but those of the next two, two files at a time
	$(PYTEST) -m "not e2e and not faults"

test-e2e: install  ## run whole pipelines with real servers, processes and browsers
	$(PYTEST) -m "e2e and not faults"

test-faults: install  ## run fault injection and other slow tests; make test-faults FAULTS=tests/register
	$(PYTEST) -m faults $(FAULTS)

STORES ?= proxied direct moto

test-servers: install  ## test tracking and registry on MLflow servers; make test-servers STORES=direct
	for store in $(STORES); do \
	  FACEGAN_TEST_STORE=$$store $(PYTEST) tests/register tests/tracking tests/integration/test_servers.py || exit 1; \
	done

test-stack: install  ## run infra/compose.yaml in containers; needs podman and root
	pytest --verbose --durations 0 --override-ini faulthandler_timeout=1800 tests/infra/containers.py

# Goes on where it was interrupted; `mutmut show NAME` shows a survivor. A text file without encoding is
# an error in our code, and none in mutmut's. One mutant at a time: the tests of two disturb each other.
mutants: install  ## break the modules that decide, line by line: which share do tests notice?
	PYTHONWARNDEFAULTENCODING=1 PYTHONWARNINGS=ignore::EncodingWarning mutmut run --max-children 1
	mutmut results
	mutmut results --all true | awk -F: '{sub(/\.x.*/, "", $$1); n[$$1]++; killed[$$1] += / (killed|timeout)/} \
	  END {for (m in n) printf "%-36s %5d mutants %5.1f%% killed\n", m, n[m], 100 * killed[m] / n[m]}' | sort

bench: install  ## benchmark against baselines; make bench ONLY=photographs
	PYTHONPATH=tests python -m benchmarks $(ONLY)

lint: install  ## check style, imports, types, and whether requirements.lock matches pyproject.toml
	ruff check
	ruff format --check
	lint-imports
	mypy
	cfn-lint infra/aws/*.yaml
	hadolint infra/Dockerfile tests/infra/images/*.Dockerfile
	cp requirements.lock .venv/checked.lock
	$(UV) pip compile --quiet $(LOCK_OPTIONS) --output-file .venv/checked.lock pyproject.toml
	diff -u requirements.lock .venv/checked.lock

LOCK_OPTIONS := --universal --python-version 3.11 --all-extras --generate-hashes --no-header

lock: install  ## resolve requirements.lock; make lock UPGRADE="--upgrade-package NAME"
	$(UV) pip compile --quiet $(LOCK_OPTIONS) $(UPGRADE) --output-file requirements.lock pyproject.toml

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12
