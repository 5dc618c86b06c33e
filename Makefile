# Every target sets up what it needs in .venv; nothing else has to be installed first
# but Python >= 3.11, git and make.

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --quiet --disable-pip-version-check
MADE := $(VENV)/.made
ARGS ?=

.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help venv test demo load lint bench bench-logs smoke matrix django-suite fetched clean FORCE

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(VENV)/.group-test $(VENV)/.group-lint $(VENV)/.group-bench ## the virtual environment with all tools

test: $(VENV)/.group-test ## all tests with coverage, or some: make test ARGS="-k probe -x"
	$(PY) -m coverage erase
	$(PY) -m coverage run -m pytest $(ARGS)
	if ls .coverage.* >/dev/null 2>&1; then $(PY) -m coverage combine --append --quiet; fi
	$(PY) -m coverage report $(if $(ARGS),--fail-under=0)

demo: $(VENV)/.group-example ## the example project: its failures, what is reported, its fixes
	$(PY) example_project/demo.py

load: $(VENV)/.group-test ## the example project under load, on PostgreSQL; shorter: make load ARGS=--short
	$(PY) -m tests.load $(ARGS)

lint: $(VENV)/.group-test $(VENV)/.group-lint ## ruff, ruff format, mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

bench: $(VENV)/.group-bench ## what it costs, beside other tools
	$(PY) -m benchmarks $(ARGS)

bench-logs: $(VENV)/.group-bench ## reading logs back, beside a loop and jq
	$(PY) -m benchmarks.logs $(ARGS)

smoke: $(VENV)/.group-test ## the built wheel in an environment of its own
	.ci/run smoke

matrix: $(VENV)/.group-test ## the tests on the newest pair of Python and Django
	.ci/run newest

django-suite: $(VENV)/.group-test ## Django's own tests under resume: make django-suite ARGS="--ci"
	$(PY) -m tests.django_suite $(ARGS)

clean: ## remove caches, coverage data and builds; .venv stays
	rm -rf build dist htmlcov .coverage .coverage.* coverage.xml
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)*' -prune -exec rm -rf {} +

# What the tests check reports with comes from npm, file by file: nothing is installed and nothing runs.
fetched: .npm/axe.min.js .npm/sarif-2.1.0.schema.json ## what the tests check reports with (needs npm)

.npm/axe.min.js: Makefile
	$(call fetch,axe-core@4.14.1,axe.min.js)

.npm/sarif-2.1.0.schema.json: Makefile
	$(call fetch,@microsoft/sarif-multitool-ts@5.7.0,assets/sarif-2.1.0.schema.json)

fetch = mkdir -p .npm && tar xzOf ".npm/$$(cd .npm && npm pack --silent $(1))" package/$(2) >$@ && touch $@ && rm .npm/*.tgz

# .made holds the path it was made at, and is written last: an environment that is half-made, was
# moved, or lost its Python is put right, and every group installed again.
ifneq ($(shell $(PY) -c 'import pip' 2>/dev/null && cat $(MADE) 2>/dev/null),$(CURDIR))
$(MADE): FORCE
endif

$(MADE):
	@if ! $(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || ! $(PIP) --version >/dev/null 2>&1; then \
	    for python in python3 python3.14 python3.13 python3.12 python3.11 ''; do \
	        test -n "$$python" || break; \
	        $$python -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	        $$python -c 'import ensurepip' 2>/dev/null && pip= && break; \
	        $$python -c 'import pip' 2>/dev/null && pip=--without-pip && break; \
	    done; \
	    if test -z "$$python"; then \
	        echo "async_guard needs Python 3.11 or newer with venv (Debian, Ubuntu: apt install python3-venv); none was found." >&2; \
	        exit 1; \
	    fi; \
	    echo "Making $(VENV) with $$($$python --version)"; \
	    rm -rf $(VENV) && $$python -m venv $$pip $(VENV) || exit; \
	    test -z "$$pip" || $$python -m pip --python $(PY) install --quiet pip; \
	fi
	@$(PIP) install 'pip>=25.1'
	@printf '%s\n' '$(CURDIR)' >$@

$(VENV)/.group-%: pyproject.toml $(MADE)
	$(PIP) install --editable '.[strawberry]' --group $*
	@touch $@
