# Every target does all its own set-up in .venv and can be run again.
PYTHON ?= python3
PY := .venv/bin/python
RUN := $(PY) cli.py
# Every file of a package must have one of the SHA-256 that supply/hashed lists. Packages that come as source are built by
# what is installed, as pip would fetch other builders without looking at their hashes.
INSTALL := -m pip install --quiet --require-hashes --no-build-isolation -r supply/hashed

export TF_CPP_MIN_LOG_LEVEL ?= 2

# Two workers that each take whole files, in the order of tests/conftest.py.
WORKERS := --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo app demo-slide test test-without-onednn test-long hashes licences sbom audit

.venv/installed: supply/hashed/requirements.txt supply/hashed/build.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Python 3.11 is needed: make PYTHON=python3.11")'
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) $(INSTALL)/build.txt
	$(PY) $(INSTALL)/requirements.txt
	touch $@

.venv/installed-app: .venv/installed supply/hashed/requirements-app.txt
	$(PY) $(INSTALL)/requirements-app.txt
	touch $@

.venv/installed-slides: .venv/installed supply/hashed/requirements-slides.txt
	$(PY) $(INSTALL)/requirements-slides.txt
	touch $@

.venv/installed-scale: .venv/installed supply/hashed/requirements-scale.txt
	$(PY) $(INSTALL)/requirements-scale.txt
	touch $@

.venv/installed-gpu: .venv/installed supply/hashed/requirements-gpu.txt
	@nvidia-smi -L || { echo "GPU=1 needs an NVIDIA GPU and its driver: see docs/gpu.md." >&2; exit 1; }
	$(PY) $(INSTALL)/requirements-gpu.txt
	touch $@

.venv/installed-dev: .venv/installed-app .venv/installed-slides .venv/installed-scale supply/hashed/requirements-dev.txt
	$(PY) $(INSTALL)/requirements-dev.txt
	touch $@

# With GPU=1 the demo installs CUDA's libraries too, and stops where TensorFlow sees no GPU.
GPU_WANTED := $(filter-out 0,$(GPU))

# The complete path on synthetic tissue: three runs, their calibration and evaluation, one SavedModel, a few answers.
# The specialists keep carci's trunk frozen, so they bear twice its rate; invis, the hardest question, learns longer.
demo: SHORT = --lr-steps 20 --precision auto
demo: RUNS = --carci runs/demo/carci --norbe runs/demo/norbe --invis runs/demo/invis
demo: CALIBRATED = --calibrated runs/demo/calibration.json
demo: .venv/installed$(if $(GPU_WANTED),-gpu)
	$(if $(GPU_WANTED),$(RUN) doctor --gpu || test $$? -eq 1)
	$(RUN) train --node carci --config phantom --run-dir runs/demo/carci $(SHORT) --overwrite
	$(RUN) train --node norbe --config phantom --init runs/demo/carci --run-dir runs/demo/norbe $(SHORT) --overwrite \
	  --lr 0.02
	$(RUN) train --node invis --config phantom --init runs/demo/carci --run-dir runs/demo/invis $(SHORT) --overwrite \
	  --lr 0.02 --cycle-epochs 9
	$(RUN) calibrate $(RUNS) --out runs/demo/calibration.json --overwrite
	$(RUN) evaluate $(RUNS) $(CALIBRATED) --config phantom --out runs/demo
	$(RUN) verify-result runs/demo
	$(RUN) export $(RUNS) $(CALIBRATED) --out saved_models/demo/1 --overwrite
	$(PY) -m datasets.phantom runs/demo/images
	$(RUN) predict --model saved_models/demo/1 runs/demo/images
	@echo "The page is runs/demo/report.html, the model saved_models/demo/1."

# The page to drop images into, with the demo's model, which is made where it is not there.
app: .venv/installed-app
	test -f saved_models/demo/1/saved_model.pb || $(MAKE) demo
	$(RUN) app --model saved_models/demo/1

# A phantom of a whole slide with known classes by place, its maps, and how much of its area they have right.
demo-slide: .venv/installed-slides
	test -f saved_models/demo/1/saved_model.pb || $(MAKE) demo
	mkdir -p runs/demo-slide
	$(PY) -m datasets.phantom_slide runs/demo-slide/phantom.tiff
	$(RUN) slide --model saved_models/demo/1 --regions runs/demo-slide/phantom.geojson --out runs/demo-slide --overwrite \
	  runs/demo-slide/phantom.tiff

test: .venv/installed-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pytest -m "not long" $(WORKERS)

# The tests of whatever computes with the network, run again without oneDNN, which some processors and builds lack.
test-without-onednn: .venv/installed-dev
	TF_ENABLE_ONEDNN_OPTS=0 $(PY) -m pytest -m "not long" $(WORKERS) \
	  tests/network tests/serving tests/bach_keras/test_hierarchy.py

test-long: .venv/installed-dev
	$(PY) -m pytest -m long

# What the project is made of; docs/supply.md says more. The tools have an environment of their own.
SUPPLY := .venv/supply/bin/python

.venv/supply/installed: supply/hashed/requirements-supply.txt
	test -x $(SUPPLY) || $(PYTHON) -m venv .venv/supply
	$(SUPPLY) $(INSTALL)/requirements-supply.txt
	touch $@

hashes: .venv/supply/installed
	$(SUPPLY) -m supply.hashes

licences: .venv/installed-dev
	$(PY) -m supply.licences

sbom: .venv/installed .venv/supply/installed
	$(SUPPLY) -m supply.bill $(PY)

# Asks a service on the internet for each package.
audit: .venv/supply/installed
	.venv/supply/bin/pip-audit --strict --require-hashes --disable-pip $(addprefix -r supply/hashed/requirements-,\
	  dev.txt gpu.txt supply.txt)
