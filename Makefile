# `make demo` and `make test` need only make and Python 3.11 to 3.13; everything else is set up here.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORES ?= all
STAMP := $(VENV)/.installed
BENCH := build/bench/event000000001

.DEFAULT_GOAL := help
.PHONY: help install demo smoke reproduce unlock test faults lint format lock conda-tools conda-pin bench plan slurm-smoke gpu-wheels gpu-train gpu-bench clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## */\t/' | expand -t 14

install: $(STAMP)  ## create .venv with the pinned requirements

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "make: $(PYTHON) is not Python 3.11, 3.12 or 3.13 (pythia8mc has no packages for others);" \
	    "run make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@echo "Installing the pinned requirements into $(VENV) (about 2 GB, some minutes the first time)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@echo "Compiling the kernels of the trackers, once, so that no tracker does it at its first use (a minute or two)"
	@$(BIN)/python -m trackbench.cli.main compile || \
	  echo "make: the kernels could not be compiled, see above; each tracker compiles its own at its first use"
	@touch $(STAMP)

demo: $(STAMP)  ## run the whole default workflow on simulated events
	$(BIN)/snakemake --cores $(CORES)
	@echo "Open results/demo/report.html; tables are in results/demo/tables, figures in results/demo/figures"

smoke: $(STAMP)  ## the same workflow in about four minutes, on tiny events
	$(BIN)/snakemake --cores $(CORES) --configfile config/smoke.yaml
	@echo "Open results/smoke/report.html; tables are in results/smoke/tables, figures in results/smoke/figures"

