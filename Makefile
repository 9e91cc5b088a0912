# make demo   plans a virtual prostate patient into demo/
# make test   runs all tests
# Both set up a virtual environment first. Python 3.11 or later; another one with PYTHON=python3.12.
PYTHON ?= python3.11
VENV := .venv
INSTALLED := $(VENV)/.installed
READY := $(VENV)/.ready
INSTALL = $(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable

.PHONY: demo test check bench validate clean

demo: $(INSTALLED)
	$(VENV)/bin/deeprt plan virtual:prostate --beams 7 --out demo --overwrite
	@echo "Open demo/report.html; the DICOM study lies beside it."

# One thread a process: the tensors of tests are so small that threads wait for each other longer than they work.
test: $(READY)
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n auto --maxprocesses 8 --dist loadfile

check: $(READY)
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" .ci/check.sh

bench: $(READY)
	$(VENV)/bin/python Testing/Benchmarks/planning.py

validate: $(READY)
	for each in dvh_accuracy existing_plans against_pydosert against_pyradplan against_pymedphys; do \
	    $(VENV)/bin/python Testing/Benchmarks/$$each.py || exit 1; done

clean:
	rm -rf $(VENV) demo

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(INSTALL) .
	@touch $@

$(READY): $(INSTALLED)
	$(INSTALL) ".[test,mrml,panels]"
	@touch $@
