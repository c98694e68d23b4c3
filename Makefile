# Set-up, demo, tests and the MLflow UI. Every target that needs the environment makes it first.
PYTHON ?= python3.11
BIN := .venv/bin
UV := $(shell command -v uv 2>/dev/null)
PORT ?= 5000
# MLflow opens on its page for language models; this is the one for training runs.
RUNS := 127.0.0.1:$(PORT)/\#/experiments/1/runs?workflowType=machine_learning

.PHONY: help setup demo test test-unit lint bench ui server lock clean

help:
	@echo "make setup      the environment, in .venv"
	@echo "make demo       train a tiny model on digits, sample it, score it, log it to MLflow"
	@echo "make test       all tests (make test-unit: without those that start programs, and most combinations of parts)"
	@echo "make lint       ruff and pyright"
	@echo "make bench      compare speed with peers, on an idle machine (RUN=DIR, DDT=DIR, DEVICE=cuda, WRITE=PAGE)"
	@echo "make ui         the MLflow UI, on port $(PORT)"
	@echo "make server     a tracking server for several machines (HOST, PORT, STORE, AUTH=1)"
	@echo "make lock       pin the requirements anew"

setup: .venv/done

# Byte code is compiled once here: torch then imports in a quarter of the time.
.venv/done: requirements.lock
ifneq ($(UV),)
	$(UV) venv --quiet --clear --python $(PYTHON) .venv
	$(UV) pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.lock
else
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
endif
	@touch $@

demo: .venv/done
	@$(BIN)/python run.py experiment=digits
	@echo "Scores and pictures of all runs: make ui, then open $(RUNS)"

# Three at once on two cores, since many of these tests wait for Slurm or a server.
test: test-unit
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m system --numprocesses 3 --dist loadfile --no-loadscope-reorder

# One thread a process: tiny tensors gain nothing by more, and processes would wait for each other's.
test-unit: .venv/done
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not system" --numprocesses auto

lint: .venv/done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# The table goes to the terminal, and with WRITE=FILE between its marks in a page.
DEVICE ?= cpu
bench: .venv/done
	$(BIN)/python -m benchmarks --device $(DEVICE) $(if $(RUN),--run $(RUN)) $(if $(DDT),--ddt $(DDT)) \
		$(if $(WRITE),--write $(WRITE))

ui: .venv/done
	@echo "Open $(RUNS)"
	MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
		$(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port $(PORT) --workers 1

# A tracking server for several machines. HOST=0.0.0.0 opens it to them, and AUTH=1 asks for user and password
# (MLflow's basic authentication; its first user is admin with MLFLOW_AUTH_ADMIN_PASSWORD).
HOST ?= 127.0.0.1
STORE ?= sqlite:///mlflow.db
ARTIFACTS ?= mlartifacts
# Names by which other machines call it, login1:5000 say; private addresses are allowed without.
ALLOWED ?= $(if $(filter 0.0.0.0,$(HOST)),$(shell hostname):$(PORT))
SECRET := $(or $(MLFLOW_FLASK_SERVER_SECRET_KEY),$(shell head -c 32 /dev/urandom | sha256sum | head -c 64))
server: .venv/done
	@echo "The tracking server is at port $(PORT) of $(if $(filter 0.0.0.0,$(HOST)),$(shell hostname),$(HOST))"
	@MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
		MLFLOW_FLASK_SERVER_SECRET_KEY=$(SECRET) \
		$(BIN)/mlflow server --backend-store-uri $(STORE) --artifacts-destination $(ARTIFACTS) \
		--host $(HOST) --port $(PORT) --workers 1 $(if $(AUTH),--app-name basic-auth) \
		$(if $(ALLOWED),--allowed-hosts $(ALLOWED))

lock:
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade \
		--no-emit-index-url --generate-hashes --output-file requirements.lock

clean:
	rm -rf .venv .pytest_cache .ruff_cache
