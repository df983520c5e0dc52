# The commands of a day. Nothing needs more than Python 3.11+ with pip, and make.
SHELL := /bin/sh
# These reach programs unexpanded, through the environment and never through a shell command line.
GIVEN := $(foreach name,DATE SCHEMA NAME FILES,$(if $(filter undefined,$(origin $(name))),,$(name)))
$(foreach name,$(GIVEN),$(eval export override $(name) := $$(value $(name))))
PYTHON ?= python3
UV_VERSION := 0.13.8
# The one on PATH, else one of our own (no venv module, no system uv, PEP 668: `pip --target` still works).
UV := $(or $(shell command -v uv 2>/dev/null),.boot/bin/uv)
PIP := $(UV) pip install -q --no-deps --require-hashes
PLUGINS := plugins/.venv/bin/python
NOTEBOOK := notebook/.venv/bin/python
AIRFLOW := orchestrate/airflow/.venv/bin/python

# Without byte-code every start of a plugin takes twice as long.
unexport PYTHONDONTWRITEBYTECODE
unexport VIRTUAL_ENV
# Trust the system's certificate authorities, as pip does: a company's TLS proxy has one of its own. The second name is
# for a uv on PATH from before 2026.
export UV_SYSTEM_CERTS ?= 1
export UV_NATIVE_TLS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo inspect pgadmin airflow workers airflow-stop next-day example notebook notebook-sample jupyter transform docs test spark-test lint chaos soak workers-test bench compose-test stop clean requirements locks

##@ Start
help: ## list these commands
	@awk -F ':.*## ' '/^##@ / {print gap substr($$0, 5); gap = "\n"} \
	  /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: .venv/ready plugins/.venv/ready ## install everything that the main job needs

.boot/bin/uv:
	@$(PYTHON) -m pip install -q --disable-pip-version-check --target .boot uv==$(UV_VERSION) 2>.boot.log \
	  || { cat .boot.log; exit 1; }; rm -f .boot.log

.venv/ready: requirements.txt | $(filter .boot/%,$(UV))
	@echo "Installing Meltano into .venv"
	@$(UV) venv -q --allow-existing --python $(PYTHON) .venv
	@$(PIP) --python .venv/bin/python -r requirements.txt --compile-bytecode
	@mkdir -p -m 700 .meltano # Meltano writes passwords into it, for everybody to read
	@touch $@

plugins/.venv/ready: plugins/requirements.txt demo/requirements.txt plugins/pyproject.toml | $(filter .boot/%,$(UV))
	@echo "Installing the plugins into plugins/.venv"
	@$(UV) venv -q --allow-existing --python $(PYTHON) plugins/.venv
	@$(PIP) --python $(PLUGINS) -r plugins/requirements.txt -r demo/requirements.txt --compile-bytecode
	@$(UV) pip install -q --no-deps --python $(PLUGINS) -e plugins
	@$(PLUGINS) -m compileall -q plugins/landing
	@touch $@

demo: setup ## run the whole job for today, on an embedded PostgreSQL
	@$(PLUGINS) demo/run.py

next-day: setup ## simulate one day of changes in the sample shop
	@$(PLUGINS) demo/shop.py next-day

example: export PYTHONPATH = demo
example: setup transform/.venv/ready ## run NAME of examples/ whole, for DATE: activities, olist, sales or totesys
	@$(PLUGINS) examples/run.py "$$NAME"

##@ Look at the data
notebook: setup notebook/.venv/ready ## run the notebook for DATE (unset: the newest loaded), into output/notebook/
	@$(NOTEBOOK) notebook/run.py

jupyter: setup notebook/.venv/ready ## open the notebook in Jupyter, on 127.0.0.1 only
	@notebook/.venv/bin/jupyter lab --ServerApp.ip=127.0.0.1 $(if $(filter 0,$(shell id -u)),--allow-root) \
	  notebook/query_data.ipynb

notebook/.venv/ready: notebook/requirements.txt plugins/pyproject.toml | $(filter .boot/%,$(UV))
	@echo "Installing the notebook into notebook/.venv"
	@$(UV) venv -q --allow-existing --python $(PYTHON) notebook/.venv
	@$(PIP) --python $(NOTEBOOK) -r notebook/requirements.txt --compile-bytecode
	@$(UV) pip install -q --no-deps --python $(NOTEBOOK) -e plugins
	@touch $@

transform: setup transform/.venv/ready ## build and test the models for DATE (unset: the newest loaded), their documentation and dashboard
	@if [ -n "$$DATE" ]; then export EXTRACTED_AT="$$DATE"; fi; .venv/bin/meltano run transform dbt:docs && $(PLUGINS) dashboard/dashboard.py

transform/.venv/ready: transform/requirements.txt | $(filter .boot/%,$(UV))
	@echo "Installing dbt into transform/.venv"
	@$(UV) venv -q --allow-existing --python $(PYTHON) transform/.venv
	@$(PIP) --python transform/.venv/bin/python -r transform/requirements.txt --compile-bytecode
	@touch $@

