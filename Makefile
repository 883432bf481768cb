# Everything a newcomer types. PYTHON picks the interpreter the environment is made with.
PYTHON ?= python3
ENV := .venv
BIN := $(ENV)/bin
SOURCES := pyproject.toml constraints.txt $(shell find csrc -type f)

.PHONY: demo test lint format bench clean

demo: $(ENV)/installed
	mkdir -p out
	$(BIN)/sparseconv segment datasets/samples/room.ply -o out/room_labelled.ply \
		--snapshot out/room_labelled.png

test: $(ENV)/installed
	OMP_WAIT_POLICY=passive $(BIN)/pytest $(PYTEST_ARGS)

lint: $(ENV)/installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: $(ENV)/installed
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

bench: $(ENV)/installed
	OMP_WAIT_POLICY=passive $(BIN)/sparseconv bench

# editable: Python files are used where they lie; a change in csrc builds anew
$(ENV)/installed: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(ENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(ENV) build out
