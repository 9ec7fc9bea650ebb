# make quickstart   environment, install, three small trainings, a table
# make test         environment, install, all tests
# make check        what CI runs besides: format, lint, import layers

PYTHON ?= python3
VENV ?= .venv
RUNS ?= runs/quickstart
BIN := $(VENV)/bin

.PHONY: quickstart test check format clean

quickstart: $(VENV)/.installed
	$(BIN)/mmjax data prepare shapes/small
	$(BIN)/python -m experiments.contrastive \
	  --config=configs/contrastive_shapes.py:runlocal \
	  --workdir=$(RUNS)/contrastive
	$(BIN)/python -m experiments.captioning \
	  --config=configs/captioning_shapes.py:runlocal \
	  --workdir=$(RUNS)/captioning
	$(BIN)/python -m experiments.vqa \
	  --config=configs/vqa_shapes.py:runlocal \
	  --workdir=$(RUNS)/vqa
	$(BIN)/mmjax report $(RUNS)/contrastive $(RUNS)/captioning $(RUNS)/vqa

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest

check: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

format: $(VENV)/.installed-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build *.egg-info

$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e .
	touch $@

$(VENV)/.installed-test: setup.cfg pyproject.toml | $(VENV)/.installed
	$(BIN)/pip install --quiet -e '.[test]'
	touch $@
