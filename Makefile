# Two commands: `make sweep` and `make test`. Everything is installed into .venv from the lock.

STORAGE ?= storage
PYTHON ?= python3
BIN := .venv/bin

.PHONY: sweep test test-benchmarks ui lint docs lock clean

# In the environment a folder's name may hold blanks, quotes and whatever else a shell would read.
sweep ui: export SSENSE_STORAGE := $(value STORAGE)

# An empty variable counts as unset, and the commands would take the folder "storage".
CHECK_STORAGE = test -n "$$SSENSE_STORAGE" || \
  { echo "error: STORAGE is empty. Example: make $@ STORAGE=storage" >&2; exit 2; }

sweep: .venv/installed
	@$(CHECK_STORAGE)
	$(BIN)/python sweeps/masking.py --yes --evaluate

test: lint
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

# Every benchmark at its smallest size: a tenth of the time of the suite.
test-benchmarks: .venv/installed
	$(BIN)/python -m pytest -m "long or not long" tests/benchmarks

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

ui: .venv/installed
	@$(CHECK_STORAGE)
	$(BIN)/python -m ssense.engine.view.mlflow_ui

# The documentation as a site in site/; without a network, and every link is checked.
docs: export NO_MKDOCS_2_WARNING := 1
docs: .venv/installed
	$(BIN)/python -m mkdocs build --strict

# Run after a change of the dependencies in pyproject.toml.
lock: .venv/bin/uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --quiet \
	  --output-file requirements.lock
	echo uv | $(BIN)/uv pip compile - --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet \
	  --output-file installer.lock

.venv/bin/uv:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r installer.lock

.venv/installed: .venv/bin/uv requirements.lock pyproject.toml
	$(BIN)/uv pip sync --quiet --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf .venv site .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis \
	  *.egg-info
