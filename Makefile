# Two commands are all there is to know: `make gameday` and `make test`.
# Both set everything up by themselves, as root or as an ordinary user.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
RATE   ?=
DEFECT ?=
PLAN   ?= experiments/gamedays/lab.yaml
BENCH  ?=

.PHONY: gameday test bench selftest fuzz lint mutants tampering trips storm orphans refusals clean setup
.DEFAULT_GOAL := gameday

gameday: $(VENV)/.lab  ## run the whole game day on the lab
	@$(BIN)/harness run $(PLAN) --target lab $(if $(RATE),--rate $(RATE)) $(if $(DEFECT),--defect $(DEFECT))

# Three at once: what needs a whole lab, what mostly computes, and the rest, which mostly waits. A
# whole lab goes first where there is not enough for all: who waits for it has deadlines.
COMPUTES := $(wildcard $(addprefix tests/,cli docs evidence history plan report runs selftest \
                                          target verdict watch))

test: $(VENV)/.dev lint  ## everything that must hold: about ten minutes
	@mkdir -p build; \
	nice -n 9 $(BIN)/python -m pytest -m "not lab" $(COMPUTES) > build/test-pure.log 2>&1 & first=$$!; \
	nice -n 4 $(BIN)/python -m pytest -m "not lab" $(COMPUTES:%=--ignore=%) --ignore=tests/lab > build/test-parts.log 2>&1 & parts=$$!; \
	$(BIN)/python -m pytest -m lab; lab=$$?; \
	nice -n 4 $(BIN)/python -m pytest -m "not lab" tests/lab; own=$$?; \
	wait $$first; first=$$?; wait $$parts; parts=$$?; \
	cat build/test-pure.log build/test-parts.log; exit $$((lab | own | first | parts))

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev  ## what the generator and the judge cost, as ratios in one run
	$(BIN)/python -m tests.bench $(BENCH)

ONLY ?=
selftest: $(VENV)/.lab  ## the judge held against days of which everything is known; under 90 minutes
	@$(BIN)/harness selftest $(addprefix --only ,$(ONLY))

MINUTES ?= 10
fuzz: $(VENV)/.dev  ## the client against a hostile server; keeps what it finds
	$(BIN)/python -m tests.load.fuzz --minutes $(MINUTES)

MODULES ?=
mutants: $(VENV)/.dev  ## is every decision of the judge noticed by a test? (docs/mutants.md)
	nice $(BIN)/python -m tests.mutants --minutes $(MINUTES) $(MODULES)

tampering: $(VENV)/.dev  ## every line and value of a passing run left out or changed in turn: over an hour
	HARNESS_TAMPER_ALL=yes $(BIN)/python -m pytest -o timeout=0 tests/verdict/test_tampering*.py

TRIPS ?= 100
trips: $(VENV)/.dev  ## from a breach Prometheus shows to the undo: p99 of many trips; six minutes
	HARNESS_TRIPS=$(TRIPS) $(BIN)/python -m pytest -s --timeout 3600 tests/chaos/test_guards.py -k breach_in_prometheus

STORM ?= 200
storm: $(VENV)/.dev  ## the harness killed and signalled in the middle of days, again and again; 40 minutes
	HARNESS_STORM=$(STORM) $(BIN)/python -m pytest -s --timeout 7200 tests/chaos/test_storm.py

ORPHANS ?= 50
orphans: $(VENV)/.dev  ## does anybody go on sending when the harness or Locust's master is killed? six minutes
	HARNESS_ORPHANS=$(ORPHANS) $(BIN)/python -m pytest -s --timeout 3600 tests/load/test_orphans.py

refusals: $(VENV)/.dev  ## every plan and experiment with every mistake, refused in under a second each
	HARNESS_MUTANTS_EVERY=1 $(BIN)/python -m pytest -s tests/plan/test_mutations.py

setup: $(VENV)/.dev

$(VENV)/.base:
	PYTHON=$(PYTHON) sh ci/venv.sh $(VENV)
	@touch $@

$(VENV)/.lab: $(VENV)/.base pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[lab]'
	@touch $@

$(VENV)/.dev: $(VENV)/.lab
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[lab,dev]'
	@touch $@

clean:  ## remove what the targets above made; runs/ is kept
	rm -rf $(VENV) .lab build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