inspect: setup ## write the files with which DBeaver and pgAdmin open source and warehouse
	@$(PLUGINS) inspection/connections.py

inspection/.venv/ready: inspection/requirements.txt | $(filter .boot/%,$(UV))
	@echo "Installing pgAdmin into inspection/.venv"
	@$(UV) venv -q --allow-existing --python $(PYTHON) inspection/.venv
	@$(PIP) --python inspection/.venv/bin/python -r inspection/requirements.txt
	@touch $@

pgadmin: export PYTHONPATH = inspection
pgadmin: inspect inspection/.venv/ready ## start pgAdmin on 127.0.0.1, connected; Ctrl-C ends it
	@inspection/.venv/bin/pgadmin4-cli setup-db >/dev/null
	@inspection/.venv/bin/pgadmin4-cli load-servers --replace .pgadmin/servers.json >/dev/null
	@echo "pgAdmin: http://127.0.0.1:$${PGADMIN_PORT:-5050}"
	@exec inspection/.venv/bin/pgadmin4

##@ Airflow
orchestrate/airflow/.venv/ready: orchestrate/airflow/requirements.txt plugins/pyproject.toml | $(filter .boot/%,$(UV))
	@echo "Installing Airflow into orchestrate/airflow/.venv"
	@$(UV) venv -q --allow-existing --python $(PYTHON) orchestrate/airflow/.venv
	@$(PIP) --python $(AIRFLOW) -r orchestrate/airflow/requirements.txt --compile-bytecode
	@$(UV) pip install -q --no-deps --python $(AIRFLOW) -e plugins
	@touch $@

airflow: setup orchestrate/airflow/.venv/ready ## start Airflow; unless configured otherwise, on the embedded PostgreSQL
	@$(PLUGINS) demo/servers.py start
	@$(PLUGINS) demo/shop.py sample
	@$(AIRFLOW) orchestrate/airflow/servers.py start

orchestrate/airflow/.venv/workers-ready: orchestrate/airflow/.venv/ready orchestrate/airflow/workers/requirements.txt
	@echo "Adding the Celery executor to orchestrate/airflow/.venv"
	@$(PIP) --python $(AIRFLOW) -r orchestrate/airflow/workers/requirements.txt --compile-bytecode
	@touch $@

workers: setup orchestrate/airflow/.venv/workers-ready ## start Airflow with two Celery workers, the landing zone on a store
	@$(PLUGINS) demo/servers.py start
	@$(PLUGINS) demo/shop.py sample
	@$(AIRFLOW) orchestrate/airflow/servers.py start workers

airflow-stop: ## stop every process of Airflow
	@if [ -d .airflow ]; then $(AIRFLOW) orchestrate/airflow/servers.py stop; fi

##@ Develop
locks: plugins/.venv/ready ## rewrite the lock files of the plugins, after a change of their settings
	@$(PLUGINS) plugins/locks.py

plugins/.venv/tests-ready: plugins/.venv/ready tests/requirements.txt
	@$(PIP) --python $(PLUGINS) -r tests/requirements.txt
	@touch $@

docs/.venv/ready: docs/requirements.txt | $(filter .boot/%,$(UV))
	@echo "Installing MkDocs into docs/.venv"
	@$(UV) venv -q --allow-existing --python $(PYTHON) docs/.venv
	@$(PIP) --python docs/.venv/bin/python -r docs/requirements.txt --compile-bytecode
	@touch $@

docs: plugins/.venv/tests-ready docs/.venv/ready ## build the documentation into output/site, after rewriting what comes from the code
	@$(PLUGINS) docs/generate.py
	@NO_MKDOCS_2_WARNING=1 docs/.venv/bin/mkdocs build --quiet
	@echo "output/site/index.html"

test: setup plugins/.venv/tests-ready notebook/.venv/ready transform/.venv/ready orchestrate/airflow/.venv/workers-ready docs/.venv/ready lint ## run all tests, against real servers
	@$(PLUGINS) -m pytest -n 3 --dist worksteal tests

tests/spark/.venv/ready: tests/spark/requirements.txt | $(filter .boot/%,$(UV))
	@echo "Installing Spark into tests/spark/.venv"
	@$(UV) venv -q --allow-existing --python $(PYTHON) tests/spark/.venv
	@$(PIP) --python tests/spark/.venv/bin/python -r tests/spark/requirements.txt
	@touch $@

spark-test: setup plugins/.venv/tests-ready tests/spark/.venv/ready ## test that Spark reads exported Parquet; it needs Java
	@$(PLUGINS) -m pytest -q -s tests/test_spark.py

lint: plugins/.venv/tests-ready ## check the style of all code with ruff
	@plugins/.venv/bin/ruff check --quiet .

