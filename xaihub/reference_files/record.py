"""references.json: what it may say, and which files it may name. Strangers write such files, too."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from xaihub import hub
from xaihub.errors import ReferencesError
from xaihub.untrusted import json_object, most_bytes

__all__ = [
    "EMBEDDINGS", "FILES", "FORMAT", "RECORD", "ROWS", "check_name", "facts_of_spaces", "file_of", "files_of",
    "is_further", "read_record",
]  # fmt: skip

FORMAT = 2
RECORD, EMBEDDINGS, ROWS = "references.json", "embeddings.safetensors", "rows.parquet"
FILES = (RECORD, EMBEDDINGS, ROWS)  # what all references have
_MOST_SPACES = 32
_FURTHER = re.compile(r"embeddings-[a-z0-9][a-z0-9-]{0,99}\.safetensors")  # a plain name: no folder, no other kind
_REVISION = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_PLAIN = re.compile(r"\w[\w .()+,=-]{0,199}")  # an embedder's or a folder's own name: no path, no address
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "name": str, "kind": str, "alike": str, "revision": (str, type(None)), "leaks": bool, "weighted": bool, "file": str,
}  # fmt: skip


def read_record(folder: Path, name: str) -> dict[str, Any]:
    """references.json of a folder, as far as it can be checked alone.

    Raises:
        ReferencesError: it is of another format.
        OSError, ValueError, TypeError, LookupError, RecursionError: it is none.
    """
    with (folder / RECORD).open("rb") as stream:
        record = json_object(stream.read(most_bytes(RECORD) + 1), RECORD)
    if record["format"] not in (1, FORMAT):
        raise ReferencesError(
            f"{name} holds references of format {record['format']}; this version reads 1 and {FORMAT}. Update xaihub."
        )
    if not isinstance(record["made"], dict) or type(record["rows"]) is not int or record["rows"] < 0:
        raise TypeError("it does not say who made it, or how many rows it has")
    return record


def files_of(folder: Path, name: str, there: Collection[str]) -> tuple[str, ...]:
    """The names of all files of the references whose references.json lies in the folder.

    Args:
        there: the names of the files that can be had.

    Raises:
        ReferencesError: it cannot be read, or names files that are not there.
    """
    try:
        files = [RECORD, *(fact["file"] for fact in facts_of_spaces(read_record(folder, name))), ROWS]
    except (OSError, LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ReferencesError(
            f"{name} holds no references that can be read ({type(error).__name__}: {error})."
        ) from error
    missing = [file for file in files if file not in there]
    if missing:
        raise ReferencesError(f"{name} holds references without their {missing[0]}. Build them again.")
    return tuple(files)


def facts_of_spaces(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the record says of each space, the primary first.

    Raises:
        ValueError, TypeError, LookupError: it says what it may not.
    """
    if record["format"] == 1:
        alike = "the classifier's last maps are active in the same channels"
        return [
            {"name": str(record["made"].get("embedder", "target-layer")), "kind": "decided", "alike": alike,
             "revision": None, "leaks": False, "weighted": False, "file": EMBEDDINGS},
        ]  # fmt: skip
    spaces = record["spaces"]
    if not isinstance(spaces, list) or not 0 < len(spaces) <= _MOST_SPACES:
        raise ValueError(f"it names no spaces, or more than {_MOST_SPACES}")
    for place, space in enumerate(spaces):
        _check(space, first=not place)
    if len({space["name"] for space in spaces}) < len(spaces) or len({space["file"] for space in spaces}) < len(spaces):
        raise ValueError("two of its spaces have one name, or one file")
    return spaces


def _check(space: Mapping[str, Any], *, first: bool) -> None:
    wrong = [key for key, kind in _KINDS.items() if not isinstance(space[key], kind)]
    if wrong:
        raise TypeError(f"the {wrong[0]} of a space is {str(space[wrong[0]])[:80]!r}")
    if space["kind"] not in ("decided", "looks"):
        raise ValueError(f"a space is of kind {space['kind'][:80]!r}")
    if space["file"] != EMBEDDINGS if first else not is_further(space["file"]):
        raise ValueError(f"a space lies in {space['file'][:80]!r}, which is no name of a file of embeddings")
    check_name(space["name"], space["revision"])


def check_name(name: str, revision: str | None) -> None:
    """Nothing, if an embedder may be called so: a network of the Hub is looked up by this name and revision.

    Raises:
        ValueError: it is neither a repository's id with a commit, nor a plain name.
    """
    if not (hub.is_repo_id(name) if "/" in name else _PLAIN.fullmatch(name)):
        raise ValueError(f"a space is called {name[:80]!r}, which is neither a repository's id nor a plain name")
    if revision is None and "/" in name:
        raise ValueError(f"a space by {name[:80]!r} does not say at which commit")
    if revision is not None and not _REVISION.fullmatch(revision):
        raise ValueError(f"a space by {name[:80]!r} is at {revision[:80]!r}, which is no commit")


def is_further(file: str) -> bool:
    """Whether a file of this name may hold a space that is not the first."""
    return _FURTHER.fullmatch(file) is not None


def file_of(embedder: str, *, first: bool, taken: set[str]) -> str:
    """The name of the file of a space; it is added to those that are taken."""
    if first:
        return EMBEDDINGS
    slug = re.sub(r"[^a-z0-9]+", "-", embedder.lower()).strip("-")[:80] or "space"
    tries = (f"embeddings-{slug}{f'-{count}' if count > 1 else ''}.safetensors" for count in range(1, 1000))
    name = next(name for name in tries if name not in taken)
    taken.add(name)
    return name
