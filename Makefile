.PHONY: serve test check benchmarks notebook

serve:
	sh scripts/setup.sh && .venv/bin/python app.py

test:
	sh scripts/setup.sh dev && .venv/bin/python -m pytest -n 2 --dist loadfile

check:
	bash .ci/run

benchmarks:
	sh scripts/setup.sh dev && .venv/bin/uv pip install --quiet --python .venv/bin/python -e ".[benchmarks]" && .venv/bin/python -m benchmarks

notebook:
	sh scripts/setup.sh && .venv/bin/python scripts/build_notebook.py
