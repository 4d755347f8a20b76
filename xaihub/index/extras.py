"""The libraries that only some indexes need."""

import importlib
from types import ModuleType

from xaihub.errors import ReferencesError

__all__ = ["extra"]


def extra(library: str, name: str) -> ModuleType:
    """The library of the extra `name`.

    Raises:
        ReferencesError: it is not installed; the text says what to type.
    """
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise ReferencesError(
            f"This index needs {library}, which cannot be imported ({error})."
            f' Type pip install "xaihub[{name}]", or use ExactIndex, which needs nothing more.'
        ) from error
