# The verbs of this project; people and CI use the same ones. `make help` lists them.

PY := .venv/bin/python
UV := .venv/bin/uv
COMPILE := $(UV) pip compile -q --universal --python-version $$python --generate-hashes \
	--no-emit-index-url --no-emit-find-links
STAMPS := .venv/stamps
# They need processors and nothing else: no server, no clock.
EXPLORATIONS := tests/protocol tests/processors
SIDE_BY_SIDE := -n auto --maxprocesses 4 --dist loadfile
# Each process has servers of its own and waits for them half of its time. One has the system tests.
WITH_SERVERS := -n 2 --dist loadgroup

# The first Python that works and is new enough (a shim on the PATH may be there and not work).
FIND_PYTHON := for python in python3.12 python3.11 python3; do \
	$$python -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$python; exit 0; }; done; \
	echo 'Thalweg needs Python 3.11 or 3.12 (with venv) on the PATH.' >&2; exit 1

# OGX, which `make bench PEERS=1` compares with, wants a newer one; pyenv keeps those off the PATH.
PYENV := $(wildcard $(HOME)/.pyenv/versions/3.1[2-9]*/bin)
EMPTY :=
NEWER_PATH := $(PATH):$(subst $(EMPTY) $(EMPTY),:,$(PYENV))
FIND_NEWER_PYTHON := for python in $$(echo "$(NEWER_PATH)" | tr : '\n' \
	| sed 's|$$|/python3|'); do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null \
	&& { echo "$$python"; exit 0; }; done; exit 1

.DEFAULT_GOAL := help
.PHONY: help run test check lint faults bench peers mutants clean demo-model lock

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 20

run: $(STAMPS)/run ## start everything on this machine; Ctrl-C stops it
	@exec .venv/bin/thalweg up

test: $(STAMPS)/dev ## every test there is (real servers; some minutes)
	@$(PY) -m pytest -q $(SIDE_BY_SIDE) -m 'not slow'
	@$(PY) -m pytest -q $(SIDE_BY_SIDE:loadfile=worksteal) -m slow $(EXPLORATIONS)
	@$(PY) -m pytest -q $(WITH_SERVERS) -m slow $(EXPLORATIONS:%=--ignore=%) --ignore=tests/faults
	@$(PY) -m pytest -q -m slow tests/faults

check: lint ## format, lint, types, floors and the fast tests (under a minute)
	@$(PY) -m pytest -q $(SIDE_BY_SIDE) -m 'not slow'

lint: $(STAMPS)/dev ## the part of check that runs no test
	@$(PY) -m ruff format --check -q .
	@$(PY) -m ruff check -q .
	@$(PY) -m mypy --no-error-summary
	@.venv/bin/lint-imports --no-logo >.venv/lint-imports.log || { cat .venv/lint-imports.log; exit 1; }

ROUNDS ?= 20
faults: $(STAMPS)/dev ## kill, pause and starve everything, ROUNDS=20 times; writes docs/reliability.md
	@$(PY) -m tests.faults --rounds $(ROUNDS) --report docs/reliability.md

bench: $(STAMPS)/dev $(if $(PEERS),peers) ## measure; PEERS=1 compares, ARGS="--only NAME" runs a part
	@$(PY) -m tests.bench $(if $(PEERS),--peers) $(ARGS)

mutants: $(STAMPS)/dev ## plant known bugs, one by one, and say which test finds each (half an hour, then less)
	@$(PY) -m tests.mutants --keep build/mutants.jsonl

demo-model: .venv-train/stamps/train ## train the demo model again (torch; downloads gigabytes)
	@.venv-train/bin/python demo_model/make_model.py

lock: $(STAMPS)/uv ## compile requirements/*.txt again from the *.in
	@for group in uv run roles engine dev train peers-litellm peers-ogx; do \
		echo "requirements/$$group.txt"; \
		python=3.11; if [ $$group = peers-ogx ]; then python=3.12; fi; \
		$(COMPILE) -o requirements/$$group.txt requirements/$$group.in || exit 1; done

clean: ## remove the environments and caches (your data in .thalweg stays)
	@rm -rf .venv .venv-train .venv-peers-litellm .venv-peers-ogx .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environments: each step leaves a stamp, so that a start with nothing to do is instant.

$(STAMPS)/uv: requirements/uv.txt
	@echo 'Making .venv ...'
	@python=$$($(FIND_PYTHON)) && $$python -m venv .venv
	@$(PY) -m pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/run: $(STAMPS)/uv requirements/run.txt pyproject.toml
	@if [ -e $(STAMPS)/dev ]; then $(MAKE) --no-print-directory $(STAMPS)/dev; else \
		echo 'Installing what it needs (hashes are checked) ...' \
		&& $(UV) pip sync -q --require-hashes requirements/uv.txt requirements/run.txt \
		&& $(UV) pip install -q --no-deps --no-build-isolation -e . ; fi
	@touch $@

$(STAMPS)/dev: $(STAMPS)/uv requirements/run.txt requirements/dev.txt pyproject.toml
	@echo 'Installing what it needs, and the tools for tests (hashes are checked) ...'
	@$(UV) pip sync -q --require-hashes requirements/uv.txt requirements/run.txt requirements/dev.txt
	@$(UV) pip install -q --no-deps --no-build-isolation -e .
	@touch $@

.venv-train/stamps/train: $(STAMPS)/uv requirements/train.txt
	@echo 'Installing torch and transformers into .venv-train (gigabytes) ...'
	@$(UV) venv -q --allow-existing --python $(PY) .venv-train
	@$(UV) pip sync -q --require-hashes --python .venv-train/bin/python requirements/train.txt
	@mkdir -p .venv-train/stamps && touch $@

peers: .venv-peers-litellm/stamps/made .venv-peers-ogx/stamps/made

.venv-peers-litellm/stamps/made: $(STAMPS)/uv requirements/peers-litellm.txt
	@echo 'Installing LiteLLM, to compare with, into .venv-peers-litellm (half a gigabyte) ...'
	@$(UV) venv -q --allow-existing --python $(PY) .venv-peers-litellm
	@$(UV) pip sync -q --require-hashes --python .venv-peers-litellm/bin/python requirements/peers-litellm.txt
	@mkdir -p .venv-peers-litellm/stamps && touch $@

.venv-peers-ogx/stamps/made: $(STAMPS)/uv requirements/peers-ogx.txt
	@python=$$($(FIND_NEWER_PYTHON)) || { \
		echo 'OGX needs Python 3.12 or later, and there is none: it will be left out.'; exit 0; }; \
	echo 'Installing OGX, to compare with, into .venv-peers-ogx ...' \
	&& $(UV) venv -q --allow-existing --python "$$python" .venv-peers-ogx \
	&& $(UV) pip sync -q --require-hashes --python .venv-peers-ogx/bin/python requirements/peers-ogx.txt \
	&& mkdir -p .venv-peers-ogx/stamps && touch $@