reproduce: CONFIG = config/smoke.yaml
reproduce: $(STAMP)  ## the smoke run (or CONFIG) twice, other cores and order of jobs: equal but for times?
	rm -rf build/reproduce
	for run in one-core all-cores; do mkdir -p build/reproduce/$$run && cp -r config build/reproduce/$$run; done
	$(BIN)/snakemake --directory build/reproduce/one-core --configfile $(CONFIG) --cores 1 --scheduler greedy
	$(BIN)/snakemake --directory build/reproduce/all-cores --configfile $(CONFIG) --cores $(CORES) --scheduler ilp
	$(BIN)/trackbench compare --out build/reproduce/report.md build/reproduce/*-core*/results/*

unlock: $(STAMP)  ## after kill -9 or a power cut: remove the stale lock, then run again
	$(BIN)/snakemake --unlock

test: $(STAMP)  ## run all tests, or those that PYTEST_OPTIONS select
	$(BIN)/python -m pytest $(PYTEST_OPTIONS)

faults: $(STAMP)  ## kills, full disks, damaged files at many moments; record and table of docs/faults.md
	$(BIN)/python -m pytest -m faults --all-faults --faults-record build/faults.json tests/faults tests
	$(BIN)/python benchmarks/record_faults.py build/faults.json

lint: $(STAMP)  ## ruff, snakefmt and snakemake --lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

format: $(STAMP)  ## let ruff and snakefmt rewrite the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

bench: export OMP_NUM_THREADS = 1
bench: $(STAMP)  ## run the benchmarks on simulated events, write benchmarks/results/*.json
	test -f $(BENCH)-truth.csv || $(BIN)/trackbench simulate --events 3 --pileup 200 --seed 77 --cells --out $(dir $(BENCH))
	$(BIN)/python benchmarks/bench_reading.py $(BENCH)
	$(BIN)/python benchmarks/bench_metrics.py $(BENCH)
	$(BIN)/python benchmarks/bench_clustering.py $(BENCH)-hits.csv
	$(BIN)/python benchmarks/bench_helix_hash.py $(BENCH) $(BENCH:1=2) $(BENCH:1=3)
	$(BIN)/python benchmarks/bench_cleanup.py $(BENCH) $(BENCH:1=2) $(BENCH:1=3)
	for sample in "mu200 10 200 5.5" "mu20 20 20 5.5" "sigma_z55 5 200 55"; do set -- $$sample; \
	  test -f $(dir $(BENCH))$$1/manifest.json || $(BIN)/trackbench simulate --events $$2 --pileup $$3 --sigma-z $$4 \
	    --seed 77 --format parquet --out $(dir $(BENCH))$$1 || exit; done
	$(BIN)/python benchmarks/bench_helix_finder.py $(dir $(BENCH))
	$(BIN)/python benchmarks/bench_ckf.py $(dir $(BENCH))
	$(BIN)/python benchmarks/bench_simulation.py
	$(BIN)/python benchmarks/bench_matching.py
	$(BIN)/python benchmarks/bench_heptv2.py $(BENCH:1=2)

# CONFIG and CORES have other defaults for other targets: only values of the caller count here.
plan: PLAN_CONFIG := $(if $(filter-out file,$(origin CONFIG)),$(CONFIG))
plan: PLAN_CORES := $(if $(filter-out file,$(origin CORES)),$(CORES))
plan: $(STAMP)  ## jobs of CONFIG on a cluster, projected time of simulating EVENTS events on CORES="16 128 1000"
	$(BIN)/python benchmarks/plan_campaign.py $(if $(PLAN_CONFIG),--configfile $(PLAN_CONFIG)) \
	  $(if $(EVENTS),--events $(EVENTS)) $(if $(PLAN_CORES),--cores $(PLAN_CORES))

slurm-smoke: $(STAMP)  ## as root: the smoke run through SLURM on this machine (installs it), compared with a run without
	tests/slurm/cluster.sh start --install && tests/slurm/cluster.sh stop
	$(BIN)/python benchmarks/record_slurm_smoke.py

# The scripts of gpu/ need no .venv: they run with the Python of a machine with a GPU (docs/gpu.md).
GPU_PYTHON ?= $(if $(DRY),$(BIN)/python,python3)
WHEELS ?= build/gpu/wheels
OUT ?= build/gpu/out
MINUTES ?= $(if $(DRY),1,9)
DEVICE ?= $(if $(DRY),cpu,auto)
CONFIG ?= $(if $(DRY),gpu/tiny.yaml,config/gpu-heptv2.yaml)
GPU_OPTIONS = --config $(CONFIG) --out $(OUT) --minutes $(MINUTES) --device $(DEVICE) --wheels $(WHEELS) $(if $(COMMIT),--commit $(COMMIT))
GPU_OPTIONS += $(if $(DRY),--work build/gpu-dry)

gpu-wheels:  ## download what gpu-train needs on a machine without network
	$(PYTHON) gpu/wheels.py $(WHEELS)

gpu-train:  ## train HEPTv2 (or CONFIG) on a GPU for MINUTES, go on when called again; DRY=1: tiny, on the CPU
	$(GPU_PYTHON) gpu/train.py $(GPU_OPTIONS) $(if $(DRY),--reserve 10 --workers 1 --threads 1)

gpu-bench:  ## time and memory of HEPTv2 (or CONFIG) on a GPU; DRY=1: tiny, on the CPU
	$(GPU_PYTHON) gpu/bench.py $(GPU_OPTIONS)

lock: $(STAMP)  ## re-create requirements.txt from requirements.in
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --requirement requirements.in
	{ echo "# Full lock, made by \`make lock\` from requirements.in. Do not edit by hand."; \
	  .venv-lock/bin/python -m pip freeze | sed 's/+cpu$$//'; } > requirements.txt
	rm -rf .venv-lock

CONDA_TOOLS := build/conda/tools

conda-tools: $(CONDA_TOOLS)/.installed  ## what the tests of `--use-conda` need: a solver and installer, apart from .venv

$(CONDA_TOOLS)/.installed: tests/conda/requirements.txt $(STAMP)
	$(BIN)/python -m venv $(CONDA_TOOLS)
	$(CONDA_TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

# An explicit list cannot have packages of pip, so files with a pip: section get none.
conda-pin:  ## with conda and network: pin each conda environment to exact builds, envs/*.pin.txt
	@command -v conda >/dev/null && command -v snakedeploy >/dev/null || { \
	  echo "make: conda-pin needs the commands conda and snakedeploy and a network, see docs/conda.md" >&2; exit 2; }
	snakedeploy pin-conda-envs $$(grep -L '^  - pip:' envs/*.yaml)

clean:  ## remove results and caches, keep .venv
	rm -rf results logs .snakemake .pytest_cache .ruff_cache
