# `make setup` once; everything else sees to it by itself.
PYTHON_BIN := .venv/bin/python

# How many processes run tests at once: one and a half for each core, since tests of servers wait for other processes.
# More than this many gain little: the longest file is then what is waited for.
WORKERS ?= $(shell workers=$$(( $$(nproc) * 3 / 2 )); echo $$(( workers < 8 ? workers : 8 )))
# A worker computes with one thread: tests of tiny models gain nothing from more, and lose where the other workers have
# the cores. A file is run by one worker, for its fixtures' sake.
PYTEST := OMP_NUM_THREADS=1 $(PYTHON_BIN) -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: setup test run-tests test-api test-browser test-chaos test-clients test-cluster test-combinations test-dist test-docs test-evals test-fuzz test-models test-strangers test-slow test-vllm test-why lint lint-code lint-types dist docs format quickstart results revision bench-api bench-asynchrony bench-checkpoints bench-cluster bench-commits bench-dashboard bench-engine bench-gpu bench-learner bench-plan bench-preferences bench-reading bench-rollout bench-scaling bench-stalls bench-tools bench-train bench-vllm simulate clean

setup: ## the environment in .venv and the built-in model
	@scripts/setup.sh

test: setup ## what CI runs: checks, and all tests but the slow ones
	@scripts/system.sh
	@$(MAKE) --no-print-directory -j 2 lint-types run-tests

run-tests: lint-code
	$(PYTEST)

test-api: setup ## the fine-tuning API with the stock SDK, on SQLite and on PostgreSQL, with 2,000 generated requests
	@scripts/system.sh
	AGENTRFT_ALL_KILLS=1 AGENTRFT_SCHEMA_EXAMPLES=84 $(PYTHON_BIN) -m pytest -q -s -m "not fresh" tests/server
	AGENTRFT_ALL_KILLS=1 AGENTRFT_SCHEMA_EXAMPLES=84 scripts/with_postgres.sh $(PYTHON_BIN) -m pytest -q -s -m "not fresh" tests/server

test-evals: setup ## an eval of a base and a fine-tuned model over 100 rows, equal to `agentrft eval`
	AGENTRFT_EVAL_ROWS=100 AGENTRFT_EVAL_MODEL=smollm2-135m $(PYTHON_BIN) -m pytest -q -s -m "" tests/server/test_evals_sampled.py -k numbers

test-browser: setup ## every page in Chromium: light and dark, narrow and wide, by keyboard, with axe; live changes; pictures in build/pages; the documentation's search
	@scripts/system.sh
	$(PYTHON_BIN) -m pytest -q -m browser tests/dashboard tests/docs

test-vllm: setup ## rollouts through a real vLLM server (its CPU build, in .venv-peer-vllm): log-probabilities, adapters, a kill, the tests of the inference server, and the quickstart (AGENTRFT_VLLM_STEPS=30 for all of it)
	@scripts/setup_peer.sh vllm
	AGENTRFT_VLLM_PYTHON=.venv-peer-vllm/bin/python $(PYTHON_BIN) -m pytest -q -s -m vllm tests/vllm tests/server

test-why: setup ## planted behaviours are named and honest runs raise no suspicion, ten runs of each
	AGENTRFT_WHY_RUNS=10 $(PYTHON_BIN) -m pytest -q tests/report/why

test-chaos: setup ## rollouts against tools and graders that misbehave, and an outage of 30 seconds
	AGENTRFT_CHAOS_ROLLOUTS=1000 AGENTRFT_CHAOS_OUTAGE_S=30 $(PYTHON_BIN) -m pytest -q -s tests/chaos
	AGENTRFT_MCP_ROLLOUTS=64 $(PYTHON_BIN) -m pytest -q tests/tools/test_mcp_tool.py -k many_rollouts

# The table is written only where all of them passed.
test-clients: setup ## clients of hosted fine-tuning, with the newest openai and 1.91, on SQLite and PostgreSQL; writes the docs' table
	@scripts/system.sh
	@scripts/setup_client.sh newest 1.91
	AGENTRFT_CLIENT_SDKS="newest 1.91" $(PYTHON_BIN) -m pytest -q -s tests/clients/test_clients.py
	AGENTRFT_CLIENT_SDKS="newest 1.91" scripts/with_postgres.sh $(PYTHON_BIN) -m pytest -q -s tests/clients/test_clients.py
	$(PYTHON_BIN) -m tests.clients.table

test-dist: setup ## the wheel, installed with all that it needs into an empty environment; a download of some GB
	$(PYTHON_BIN) -m pytest -q -s -m fresh tests/dist

test-docs: setup ## the commands of README and docs that take minutes, as they stand there
	$(PYTHON_BIN) -m pytest -q -s -m fresh tests/docs

test-strangers: setup ## 20,000 generated inputs through every door that JSON and text come in by; ARGS="--inputs 1000"
	$(PYTHON_BIN) -m tests.strangers $(ARGS)

test-fuzz: setup ## formulas and templates of 100,000 texts each
	AGENTRFT_FUZZ_EXAMPLES=100000 $(PYTHON_BIN) -m pytest -q tests/fuzz

# The table is written only where all of them passed.
test-models: setup ## every family of models: 1,000 random conversations each, and what transformers computes; makes docs/models.md's tables
	$(PYTHON_BIN) scripts/fetch_templates.py
	$(PYTHON_BIN) -m pytest -q -m slow tests/models/test_families.py
	$(PYTHON_BIN) -m tests.models.architectures
	AGENTRFT_CHAT_CONVERSATIONS=1000 AGENTRFT_CHAT_SEEN=build/models_chat $(PYTEST) --dist load tests/models_chat/test_models_chat.py
	$(PYTHON_BIN) -m tests.models_chat.table

