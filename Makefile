# Everything below works on a machine with Python 3.11 and make: `make setup` makes .venv from constraints.txt.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
WORKERS ?= 3
# Compiled modules are kept, whatever the shell says: else each of the many processes of a test compiles its imports again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test lint bench setup ci clean

demo: setup  ## build, ask, cut, train and report on the bundled atlas, offline
	$(BIN)/mmkg demo --folder demo

test: setup  ## all tests; those marked `shared` skip where ../shared/data is missing
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist worksteal  # tests often wait for a server: one more than cores

lint: setup  ## style, types, floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

FIGURES := read_ntriples build_graph copy_store neo4j_load neo4j_files two_hop rgat_step hop_diffusion qformer_step retrieve_triples reasoner_step fetch_pictures embed_pictures search_vectors

bench: setup  ## each figure of the design against its peer in the same run
	for figure in $(FIGURES); do echo "== $$figure"; $(BIN)/python benchmarks/$$figure.py || exit 1; done

setup: .venv/.done

# uv resolves and unpacks in seconds what takes pip minutes; both obey constraints.txt.
.venv/.done: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mmkg needs Python 3.11 or later: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install --quiet -c constraints.txt -e '.[all,test,lint,bench]'
	touch $@

ci:
	bash .ci/run

clean:
	rm -rf .venv demo runs builds dist .mypy_cache .ruff_cache .pytest_cache
