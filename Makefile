# Every target does its own set-up first; when nothing is missing that takes a moment.
.DEFAULT_GOAL := help
.PHONY: help demo test lint types format bench docs clean

BIN := .venv/bin

help:  ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

demo:  ## Record cameras of five systems, all simulated, in one take, in under a minute
	@.ci/setup run gstreamer
	@$(BIN)/python -m asynccam demo $(ARGS)

test:  ## Run every test
	@.ci/setup dev gstreamer broker browser
	@.ci/test $(ARGS)

lint:  ## Check style and types
	@.ci/setup dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/basedpyright --project pyproject.toml

format:  ## Put the code into its standard form
	@.ci/setup dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench:  ## Measure against the obvious alternatives, side by side; one table
	@.ci/setup dev gstreamer
	@$(BIN)/python -m benchmarks $(ARGS)

docs:  ## Build the documentation into site/
	@.ci/setup docs
	@$(BIN)/python .ci/manual.py
	@$(BIN)/python .ci/import_diagram.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

clean:  ## Remove everything that can be made again
	rm -rf .venv site dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
