# The README's two commands are `make plan` and `make test`. Each makes the environment it needs.
VENV ?= .venv
WORKERS ?= 2
BIN := $(VENV)/bin

.PHONY: plan test lint types layers sizes docs golden constraints clean
.NOTPARALLEL:

plan: $(VENV)/.plan          ## plan the bundled example
	$(BIN)/isocost

test: $(VENV)/.test          ## run the tests
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

golden: $(VENV)/.test        ## accept today's output as the expected output
	$(BIN)/python -m pytest --update-golden

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

layers: $(VENV)/.dev
	$(BIN)/lint-imports

sizes: $(VENV)/.plan         ## lines a file, installed MB, import ms, public names
	$(BIN)/python .ci/sizes.py

docs: $(VENV)/.plan          ## write the generated pages of docs/ again
	$(BIN)/python .ci/docs.py

constraints: $(VENV)/.dev    ## record the installed versions as the tested ones
	$(BIN)/python .ci/constraints.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp a set of dependencies, so that nothing is installed twice.
$(VENV)/.plan: pyproject.toml constraints.txt
	@.ci/install $(VENV)
	@touch $@
$(VENV)/.test: pyproject.toml constraints.txt
	@.ci/install $(VENV) test
	@touch $@ $(VENV)/.plan
$(VENV)/.dev: pyproject.toml constraints.txt
	@.ci/install $(VENV) dev
	@touch $@ $(VENV)/.plan $(VENV)/.test
