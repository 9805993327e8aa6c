# `make demo`   the bundled model on a bundled scene: keypoints, and the bytes that stayed on the device
# `make test`   the tests (no GPU needed: the kernels run on the CPU)
# `make bench`  decoder, floors and peers on this machine: a table, JSON, an HTML report
# All make .venv on first use and work offline from then on.

PYTHON ?= python3
VENV ?= .venv

# An NVIDIA driver that answers gets CuPy for its CUDA version and onnxruntime-gpu; other machines the CPU packages.
# The tests want CuPy everywhere: it compiles the kernels, which takes no GPU.
comma := ,
GPU := $(shell nvidia-smi -L 2>/dev/null | grep -m 1 -o GPU)
CUDA := $(if $(shell nvidia-smi 2>/dev/null | grep -o 'CUDA[A-Za-z ]*Version: *12'),cuda12,cuda13)
RUN_EXTRAS := $(if $(GPU),ort-gpu$(comma)$(CUDA),ort)
FOR_CUDA12 := $(if $(GPU),$(if $(filter cuda12,$(CUDA)),'onnxruntime-gpu<1.27'))# later ones are built for CUDA 13
INSTALL = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(FOR_CUDA12) --editable

.PHONY: demo test bench lint clean

demo: $(VENV)/.demo
	$(VENV)/bin/posepost demo -o demo

test: $(VENV)/.test
	$(VENV)/bin/python -m pytest -q -n auto

bench: $(VENV)/.bench
	$(VENV)/bin/python -m bench.run -o bench-results

lint: $(VENV)/.lint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check posepost tests bench examples
	$(VENV)/bin/mypy posepost
	$(VENV)/bin/clang-format --dry-run -Werror kernels/*.cu kernels/*.cuh

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: setup.cfg | $(VENV)/bin/python
	$(INSTALL) '.[$(RUN_EXTRAS)]'
	touch $@

$(VENV)/.test: setup.cfg | $(VENV)/bin/python
	$(INSTALL) '.[test,$(CUDA),$(RUN_EXTRAS)]'
	touch $@

$(VENV)/.bench: setup.cfg | $(VENV)/bin/python
	$(INSTALL) '.[bench,$(CUDA),$(RUN_EXTRAS)]'
	touch $@

$(VENV)/.lint: setup.cfg | $(VENV)/bin/python
	$(INSTALL) '.[lint]'
	touch $@

clean:
	rm -rf $(VENV) demo build dist