test-cluster: setup ## a learner of two ranks: updates, checkpoints and jobs equal to those of one; rollout workers; three nodes on which everything is killed; the quickstart on both (AGENTRFT_CLUSTER_STEPS=30 for all of it)
	OMP_NUM_THREADS=1 $(PYTHON_BIN) -m pytest -q -s -m "slow or not slow" tests/cluster tests/learner/ranks

test-combinations: setup ## two hundred jobs with options drawn at random, each interrupted once and resumed
	AGENTRFT_COMBINATIONS=200 OMP_NUM_THREADS=1 $(PYTHON_BIN) -m pytest -q tests/job/test_combinations.py

test-slow: setup ## the tests that train for minutes, and a kill at every moment of a job
	$(PYTHON_BIN) -m pytest -q -m slow

simulate: setup ## a job on up to 64 GPUs in simulated time; draws docs/images/scale.png; ARGS="--engines 1 4 16"
	$(PYTHON_BIN) -m benchmarks.simulate $(ARGS)

lint: setup ## style, imports, dependencies and types
	@$(MAKE) --no-print-directory -j 2 lint-types lint-code

lint-code:
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports --no-logo
	.venv/bin/deptry src

lint-types:
	.venv/bin/pyright

docs: setup ## the documentation site, in build/site, with the reference of commands and fields
	$(PYTHON_BIN) scripts/write_reference.py
	.venv/bin/zensical build --strict --clean

dist: setup ## wheel and sdist, in dist/
	rm -rf dist
	$(PYTHON_BIN) -m hatchling build

format: setup ## mend what ruff can mend
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

quickstart: setup ## train the built-in model on medical coding; options go in ARGS="..."
	$(PYTHON_BIN) examples/medical_coding/quickstart.py $(ARGS)

results: setup ## trains the four example systems, three seeds each, and writes their table; ARGS="--quick" is one seed of each
	$(PYTHON_BIN) -m examples.results $(ARGS)

revision: setup ## a new file in store/migrations/versions with what changed in store/tables.py: WHAT="files have an owner"
	$(PYTHON_BIN) scripts/new_revision.py "$(WHAT)"

bench-api: setup ## two hundred clients that poll a job, beside its training
	$(PYTHON_BIN) -m benchmarks.api_load $(ARGS)

bench-asynchrony: setup ## steps per hour with slow tools: waiting for each step's rollouts, and rollouts that run ahead
	$(PYTHON_BIN) -m benchmarks.asynchrony $(ARGS)

bench-checkpoints: setup ## what checkpoints of all weights cost, at every step and at every eighth
	$(PYTHON_BIN) -m benchmarks.checkpoints $(ARGS)

bench-commits: setup ## engine, update and rollouts beside an earlier commit: ARGS="COMMIT --rounds 5"
	$(PYTHON_BIN) -m benchmarks.commits $(ARGS)

bench-cluster: setup ## rollouts per second with 1, 2 and 4 rollout workers, each with as many at once
	$(PYTHON_BIN) -m benchmarks.rollout_workers $(ARGS)

bench-dashboard: setup ## the pages over 100,000 rollouts: how fast each answers, and in how much memory
	$(PYTHON_BIN) -m benchmarks.dashboard $(ARGS)

bench-engine: setup ## generation at 64 sequences beside transformers' generate and vLLM's CPU build
	@scripts/setup_peer.sh vllm
	$(PYTHON_BIN) -m benchmarks.engine $(ARGS)

# Without `setup`: a machine that is lent has an environment of its own.
bench-gpu: ## everything once on a GPU, in at most ten minutes; ARGS="--device cpu --small" without one
	@scripts/gpu_check.sh $(ARGS)

bench-learner: setup ## one update beside TRL's on the same tokens
	@scripts/setup_peer.sh trl
	$(PYTHON_BIN) -m benchmarks.learner $(ARGS)

bench-plan: setup ## plans beside published steps of others, and beside a short job here; ARGS="--public" without the job
	$(PYTHON_BIN) -m benchmarks.plan $(ARGS)

bench-preferences: setup ## one update of direct preference optimisation beside TRL's on the same pairs, and its loss
	@scripts/setup_peer.sh trl
	$(PYTHON_BIN) -m benchmarks.preferences $(ARGS)

bench-reading: setup ## what the quickstart's model can learn to read of its search's hits, with the right answers given
	$(PYTHON_BIN) -m benchmarks.reading $(ARGS)

bench-rollout: setup ## a step's rollouts with a tool of 0 and 200 ms, beside TRL's
	@scripts/setup_peer.sh trl
	$(PYTHON_BIN) -m benchmarks.rollout $(ARGS)

bench-scaling: setup ## cost by rollouts a sample and by the prompt's length, as a picture
	@scripts/setup_peer.sh trl
	$(PYTHON_BIN) -m benchmarks.scaling $(ARGS)

bench-stalls: setup ## fifty clients that poll health and a job's status while others ask for what is heavy
	$(PYTHON_BIN) -m benchmarks.stalls $(ARGS)

bench-tools: setup ## a thousand tool calls at once against a server that refuses, beside the bare client
	$(PYTHON_BIN) -m benchmarks.tools $(ARGS)

bench-train: setup ## the quickstart's task to a fixed validation reward, beside TRL; an hour and more
	@scripts/setup_peer.sh trl
	$(PYTHON_BIN) -m benchmarks.train $(ARGS)

bench-vllm: setup ## turns through vLLM (its CPU build) beside `vllm bench serve` alone; ARGS="--dtype float32" without bfloat16
	@scripts/setup_peer.sh vllm
	$(PYTHON_BIN) -m benchmarks.vllm $(ARGS)

clean: ## caches and builds; keeps .venv and runs
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests examples -name __pycache__ -type d -prune -exec rm -rf {} +
