# mm_fusion: `make demo` sets everything up and shows it working; `make test` proves it.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test fuzz lint format docs train pins clean distclean

# Another environment's variables would lead ours to foreign libraries. A sourced ROS 2 Jazzy whose
# rclpy the chosen Python imports is used, and only then its variables stay.
unexport PYTHONHOME VIRTUAL_ENV
PYTHON_FOUND = $(shell PYTHON='$(PYTHON)' scripts/find_python.sh)
ifeq ($(ROS_DISTRO),jazzy)
SOURCED := $(shell '$(PYTHON_FOUND)' -c 'import rclpy' 2>/dev/null && echo yes)
endif
ifneq ($(SOURCED),yes)
unexport PYTHONPATH
ifneq ($(ROS_DISTRO)$(AMENT_PREFIX_PATH)$(_ROS_WHEELS_BOOTSTRAP_COMPLETE),)
unexport AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH LD_LIBRARY_PATH ROS_DISTRO ROS_VERSION
endif
endif
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE

BIN := .venv/bin
SET_UP = python=$$(PYTHON='$(PYTHON)' scripts/find_python.sh) && "$$python" scripts/set_up.py

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
	    || sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1  \2/p' $(MAKEFILE_LIST)

setup: ## the environment in .venv (seconds when nothing changed); PYTHON=... chooses the Python
	@$(SET_UP)

demo: setup ## the whole road on a simulated drive, or on BAG=<path>, with DETECTOR= MODEL=; in out/demo
	@$(BIN)/mm_fusion demo $(if $(BAG),--bag '$(BAG)') $(if $(DETECTOR),--set 'detector=$(DETECTOR)') \
	    $(if $(MODEL),--set 'model=$(MODEL)') $(ARGS)

test: ## set-up with the test tools, then every test; ARGS='-k word' for some
	@$(SET_UP) --with test --with training
	@$(BIN)/python -m pytest $(ARGS)

fuzz: ## 100 000 tampered messages of every type against the decoders; prints JSON
	@$(SET_UP) --with test
	@$(BIN)/python scripts/fuzz_wire.py $(ARGS)

lint: ## only the linters and the laws of the house
	@$(SET_UP) --with test
	@$(BIN)/python -m pytest -q test/test_lint.py test/test_layering.py test/test_docs.py

format: ## bring the code into shape
	@$(SET_UP) --with test
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: setup ## write config/fusion.yaml and the README's table from the parameters
	@$(BIN)/python scripts/generate_docs.py

train: ## train the network in the simulator; ARGS='--help' for the options
	@$(SET_UP) --with training
	@$(BIN)/mm_fusion train $(ARGS)

pins: ## resolve the versions of all dependencies anew; ARGS=--upgrade moves them on
	@scripts/pin.sh $(ARGS)

clean: ## remove what builds and runs left, keep .venv
	@rm -rf build install log out mm_fusion.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean ## remove .venv too
	@rm -rf .venv .set-up.lock
