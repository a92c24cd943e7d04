# make demo   sets up and runs three open-world rounds on real handwritten digits
# make test   sets up and runs every gate, the unit tests and three end-to-end runs
# make test-all  runs every test but the faults
# make test-portable  runs the tests of the library under the oldest instruction sets; CI runs it after make test
# make test-labelstudio  hands a round's questions to a real Label Studio, installed into an environment of its own
# make test-s3  runs the tests of storage against Ceph's gateway; tests/support/radosgw.sh says what that needs
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
STUDIO := build/labelstudio-venv

.PHONY: setup demo check test test-quick test-all test-portable test-matrix test-faults test-s3 test-labelstudio bench clean
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
	$(BIN)/python tests/gates/house.py --check

# The gates beside the tests.
test: $(READY)
	$(MAKE) --jobs 2 check test-quick

# All tests that start no Ray, and two rounds that wait more than they compute: from the command line, and on S3, killed.
test-quick: $(READY)
	$(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder -m "(not ray or quick) and not slow and not faults" \
	  tests/e2e tests/s3 tests/pipeline tests/sisom tests/support

# By file, the longest first.
test-all: $(READY)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder tests/e2e tests/whole tests

# The library under the oldest instruction sets: no assertion may hang on one processor's rounding.
test-portable: $(READY)
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE $(BIN)/python -m pytest -q -n 2 --dist loadfile tests/sisom

# The same for three seeds of every trained network, two instruction sets, one and two threads: an hour.
test-matrix: $(READY)
	@for seed in 0 1 2; do for isa in default avx2; do for threads in 1 2; do \
	  echo "== seed $$seed, $$isa, $$threads threads"; \
	  SISOM_TRAINED_SEED=$$seed ATEN_CPU_CAPABILITY=$$isa ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE OMP_NUM_THREADS=$$threads \
	    $(BIN)/python -m pytest -q tests/sisom tests/pipeline/studies || exit 1; \
	done; done; done

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
