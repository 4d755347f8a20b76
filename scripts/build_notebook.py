"""Run every cell of docs/walkthrough.ipynb afresh, in order, and store what each one showed.

Needs no Jupyter: a cell is Python, and what it shows is what it prints and the value of its last line.
"""

import argparse
import ast
import base64
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).parents[1] / "docs" / "walkthrough.ipynb"


Outputs = list[dict[str, Any]]  # as a notebook stores what a cell showed


def run_cells(cells: Sequence[str], shown: Callable[[int, Outputs], None]) -> dict[str, Any]:
    """The names that the cells leave behind, run in one namespace and in a folder that is gone afterwards.

    Args:
        cells: Python, in order.
        shown: is told of each cell's number, from 1, and its outputs.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    with tempfile.TemporaryDirectory(prefix="xaihub-notebook-") as folder, contextlib.chdir(folder):
        for number, source in enumerate(cells, 1):
            shown(number, _outputs(source, number, names))
    return names


def _outputs(source: str, number: int, names: dict[str, Any]) -> Outputs:
    """Runs one cell."""
    tree = ast.parse(source, f"cell {number}")
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    value, printed = None, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, f"cell {number}", "exec"), names)  # noqa: S102  our own notebook
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)  # noqa: S307
    outputs: Outputs = []
    if printed.getvalue():
        outputs.append({"name": "stdout", "output_type": "stream", "text": _lines(printed.getvalue())})
    if value is not None:
        data = {"data": _data(value), "execution_count": number, "metadata": {}, "output_type": "execute_result"}
        outputs.append(data)
    return outputs


def _data(value: Any) -> dict[str, Any]:
    """A value in every way that a notebook can show it."""
    data: dict[str, Any] = {"text/plain": _lines(repr(value))}
    if hasattr(value, "_repr_html_"):
        data["text/html"] = _lines(value._repr_html_())
    if hasattr(value, "_repr_png_"):
        data["image/png"] = base64.b64encode(value._repr_png_()).decode()
        data["text/plain"] = [f"<picture of {value.width} x {value.height}>"]  # its own names an address in memory
    return data


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=NOTEBOOK, help="the file to write (default: the notebook itself)")
    arguments = parser.parse_args(argv)
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]

    def store(number: int, outputs: Outputs) -> None:
        cells[number - 1] |= {"execution_count": number, "outputs": outputs}

    target = arguments.to.resolve()
    run_cells(["".join(cell["source"]) for cell in cells], store)
    target.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(f"{len(cells)} cells run, {target.stat().st_size / 2**10:.0f} KB: {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
