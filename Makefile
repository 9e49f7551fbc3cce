# Two commands matter: `make run` and `make test`. Everything works from a fresh clone with Python ≥ 3.11, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# One more than there are cores, since many tests wait for processes; as they come, so that the longest files are not the last.
ALL_CORES = -n $$(n=$$(nproc); echo $$((n < 4 ? n + 1 : 5))) --dist loadfile --no-loadscope-reorder
# Compiled tests are kept, whatever the environment says: each worker would else rewrite the assertions of all of them.
PYTEST = PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest $(ALL_CORES)

.PHONY: run data test test-heavy test-all test-cluster check docs hooks kill-matrix gate-attacks format base-model clean help
.DEFAULT_GOAL := help

help: ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed: make PYTHON=python3.12 …"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[corpus,dev]'
	@touch $@

run: data ## build what is missing, then run the plan of experiments.toml
	$(BIN)/lora-tui --start experiments.toml

data: $(READY) ## build the embedded speech (seeded, about a minute)
	@$(BIN)/python -m core.corpus

test: $(READY) ## the tests, a few minutes
	$(PYTEST) -m 'not heavy'

test-heavy: $(READY) ## the heavy tests that CI runs: whole trainings, kills in the middle of files; some minutes
	$(PYTEST) -m 'heavy and not long'

test-all: data ## all tests, the heavy and the long ones too
	$(PYTEST)

test-cluster: $(READY) ## start a real Slurm cluster here, run the plan on it, kill its parts (half an hour; skipped without Slurm)
	$(BIN)/python -m pytest -rs tests/cluster
	$(BIN)/python -m benchmarks.slurm || test $$? = 77

check: $(READY) ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY) ## build the pages of docs/ into site/; a link that leads nowhere is an error
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

hooks: $(READY) ## check format, lint and types before each commit (pre-commit)
	$(BIN)/pre-commit install

kill-matrix: $(READY) ## kill everything everywhere, see that no run notices (25 minutes; SHORT=--short: 90 seconds)
	$(BIN)/python -m benchmarks.kill_matrix $(SHORT)

gate-attacks: $(READY) ## attack the gate with 3,000 changed runs, plans and caches (half an hour; SHORT=--short: 2 minutes)
	$(BIN)/python -m benchmarks.gate_attacks $(SHORT)

format: $(READY) ## put the code into its format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

base-model: $(READY) ## train data/base_model again from scratch (about half an hour on two cores)
	$(BIN)/python -m core.corpus --sets base,train,replay,domain,heldout
	$(BIN)/python -m core.training.pretrain data/base_manifest.jsonl -o data/base_model \
	  --evaluate data/heldout_manifest.jsonl --evaluate data/domain_manifest.jsonl

clean: ## remove the environment, the built speech and pages; runs stay
	rm -rf $(VENV) site data/audio data/base_manifest.jsonl
