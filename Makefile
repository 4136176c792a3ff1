# `make` lists what can be asked. Every target but those of the cluster (env, images, up, down), which need only Docker
# and Python, first sees that .venv holds what requirements.lock says.
# Needed beforehand: Python 3.11 to 3.13, make and git; Java 17 as well for ENGINE=spark.

# The Pythons to try, in this order; the first one of the right version builds .venv.
PYTHON ?= python3.11 python3.12 python3.13 python3
# More for the tool behind a target: make test ARGS="tests/kernels -k digest", make run ARGS="--n-clusters 5".
ARGS ?=
# All embedded state is under it; elsewhere: LAKEHOUSE_HOME=/some/where make run.
HOME_FOLDER = $${LAKEHOUSE_HOME:-.lakehouse}
READY = .venv/.ready

# Byte code makes every start two to three times faster; some environments forbid it.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup run test test-stack test-long stack-up stack-down jars minio check format bench bench-day bench-cluster crash-matrix fuzz docs stop clean lock env images up down

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | while IFS='|' read -r name does; do printf '  make %-12s %s\n' "$$name" "$$does"; done

setup: $(READY) ## build .venv from requirements.lock; targets that need it do it first
	@:

run: setup ## make sample data, run the whole job on it and print where to look
	@.venv/bin/lakehouse sample --into "$(HOME_FOLDER)/sample"
	@.venv/bin/lakehouse run --source "$(HOME_FOLDER)/sample" --with-server $(ARGS)

test: setup ## run the tests that take minutes, three processes of them; what is skipped says why
	@$(PYTEST) --numprocesses 3 $(BY_FILE) --ignore tests/stack $(ARGS)

test-stack: setup jars minio ## test the cluster: MinIO, PostgreSQL, Spark and Prefect as processes on this machine
	@$(PYTEST) tests/stack $(ARGS)

test-long: setup jars minio ## run all that takes longer: 200 histories, the crash matrix, kills on the cluster, real receipts
	@LAKEHOUSE_HISTORIES=$${LAKEHOUSE_HISTORIES:-200} $(PYTEST) --numprocesses 2 $(BY_FILE) -m long $(ARGS)

stack-up: setup ## start those services and write what points a shell at them to stack.env in the home
	@.venv/bin/python -m infra.stack up

stack-down: setup ## stop what stack-up started
	@.venv/bin/python -m infra.stack down

jars: setup ## fetch the jars of a Spark on S3, once, into the user's cache
	@.venv/bin/python -m infra.jars >/dev/null

minio: setup ## see that there is a MinIO: on the path, in MINIO_BINARY, or built with Go, once, into the user's cache
	@.venv/bin/python -m infra.stack.minio >/dev/null

check: setup ## see that format, lint, types, imports and contracts hold, documents included
	@$(call quietly,format,.venv/bin/ruff format --check --output-format concise .)
	@$(call quietly,lint,.venv/bin/ruff check --output-format concise .)
	@$(call quietly,types,.venv/bin/mypy)
	@$(call quietly,imports,.venv/bin/lint-imports)
	@$(call quietly,contracts,.venv/bin/pytest --quiet tests/contracts)

format: setup ## format the code, and correct what the linter can correct itself
	@.venv/bin/ruff check --quiet --fix-only .
	@.venv/bin/ruff format .

bench: setup ## compare a run with the same work written by hand in DuckDB
	@.venv/bin/python tests/bench/bench.py $(ARGS)

bench-day: setup ## time one more day, a correction and nothing new against building everything anew
	@.venv/bin/python -m tests.bench.bench_day $(ARGS)

bench-cluster: setup jars minio ## run the main job on the cluster's services here and embedded, and compare time and memory
	@.venv/bin/python -m tests.bench.bench_cluster $(ARGS)

crash-matrix: setup ## cut commands off before, in and after every durable step, and print what came of it
	@.venv/bin/python -m tests.crash.matrix $(ARGS)

