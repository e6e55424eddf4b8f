# Two things are needed beforehand: make and Python 3.11 or later. Everything else goes into .venv.
# All paths are relative, so that the folder may have spaces in its name.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q install -c constraints.txt
OUT ?= out/digits

export OMP_NUM_THREADS ?= 1

.PHONY: help setup audit test lint format bench clean

help:
	@echo "make setup   install into .venv"
	@echo "make audit   prune and audit the example digit classifier; prints the verdict and the report's path"
	@echo "make test    tests that need neither the real models nor a browser"
	@echo "make lint    formatting, style, layers, types, documentation"
	@echo "make bench   benchmarks, each prints a table"
	@echo "make clean   remove what the above made, except .venv"

setup: .venv/runtime.stamp

.venv/runtime.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) hatchling editables
	$(PIP) --no-build-isolation -e .
	$(PIP) --no-deps auto-LiRPA==0.3
	touch $@

# auto-LiRPA names requirements that are not needed here, and pip would print them as errors.
.venv/dev.stamp: .venv/runtime.stamp
	$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['dependency-groups']['dev'], sep='\n')" > .venv/dev.txt
	$(PIP) --no-warn-conflicts -r .venv/dev.txt
	touch $@

audit: .venv/runtime.stamp
	rm -rf "$(OUT)"
	$(BIN)/paoding-verify audit examples/digits/digits_dense.onnx --data examples/digits/anchors.npz \
		--config examples/digits/audit.toml --policy examples/digits/policy.toml -o "$(OUT)"

test: .venv/dev.stamp
	$(BIN)/python -m pytest -m "not realdata and not browser" -n 2

lint: .venv/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/interrogate -q paoding_verify

format: .venv/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/dev.stamp
	for script in $(sort $(wildcard benchmarks/*.py)); do $(BIN)/python "$$script" || exit 1; done

clean:
	rm -rf out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
