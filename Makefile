# Everything that people and CI run. `make` alone lists it.
# Needs Python 3.11 to 3.14, make and git; the rest is set up below .venv, .venv-emulator and .venv-scanner.

.DEFAULT_GOAL := help
.PHONY: help demo up down recording screenshots test test-long coverage check check-lint check-types check-imports check-spelling check-workflows check-template check-security fix simulate explore mutants mutate bench test-local test-browser test-engines chaos soak fuzz backup-proof sam-local setup emulator scanner hooks sbom vulnerabilities approve-template lock release clean

VENV := .venv/bin
LOCAL := $(VENV)/python -m refunds_devkit.local
# More for pytest: make test ARGS="-k ledger -x". To debug one test in one process:
# make test WORKERS=0 ARGS="-k name_of_the_test --pdb"
ARGS ?=
WORKERS ?= auto
PARALLEL := -n $(WORKERS) --dist worksteal
# Images of containers often forbid to keep compiled files. Each worker then compiles all tests again.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(VENV)/pytest

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { \
		line = sprintf("  make %-16s", $$1); count = split($$2, words, " "); \
		for (i = 1; i <= count; i++) { \
			if (length(line) + length(words[i]) > 78) { print line; line = sprintf("%23s", "") } \
			line = line " " words[i] \
		} \
		print line }' $(firstword $(MAKEFILE_LIST))

# --- Try it ---

demo: emulator  ## show the whole flow on this machine in a minute, explained
	@$(LOCAL) demo

up: emulator  ## start the local stack; .local/stack.env says where it is
	@$(LOCAL) up

down: setup  ## stop the local stack
	@$(LOCAL) down

recording: emulator  ## record the demo as docs/images/demo.svg, for README; REDRAW=1 draws the last recording again
	@$(VENV)/refunds-dev record --cast .local/demo.cast --output docs/images/demo.svg --description \
		'The demo deploys the stack to an emulator, sends refunds of every kind, and shows what became of each.' \
		$(if $(REDRAW),,-- $(MAKE) --no-print-directory demo)

# --- Test ---

test: setup  ## run the tests that need only Python, without the long ones
	@$(PYTEST) $(PARALLEL) -m "not long" $(ARGS)

test-long: setup  ## run the long tests: whole suites again, memory, hundreds of simulated crashes
	@$(PYTEST) $(PARALLEL) -m long $(ARGS)

coverage: setup  ## run make test without the simulator, and measure how much of src/refunds it covers (at least 90 %)
	@$(PYTEST) $(PARALLEL) -m "not long" --cov --cov-report=term tests/unit tests/conformance $(ARGS)

check: check-lint check-types check-imports check-spelling check-workflows check-template check-security  ## check format, lint, types, import directions, spelling, workflows, template, security

fix: setup  ## format the code and correct what can be corrected
	$(VENV)/ruff check --fix-only --exit-zero .
	$(VENV)/ruff format .
	$(VENV)/codespell --write-changes

# .pre-commit-config.yaml names the same seven.
check-lint: setup
	$(VENV)/ruff format --check .
	$(VENV)/ruff check .

check-types: setup
	$(VENV)/mypy

check-imports: setup
	$(VENV)/lint-imports --no-cache

check-spelling: setup
	$(VENV)/codespell

check-workflows: setup
	$(VENV)/zizmor --offline --no-progress --quiet .github
	sh ops/actionlint.sh

check-template: setup
	$(VENV)/cfn-lint template.yaml docs/backup-copy.template.yaml
	@SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=us-east-1 $(VENV)/sam validate --lint

check-security: scanner
	@$(VENV)/python -m tests.support.template_scan

simulate: setup  ## run the crash simulator: HISTORIES=20000, or SEED=… for one history again; WALLS=1 for those at the edges; VOLUME=10000 open refunds
	@$(VENV)/python -m tests.simulator $(if $(VOLUME),--volume $(VOLUME)) $(if $(WALLS),--walls) $(if $(SEED),--seed $(SEED)) $(if $(HISTORIES),--histories $(HISTORIES))

explore: setup  ## run every schedule of small worlds: WORLD=1 … 10 for one of them, SECONDS=300
	@$(VENV)/python -m tests.simulator.explore $(if $(WORLD),--world $(WORLD)) $(if $(SECONDS),--seconds $(SECONDS))

mutate: setup  ## run a fast suite against faults that a tool makes: FILES="processing/settler.py", EACH=5 of each file, ALL=1, SEED=1, JOBS=2, SECONDS=900, MOST=10 CPU seconds a fault, COUNT=1
	@$(VENV)/python -m tests.simulator.mutate $(if $(FILES),--files $(FILES)) $(if $(ALL),--each 0 --seconds 86400) $(if $(EACH),--each $(EACH)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) $(if $(JOBS),--jobs $(JOBS)) $(if $(MOST),--most $(MOST)) $(if $(FORGET),--forget) $(if $(COUNT),--count)

