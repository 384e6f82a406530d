# Every target may be the first command on a machine that has Python >= 3.11, pip and make.
PYTHON ?= python3
VENV ?= .venv
OUT ?= results/validate
PYTEST_ARGS ?=
PYTEST_WORKERS ?= 2

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Runs this machine's pip for the environment, which need not have a pip of its own.
PIP := $(PYTHON) -m pip --disable-pip-version-check --python $(BIN)/python

.PHONY: help install lint format test test-very-slow validate validate-quick ladder ladder-quick bench bench-accuracy bench-cheese bench-speed bench-survival docs wheel-check clean

help:
	@echo "make test            lint, then every test and doctest but the very slow"
	@echo "make test-very-slow  the rest: Craftax from an empty folder to a report, eight devices, learned memory"
	@echo "make validate        the main run; figures, report.html and summary.json in $(OUT)"
	@echo "make validate-quick  a short form of the main run, in $(OUT)-quick"
	@echo "make ladder          which estimator survives which difficulty; report in results/ladder"
	@echo "make ladder-quick    three rungs of it, in results/ladder-quick"
	@echo "make bench-accuracy  accuracy on every problem of known answer, in benchmarks/results"
	@echo "make bench-cheese    staircases of PPO agents in a maze, in benchmarks/results"
	@echo "make bench-speed     steps beside their bare gradients, other libraries, PPO; in benchmarks/results"
	@echo "make bench-survival  kills runs at random moments and compares; in benchmarks/results"
	@echo "make bench           every slow benchmark, in benchmarks/results; hours"
	@echo "make lint            ruff and mypy"
	@echo "make format          let ruff rewrite the layout of the code"
	@echo "make docs            write docs/reference from the docstrings"
	@echo "make wheel-check     build the wheel and validate it outside this folder"
	@echo "make clean           remove the environment, caches and results"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "slt_rl needs Python 3.11 or later; choose one with make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv --without-pip $(VENV)
	$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	touch $@

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .

test: lint
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) $(PYTEST_ARGS)

test-very-slow: $(STAMP)
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) -m very_slow $(PYTEST_ARGS)

validate: $(STAMP)
	$(BIN)/slt-rl validate --out $(OUT)

validate-quick: $(STAMP)
	$(BIN)/slt-rl validate --quick --out $(OUT)-quick

ladder: $(STAMP)
	$(BIN)/slt-rl ladder --out results/ladder

ladder-quick: $(STAMP)
	$(BIN)/slt-rl ladder --quick --out results/ladder-quick

bench-accuracy: $(STAMP)
	$(BIN)/python -m benchmarks.accuracy
	$(BIN)/python -m benchmarks.accuracy --tolerance 0.01 --max-parameters 300 --exact-only
	$(BIN)/python -m benchmarks.broken

bench-cheese: $(STAMP)
	$(BIN)/python -m benchmarks.cheese

bench-survival: $(STAMP)
	$(BIN)/python -m benchmarks.survival

bench-speed: $(STAMP)
	$(BIN)/python -m benchmarks.speed --peers
	$(BIN)/python -m benchmarks.speed_craftax --seconds 100

bench: bench-accuracy bench-cheese bench-speed bench-survival
	$(BIN)/python -m benchmarks.increments
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.sharding
	$(BIN)/python -m benchmarks.recursion
	$(BIN)/python -m benchmarks.ladder
	$(BIN)/python -m benchmarks.finite_mdps
	$(BIN)/python -m benchmarks.net_c
	for class in 1K 10K 100K; do $(BIN)/python -m benchmarks.deep_linear --class $$class || exit 1; done
	$(BIN)/python -m benchmarks.deep_linear --class 1M --only 4 --sweeps 0

docs: $(STAMP)
	$(BIN)/python docs/build_reference.py

wheel-check:
	@set -eu; \
	dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir "$$dir" .; \
	$(PYTHON) -m venv --without-pip "$$dir/venv"; \
	$(PYTHON) -m pip --disable-pip-version-check --python "$$dir/venv/bin/python" \
		install --quiet -c constraints.txt "$$dir"/slt_rl-*.whl; \
	cd "$$dir"; \
	"$$dir/venv/bin/slt-rl" validate --quick --out "$$dir/out"

clean:
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
