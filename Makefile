# make demo: from nothing to a measured ESR rate and its figure.   make test: all tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
CPU_INDEX := https://download.pytorch.org/whl/cpu
REQUIREMENTS := $(shell nvidia-smi >/dev/null 2>&1 && echo requirements.txt || echo requirements-cpu.txt)

.PHONY: help setup demo test faults models lint docs dist bench peers gpu-check organism clean

help:
	@echo "setup     virtual environment with everything (vLLM for CUDA where nvidia-smi answers)"
	@echo "demo      experiment 1 on the embedded organism: run folder, table, figure"
	@echo "test      all tests"
	@echo "faults    2,000 faults of all classes into docs/reliability.md"
	@echo "models    all model families against a plain hook; writes docs/models.md (half an hour)"
	@echo "lint      ruff and mypy"
	@echo "docs      documentation as a site, links checked: build/site/index.html"
	@echo "dist      source distribution and wheel, into build/dist"
	@echo "bench     overhead of steering in vLLM, on an idle machine; writes benchmarks/README.md"
	@echo "peers     ours against other ways to steer a generation, and K distinct configurations"
	@echo "gpu-check all that only a GPU can tell, step by step; repeat it to go on"
	@echo "organism  train the embedded organism again, from its seed"

setup: $(READY)

$(READY): requirements.txt requirements-cpu.txt requirements-common.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or later is needed; next: make setup PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
ifeq ($(REQUIREMENTS),requirements-cpu.txt)
	$(BIN)/pip install -q -r requirements-cpu.txt || \
	    $(BIN)/pip install -q --extra-index-url $(CPU_INDEX) -r requirements-cpu.txt
	$(BIN)/pip uninstall -q -y torchvision torchaudio torchcodec
else
	$(BIN)/pip install -q -r requirements.txt
endif
	$(BIN)/pip install -q --no-deps -e .
	@touch $@

demo: setup
	$(BIN)/python -m experiment_01_esr tiny
	$(BIN)/python plotting/plot_exp1.py

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

faults: setup
	$(BIN)/python -m tests.faults --write

models: setup
	$(BIN)/python -m tests.engine.families

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

dist: setup
	$(BIN)/python -m build --outdir build/dist

bench: setup
	$(BIN)/python -m benchmarks.steering_overhead tiny --save
	$(BIN)/python -m benchmarks.steering_share --save

peers: setup
	$(BIN)/pip install -q --no-deps --target .peers -r benchmarks/peers/requirements.txt
	PYTHONPATH=.peers $(BIN)/python -m benchmarks.peers --rounds 3
	$(BIN)/python -m benchmarks.peers tiny --distinct
	$(BIN)/python -m benchmarks.peers --table

gpu-check: setup
	$(BIN)/python -m benchmarks.gpu
	$(BIN)/python -m benchmarks.gpu --table

organism: setup
	$(BIN)/python -m esr.organism build

clean:
	rm -rf $(VENV) figures data/cache
