# make demo   sets up and runs three open-world rounds on real handwritten digits
# make test   sets up and runs every gate and the tests, as CI does
# make test-labelstudio  hands a round's questions to a real Label Studio, installed into an environment of its own
# make test-s3  runs the tests of storage against Ceph's gateway; tests/support/radosgw.sh says what that needs
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
STUDIO := build/labelstudio-venv

.PHONY: setup demo check test test-all test-faults test-s3 test-labelstudio bench clean
.DEFAULT_GOAL := setup

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(READY)
	$(BIN)/sisom run configs/quickstart.yaml

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(READY)
	$(MAKE) --jobs 2 check test-all

# By file, in the order of the names: the command line's long tests first, which mostly wait for processes to start.
test-all: $(READY)
	$(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder

# Nodes lost, workers killed and hung, commands that race, then 200 kills of everybody: an hour.
test-faults: $(READY)
	$(BIN)/python -m pytest -m faults tests
	$(BIN)/python tests/faults/harness.py --random 200 --seed 1 --jobs 2

test-s3: $(READY)
	tests/support/radosgw.sh run $(BIN)/python -m pytest tests/s3 tests/pipeline/store tests/faults/test_races.py

test-labelstudio: $(READY) $(STUDIO)/.ready
	SISOM_LABEL_STUDIO=$(abspath $(STUDIO))/bin/label-studio $(BIN)/python -m pytest tests/labelstudio

$(STUDIO)/.ready:
	test -x $(STUDIO)/bin/python || $(PYTHON) -m venv $(STUDIO)
	$(STUDIO)/bin/python -m pip install --disable-pip-version-check --quiet 'label-studio==1.23.2'
	touch $@

bench: $(READY)
	@for bench in tests/benchmarks/bench_*.py; do echo "== $$bench"; $(BIN)/python $$bench || exit 1; done

clean:
	rm -rf runs build .pytest_cache .mypy_cache .ruff_cache
