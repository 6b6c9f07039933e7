# Every target makes and reuses .venv by itself; all it takes is Python 3.11 to 3.13 with venv, and make.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1 && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready
WORKERS ?= 2

.PHONY: demo test test-deploy lint lint-template docs bench simulate simulate-fleet slim clean test-containers force

demo: $(READY)
	$(BIN)/transferlite demo

test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --max-worker-restart 0 $(ARGS)

# Builds both images on a base of debootstrap and runs them; takes root on Debian, some minutes and 10 GB.
test-containers: $(READY)
	$(BIN)/python -m pytest -s tests/template/containers.py $(ARGS)

# Two environments: the SAM CLI and MiniStack need different versions of botocore.
SAM := 1.170.0
MINISTACK := 1.5.33
SAM_READY := .venv-sam/.ready-$(SAM)
MINISTACK_READY := .venv-ministack/.ready-$(MINISTACK)

# Deploys with the real SAM CLI to an emulator on 127.0.0.1, and plays docs/deploy.md.
test-deploy: $(READY) $(SAM_READY) $(MINISTACK_READY)
	TRANSFERLITE_SAM=$(CURDIR)/.venv-sam/bin/python TRANSFERLITE_EMULATOR=$(CURDIR)/.venv-ministack/bin/python \
		$(BIN)/python -m pytest -n0 -s tests/template/play_deployment.py $(ARGS)

$(SAM_READY):
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed (set PYTHON=/path/to/it)"; exit 1; }
	test -x .venv-sam/bin/python || $(PYTHON) -m venv .venv-sam
	.venv-sam/bin/python -m pip install --quiet --disable-pip-version-check aws-sam-cli==$(SAM) awscli
	touch $@

$(MINISTACK_READY):
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed (set PYTHON=/path/to/it)"; exit 1; }
	test -x .venv-ministack/bin/python || $(PYTHON) -m venv .venv-ministack
	.venv-ministack/bin/python -m pip install --quiet --disable-pip-version-check 'ministack[full]==$(MINISTACK)'
	touch $@

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/cfn-lint template.yaml
	@test ! -x $(BIN)/hadolint || $(BIN)/hadolint train_job/Dockerfile inference_lambda/Dockerfile

# The version is named, as each one brings rules of its own; it wants other packages than .venv, hence a place of its own.
CHECKOV := 3.3.30
ASL_VALIDATOR := 4.0.0
CHECKOV_READY := .venv-checkov/.ready-$(CHECKOV)

lint-template: $(CHECKOV_READY) $(READY)
	.venv-checkov/bin/checkov --config-file .checkov.yaml --file template.yaml
	@command -v npm >/dev/null || echo "skipped: asl-validator needs npm"
	@! command -v npm >/dev/null || npm install --silent --no-save --prefix .venv-asl asl-validator@$(ASL_VALIDATOR)
	$(BIN)/python -m pytest -q -rs -n 0 tests/template/test_partitions.py -k validator

$(CHECKOV_READY):
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed (set PYTHON=/path/to/it)"; exit 1; }
	test -x .venv-checkov/bin/python || $(PYTHON) -m venv .venv-checkov
	.venv-checkov/bin/python -m pip install --quiet --disable-pip-version-check checkov==$(CHECKOV)
	touch $@

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

BENCHMARKS := seed_job learning.retrain forward_table limits growing pipeline head.rows head.peers fine_tune edge scale telemetry lambda_peers s3_engines runtimes.variants promotion variant_choice learning.similar

bench: $(READY)
	for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name $(ARGS) || exit 1; done

# Builds the function as a zip: `make lambda.zip ARGS='--architecture arm64 --python 3.13'`; with bytecode if that Python is on PATH.
lambda.zip: $(READY) force
	$(BIN)/transferlite package function --dest $@ $(ARGS)

# Builds a folder with only what a device imports: `make slim DEST=device`; options: transferlite package device --help
slim: $(READY)
	$(BIN)/transferlite package device --dest $(or $(DEST),slim) $(ARGS)

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed (set PYTHON=/path/to/it)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

simulate: $(READY)
	$(BIN)/python -m simulation $(ARGS)

simulate-fleet: $(READY)
	$(BIN)/python -m simulation.fleet $(ARGS)

clean:
	rm -rf .venv .venv-checkov .venv-asl .venv-sam .venv-ministack demo-output site .mypy_cache .ruff_cache .pytest_cache
