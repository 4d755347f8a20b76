"""What is promised to users of the library."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import xaihub

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    f"xaihub.{path.stem}" for path in (ROOT / "xaihub").glob("*.py") if path.stem not in ("__init__", "__main__")
)


@pytest.mark.parametrize("name", xaihub.__all__)
def test_every_public_name_is_there(name):
    assert getattr(xaihub, name) is not None


@pytest.mark.parametrize("module", MODULES)
def test_every_module_lists_what_it_offers(module):
    offered = importlib.import_module(module)
    for name in offered.__all__:
        assert hasattr(offered, name)
    own = {n for n, v in vars(offered).items() if getattr(v, "__module__", None) == module and not n.startswith("_")}
    functions = {name for name in own if callable(getattr(offered, name))}
    assert functions <= set(offered.__all__), "a public function is missing in __all__"


@pytest.mark.parametrize(
    "name", [n for n in xaihub.__all__ if n not in ("METHODS", "METRICS", "FAMILIES", "EMBEDDERS", "__version__")]
)
def test_every_public_name_says_what_it_is(name):
    assert (getattr(xaihub, name).__doc__ or "").strip()


def test_importing_xaihub_imports_nothing_heavy():
    heavy = ("torch", "transformers", "gradio", "datasets", "timm")
    code = f"import sys, xaihub; print([module for module in {heavy} if module in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert out.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'explian'"):
        xaihub.explian  # noqa: B018


def test_the_package_knows_its_public_names_to_type_checkers_too():
    source = (ROOT / "xaihub" / "__init__.py").read_text("utf-8")
    for name in xaihub.__all__:
        assert name == "__version__" or f"import {name} as {name}" in source
