# The commands for development; `make` alone lists them. Needs only make and Python 3.11 or newer.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SYNC := VIRTUAL_ENV= $(BIN)/uv sync --quiet --locked --no-build --python $(BIN)/python
NPM_CI := npm ci --ignore-scripts --no-audit --no-fund --silent --prefix
SBOM := .aws-sam/sbom.cdx.json
CHECKOV := .checkov/.ready
export SAM_CLI_TELEMETRY := 0
# Write bytecode even if the shell disables it, because otherwise each start of the local stack compiles every import.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## list these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

.PHONY: setup
setup: $(READY) ## install the locked tools into .venv (every other command does this first)

# uv and older pip have their own root certificates, so they do not trust a TLS-inspecting proxy that the system trusts.
SETUP_FAILED := { echo "The set-up could not get its packages. If a proxy here inspects TLS, name the system's certificates: PIP_CERT=/etc/ssl/certs/ca-certificates.crt SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt make setup" >&2; exit 1; }

# The interpreter is checked first, because the errors of pip and uv for an old one do not name the fix. Nothing unpinned
# runs: pip checks uv by the lock's hashes, and uv checks the rest. Only this project is built, by the locked hatchling.
$(READY): pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3.12 …" >&2; exit 1; }
	@echo "Setting up $(VENV) (once; about a minute) …"
	@$(PYTHON) -m venv $(VENV) || { echo "This Python has no venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) tools/locked_uv.py | $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary=:all: --no-deps --requirement=/dev/stdin || $(SETUP_FAILED)
	@$(SYNC) || $(SETUP_FAILED)
	@touch $(READY)

.PHONY: run
run: $(READY) ## run the whole stack on this machine: sends the examples, then stays up (ONCE=1 NO_EXAMPLES=1 MESSAGES=… SCHEDULE_SPEED=… TLS=1 PORT=… BIND=… GATEWAY_BASE_URL=…)
	@$(BIN)/python -m local

.PHONY: sms
sms: $(READY) ## run the command line: make sms ARGS="send +61491570006 'Hello' --follow"; same as .venv/bin/optus-sms
	@$(BIN)/optus-sms $(ARGS)

# One more worker than CPUs, because tests of the local stack mostly wait.
.PHONY: test
test: $(READY) ## run every test that needs no Docker, browser or deployment and is not long (minutes)
	@$(BIN)/pytest -m "not deep and not docker and not browser and not deploy" -n $$($(BIN)/python -c 'import os; print(os.cpu_count() + 1)') --dist loadscope --no-loadscope-reorder -q

.PHONY: test-deep
test-deep: $(READY) ## run the long suites: model, schedules, kill tests (several minutes)
	@$(BIN)/pytest -m deep -n auto --dist loadscope --no-loadscope-reorder -q

.PHONY: test-node
test-node: $(READY) ## test the roles with an IAM evaluator, schemas/asyncapi.yaml with its parser, senders on Node (needs npm once; then `make test` includes them)
	@for folder in support/axe support/iam support/asyncapi support/senders projects/node; do $(NPM_CI) tests/$$folder || exit 1; done
	@$(BIN)/pytest -q tests/functional/test_resource_privilege.py tests/functional/test_sender_access.py tests/functional/test_key_policy.py tests/contract/test_schemas.py \
	  tests/integration/test_senders.py::test_node_sends_one_message tests/integration/test_sender_projects.py::test_a_node_project_tests_with_the_json_api

# Synced each time, because a plain `uv sync` removes packages that only this group has.
.PHONY: browser
browser: $(READY)
	@$(SYNC) --group browser

.PHONY: test-browser
test-browser: browser ## test the phone page in a real browser, if Chromium or Chrome is installed
	@$(NPM_CI) tests/support/axe || echo "Without axe: npm or its packages are missing."
	@$(BIN)/pytest -m browser -q

.PHONY: screenshot
screenshot: browser ## take the picture of the phone page at work: docs/images/page.png
	@PYTHONPATH=layers/shared/src $(BIN)/python -m tools.screenshot

.PHONY: test-sam
test-sam: $(READY) ## test `sam local` with every event, if a Docker engine responds (minutes)
	@$(BIN)/pytest -m docker

# The functions run under the emulator's interpreter, so it must be Lambda's version (PYENV_VERSION: see layers/shared/Makefile).
# With Docker only, AWS's image runs in this machine's network. Without both, the tests are skipped.
RUNTIME_IMAGE := public.ecr.aws/lambda/python:3.13-$(if $(filter x86_64,$(shell uname -m)),x86_64,arm64)

.PHONY: emulator
emulator: $(READY)
	@if python=$$(PYENV_VERSION=3.13 python3.13 -c 'import sys; print(sys.executable)' 2> /dev/null); then \
		VIRTUAL_ENV= UV_PROJECT_ENVIRONMENT=.emulator/environment $(BIN)/uv sync --quiet --locked --no-build --only-group emulator --python "$$python"; \
	elif [ "$$(uname)" = Linux ] && docker run --rm --entrypoint python3.13 $(RUNTIME_IMAGE) -c '' 2> /dev/null; then \
		$(BIN)/uv export --quiet --locked --only-group emulator --format requirements-txt | \
			$(BIN)/uv pip install --quiet --require-hashes --only-binary=:all: --no-deps --requirement=/dev/stdin \
			--python $(BIN)/python --python-version 3.13 --target .emulator/packages; \
		echo $(RUNTIME_IMAGE) > .emulator/image; \
	fi

.PHONY: test-deploy
test-deploy: emulator ## test `sam build` and `sam deploy` on an emulator of AWS, with Python 3.13 or Docker; test the tables' rules on three emulators (minutes)
	@$(NPM_CI) tests/support/dynalite || echo "Without dynalite: npm or its packages are missing."
	@$(BIN)/pytest -m deploy -q

# Synced each time, as above.
.PHONY: pictures
pictures: $(READY)
	@$(SYNC) --group pictures

# The site has the checkout's paths, so that links between pages work. Synced each time, as above.
SITE := .site/source
SITE_FILES := README.md SECURITY.md CONTRIBUTING.md CHANGELOG.md docs schemas tests/README.md tests/projects events/README.md local/simulator/openapi.yaml
.PHONY: site
site: $(READY) ## build the documentation site into .site/html; fails on a broken link
	@$(SYNC) --group docs
	@rm -rf $(SITE)
	@for file in $(SITE_FILES); do mkdir -p $(SITE)/$$(dirname $$file) && ln -s $(CURDIR)/$$file $(SITE)/$$file; done
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.PHONY: mutants
mutants: $(READY) ## change `records/` and `flows/` one line at a time, and list the changes that no test notices (hours; MODULES="flows/breaker …")
	@$(SYNC) --group mutants
	@$(BIN)/python -m tools.mutants $(MODULES)

.PHONY: bench
bench: $(READY) $(if $(SAVE),pictures) ## measure the speed as ratios, and compare them with their limits and the baseline (about eleven minutes; QUICK=1: two to three; SAVE=1: new baseline)
	@BOTO_DISABLE_CRT=true PYTHONPATH=layers/shared/src $(BIN)/python -m benchmarks

.PHONY: build
build: $(READY) ## build the deployment package into .aws-sam/, with a list of its Python packages (OSV_DATABASE=all.zip: compared with known vulnerabilities)
	@PATH="$(CURDIR)/$(BIN):$$PATH" sam build
	@PYTHONWARNINGS=ignore $(BIN)/cyclonedx-py requirements layers/shared/requirements.txt --pyproject pyproject.toml --output-reproducible --output-file $(SBOM)
	@$(BIN)/python -m tools.known_vulnerabilities $(SBOM) $(OSV_DATABASE)

.PHONY: release
release: build ## build a release into dist/: wheel, list of the layer's packages, checksums, notes (RELEASE=1.2.3)
	@$(BIN)/python -m tools.release_notes "$(RELEASE)" > /dev/null
	@rm -rf dist && $(BIN)/uv build --quiet --wheel --no-build-isolation --out-dir dist
	@cp $(SBOM) dist/
	@cd dist && sha256sum *.whl *.json > SHA256SUMS && cat SHA256SUMS
	@$(BIN)/python -m tools.release_notes "$(RELEASE)" > dist/notes.md

.PHONY: check
check: site $(CHECKOV) ## check lint, format, types, spelling, secrets, the template and its scanners' findings, the documentation site
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/codespell
	@$(BIN)/python -m tools.secret_scan
	@$(BIN)/sam validate --lint
	@$(BIN)/python -m tools.template_findings
	@$(BIN)/uv lock --check --quiet

.PHONY: format
format: $(READY) ## rewrite the code in the project's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: lock
lock: $(READY) ## update uv.lock and the layer's requirements.txt to the newest allowed versions
	@$(BIN)/uv lock --upgrade
	@$(MAKE) --no-print-directory layers/shared/requirements.txt
	@echo checkov | $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --output-file tools/checkov/requirements.txt -
	@touch $(READY)

layers/shared/requirements.txt: uv.lock $(READY)
	@$(BIN)/uv export --quiet --locked --no-default-groups --no-emit-project --prune click --format requirements-txt --output-file $@

.PHONY: schemas
schemas: $(READY) ## write schemas/, docs/settings.md and docs/messages.md from the code and the template
	@PYTHONPATH=layers/shared/src $(BIN)/python -m tools.schemas
	@PYTHONPATH=layers/shared/src $(BIN)/python -m tools.settings_page
	@PYTHONPATH=layers/shared/src $(BIN)/python -m tools.messages_page

# Checkov needs older packages than this project, so it has its own environment and lock.
$(CHECKOV): tools/checkov/requirements.txt | $(READY)
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .checkov
	@VIRTUAL_ENV=.checkov $(BIN)/uv pip sync --quiet --require-hashes --no-build tools/checkov/requirements.txt || $(SETUP_FAILED)
	@touch $@

.PHONY: security
security: $(CHECKOV) ## write docs/security.md from a run of checkov and tools/accepted_findings.toml
	@$(BIN)/python -m tools.template_findings write

.PHONY: numbers
numbers: $(READY) ## write the numbering plans from the locked `phonenumbers`
	@PYTHONPATH=layers/shared/src $(BIN)/python -m tools.numbering_plans

.PHONY: dashboard
dashboard: pictures ## draw the dashboard from a run of the local stack: docs/images/dashboard.svg (two minutes)
	@PYTHONPATH=layers/shared/src $(BIN)/python -m tools.dashboard

.PHONY: clean
clean: ## remove all files that make has made
	rm -rf $(VENV) dist .emulator .checkov tests/*/*/node_modules .aws-sam .local .hypothesis .mypy_cache .pytest_cache .ruff_cache
