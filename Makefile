# make demo   the paper in miniature on a CPU, from nothing (runs/demo.sh)
# make test   all tests, from nothing
# Both set up .venv first. PYTHON=python3.12 make demo chooses the interpreter (3.10 or later).
PYTHON ?= python3
export PIP_DISABLE_PIP_VERSION_CHECK = 1

demo: .venv/installed-demo
	PATH="$(CURDIR)/.venv/bin:$$PATH" bash runs/demo.sh

test: .venv/installed-dev
	.venv/bin/python -m pytest -q tests

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed, and " + sys.executable + " is " + sys.version.split()[0] + ": PYTHON=python3.12 make $(MAKECMDGOALS)")'
	$(PYTHON) -m venv .venv
	@echo "installing torch and the other packages into .venv: about a minute, with the CUDA libraries of pip's default for Linux several GB"
	.venv/bin/python -m pip install -q -r requirements.txt
	touch $@

.venv/installed-demo: .venv/installed
	.venv/bin/python -m pip install -q "matplotlib>=3.8"
	touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	.venv/bin/python -m pip install -q -r requirements-dev.txt
	touch $@

.PHONY: demo test
