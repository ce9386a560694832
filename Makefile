# Every target sets up what it needs, on a fresh machine too; a second run is quick. `make` alone lists them.
SHELL := /bin/bash
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
# One more than there are cores: the tests of the miniature supercomputer and of hostile code often wait.
WORKERS := $(shell cores=$$(nproc 2>/dev/null || echo 2); echo $$((cores < 4 ? cores + 1 : 5)))
.PHONY: help venv system slurm demo test lint course book bench soak gpu-figures lock clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

venv: .venv/.ready ## The Python environment: .venv, as pinned in requirements.lock
.venv/.ready: requirements.lock pyproject.toml tools/venv.sh
	@tools/venv.sh

system: ## What Python cannot bring: bubblewrap and iproute2, installed if you may
	@tools/system.sh

slurm: ## The same with Slurm, for the miniature supercomputer
	@tools/system.sh slurm

demo: .venv/.ready ## A sample cohort, graded in the sandbox, with its report; and the book
	@tools/demo.sh

test: ## All tests: style, types, both packages, every exercise and lesson, the book
	@$(MAKE) -j2 slurm .venv/.ready
	@$(MAKE) lint
	@.venv/bin/python -m pytest -n $(WORKERS)

lint: .venv/.ready ## Style, layout and types only (seconds)
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m ruff format --check .
	@.venv/bin/python -m mypy

course: system .venv/.ready ## The exercises' own tests: solutions, empty answers, every wrong and right variant
	@.venv/bin/autograder lint

book: .venv/.ready ## The book: _build/html/index.html
	@tools/book.sh
	@echo "Open _build/html/index.html"

bench: system .venv/.ready ## How fast grading is, beside papermill, nbgrader and otter (an hour; BENCH=--quick; ONLY=scaling: a part)
	@.venv/bin/python -m tests.bench $(BENCH) $(if $(ONLY),--only $(ONLY))

soak: system .venv/.ready ## The long forms of the tests: attacks, faults, fuzz, lint under load (days; ONLY=faults: a part)
	@.venv/bin/python -m tests.soak $(if $(ONLY),--only $(ONLY))

gpu-figures: .venv/.ready ## Lessons 11 and 14 to 16 measured on this machine's GPUs, for their pages (minutes)
	@.venv/bin/python -m tools.gpu_figures

lock: ## Regenerate requirements.lock from pyproject.toml
	@tools/lock.sh

clean: ## Remove what was built; .venv stays
	rm -rf build _build
