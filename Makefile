# Everything on a fresh Debian or Ubuntu with Python 3.11 or newer: what is missing is installed or named.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
# Most tests wait for real processes: more workers than cores pay off.
WORKERS ?= 4

help:  ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 10

$(READY): requirements.lock pyproject.toml scripts/make-venv.sh
	@PYTHON=$(PYTHON) sh scripts/make-venv.sh $(VENV)
	@touch $@

demo: $(READY)  ## a bad release, rolled back before your eyes (KEEP=1 stays up afterwards)
	@sh scripts/install-debian.sh prometheus prometheus-alertmanager
	@$(BIN)/python -m examples.demo

stack:  ## the whole of it in containers, with Grafana; needs Docker and Compose
	@sh examples/stack/up.sh

test: $(READY) lint  ## all tests, on real Prometheus, Alertmanager, PostgreSQL, Redis, Docker, nginx, HAProxy and Chromium
	@sh scripts/install-debian.sh prometheus prometheus-alertmanager postgresql redis-server \
		docker.io busybox-static nginx-light haproxy kubernetes-client systemd iproute2 iptables \
		chromium chromium-driver curl
	@$(BIN)/pytest -q -n $(WORKERS)

lint: $(READY)  ## ruff, mypy strict, and the layers of the house
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo >/tmp/lint-imports.$$$$ 2>&1 || { cat /tmp/lint-imports.$$$$; rm -f /tmp/lint-imports.$$$$; exit 1; }; rm -f /tmp/lint-imports.$$$$

bench: $(READY)  ## speed, as ratios against a baseline in the same run
	@sh scripts/install-debian.sh prometheus prometheus-alertmanager webhook wrk kubernetes-client
	@$(BIN)/python -m benchmarks

docs: $(READY)  ## the reference pages and the dashboards, which are made from the code
	@$(BIN)/python -m docs.generate
	@$(BIN)/python -m grafana.generate

PIN := $(BIN)/uv pip compile -q --universal --python-version 3.11 --all-extras --generate-hashes \
	--no-emit-index-url --no-header pyproject.toml

lock:  ## pins every version anew
	@$(BIN)/pip install -q uv
	@$(PIN) --group dev -o requirements.lock
	@echo setuptools | $(PIN) - -c requirements.lock -o requirements.image.lock

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache

.PHONY: help demo stack test lint bench docs lock clean
