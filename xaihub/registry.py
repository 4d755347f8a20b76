"""A name, what stands behind it, and help for whoever mistypes it."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Generic, TypeVar

from xaihub.errors import UnknownNameError, shorten

__all__ = ["Registry", "nearest_name"]

Entry = TypeVar("Entry")


def nearest_name(name: str, known: Mapping[str, object] | list[str]) -> str:
    """The words " Did you mean 'x'?" for the known name nearest to this one, or nothing."""
    close = get_close_matches(name[:200].lower(), [k.lower() for k in known], n=1, cutoff=0.6)
    return next((f" Did you mean {k!r}?" for k in known if close and k.lower() == close[0]), "")


class Registry(Mapping[str, Entry], Generic[Entry]):
    """Names in the order they were added; filled by decorators, read like a dictionary.

    Args:
        kind: what one entry is called in an error message.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}

    def add(self, name: str, entry: Entry) -> Entry:
        """The entry itself. A second one under the same name replaces the first, so notebooks can re-run a cell."""
        self._entries[name] = entry
        return entry

    def __getitem__(self, name: str) -> Entry:
        if name not in self._entries:
            known = ", ".join(self._entries) or "none yet"
            raise UnknownNameError(
                f"There is no {self.kind} called {shorten(name)!r}.{nearest_name(name, self._entries)} Known: {known}."
            )
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries  # Mapping would call __getitem__, whose error is not a KeyError

    def get(self, name: str, default: Entry | None = None) -> Entry | None:  # type: ignore[override]
        """The entry, or the default."""
        return self._entries.get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
