PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test coverage docs lint analyses clean

# The environment is made once from the pinned lock, and again when the lock or the project file changes.
$(VENV)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: $(VENV)/.ready
	$(BIN)/causalms demo --out demo

# Tests and doctests.
test: $(VENV)/.ready
	$(BIN)/python -m pytest -n 2 --dist worksteal --doctest-modules causalms tests

# The same, with the lines of the package that they do not reach; takes a quarter longer.
coverage: $(VENV)/.ready
	$(BIN)/python -m slipcover --source causalms --skip-covered -m pytest -n 2 --dist worksteal --doctest-modules causalms tests

docs: $(VENV)/.ready
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The tables and figures of a paper, from the shipped model and a phantom of 300 patients: exactly analyses/results.
analyses: $(VENV)/.ready
	for name in effect_sizes calibration subgroups trial_validation; do \
	  $(BIN)/python analyses/$$name.py --out analyses/results/$$name || exit 1; \
	done

clean:
	rm -rf $(VENV) docs/_build demo results
