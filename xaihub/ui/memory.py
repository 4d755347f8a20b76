"""The process's own memory: what is freed goes back to the machine, so that it stays flat over any number of models."""

import ctypes
import sys
from functools import cache
from typing import Any

__all__ = ["few_arenas", "trim"]

_M_ARENA_MAX = -8  # of malloc.h
_ARENAS = 2  # each thread that asks would else get a heap of its own, up to eight a core, and none gives anything back


@cache
def _libc() -> Any:
    """glibc, or None where there is another."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        libc = ctypes.CDLL("libc.so.6")
        return libc if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt") else None
    except OSError:
        return None


def few_arenas() -> None:
    """Called once, before threads begin: they share their heaps."""
    if _libc() is not None:
        _libc().mallopt(_M_ARENA_MAX, _ARENAS)


def trim() -> None:
    """Gives freed memory back; takes some milliseconds."""
    if _libc() is not None:
        _libc().malloc_trim(0)
