# Everything a checkout can do. `make` alone lists the targets; the first one you use makes .venv.

PYTHON    ?= python3
LAB_ARGS  ?=
TEST_ARGS ?=
TEST_JOBS ?= 2
COPIES    := work
CHAPTERS  ?= notebooks/*.ipynb $(wildcard notebooks/solutions/*.ipynb)

BIN   := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help lab test train course html check clean clean-generated

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# In copies, so that working through the course leaves the tracked notebooks unchanged.
lab: $(READY) ## open copies of the notebooks, in work/, in JupyterLab
	@$(BIN)/python -m hintpose_lite.runs.copies notebooks $(COPIES)
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/$(COPIES)/00_setup_check.ipynb \
	    $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_ARGS)

# pytest comes last, in one call, so that its summary is the last line.
# One thread per worker: two single-thread jobs finish sooner than two that share their threads.
# loadscope keeps a notebook's cells, and all tests in the browser, on one worker.
test: $(READY) ## lint the code, run the tests and the notebooks
	$(BIN)/ruff check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(TEST_JOBS) --dist loadscope \
	    --nbval --nbval-current-env --nbval-sanitize-with tests/notebooks/sanitize.cfg \
	    tests notebooks $(TEST_ARGS)

train: $(READY) ## make crowd scenes, train the four variants on them, evaluate, print their table
	$(BIN)/hintpose study --preset crowd-quick --out runs/crowd-quick

# Neither times nor the state of widgets are stored: they would differ after every run.
course: $(READY) ## run all notebooks again and store their outputs (CHAPTERS="..." for some)
	OMP_NUM_THREADS=1 $(BIN)/jupyter nbconvert --to notebook --execute --inplace \
	    --ExecutePreprocessor.record_timing=False --ExecutePreprocessor.store_widget_state=False \
	    $(CHAPTERS)

html: $(READY) ## make web pages of the notebooks and their stored outputs, in build/html
	rm -rf build/html
	$(BIN)/python notebooks/build_site.py notebooks build/html

check: $(READY) ## check the environment, line by line
	$(BIN)/hintpose check

clean: $(READY) ## remove generated runs and data, after showing them and asking
	$(BIN)/hintpose clean

clean-generated: clean ## the same

# Written only after the installation has succeeded, so a broken one is taken up again.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "error: '$(PYTHON)' is not a Python 3.11 or newer."; \
	    echo "       Install one, or name it: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || { \
	    echo "error: '$(PYTHON)' comes without the venv module."; \
	    echo "       On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install -e '.[lab,test]'
	@touch $@
