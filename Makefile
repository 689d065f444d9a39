# Two commands do everything on a fresh machine: `make demo` and `make test`. `make help` lists the rest.

PYTHON ?= python3
VENV ?= .venv
# What pip installs before the package. On a machine without a GPU, a CPU build of torch is smaller and works as well.
TORCH ?= 'torch>=2.6' torchvision
PIP_FLAGS ?=
PYTEST_FLAGS ?= -n 2
DEMO_FLAGS ?=
SITE ?= site

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
APT := apt-get install -y libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri libosmesa6

export MUJOCO_GL ?= egl

.DEFAULT_GOAL := help
.PHONY: help venv check-rendering test test-oldest lint types imports docs results demo demo-ci api clean

help:  ## List the targets.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

venv: $(STAMP)  ## Make the environment and install vla-kit into it, with everything the other targets need.

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "PYTHON must be Python 3.11 or later, got $$($(PYTHON) --version). Run: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "PYTHON must have the venv module. Run: apt-get install -y python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) $(TORCH)
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) --editable '.[dev]'
	@touch $(STAMP)

# MuJoCo renders on the CPU through EGL or OSMesa, two libraries that pip cannot install.
check-rendering:  ## Check that MuJoCo can render; name the command that makes it so.
	@$(PYTHON) -c "$$CHECK_RENDERING" || \
	  { echo "MUJOCO_GL=$(MUJOCO_GL) needs system libraries that are missing. Run: $(APT)"; exit 1; }

define CHECK_RENDERING
import ctypes, os, sys
names = {"egl": ["libEGL.so.1", "libEGL_mesa.so.0"], "osmesa": ["libOSMesa.so.8"]}.get(os.environ["MUJOCO_GL"], [])
for name in names:
    try:
        ctypes.CDLL(name)
    except OSError as error:
        sys.exit(str(error))
endef
export CHECK_RENDERING

test: $(STAMP) check-rendering  ## Run the tests.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_FLAGS)

# Parts, data and training: simulators and servers have versions of their own. torch 2.6 traces into the checker of shapes.
test-oldest:  ## Run the tests of parts, data and training on the oldest versions that pyproject.toml allows.
	@test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet $(PIP_FLAGS) --constraint tests/oldest.txt torchvision \
	  --editable '.[captions,hdf5,hands,lora,rlds,stats]' pytest pytest-xdist beartype scipy sybil torchcfm num2words
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest $(PYTEST_FLAGS) tests/unit \
	  $(foreach folder,envs evaluation export serving,--ignore=tests/unit/$(folder)) \
	  --deselect tests/unit/heads/test_heads_few_tokens.py::test_compiled_code_goes_through_the_layer

lint: $(STAMP)  ## Check style and format.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## Check types.
	$(BIN)/mypy

imports: $(STAMP)  ## Check that imports point down.
	$(BIN)/lint-imports

docs: $(STAMP)  ## Build the documentation into site/.
	$(BIN)/python docs/render_results.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir $(SITE)

results: $(STAMP)  ## Copy the numbers of docs/results into the pages and the README.
	$(BIN)/python docs/render_results.py

api: $(STAMP)  ## Write the list of public names anew.
	$(BIN)/python tests/test_api_surface.py

demo: $(STAMP) check-rendering  ## Record demonstrations, train a small Qwen-VLA on them, evaluate it. Resumes.
	$(BIN)/python examples/qwen_vla/demo.py --output outputs/demo --config examples/qwen_vla/configs/demo/full.yaml $(DEMO_FLAGS)

demo-ci: $(STAMP) check-rendering  ## The same in a few minutes on one task; fails unless the policy beats random actions.
	$(BIN)/python examples/qwen_vla/demo.py --output outputs/demo-ci --config examples/qwen_vla/configs/demo/ci.yaml $(DEMO_FLAGS)

clean:  ## Delete what the tools left behind; keeps outputs/ and the environment.
	rm -rf build dist site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find src tests examples docs benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
