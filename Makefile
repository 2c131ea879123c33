# Everything a newcomer, CI and a maintainer run. `make` alone lists the targets.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Three workers for two cores, one thread each: tests wait for browsers, processes and disks, and threads only for one
# another.
WORKERS ?= 3
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help demo install test check lint types unit test-slow bench parity models-page fuzz-corpus generated pictures notebook report-vendor docs clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

demo: $(VENV)/.runtime  ## Explain the sample images with the bundled model, into demo/, paint an espresso, into demo-dream/, and write demo/report.html
	$(BIN)/cnnviz all sample_images --output demo --force --report
	$(BIN)/cnnviz dream --target espresso --output demo-dream --force --report
	$(BIN)/cnnviz report demo demo-dream --photos sample_images
	@echo "open demo/report.html in a browser"

install: $(VENV)/.dev  ## Set up .venv for development

test: check  ## Everything that CI runs: formatting, lint, types, tests

check: lint types unit

lint: $(VENV)/.dev  ## Formatting and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev  ## Types, strictly
	$(BIN)/mypy

unit: $(VENV)/.dev  ## The tests that take seconds
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder -m "not slow"

test-slow: $(VENV)/.slow  ## The tests that take minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) -m slow

bench: $(VENV)/.bench  ## Speed and memory as ratios, with grad-cam and captum beside
	$(BIN)/python -m benchmarks

parity: $(VENV)/.parity  ## Compare every method with its peers, into docs/parity.md
	$(BIN)/python tools/parity.py

fuzz-corpus: $(VENV)/.runtime  ## Hostile files: every one of CORPUS=dir through the decoder, then EXPLAIN=1 through a run
	@test -n "$(CORPUS)" || { echo "name a folder: make fuzz-corpus CORPUS=dir"; exit 2; }
	OMP_NUM_THREADS=1 $(BIN)/python tools/fuzz.py "$(CORPUS)" $(if $(EXPLAIN),--explain)

models-page: $(VENV)/.dev  ## Try every method on every network, into docs/models.md (a quarter of an hour)
	OMP_NUM_THREADS=1 $(BIN)/python tools/models_page.py

generated: $(VENV)/.dev  ## Rewrite the schemas, the reference and the ratios, in seconds
	$(BIN)/python tools/generate.py text

pictures: $(VENV)/.dev  ## Draw the figures of the docs, in minutes
	$(BIN)/python tools/generate.py pictures
	$(BIN)/python tools/report_pictures.py

notebook: $(VENV)/.dev  ## Run the cells of docs/notebook.ipynb and keep what they show
	OMP_NUM_THREADS=1 $(BIN)/python tools/notebook.py

report-vendor:  ## Bundle the libraries of the report page; needs npm, which users do not
	$(PYTHON) tools/report_vendor.py

docs: $(VENV)/.docs  ## Build the site of the documents into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:  ## Remove what was made here
	rm -rf $(VENV) demo demo-dream cnnviz-out site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit("cnnviz needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	@touch $@

# pip's own chatter about local indexes is no news to anybody here; errors still show.
$(VENV)/.runtime: pyproject.toml $(VENV)/.python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

# Ray, for a cluster of two nodes on this machine: 70 MB to fetch, 240 MB on the disk.
$(VENV)/.slow: pyproject.toml $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --editable '.[dev,ray]'
	@touch $@

$(VENV)/.bench: pyproject.toml $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@touch $@

$(VENV)/.parity: pyproject.toml $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --editable '.[parity]'
	@touch $@

$(VENV)/.docs: pyproject.toml $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@
