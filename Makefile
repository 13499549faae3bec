# histozoo: the words that people and CI use. Each sets up .venv first, on a machine that has only Python 3.11 and git.
#
#   make demo    embed the example tiles and draw their nearest neighbours
#   make test    the test suite that needs no network and no GPU, a process per processor
#   make check   ruff, mypy, cards equal to their entries
#   make cards   write the model cards from the entries
#   make bench   side-by-side timings (minutes)
#   make setup   only the environment; again when pyproject.toml changed
#
# PYTHON=python3.12 chooses the interpreter, PYTEST="-m slow" passes options to pytest, VENV=path another environment.

VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.histozoo-installed

.PHONY: setup demo test check cards bench

setup: $(STAMP)

$(STAMP): pyproject.toml .ci/setup
	@VENV="$(VENV)" bash .ci/setup
	@touch $@

demo: $(STAMP)
	@$(BIN)/histozoo demo --out runs/demo

test: $(STAMP)
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n auto --dist worksteal $(PYTEST)

check: $(STAMP)
	@failed=0; for step in "ruff check ." "ruff format --check ." "mypy" "histozoo card --check"; do \
		echo "[check] $$step"; $(BIN)/$$step || failed=1; done; exit $$failed

cards: $(STAMP)
	@$(BIN)/histozoo card --write

bench: $(STAMP)
	@for script in benchmarks/*.py; do echo "[bench] $$script"; $(BIN)/python "$$script" || exit 1; done
