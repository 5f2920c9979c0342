# One environment, made from the pins; every target makes it first if it is missing.
PYTHON ?= python3
export OUTSIDE := $(PATH)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
COMMANDS := dvc papermill jupyter "jupyter lab" "jupyter nbconvert" nonequilibrium
TOOLS := pytest ruff mypy
WAIT := dvc --wait-for-lock repro --single-item

.PHONY: reproduce test library workshop units cells same bench data lab clean again

reproduce: .venv/installed            ## everything: train, measure, draw, report
	dvc repro --quiet code             # read by all others, of which two run at once, each on a core
	$(WAIT) train@heartbeat train@swiss_roll_wide --force && $(WAIT) measure@heartbeat & \
	$(WAIT) train@swiss_roll --force; wait
	dvc repro measure theory restorations
	dvc stage list --name-only | grep ^subject | xargs -n 1 -P 2 $(WAIT)
	dvc repro
	@echo "Open reports/index.html"

test: .venv/testing                   ## unit tests and every notebook, on two cores
	$(MAKE) --keep-going --jobs=2 library cells workshop

TEST := NONEQUILIBRIUM_QUIET=1 OMP_NUM_THREADS=1 pytest

library workshop: .venv/testing       ## the unit tests of each
	$(TEST) tests/$(subst workshop,replication,$@)

cells: .venv/testing                  ## every cell of the notebooks
	$(TEST) --nbval notebooks

units: .venv/testing                  ## all unit tests, with the lines that they reach
	$(TEST) tests --cov

same: .venv/testing                   ## quick metrics of everything, compared with kept ones
	NONEQUILIBRIUM_QUIET=1 OMP_NUM_THREADS=1 python tests/same.py

bench: .venv/testing                  ## what it all costs, forty minutes: reports/benchmarks.json
	NONEQUILIBRIUM_QUIET=1 python -m benchmarks

data: .venv/installed                 ## MNIST, CIFAR-10 and bark, verified
	python -m replication data

lab: .venv/installed                  ## the notebooks in JupyterLab
	jupyter lab --notebook-dir=notebooks

clean:                                ## back to a bare clone, but for the environment
	@command -v git > /dev/null && test -e .git \
		|| { echo "error: make clean needs git and a clone"; exit 1; }
	git clean -fdX -e '!/.venv'

# The marker holds the folder's name and is written last, after every command here has answered. In
# another folder, or after its Python has gone, the environment is made anew from nothing.
WHOLE := $(shell test "$$(cat .venv/installed 2>&1)" = "$$(pwd -P)" \
	&& .venv/bin/python -c "" 2>&1 && echo yes)
TOO_OLD := error: %s is Python %d.%d.%d; the pins need 3.11.5 or later, named by: make PYTHON=…
PIP := .venv/bin/python -m pip install --quiet --disable-pip-version-check

# Whether each command answers, as one that a broken installation left behind does not.
define ANSWERS
for command in $(1); do \
	words=$$(test "$${command#* }" = "$$command" || echo "$${command#* }"); \
	".venv/bin/$${command%% *}" $$words --help > .venv/answer 2>&1 \
		|| { cat .venv/answer; echo "error: $$command does not answer; make again"; exit 1; }; \
done
endef

.venv/installed: requirements.txt pyproject.toml $(if $(filter yes,$(WHOLE)),,again)
	@PATH="$$OUTSIDE"; $(PYTHON) -c "import sys; v = sys.version_info; \
		v >= (3, 11, 5) or sys.exit('$(TOO_OLD)' % (sys.executable, *v[:3]))"
	PATH="$$OUTSIDE"; $(PYTHON) -m venv --clear .venv
	$(PIP) -r requirements.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	@$(call ANSWERS,$(COMMANDS))
	@test -e .git || .venv/bin/dvc config --local core.no_scm true  # an archive: dvc without git
	@pwd -P > .venv/installed

.venv/testing: .venv/installed requirements-test.txt
	$(PIP) -r requirements-test.txt
	@( $(call ANSWERS,$(TOOLS)) ) || { rm .venv/installed; exit 1; }
	@touch .venv/testing