chaos: setup plugins/.venv/tests-ready ## kill every process at every write, and check that the next run recovers; ARGS="--every 5", STORE_ARGS="--every 5"
	@PYTHONPATH=demo $(PLUGINS) tests/chaos.py $(ARGS)
	@PYTHONPATH=demo $(PLUGINS) tests/store_chaos.py $(STORE_ARGS)

soak: setup plugins/.venv/tests-ready ## run random sequences of user actions, checked after each step; ARGS="--minutes 5 --seed 7"
	@PYTHONPATH=demo $(PLUGINS) tests/soak.py --jobs 2 $(ARGS)

workers-test: setup plugins/.venv/tests-ready orchestrate/airflow/.venv/workers-ready ## run a backfill on two workers, and kill one
	@$(PLUGINS) -m pytest -q -s --timeout 3600 -o faulthandler_timeout=3660 tests/long_workers.py

bench: setup bench/.venv/ready ## benchmark against other tools, on the same data; ARGS=--short, ARGS=--all
	@bench/.venv/bin/python bench/run.py $(ARGS)

bench/.venv/ready: bench/requirements.txt | $(filter .boot/%,$(UV))
	@echo "Installing the benchmark into bench/.venv"
	@$(UV) venv -q --allow-existing --python $(PYTHON) bench/.venv
	@$(PIP) --python bench/.venv/bin/python -r bench/requirements.txt --compile-bytecode
	@touch $@

notebook-sample: setup notebook/.venv/ready ## rebuild the committed notebook from four days of the sample, in a fresh clone
	@test ! -e .env || { echo "There is a .env, so this is no fresh clone: run this in one."; exit 1; }
	@$(PLUGINS) demo/servers.py start && $(PLUGINS) demo/shop.py write
	@set -e; for day in 2024-01-18 2024-01-19 2024-01-20 2024-01-21; do \
	  if [ $$day != 2024-01-18 ]; then $(PLUGINS) demo/shop.py next-day; fi; \
	  MELTANO_ENVIRONMENT=extract DATESTAMP=$$day .venv/bin/meltano run extract_postgres extract_csv; \
	  MELTANO_ENVIRONMENT=load EXTRACTED_AT=$$day .venv/bin/meltano run load_to_postgres; \
	done
	@$(NOTEBOOK) notebook/run.py --commit

compose-test: plugins/.venv/ready ## test docker-compose.yaml on its own engine: needs root, Debian's docker.io, debootstrap
	@$(PLUGINS) docker/compose_test.py

requirements: | $(filter .boot/%,$(UV)) ## compile the pinned requirements anew
	@for name in . plugins demo tests tests/spark docs inspection notebook transform orchestrate/airflow orchestrate/airflow/workers orchestrate/airflow/kubernetes bench bench/peers/*; do \
	  $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --override plugins/overrides.txt \
	    --custom-compile-command 'make requirements' $$name/requirements.in -o $$name/requirements.txt || exit 1; \
	done

##@ Stop and remove
stop: airflow-stop ## stop Airflow and the embedded PostgreSQL
	@if [ -x $(PLUGINS) ]; then $(PLUGINS) demo/servers.py stop; fi

LANDED := output/source=* output/_staging output/_attempts output/*.csv
# The demo's own .env is the only one whose landed dates can be made again at will.
CLEANED := $(if $(or $(filter yes,$(CLEAN_LANDED)),$(shell head -n 1 .env 2>/dev/null | grep -F 'Written by make demo: the embedded PostgreSQL.')),$(LANDED))

# make clean removes files of this machine only.
STORE := $(shell { printenv LANDING_ROOT || sed -n 's/^LANDING_ROOT=//p' .env 2>/dev/null; } | tail -n 1 | tr -d "\"'" | grep -E '^(s3|gs|az)://')

clean: airflow-stop ## remove what these commands created; dates landed from your own servers only with CLEAN_LANDED=yes
	@if [ -x $(PLUGINS) ]; then $(PLUGINS) demo/shop.py clean; PYTHONPATH=demo $(PLUGINS) examples/run.py --clean; $(PLUGINS) demo/servers.py clean; fi
	rm -rf .boot .venv plugins/.venv notebook/.venv output/notebook transform/.venv output/transform output/dashboard.html inspection/.venv .pgadmin orchestrate/airflow/.venv bench/.venv bench/.venvs tests/spark/.venv docs/.venv output/site .airflow .demo .meltano .pytest_cache .ruff_cache .hypothesis $(CLEANED) $(if $(filter yes,$(CLEAN_LANDED)),examples/*/output)
	@if ls -d output/source=* >/dev/null 2>&1; then \
	  echo "Kept, since the demo did not land them: $(LANDED). To remove them: make clean CLEAN_LANDED=yes" >&2; exit 1; fi
	@if [ -n '$(STORE)' ]; then \
	  echo 'Kept: $(STORE). Remove what is in a store with its own tools, or dates before make clean with landing drop.' >&2; \
	  exit $(if $(filter yes,$(CLEAN_LANDED)),1,0); fi
