# make demo     set everything up, train a folder of drawn parts, export the shipped NEU model to int8, prove parity, classify
# make test     set everything up, check style, types and layers, run the tests in two processes (make WORKERS= test: in one)
# make test-system   test against real cameras, brokers and browsers on loopback; as root it installs them by apt
# make test-home-assistant   run a camera before a real Home Assistant, in an environment of its own; needs Python 3.13 and mosquitto
# make test-faults   test hostile files, kills, full disks, hostile visitors and an hour at full speed; writes docs/reference/reliability.md
# make LOCKED=1 demo|test   the same with every package by its SHA-256 (requirements/locked.txt, from requirements/lock.sh)
# make test-arm   install the wheel in an emulated ARM64 Debian and compare it with this machine; as root, writes docs/reference/arm.md
# make test-vm    run a camera in an emulated ARM64 machine with 512 MB and a V4L2 device; as root, writes docs/reference/arm.md
# make count-arm  count ARM instructions again after a model or the reader was replaced; as root, writes tests/arm/*.json
# make MODELS="FILE ..." count-arm   count those of other exported models, and print them
# make bench    compare with other ways of classifying a video, each in an environment of its own; writes docs/reference/benchmarks.md
#               PEERS="edgecnn reader_d5a7022" make bench   the same without what must be downloaded by the gigabyte
# make docs     build the documentation's site in build/site, and execute its notebook
# make pictures make the pictures of README and docs again; needs Chromium (apt install chromium chromium-driver)
# make dist     build wheel and sdist into dist/, and prove them in a fresh environment
# make models   train the shipped models again on the real data (about an hour on two cores), and leave neu's lite in exports/neu-lite
PYTHON ?= python3
PYTHON313 ?= python3.13
VENV ?= .venv
WORKERS ?= 2
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Where no real pictures are known, the demo runs on synthetic ones, and says so.
DEMO_DATA := $(if $(wildcard $(EDGECNN_DATA)/neu),,--data synthetic)

.PHONY: demo test docs pictures dist bench test-system test-home-assistant test-faults test-arm test-vm count-arm models lint clean help

help:
	@sed -n 's/^# //p' Makefile

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else "edgecnn needs Python 3.11 to 3.13, %s is %d.%d: make PYTHON=python3.11 ..." % (sys.executable, *v))'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv module is missing: apt install python3-venv" >&2; exit 1; }
	@echo "Installing edgecnn with its tools into $(VENV) (TensorFlow is large: a minute or two) ..." >&2
	@$(PYTHON) -m venv $(VENV)
ifdef LOCKED
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/locked.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
else
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
endif
	@touch $@

demo: $(READY)
	@rm -rf demo && mkdir demo
	$(BIN)/edgecnn data generate parts demo/parts --count 20 --seed 7
	$(BIN)/edgecnn train demo/parts --network lite --minutes 0.5 --out demo/parts-run
	$(BIN)/edgecnn export neu --int8 --out demo/neu $(DEMO_DATA)
	$(BIN)/edgecnn verify demo/neu/neu-int8.tflite
	$(BIN)/edgecnn data generate neu demo/pictures --count 1 --seed 7
	$(BIN)/edgecnn classify demo/neu/neu-int8.tflite demo/pictures/* --plot demo/predictions.png
	$(BIN)/edgecnn classify demo/neu/neu-int8.tflite demo/pictures/scratches --where demo/where.png
	$(BIN)/edgecnn data generate mnist demo/digits --count 1 --seed 7
	$(BIN)/edgecnn classify demo/neu/neu-int8.tflite demo/digits/3 --where demo/novel.png
	$(BIN)/edgecnn explain demo/neu/neu-int8.tflite demo/pictures/patches/patches_1.png --out demo/explain.html $(DEMO_DATA)
	$(BIN)/edgecnn filters demo/pictures/crazing/*.png --model neu --out demo/filters.png
	$(BIN)/edgecnn robustness demo/neu/neu-int8.tflite --pictures 60 --plot demo/robustness.png $(DEMO_DATA) > demo/robustness.txt
	@echo "Open demo/parts-run/report.html, demo/neu/parity.html, demo/explain.html, demo/predictions.png, demo/where.png, demo/novel.png, demo/filters.png and demo/robustness.png."

models: $(READY)
	$(BIN)/edgecnn train neu --network compact --epochs 150 --seed 0 --out runs/neu-compact
	$(BIN)/edgecnn export runs/neu-compact/lite --int8 --out exports/neu-lite
	$(BIN)/edgecnn train mnist --network compact --teacher none --seed 0 --out runs/mnist-compact
	$(BIN)/python -m export.tools.ship_models runs/neu-compact runs/mnist-compact

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "Open build/site/index.html."

pictures: $(READY)
	@$(BIN)/python -c 'import selenium' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[system]'
	$(BIN)/python docs/pictures/make_pictures.py

dist: $(READY)
	@rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(PYTHON) tests/packaging/prove.py dist

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest $(if $(WORKERS),-n $(WORKERS) --dist loadfile --no-loadscope-reorder)

test-system: $(READY)
	@tests/system/install.sh
	@$(BIN)/python -c 'import selenium' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[system]'
	$(BIN)/python -m pytest tests/system

test-home-assistant: $(READY)
	@tests/home_assistant/install.sh $(PYTHON313) build/home-assistant
	EDGECNN_HOME_ASSISTANT=build/home-assistant/bin/python $(BIN)/python -m pytest tests/home_assistant

test-faults: $(READY)
	EDGECNN_RELIABILITY=docs/reference/reliability.md $(BIN)/python -m pytest tests/faults

test-arm: $(READY)
	@tests/arm/install.sh userland
	EDGECNN_ARM_PAGE=docs/reference/arm.md $(BIN)/python -m pytest tests/arm --ignore tests/arm/test_arm_machine.py

test-vm: $(READY)
	@tests/arm/install.sh machine
	EDGECNN_ARM_PAGE=docs/reference/arm.md $(BIN)/python -m pytest tests/arm/test_arm_machine.py

count-arm: $(READY)
	@tests/arm/install.sh userland
	PYTHONPATH=tests/edgecnn $(BIN)/python tests/arm/arm_counts.py $(MODELS)
	$(if $(MODELS),,PYTHONPATH=tests/edgecnn:. $(BIN)/python tests/arm/arm_digit_frames.py)

bench: $(READY)
	@benchmarks/setup.sh
	$(BIN)/edgecnn export neu --int8 --out build/bench --unproven
	$(BIN)/python -m benchmarks.report build/bench docs/reference/benchmarks.md

clean:
	rm -rf $(VENV) build dist demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
