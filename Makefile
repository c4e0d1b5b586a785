# For Debian or Ubuntu with Python 3.11 or newer: missing packages are installed.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
# Most tests wait for real processes: more workers than cores pay off.
WORKERS ?= 4

help:  ## list targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 10

$(READY): requirements.lock pyproject.toml scripts/make-venv.sh
	@PYTHON=$(PYTHON) sh scripts/make-venv.sh $(VENV)
	@touch $@

demo: $(READY)  ## deploy a bad release and roll it back (KEEP=1 keeps it running)
	@sh scripts/install-debian.sh prometheus prometheus-alertmanager
	@$(BIN)/python -m examples.demo

stack:  ## start the whole stack in containers, with Grafana; needs Docker and Compose
	@sh examples/stack/up.sh

test: $(READY) lint  ## run lint and all tests on real Prometheus, Alertmanager, PostgreSQL, Redis, Docker, nginx, HAProxy and Chromium
	@sh scripts/install-debian.sh prometheus prometheus-alertmanager postgresql redis-server \
		docker.io busybox-static nginx-light haproxy kubernetes-client systemd iproute2 iptables \
		chromium chromium-driver curl
	@$(BIN)/pytest -q -n $(WORKERS)

lint: $(READY)  ## run ruff, mypy (strict) and import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo >/tmp/lint-imports.$$$$ 2>&1 || { cat /tmp/lint-imports.$$$$; rm -f /tmp/lint-imports.$$$$; exit 1; }; rm -f /tmp/lint-imports.$$$$

bench: $(READY)  ## run benchmarks against a baseline
	@sh scripts/install-debian.sh prometheus prometheus-alertmanager webhook wrk kubernetes-client
	@$(BIN)/python -m benchmarks

docs: $(READY)  ## generate reference pages and dashboards
	@$(BIN)/python -m docs.generate
	@$(BIN)/python -m grafana.generate

PIN := $(BIN)/uv pip compile -q --universal --python-version 3.11 --all-extras --generate-hashes \
	--no-emit-index-url --no-header pyproject.toml

lock:  ## update the pinned versions
	@$(BIN)/pip install -q uv
	@$(PIN) --group dev -o requirements.lock
	@echo setuptools | $(PIN) - -c requirements.lock -o requirements.image.lock

TOOLS := build/tools
$(TOOLS)/.installed: Makefile
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/pip install -q build==1.6.1 cyclonedx-bom==7.5.0
	@touch $@

package: $(TOOLS)/.installed  ## build wheel and source distribution in dist/
	@$(TOOLS)/bin/python -m build

sbom: $(TOOLS)/.installed  ## list the packages of the image in dist/, as CycloneDX
	@$(PYTHON) -m venv --clear --without-pip build/image
	@$(TOOLS)/bin/pip --python build/image/bin/python install -q --no-deps --no-compile --require-hashes -r requirements.image.lock
	@$(TOOLS)/bin/pip --python build/image/bin/python uninstall -q --yes setuptools
	@mkdir -p dist
	@$(TOOLS)/bin/cyclonedx-py environment build/image/bin/python --pyproject pyproject.toml --output-reproducible \
		-o dist/rollback-responder.cdx.json

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache

.PHONY: help demo stack test lint bench docs lock package sbom clean
