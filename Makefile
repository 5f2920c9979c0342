# One environment, made from the pins; every target makes it first if it is missing.
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)

.PHONY: reproduce test data lab clean

reproduce: .venv/installed            ## everything: train, measure, draw, report
	dvc --wait-for-lock repro heartbeat & dvc --wait-for-lock repro swiss_roll; wait # each on a core of its own
	dvc repro
	@echo "Open reports/index.html"

test: .venv/installed                 ## unit tests and every notebook
	NONEQUILIBRIUM_QUIET=1 OMP_NUM_THREADS=1 pytest tests --cov
	NONEQUILIBRIUM_QUIET=1 OMP_NUM_THREADS=1 pytest --nbval notebooks

data: .venv/installed                 ## MNIST and CIFAR-10, from their public addresses or NONEQUILIBRIUM_MIRROR
	python -m nonequilibrium data

lab: .venv/installed                  ## the notebooks in JupyterLab
	jupyter lab --notebook-dir=notebooks

clean:                                ## back to a bare clone, but for the environment
	git clean -fdX -e '!/.venv'

.venv/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c "import sys; v = sys.version_info; v >= (3, 11, 5) or sys.exit('error: %s is Python %d.%d.%d; the pins need 3.11.5 or later, named by: make PYTHON=…' % (sys.executable, *v[:3]))"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
