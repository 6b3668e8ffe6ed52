# make demo, make test: both make the environment first. PYTHON=python3.12 for another interpreter.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SHARED ?= ../shared
# processes that share the tests, a file each
WORKERS ?= 2

# bytecode is kept, whatever the environment says: without it each process compiles all that it imports
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check docs tutorial slow gpu smoke lowest requirements clean

demo: $(READY)
	$(BIN)/python scripts/demo.py

# the checks, the site and the short runs use a core each
test: $(READY)
	$(MAKE) -j2 check docs smoke
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# the documentation site, in build/docs
docs: $(READY)
	$(BIN)/python scripts/build_docs.py

# run the tutorial and keep its outputs
tutorial: $(READY)
	$(BIN)/python scripts/run_tutorial.py

slow: $(READY)
	$(BIN)/python -m pytest -m slow

gpu: $(READY)
	$(BIN)/python -m pytest -m gpu

# a short run of every family on real data, where it is
smoke: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python scripts/smoke.py --shared $(SHARED)

# hashes are checked against the package index alone, so wheels lying about on this machine are left out of it
$(READY): requirements-dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS= $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(READY)

# newest versions that pyproject.toml allows, pinned with hashes (needs uv)
requirements:
	uv pip compile pyproject.toml --group dev --extra all --python-version 3.11 --universal --generate-hashes --no-header --quiet --upgrade --output-file requirements-dev.txt

# the default tests with the lowest versions of the dependencies that pyproject.toml allows (needs uv)
lowest:
	uv venv --quiet --python $(PYTHON) .venv-lowest
	uv pip install --quiet --python .venv-lowest --resolution lowest-direct --group dev --editable '.[all]'
	.venv-lowest/bin/python -m pytest -n $(WORKERS) --dist loadfile

clean:
	rm -rf $(VENV) .venv-lowest dist .mypy_cache .ruff_cache .pytest_cache
