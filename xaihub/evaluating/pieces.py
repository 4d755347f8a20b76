"""What has been measured of some pictures, on the disk: a small file for a method and a few pictures, whole or absent.

A file's name is drawn from all that its values depend on but the metrics, and within it each metric's values stand
under a key that is drawn from its settings. So a changed picture, network, layer, method or setting finds nothing to
reuse, and a metric that is asked for later is added to what is there.
"""

import hashlib
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from xaihub.classifier import Classifier
from xaihub.folders import replacing_file

__all__ = ["Pieces", "Values", "code_of", "key_of", "of_classifier"]

Values = Mapping[str, Sequence[Any]]  # key of a metric -> a value, or a curve, for each picture

_FORMAT = 1


def key_of(facts: Any) -> str:
    """32 hex digits that change with anything that would change the result."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def of_classifier(classifier: Classifier) -> dict[str, Any]:
    """What of a classifier an explanation depends on."""
    layer = classifier.target_layer
    return {
        "weights": classifier.fingerprint or repr(classifier.module),
        "layer": layer.name if layer else None,
        "preprocessing": classifier.transform.description,
        "activation": classifier.activation,
    }


@lru_cache(maxsize=256)
def code_of(function: Callable[..., Any]) -> str:
    """A digest of a function's source: somebody's own method, changed in a notebook, is another one."""
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):  # typed at a prompt, or built in
        source = getattr(function, "__qualname__", repr(type(function)))
    return hashlib.sha256(source.encode()).hexdigest()[:16]


class Pieces:
    """The files of one evaluation below a folder; without a folder nothing is kept.

    A file that is torn, foreign or of another format counts as missing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def read(self, key: str) -> dict[str, list[Any]]:
        """What is known; {} where nothing is."""
        if self.folder is None:
            return {}
        try:
            held = json.loads(self._file(key).read_text("utf-8"))
            if held["format"] == _FORMAT and held["key"] == key and held["sha256"] == _digest(held["values"]):
                return {name: [_number(each) for each in values] for name, values in held["values"].items()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            pass
        return {}

    def write(self, key: str, values: Values) -> None:
        """Puts the values in their place at once; written again, they are the same."""
        if self.folder is None:
            return
        plain = {name: [_plain(each) for each in of_each] for name, of_each in values.items()}
        held = {"format": _FORMAT, "key": key, "sha256": _digest(plain), "values": plain}
        with replacing_file(self._file(key)) as draft:
            draft.write_text(json.dumps(held, allow_nan=False), "utf-8")

    def _file(self, key: str) -> Path:
        return (self.folder or Path()) / key[:2] / f"{key}.json"  # some systems are slow with many files in one folder


def _digest(plain: Any) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """As JSON can hold it: what is not a number is null."""
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return [_number(each) for each in value]
    return math.nan if value is None else value
