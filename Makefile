PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help install serve test check check-js test-js format env bench-embedder bench-ingest bench-search bench-memory bench-quality bench-model bench-stack bench-page screenshots soak lock

help: ## what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1|/' | column -t -s '|'

.venv/.base: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

.venv/.dev: .venv/.base
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[train,dev]'
	touch $@

install: .venv/.base ## set up .venv with what serving needs

serve: .venv/.base ## serve on http://127.0.0.1:8000
	$(BIN)/python api.py

test: .venv/.dev check test-js ## all checks and tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2  # threads of both at once wait for each other

check: .venv/.dev check-js ## format, lint, types, import rules, deployment files
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yml

# The page's tools need Node 20 or later; without it their checks are skipped. The page itself needs no build.
NODE := $(shell command -v npm)

node_modules/.package-lock.json: package.json package-lock.json
	npm ci --silent
	touch $@

check-js: $(if $(NODE),node_modules/.package-lock.json) ## lint, format and types of the page
	@$(if $(NODE),npm run --silent lint && npm run --silent types,echo "check-js: skipped, because Node is not installed")

test-js: $(if $(NODE),node_modules/.package-lock.json) ## unit tests of the page's modules
	@$(if $(NODE),npm run --silent test,echo "test-js: skipped, because Node is not installed")

format: .venv/.dev ## put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

env: ## write .env, with fresh secrets, for docker compose
	@test ! -e .env || { echo ".env is there already; what it lacks of .env.example is for you to add" >&2; exit 1; }
	@$(PYTHON) -c 'import os, re, secrets; \
	fill = lambda found: found[0] + secrets.token_hex(24); \
	text = re.sub(r"^(\w+_PASSWORD|API_KEY)=$$", fill, open(".env.example").read(), flags=re.M); \
	file = os.open(".env", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600); \
	os.write(file, text.encode())'
	@echo "Wrote .env. Next: docker compose up --detach"

bench-embedder: .venv/.dev ## decode + embed beside the obvious way
	$(BIN)/python -m benchmarks.bench_embedder

bench-ingest: .venv/.dev ## uploads through HTTP beside the obvious way and the bound
	$(BIN)/python -m benchmarks.bench_ingest

bench-search: .venv/.dev ## searches over 100 000 masters beside the same work called directly
	$(BIN)/python -m benchmarks.bench_search

bench-memory: .venv/.dev ## resident memory over 10 000 uploads
	$(BIN)/python -m benchmarks.bench_memory

bench-quality: .venv/.dev ## R@1, R@10, mAP of a labelled folder: DATA=path [ON=servers]
	@$(BIN)/python -m benchmarks.bench_quality '$(DATA)' $(or $(ON),embedded)

bench-model: .venv/.dev ## the model beside the network it came from: BASE=file DATA='folder …'
	@$(BIN)/python -m benchmarks.bench_model '$(BASE)' $(DATA)

bench-stack: .venv/.dev ## uploads, replicas and a million vectors on MariaDB, SeaweedFS and Milvus
	@$(BIN)/python -m benchmarks.bench_stack

bench-page: .venv/.dev ## the page in Chromium: until usable, until hits show, 100 000 masters scrolled
	@$(BIN)/python -m benchmarks.bench_page

screenshots: .venv/.dev ## every state of the page at three widths, into build/screenshots; the README's picture
	@$(BIN)/python -m tests.web.screenshots build/screenshots docs/search.jpg

soak: .venv/.dev ## load and random faults on real servers, then every invariant: MINUTES=20
	@$(BIN)/python -m tests.soak $(or $(MINUTES),20)

lock: .venv/.dev ## write constraints.txt anew from what is installed
	$(BIN)/python -m pip freeze --exclude-editable --exclude lookalike | sed 's/+cpu//' | grep -viE '^(py-spy|nvidia|triton|cuda)' > constraints.txt
