# Everything that a target needs is set up by it; the second time this takes no time.
#   make demo     a 4096 x 4096 scene becomes a map
#   make test     the default tests        make check   style, types, import direction
#   make serve    Prefect on loopback maps what is put into inbox/
#   make faults   breaks runs in every way that is known, and counts what came of it
#   make mutants  changes the code one line at a time, and counts what the tests notice
#   make site     the documentation as web pages, in site/
#   make bench    the figures of docs/performance.md, measured here and now        make bench-gpu    those of a GPU, in 7 minutes

PYTHON ?= python3
VENV := .venv
DOCS := .venv-docs
BIN := $(VENV)/bin
CYTHON := $(shell find geoseg -name '*.pyx')
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python

# Tests start a thousand processes: where the shell forbids compiled files, each would compile all libraries anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: serve services demo setup site faults mutants test test-slow test-gpu test-checkers check format bench bench-gpu lock clean

demo: $(VENV)/.installed
	$(BIN)/geoseg demo --out demo

setup: $(VENV)/.dev

# Prefect on loopback with a schedule that looks into inbox/ every minute; Ctrl-C ends it.
serve: $(VENV)/.dev
	mkdir -p inbox
	$(BIN)/python -m flows.serve inbox --model amazon-forest --out maps

# What some of the slow tests and faults need beside Python.
services:
	@if ls /usr/share/postgresql/*/extension/postgis.control >/dev/null 2>&1; then echo "PostgreSQL and PostGIS are there"; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	apt-get install -y -q --no-install-recommends postgresql postgresql-postgis; \
	else echo "PostGIS is not installed, and this user can't install it: its tests skip"; fi

# Ten minutes on two cores.
test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not gpu and not checkers"

# Twenty minutes on two cores at most: what takes longer is a fault of tests/faults.py.
test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "slow and not gpu and not checkers"

# Half an hour; prints the table of docs/reliability.md.
faults: $(VENV)/.dev
	$(BIN)/python tests/faults.py

# A quarter of an hour on two cores; names the changes of the code that no test notices.
mutants: $(VENV)/.dev
	$(BIN)/python tests/mutants.py

test-gpu: $(VENV)/.dev
	$(BIN)/python -m pytest -m gpu

test-checkers: $(VENV)/.dev
	$(BIN)/python -m pytest -m checkers

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/house.py
	$(BIN)/python tests/front_doors.py

# Half a minute the first time, with 25 MB of packages in an environment of their own; then ten seconds. A link that leads nowhere,
# a page that nothing leads to, or a page that loads anything from elsewhere is an error.
site: $(VENV)/.installed $(DOCS)/.installed
	rm -rf build/site
	$(BIN)/python website/reference.py build/site
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs build --quiet --strict
	@echo "site/index.html; with search: $(BIN)/python -m http.server --bind 127.0.0.1 --directory site"

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/run.py

bench-gpu: $(VENV)/.dev
	$(BIN)/python benchmarks/bench_gpu.py

# The locks carry hashes and no index addresses. base.lock is what users get, dev.lock adds torch, Prefect and the tools;
# cpu.lock and gpu.lock are what the images hold; docs.lock is what builds the site.
COMPILE := $(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-annotate --no-header --universal --python-version 3.11
lock: $(VENV)/.uv
	$(COMPILE) --upgrade requirements/uv.in -o requirements/uv.lock
	$(COMPILE) --upgrade requirements/docs.in -o requirements/docs.lock
	$(COMPILE) --upgrade pyproject.toml requirements/build.in --extra dev -o requirements/dev.lock
	$(COMPILE) --upgrade pyproject.toml requirements/build.in -c requirements/dev.lock -o requirements/base.lock
	$(COMPILE) --upgrade pyproject.toml --extra flows --extra cloud --extra hub -c requirements/dev.lock -o requirements/cpu.lock
	$(COMPILE) --upgrade pyproject.toml --extra flows --extra cloud --extra hub --extra gpu -c requirements/dev.lock -o requirements/gpu.lock

clean:
	rm -rf $(VENV) $(DOCS) build demo site

$(VENV)/.uv: requirements/uv.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.lock
	touch $@

# The Cython modules are compiled in place, so that the sources can be edited.
$(VENV)/.installed: requirements/base.lock $(VENV)/.uv pyproject.toml hatch_build.py $(CYTHON)
	$(UV) --require-hashes -r requirements/base.lock
	$(UV) --no-build-isolation --no-deps -e .
	touch $@

$(VENV)/.dev: requirements/dev.lock $(VENV)/.installed
	$(UV) --require-hashes -r requirements/dev.lock
	touch $@

$(DOCS)/.installed: requirements/docs.lock $(VENV)/.uv
	test -x $(DOCS)/bin/python || $(BIN)/python -m venv --without-pip $(DOCS)
	$(BIN)/uv pip install --quiet --python $(DOCS)/bin/python --require-hashes -r requirements/docs.lock
	touch $@
