# The commands of a day. Nothing needs more than Python 3.10+ with pip, and make.
SHELL := /bin/sh
PYTHON ?= python3
UV_VERSION := 0.13.8
# The one on PATH, else one of our own (no venv module, no system uv, PEP 668: `pip --target` still works).
UV := $(or $(shell command -v uv 2>/dev/null),.boot/bin/uv)
PIP := $(UV) pip install -q --no-deps --require-hashes
PLUGINS := plugins/.venv/bin/python

# Without byte-code every start of a plugin takes twice as long.
unexport PYTHONDONTWRITEBYTECODE
unexport VIRTUAL_ENV

.PHONY: setup demo next-day test lint stop clean requirements

setup: .venv/ready plugins/.venv/ready ## install all that the main job needs

.boot/bin/uv:
	@$(PYTHON) -m pip install -q --disable-pip-version-check --target .boot uv==$(UV_VERSION) 2>.boot.log \
	  || { cat .boot.log; exit 1; }; rm -f .boot.log

.venv/ready: requirements.txt | $(filter .boot/%,$(UV))
	@echo "Installing Meltano into .venv"
	@$(UV) venv -q --allow-existing --python $(PYTHON) .venv
	@$(PIP) --python .venv/bin/python -r requirements.txt --compile-bytecode
	@touch $@

plugins/.venv/ready: plugins/requirements.txt demo/requirements.txt plugins/pyproject.toml | $(filter .boot/%,$(UV))
	@echo "Installing the plugins into plugins/.venv"
	@$(UV) venv -q --allow-existing --python $(PYTHON) plugins/.venv
	@$(PIP) --python $(PLUGINS) -r plugins/requirements.txt -r demo/requirements.txt --compile-bytecode
	@$(UV) pip install -q --no-deps --python $(PLUGINS) -e plugins
	@$(PLUGINS) -m compileall -q plugins/landing
	@touch $@

demo: setup ## the whole job for today, on an embedded PostgreSQL
	@$(PLUGINS) demo/run.py

next-day: setup ## change the sample shop as a day of business would
	@$(PLUGINS) demo/shop.py next-day

plugins/.venv/tests-ready: plugins/.venv/ready tests/requirements.txt
	@$(PIP) --python $(PLUGINS) -r tests/requirements.txt
	@touch $@

test: setup plugins/.venv/tests-ready lint ## all tests, against real servers
	@$(PLUGINS) -m pytest tests

lint: plugins/.venv/tests-ready
	@plugins/.venv/bin/ruff check --quiet .

stop: ## stop the embedded PostgreSQL
	@if [ -x $(PLUGINS) ]; then $(PLUGINS) demo/servers.py stop; fi

clean: ## remove what the commands above made, landed dates included
	@if [ -x $(PLUGINS) ]; then $(PLUGINS) demo/shop.py clean; $(PLUGINS) demo/servers.py clean; fi
	rm -rf .boot .venv plugins/.venv .demo .meltano .pytest_cache .ruff_cache output/source=* output/_staging output/*.csv

requirements: | $(filter .boot/%,$(UV)) ## compile the pinned requirements anew
	@for name in . plugins demo tests; do \
	  $(UV) pip compile -q --universal --python-version 3.10 --generate-hashes --override plugins/overrides.txt \
	    --custom-compile-command 'make requirements' $$name/requirements.in -o $$name/requirements.txt || exit 1; \
	done
