# `make demo` and `make test` each set up .venv themselves; nothing but Python >= 3.11 and make is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Where torch comes from. The default holds CPU builds; PyPI's Linux builds bring gigabytes of CUDA.
#   make test TORCH_INDEX=https://download.pytorch.org/whl/cu130
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH ?= torch==2.13.0
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt

# aihwkit brings torchvision and build tools along, so the comparison with it has an environment of its own.
PEERS := .venv-peers
PEERS_PIP := $(PEERS)/bin/python -m pip --disable-pip-version-check install --quiet

# tflite-runtime needs Python 3.11 and NumPy 1, so its suite has an environment of its own too.
TFLITE := .venv-tflite-runtime
# kserve excludes some of our pins and brings fifty packages, so its smoke test has an environment of its own as well.
KSERVE := .venv-kserve
PYTHON311 ?= $(shell command -v python3.11 || echo $(PYTHON))

.PHONY: demo test test-peers test-tflite-runtime test-kserve fidelity science bench check format contract size clean help

help:           ## list the targets
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

demo: $(VENV)/.emulator           ## a noise-trained network ages a year on an emulated chip and heals itself
	$(BIN)/pcmedge demo

test: $(VENV)/.dev           ## the whole test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-peers: $(PEERS)/.peers           ## the device physics against aihwkit's; needs Python 3.11 or 3.12
	$(PEERS)/bin/python -m pytest --timeout=900 tests_peers

test-tflite-runtime: $(TFLITE)/.ready           ## digital devices and the Interpreter on the older tflite-runtime; needs Python 3.11
	$(TFLITE)/bin/python -m pytest --timeout=120 tests_tflite_runtime

test-kserve: $(KSERVE)/.ready           ## kserve's own gRPC client against a served device
	$(KSERVE)/bin/python -m pytest --timeout=120 tests_kserve

fidelity: $(PEERS)/.peers           ## measure docs/results/fidelity.md again
	$(PEERS)/bin/python tests_peers/report.py

science: $(VENV)/.dev           ## the published experiment, measured again: make science DATA=folder-with-CIFAR-10
	@test -n "$(DATA)" || { echo 'make science DATA=PATH, a folder with CIFAR-10 (docs/data.md says in which forms)'; exit 2; }
	$(BIN)/python -m benchmarks.science --data '$(DATA)' --part test --first-chip 100 --resume

# Without the peers' environment (no Python 3.11 or 3.12, or no wheel) the rest is measured, and what is missing is said.
bench: $(VENV)/.dev           ## engine, serving and device against digital inference and aihwkit: make bench QUICK=--quick
	-@$(MAKE) --no-print-directory $(PEERS)/.peers
	$(BIN)/python -m benchmarks.engine $(QUICK)
	$(BIN)/python -m benchmarks.serving $(QUICK)
	$(BIN)/python -m benchmarks.device $(QUICK)

check: $(VENV)/.dev           ## lint, types, generated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/generate_contract.py --check

format: $(VENV)/.dev           ## let ruff rewrite the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

contract: $(VENV)/.dev           ## regenerate the Python code of proto/
	$(BIN)/python scripts/generate_contract.py

size:           ## lines per package
	@for d in sdk/pcmedge/*/ emulator/pcmedge_emulator/*/ tests examples; do \
	  printf '%6d  %s\n' "$$(find $$d -name '*.py' ! -name '*_pb2.py' | xargs cat 2>/dev/null | wc -l)" $$d; done
	@echo 'files over 300 lines:'; find sdk emulator -name '*.py' ! -name '*_pb2.py' | xargs wc -l | awk '$$1 > 300 && $$2 != "total"'

clean:           ## remove the environment and build leftovers
	rm -rf $(VENV) $(PEERS) $(TFLITE) $(KSERVE) build dist .mypy_cache .pytest_cache .ruff_cache

$(VENV)/.base:
	$(PYTHON) -c 'import sys; sys.exit("pcmedge needs Python 3.11 or newer, found " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade pip
	touch $@

$(VENV)/.emulator: $(VENV)/.base pyproject.toml constraints.txt
	$(INSTALL) --editable '.[emulator]'
	touch $@

# torch first and from its own index, so that the extras below find it and look no further.
$(VENV)/.dev: $(VENV)/.base pyproject.toml constraints.txt
	$(PIP) install --quiet --retries 1 --extra-index-url $(TORCH_INDEX) '$(TORCH)'
	$(INSTALL) --editable '.[dev]'
	touch $@ $(VENV)/.emulator

$(PEERS)/.peers: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS_PIP) --upgrade pip
	$(PEERS_PIP) --retries 1 --extra-index-url $(TORCH_INDEX) '$(TORCH)' torchvision
	$(PEERS_PIP) --constraint constraints.txt --editable '.[peers]'
	touch $@

$(TFLITE)/.ready: pyproject.toml constraints.txt constraints-tflite-runtime.txt
	$(PYTHON311) -c 'import sys; sys.exit("tflite-runtime has wheels for Python 3.11 and older, found " + sys.version.split()[0] + "; set PYTHON311" if sys.version_info[:2] != (3, 11) else 0)'
	$(PYTHON311) -m venv $(TFLITE)
	grep -vE '^(numpy|pyarrow)==' constraints.txt | cat - constraints-tflite-runtime.txt > $(TFLITE)/constraints.txt
	$(TFLITE)/bin/python -m pip --disable-pip-version-check install --quiet --upgrade pip
	$(TFLITE)/bin/python -m pip --disable-pip-version-check install --quiet --constraint $(TFLITE)/constraints.txt \
	  --editable '.[emulator,tflite-runtime]' pytest pytest-timeout
	touch $@

$(KSERVE)/.ready: pyproject.toml constraints.txt constraints-kserve.txt
	$(PYTHON) -m venv $(KSERVE)
	grep -vE '^python-dateutil==' constraints.txt | cat - constraints-kserve.txt > $(KSERVE)/constraints.txt
	$(KSERVE)/bin/python -m pip --disable-pip-version-check install --quiet --upgrade pip
	$(KSERVE)/bin/python -m pip --disable-pip-version-check install --quiet --constraint $(KSERVE)/constraints.txt \
	  --editable '.[emulator]' kserve pytest pytest-timeout
	touch $@
