# Everything here works from a clean clone on Debian 12 with python3, python3-venv, make and git.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Pins every installation, build requirements included. Older pip knows only the first name, newer pip binds a build
# only through the second.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

# Real servers, a browser and network tools for the tests; each line says what for.
APT := \
	bind9-dnsutils \
	chromium \
	curl \
	dnsmasq-base \
	docker-compose \
	fping \
	gcc \
	influxdb \
	iperf3 \
	iproute2 \
	iputils-ping \
	iputils-tracepath \
	irtt \
	libc6-dev \
	mosquitto \
	nftables \
	nginx \
	systemd \
	udhcpc \
	util-linux \
	victoria-metrics
# For `make test-long`: virtual machines, one whose power is cut and one with emulated radios. Their kernel is not among
# them: the test downloads that package and unpacks it into pytest's cache, so this machine never boots it.
APT_LONG := \
	busybox-static \
	cpio \
	debootstrap \
	e2fsprogs \
	hostapd \
	iw \
	kmod \
	qemu-system-x86 \
	wpasupplicant

SUITES := throughput gates reflector latency dns_web video simulator rollup encode ingest footprint nothing_lost backpressure statistics grafana wifi isolation report upgrade verdicts

.PHONY: help up test test-long check bench deb lint apt apt-long clean
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

up: $(VENV)/.up ## the whole system on this machine, with a live page (options: ARGS="--port 8081")
	@exec $(BIN)/wanggan up --state .state $(ARGS)

# Four at once: most of a test is waiting. What stays together is in tests/conftest.py.
test: $(VENV)/.dev apt lint ## everything but the slow suites; installs missing packages when root
	@tests/run.sh $(BIN)/pytest $(ARGS)

test-long: $(VENV)/.dev apt apt-long ## the slow suites: power cuts in a virtual machine, kill campaigns
	@$(BIN)/pytest -q -m long $(ARGS)

check: $(VENV)/.dev lint ## format, types, import rules, dashboards, documentation, the wheel
	@$(BIN)/python -m grafana.generator --check
	@$(BIN)/pytest -q tests/test_house.py tests/test_docs.py tests/test_wheel.py

bench: $(VENV)/.dev apt ## the figures of docs/benchmarks.md (one of them: SUITES=ingest)
	@for suite in $(SUITES); do echo "== $$suite"; $(BIN)/python -m bench.$$suite $(ARGS) || exit 1; done

deb: ## the agent as a Debian package, for this release and architecture: dist/*.deb
	@deploy/debian/build.sh

lint: $(VENV)/.dev
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/mypy --no-error-summary -p grafana.generator
	@$(BIN)/lint-imports --no-cache > $(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log; exit 1; }

clean: ## remove the virtual environment and what `make up` stored
	rm -rf $(VENV) .state build dist

# Stamps: nothing is asked of the network again until a requirement changes.
$(BIN)/pip:
	@command -v $(PYTHON) > /dev/null && $(PYTHON) -c 'import ensurepip, venv' 2> /dev/null \
		|| { echo 'Python 3.11 or later with venv is missing; run: apt-get install python3 python3-venv' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$$($(PYTHON) --version) is too old; Wanggan needs 3.11 or later (make PYTHON=...)" >&2; exit 1; }
	@echo 'making a virtual environment in $(VENV)' >&2
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.up: $(BIN)/pip pyproject.toml constraints.txt
	@echo 'installing Wanggan into $(VENV) (a minute or two, once)' >&2
	@$(BIN)/pip install --quiet --editable '.[agent,server]'
	@touch $@

$(VENV)/.dev: $(BIN)/pip pyproject.toml constraints.txt
	@echo 'installing Wanggan and its test tools into $(VENV) (a minute or two, once)' >&2
	@$(BIN)/pip install --quiet --editable '.[agent,server,report,dev]'
	@touch $@ $(VENV)/.up

apt:
	@tests/packages.sh $(APT)

apt-long:
	@tests/packages.sh $(APT_LONG)