mutants: setup  ## put deliberate faults into the protocol: the simulator must catch each
	@$(VENV)/python -m tests.simulator --mutants

bench: emulator  ## measure, and compare with what users would write instead; QUICK=1 as in CI, FULL=1 with 100,000 refunds
	@QUICK=$(QUICK) FULL=$(FULL) ONLY=$(ONLY) WRITE=$(WRITE) $(VENV)/python -m benchmarks

# The other two are about MiniStack and about sam deploy.
ENGINE_SUITE := $(addprefix tests/local/test_,refunds.py refused_messages.py unknown_outcomes.py audit_trail.py backups.py)

test-local: emulator  ## run the end-to-end tests on the local stack; ENGINES=1 runs them on real engines
	@ENGINES=$(ENGINES) $(VENV)/pytest $(if $(ENGINES),$(ENGINE_SUITE),tests/local) $(ARGS)

test-browser: setup  ## test the pages in the system's Chromium; says how to get it if it is missing
	@$(VENV)/pytest tests/browser $(ARGS)

screenshots: setup  ## make the console's pictures in docs/images, with the system's Chromium
	@$(VENV)/python -m tests.browser.screenshots

test-engines: emulator  ## run suites on real engines; a test whose toolchain is missing says how to get it
	@$(VENV)/pytest tests/engines $(ARGS)

chaos: emulator  ## run refunds on engines with faults: kills, connections, AWS errors, clocks, gateway; SECONDS=60 SEED=…
	@$(VENV)/python -m tests.chaos --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED)) \
		$(if $(EMULATED),--emulated-dynamodb)

# At most 75 minutes; with fewer faults than chaos, so that throughput and memory are worth a look.
# Ctrl-C ends the sending: what was sent is settled, checked and reported.
# EMULATED=1 takes MiniStack's tables, where dynoxide can't be had. DYNOXIDE_PREBUILT=1 compiles nothing.
soak: emulator  ## run many refunds on engines with faults: REFUNDS=100000 FAULTS=0.02; plots in .local/soak.png
	@$(VENV)/python -m tests.chaos --soak --seconds $(or $(SECONDS),4500) --refunds $(or $(REFUNDS),100000) \
		--fault-rate $(or $(FAULTS),0.02) --plot .local/soak.png $(if $(SEED),--seed $(SEED)) \
		$(if $(EMULATED),--emulated-dynamodb)

fuzz: setup  ## feed damaged input to every reader, guided by coverage: MINUTES=1 SEED=… ONLY=receipt
	@$(VENV)/python -m tests.fuzz --minutes $(or $(MINUTES),1) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY))

backup-proof: emulator  ## back up, restore and compare a million rows of every attribute type
	@FULL=1 $(VENV)/pytest -s tests/unit/backup/test_memory.py $(ARGS)
	@FULL=1 $(VENV)/pytest -s tests/engines/test_backup_engines.py -k dynalite $(ARGS)

sam-local: emulator  ## run `sam local invoke` of each function but ReceiveWebhook in a container; needs Docker
	@$(LOCAL) invoke

# --- Keep it ---

setup:  ## install what is locked into .venv (all of the above do it when needed)
	@sh ops/bootstrap.sh dev

emulator: setup
	@sh ops/bootstrap.sh emulator

scanner: setup
	@sh ops/bootstrap.sh scanner

hooks: setup  ## run the checks before each `git commit`
	@$(VENV)/pre-commit install

sbom: setup  ## list what is deployed, in CycloneDX format: .local/sbom.json
	@mkdir -p .local
	$(VENV)/uvx --from cyclonedx-bom==7.5.0 cyclonedx-py requirements src/requirements.txt --of JSON -o .local/sbom.json

vulnerabilities: setup  ## ask PyPI for known vulnerabilities of what is deployed; fails if it can't be asked
	$(VENV)/uvx pip-audit@2.10.1 --strict --disable-pip --require-hashes -r src/requirements.txt

approve-template: setup  ## after an intended change of template.yaml: write tests/unit/template/approved.txt again
	@$(VENV)/python -m tests.support.template_lines

lock: setup  ## pin requirements/*.in again; UPGRADE=1 takes the newest versions
	@sh ops/lock.sh $(if $(UPGRADE),--upgrade)

release: check  ## tag VERSION=1.2.3 for a release; see docs/releasing.md
	@$(VENV)/python -m refunds_devkit.release $(VERSION) >/dev/null
	@test -z "$$(git status --porcelain)" || { echo "Commit or remove your changes first: git status" >&2; exit 1; }
	@git tag --annotate v$(VERSION) --message 'Version $(VERSION)'
	@echo "Tagged v$(VERSION). To publish it: git push origin v$(VERSION)"

clean:  ## stop the local stack and delete everything that was made here
	@if [ -x $(VENV)/python ]; then $(LOCAL) down; fi
	rm -rf .venv .venv-emulator .venv-scanner .local .aws-sam .coverage htmlcov .hypothesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