fuzz: setup ## try properties on random examples, then random histories on a small lakehouse, for ARGS="--minutes 10"
	@.venv/bin/pytest --quiet -m hypothesis --hypothesis-profile explore
	@.venv/bin/python -m tests.histories.fuzz $(ARGS)

docs: setup ## write what is generated again: lakehouse/CATALOG.md, the lineage in README.md, .env.example
	@$(call generate,lakehouse.documents.catalogue,lakehouse/CATALOG.md)
	@$(call generate,lakehouse.documents.readme,README.md)
	@$(call generate,lakehouse.documents.env_example,.env.example)

stop: setup ## stop the local Prefect server and the embedded PostgreSQL
	@.venv/bin/lakehouse stop

clean: setup ## stop what runs here and remove .lakehouse: data, releases, logs
	@env -u LAKEHOUSE_HOME .venv/bin/lakehouse stop
	@rm -rf .lakehouse

env: ## write .env with new secrets for the cluster; an .env that is there stays as it is
	@python3 -m infra.environment

images: ## build the cluster's two images
	@docker compose build $(ARGS)

up: ## start the cluster of docker-compose.yml, and wait until it is healthy
	@docker compose up --detach --wait $(ARGS)

down: ## stop the cluster; what it keeps stays in its volumes
	@docker compose down $(ARGS)

lock: setup ## write requirements.lock again after a change of pyproject.toml; keeps the versions that still fit
	@$(UV) compile pyproject.toml --group dev --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --quiet --output-file requirements.lock
	@$(MAKE) --no-print-directory setup

# The same each time: Python orders what it keeps in sets by a number that is else another one in each process.
PYTEST = PYTHONHASHSEED=0 .venv/bin/pytest
BY_FILE = --dist loadfile --no-loadscope-reorder
# One line when a command succeeds, all it said when it fails.
quietly = if said=$$($(2) 2>&1); then echo "$(1): OK"; else printf '%s\n' "$$said"; echo "$(1): FAILED"; exit 1; fi
# A document is replaced only by a whole one.
generate = .venv/bin/python -m $(1) > $(2).new && mv $(2).new $(2) && echo "$(2) is up to date"

# Nothing is fetched that has no hash in the lock. pip fetches uv, and setuptools for what comes as source; uv does the
# rest in a fraction of pip's time. uv does not read pip's configuration: where it cannot download, pip does. The lock
# is complete, hence --no-deps: older pips would look beyond it for packages that are asked for with extras.
PIP = .venv/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --require-hashes --no-build-isolation
UV = .venv/bin/uv pip
$(READY): pyproject.toml requirements.lock
	@set -e; python=; for candidate in $(PYTHON); do \
		if $$candidate -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then \
			python=$$candidate; break; fi; done; \
	if [ -z "$$python" ]; then \
		echo "None of $(PYTHON) is Python 3.11 to 3.13: install one, or name it, as in make PYTHON=/usr/bin/python3.12." >&2; \
		exit 1; fi; \
	if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then \
		echo "Making .venv with $$($$python --version)."; \
		$$python -m venv --clear .venv || { \
			echo "$$python cannot make a virtual environment: on Debian, install python3-venv." >&2; exit 1; }; fi
	@echo "Installing the packages of requirements.lock into .venv: a minute or two the first time."
	@sed -n -e '/^uv==/,/[^\\]$$/p' -e '/^setuptools==/,/[^\\]$$/p' requirements.lock > .venv/first.lock
	@$(PIP) -r .venv/first.lock
	@$(UV) sync --quiet --python .venv/bin/python --no-build-isolation --require-hashes --compile-bytecode \
		requirements.lock || $(PIP) -r requirements.lock
	@$(UV) install --quiet --python .venv/bin/python --no-build-isolation --no-deps --offline --editable .
	@touch $(READY)
	@echo "Ready."
