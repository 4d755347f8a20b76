"""A network of the terminal's own user: `python -m xaihub doctor my_model.py:load` runs that file.

It is run as Python would run it, with all that this allows. So only `__main__` reaches this: never a page, never an id.
"""

import hashlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from xaihub.classifier import Classifier, StatedActivation
from xaihub.errors import UnsupportedModelError, XaihubError
from xaihub.families import adapter_of
from xaihub.methods import first_line
from xaihub.preprocessing import Transform

__all__ = ["is_own_module", "load_own_module"]

_NAME = re.compile(r"(.+\.py)(?::([A-Za-z_]\w*))?")


def is_own_module(text: str) -> bool:
    """Whether somebody names a Python file, and perhaps a function in it: no id of the Hub's ends so."""
    return bool(_NAME.fullmatch(text))


def load_own_module(
    text: str, *, target_layer: str | None = None, activation: StatedActivation | None = None
) -> Classifier:
    """The classifier that a function gives: "my_model.py:load", or "my_model.py" for its `load`.

    The function takes nothing. It returns a Classifier, or a tuple of a module, its labels and its transform. Its name
    becomes the classifier's, and a digest of the weights its revision, so that references know it again.

    Raises:
        UnsupportedModelError: there is no such file or function, it failed, or it returned something else.
        TargetLayerError: there is no layer of the name given.
    """
    found = _NAME.fullmatch(text)
    if found is None:
        raise UnsupportedModelError(f"{text!r} does not name a Python file. Write it as my_model.py:load.")
    file, name = Path(found[1]).expanduser(), found[2] or "load"
    module = _run(file)
    function = getattr(module, name, None)
    if not callable(function):
        raise UnsupportedModelError(
            f"{file} has no function {name!r}. Write one that takes nothing and returns a Classifier, or"
            " (module, labels, transform), and name it as in my_model.py:load."
        )
    chosen = {"target_layer": target_layer, "activation": activation}
    given = _guarded(file, f"{name}()", lambda: _classifier(function(), chosen))
    if not isinstance(given, Classifier):
        raise UnsupportedModelError(
            f"{name}() in {file} returned a {type(given).__name__}. It must return a Classifier, or a tuple (module,"
            " labels, transform), as Classifier.from_module takes them."
        )
    given = given.with_layer(target_layer) if target_layer and given.target_layer else given
    return _named(given, f"{file.name}:{name}")


def _classifier(given: Any, chosen: dict[str, Any]) -> Any:
    if isinstance(given, tuple) and len(given) == 3 and isinstance(given[0], nn.Module):
        module, labels, transform = given
        return Classifier.from_module(module, labels=labels, transform=_described(transform), **chosen)
    return given


def _described(transform: Callable[..., Any]) -> Transform:
    """The transform, with a line that says what it does: its own docstring's, or its name and the size it gives."""
    if isinstance(transform, Transform):
        return transform
    measured = Transform(transform)
    height, width = measured.input_size
    name = getattr(transform, "__name__", type(transform).__name__)
    said = first_line(transform) if inspect.isroutine(transform) else ""
    measured.description = said or f"{name}, {width} x {height} pixels"
    return measured


def _named(classifier: Classifier, name: str) -> Classifier:
    """The same classifier with what the file does not say of it."""
    known: dict[str, Any] = {
        "task": "image-classification",
        "library": "your own module",
        "architecture": type(classifier.module).__name__,
        "parameters": sum(parameter.numel() for parameter in classifier.module.parameters()),
    }
    if adapter := adapter_of(classifier.module):
        known["adapter"] = adapter
    return replace(
        classifier,
        repo_id=name if classifier.repo_id == "your own network" else classifier.repo_id,
        revision=classifier.revision or _digest(classifier.module),
        facts={**known, **classifier.facts},
    )


def _digest(module: nn.Module) -> str:
    """40 hex digits that change with the weights."""
    digest = hashlib.sha256()
    for key, tensor in sorted(module.state_dict().items()):
        if torch.is_tensor(tensor):
            digest.update(key.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:40]


def _run(file: Path) -> ModuleType:
    """The file as a module; what lies beside it can be imported, as when Python runs it."""
    if not file.is_file():
        raise UnsupportedModelError(f"There is no file {str(file)!r}. Give the path of a Python file, or a model's id.")
    name = f"_own_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    loader = spec.loader if spec else None
    assert spec is not None and loader is not None  # noqa: S101, PT018  its name ends in .py
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.resolve().parent))
    _guarded(file, "It", lambda: loader.exec_module(module))
    return module


def _guarded(file: Path, what: str, run: Callable[[], Any]) -> Any:
    """What `run` gives; what it raises becomes a sentence that names the line."""
    try:
        return run()
    except XaihubError:
        raise
    except Exception as error:
        inside = [
            frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file.resolve()
        ]
        line = f" at line {inside[-1].lineno}" if inside else ""
        raise UnsupportedModelError(
            f"{file} could not be used: {what} failed{line} with {type(error).__name__}: {error}"
        ) from error
