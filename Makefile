# Every target makes .venv when it is missing, and again when the requirements changed.
PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help demo test static check coverage bench lock

help:
	@echo "make demo      replay a real trace and open the dashboard (ARGS=--no-serve ends at the table)"
	@echo "make test      run the tests (ARGS='tests/domain -k split' narrows them)"
	@echo "make check     format, lint, types, imports, price book (make static), and contract tests"
	@echo "make coverage  prove that tests cover every branch of domain and formats"
	@echo "make bench     measure speed and print a table (ARGS are passed on)"
	@echo "make lock      renew constraints.txt (ARGS=--upgrade takes newer versions)"

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "tokenbudget needs Python 3.11 or newer, and '$(PYTHON)' is not;" \
	       "name another with: make PYTHON=python3.12" >&2; exit 2; }
	@echo "Installing into .venv from constraints.txt (hash-checked) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --require-hashes --requirement constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP)
	$(BIN)/tokenbudget demo $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest $(ARGS)

static: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/tokenbudget prices lint

check: static
	$(BIN)/python -m pytest tests/contract

coverage: $(STAMP)
	$(BIN)/python -m pytest tests/domain tests/formats --cov=tokenbudget.domain \
	  --cov=tokenbudget.formats --cov-branch --cov-fail-under=100 $(ARGS)

bench: $(STAMP)
	$(BIN)/python -m tests.bench $(ARGS)

lock: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.13'
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate --all-extras --group dev $(ARGS) \
	  pyproject.toml --output-file constraints.txt
