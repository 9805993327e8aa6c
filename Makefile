# `make demo`   the bundled model on a bundled scene: keypoints, and the bytes that stayed on the device
# `make test`   the tests (no GPU needed: the kernels run on the CPU)
# Both make .venv on first use and work offline from then on.

PYTHON ?= python3
VENV ?= .venv

# An NVIDIA driver that answers gets CuPy for its CUDA version and onnxruntime-gpu; other machines the CPU packages.
# The tests want CuPy everywhere: it compiles the kernels, which takes no GPU.
DRIVER_CUDA := $(shell nvidia-smi 2>/dev/null | sed -n 's/.*CUDA Version: *\([0-9]*\).*/\1/p')
CUDA := $(if $(filter 12,$(DRIVER_CUDA)),cuda12,cuda13)
comma := ,
RUN_EXTRAS := $(if $(DRIVER_CUDA),ort-gpu$(comma)$(CUDA),ort)
INSTALL = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable

.PHONY: demo test lint clean

demo: $(VENV)/.demo
	$(VENV)/bin/posepost demo -o demo

test: $(VENV)/.test
	$(VENV)/bin/python -m pytest -q

lint: $(VENV)/.lint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy posepost

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: setup.cfg | $(VENV)/bin/python
	$(INSTALL) '.[$(RUN_EXTRAS)]'
	touch $@

$(VENV)/.test: setup.cfg | $(VENV)/bin/python
	$(INSTALL) '.[test,$(CUDA),$(RUN_EXTRAS)]'
	touch $@

$(VENV)/.lint: setup.cfg | $(VENV)/bin/python
	$(INSTALL) '.[lint]'
	touch $@

clean:
	rm -rf $(VENV) demo build dist
