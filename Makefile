# Two commands: `make sweep` and `make test`. Everything is installed into .venv from the lock.

STORAGE ?= storage
PYTHON ?= python3
BIN := .venv/bin

.PHONY: sweep test ui lint lock clean

sweep: .venv/installed
	$(BIN)/python sweeps/masking.py --storage $(STORAGE) --yes
	$(BIN)/python analysis/test_evaluation.py --storage $(STORAGE)

test: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

ui: .venv/installed
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow ui --host 127.0.0.1 --backend-store-uri sqlite:///$(abspath $(STORAGE))/mlflow.db

# Run after a change of the dependencies in pyproject.toml.
lock: .venv/bin/uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --quiet \
	  --output-file requirements.lock

.venv/bin/uv:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv

.venv/installed: .venv/bin/uv requirements.lock pyproject.toml
	$(BIN)/uv pip sync --quiet --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis *.egg-info
