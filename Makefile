# Every target does the set-up it needs; nothing but Python (3.10 or newer), make and the network is
# expected on the machine. `make demo` and `make test` each work alone in a fresh clone.
#
#   make demo      make a small pair and run `geocd detect` on it
#   make test      run the tests, on up to four cores  (PYTEST_ARGS="-k tiling -x" to choose; -n 0 for one process)
#   make test-lowest
#                  the quick tests with the lowest versions that setup.cfg allows, in .venv-lowest;
#                  UV_FLAGS="..." is handed to `uv pip install`
#   make lint      ruff: rules and format
#   make types     mypy --strict
#   make cost      whether a run costs no more CPU time than it should
#   make docs      the site, as site/index.html
#   make plugin    the QGIS plugin, as dist/geocd_qgis.zip
#   make dist      wheel and sdist in dist/, the wheel tried in an empty environment without a network
#   make setup     only the set-up, with everything for development, into .venv
#   make clean     delete .venv, .venv-lowest, the demo and all caches
#
#   PYTHON=python3.12 chooses the interpreter; PIP_FLAGS="..." is handed to every `pip install`.

PYTHON ?= python3
PIP_FLAGS ?=
PYTEST_ARGS ?=
UV_FLAGS ?=

VENV := .venv
BIN := $(VENV)/bin
# What decides which packages are needed: a change there does the set-up anew.
WANTED := setup.cfg pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-lowest lint types cost docs plugin dist clean

help:
	@sed -n 's/^#   //p' Makefile

# An interrupted set-up leaves no stamp, so the next run goes on with it; a folder that was moved or whose
# interpreter is gone fails the trial run and is made anew.
define make_venv
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	echo "geocd needs Python 3.10 or newer; $(PYTHON) is older or missing. Try: make PYTHON=python3.12" >&2; \
	exit 1; }
@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
endef

$(VENV)/ready-run: $(WANTED)
	$(make_venv)
	$(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt -e .
	@touch $@

$(VENV)/ready-test: $(WANTED)
	$(make_venv)
	$(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt -e '.[test]'
	@touch $(VENV)/ready-run $@

setup: $(VENV)/ready-test

demo: $(VENV)/ready-run
	$(BIN)/python examples/make_demo_pair.py demo
	$(BIN)/geocd detect demo/before.tif demo/after.tif -o demo/demo --overwrite
	@echo
	@echo "Done. Drag demo/demo_prob.tif and demo/demo_changes.gpkg into QGIS, or look at"
	@echo "demo/demo_report.html in a browser. How well did it find what was planted?"
	@echo "    $(BIN)/geocd evaluate demo/demo_prob.tif demo/truth.tif"

test: $(VENV)/ready-test
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

# The lowest versions of what setup.cfg names, and the newest that fit them of what these need. The lowest
# Python is for PYTHON to say. Warnings are no errors here: old versions warn of what their successors mended.
LOWEST := .venv-lowest
QUICK := method raster scene tiles vectorize report/test_acquired.py report/test_footprint.py \
	report/test_links.py report/test_record.py report/test_stac.py report/test_styles.py \
	test_config.py test_configfile.py test_metrics.py test_xarray.py

test-lowest:
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install $(PIP_FLAGS) uv
	$(LOWEST)/bin/uv pip install $(UV_FLAGS) --python $(LOWEST)/bin/python --resolution lowest-direct -e '.[test]'
	$(LOWEST)/bin/python -m pytest -W default $(or $(PYTEST_ARGS),$(QUICK:%=tests/%))

lint: $(VENV)/ready-test
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

types: $(VENV)/ready-test
	$(BIN)/python -m mypy

cost: $(VENV)/ready-test
	$(BIN)/python benchmarks/regression.py

# A warning (a link that leads nowhere, a docstring that cannot be read) fails it.
docs: $(VENV)/ready-test
	$(BIN)/python -m sphinx -q -W --keep-going -b html -d build/doctrees docs site

# the plugin cannot import geocd: what it takes from there is written into its choices.json first, and the
# pages for users into its help.html
plugin: $(VENV)/ready-test
	$(BIN)/python -m qgis_plugin.make_choices
	$(BIN)/python -m qgis_plugin.make_help
	$(BIN)/python qgis_plugin/make_zip.py dist/geocd_qgis.zip

# What it needs is fetched once, into build/wheels, in the versions of .venv; build/wheels then installs offline.
dist: $(VENV)/ready-run
	$(BIN)/python release/make_dist.py dist build/wheels

clean:
	rm -rf $(VENV) $(LOWEST) demo build dist site docs/generated .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage mutants *.egg-info
	find geocd qgis_plugin tests examples benchmarks release -name __pycache__ -prune -exec rm -rf {} +
